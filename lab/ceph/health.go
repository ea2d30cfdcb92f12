package ceph

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// check is one finding of the cluster's health.
type check struct {
	code, severity, summary string
	count                   int
	detail                  []string
}

const (
	warns = "HEALTH_WARN"
	fails = "HEALTH_ERR"
)

// health works out all findings, by code. The model's lock is held.
func (c *Cluster) health() []check {
	var out []check
	add := func(one check) {
		if one.count > 0 {
			out = append(out, one)
		}
	}
	add(c.monHealth())
	add(c.clockHealth())
	if (c.active == nil || !c.active.on) && c.failover == 0 { // a silent one is waited for
		add(check{"MGR_DOWN", warns, "no active mgr", 1, nil})
	}
	out = append(out, c.osdHealth()...)
	out = append(out, c.pgHealth()...)
	out = append(out, c.poolHealth()...)
	out = append(out, c.fsHealth()...)
	var recent []string
	for _, one := range c.crashes {
		if !one.archived {
			recent = append(recent, fmt.Sprintf("%s crashed on host %s at %s", one.entity, one.host, one.at.UTC().Format("2006-01-02T15:04:05.000000Z")))
		}
	}
	add(check{"RECENT_CRASH", warns, fmt.Sprintf("%d daemons have recently crashed", len(recent)), len(recent), recent})
	slices.SortStableFunc(out, func(a, b check) int { return strings.Compare(a.code, b.code) })
	return out
}

// verdict is the worst of the findings that are not muted.
func (c *Cluster) verdict(checks []check) string {
	worst := "HEALTH_OK"
	for _, one := range checks {
		if c.muted[one.code] {
			continue
		}
		if one.severity == fails {
			return fails
		}
		worst = warns
	}
	return worst
}

func (c *Cluster) monHealth() check {
	one := check{code: "MON_DOWN", severity: warns}
	for i, m := range c.mons {
		if !slices.Contains(c.quorum, m) {
			one.count++
			one.detail = append(one.detail, fmt.Sprintf("mon.%s (rank %d) addr %s is down (out of quorum)", m.id, i, m.vector()))
		}
	}
	one.summary = fmt.Sprintf("%d/%d mons down, quorum %s", one.count, len(c.mons), strings.Join(c.inQuorum(), ","))
	return one
}

// vector is a monitor's address in both protocols.
func (m *mon) vector() string {
	return fmt.Sprintf("[v2:%s/0,v1:%s/0]", joinPort(m.addr, 3300), joinPort(m.addr, 6789))
}

func (c *Cluster) clockHealth() check {
	const most = 50 * time.Millisecond
	one := check{code: "MON_CLOCK_SKEW", severity: warns}
	var names []string
	for i, m := range c.quorum {
		skew := m.node.m.Skew() - c.quorum[0].node.m.Skew()
		if i > 0 && skew.Abs() > most {
			names = append(names, "mon."+m.id)
			one.detail = append(one.detail, fmt.Sprintf("mon.%s clock skew %gs > max 0.05s (latency 0.0004s)", m.id, skew.Abs().Seconds()))
		}
	}
	one.count, one.summary = len(names), "clock skew detected on "+strings.Join(names, ", ")
	return one
}

func (c *Cluster) osdHealth() []check {
	var out []check
	if set := slices.DeleteFunc(c.setFlags(), func(f string) bool {
		return slices.Contains([]string{"sortbitwise", "recovery_deletes", "purged_snapdirs", "pglog_hardlimit"}, f)
	}); len(set) > 0 {
		out = append(out, check{"OSDMAP_FLAGS", warns, strings.Join(set, ",") + " flag(s) set", len(set), nil})
	}
	var flagged []string
	for _, name := range slices.Sorted(maps.Keys(c.nodeFlags)) {
		if flags := c.nodeFlags[name]; len(flags) > 0 {
			kind := "host"
			if b := c.crush.find(name); b != nil {
				kind = b.kind
			}
			flagged = append(flagged, fmt.Sprintf("%s %s has flags %s", kind, name, joinFlags(flags)))
		}
	}
	for _, o := range c.sortedOSDs() {
		if len(o.flags) > 0 {
			flagged = append(flagged, fmt.Sprintf("osd.%d has flags %s", o.number, joinFlags(o.flags)))
		}
	}
	if len(flagged) > 0 {
		out = append(out, check{"OSD_FLAGS", warns, fmt.Sprintf("%d OSDs or CRUSH {nodes, device-classes} have {NOUP,NODOWN,NOIN,NOOUT} flags set", len(flagged)), len(flagged), flagged})
	}
	out = append(out, c.downHealth()...)
	if n := len(c.osds); n > 0 && n < c.defaultSize || n == 0 {
		out = append(out, check{"TOO_FEW_OSDS", warns, fmt.Sprintf("OSD count %d < osd_pool_default_size %d", n, c.defaultSize), max(1, c.defaultSize-n), nil})
	}
	return out
}

// downHealth tells of OSDs that are down although they are in, of hosts of which all are, and of the whole tree.
func (c *Cluster) downHealth() []check {
	var out []check
	var down, hosts []string
	osdsOfHosts := 0
	for _, b := range c.crush.buckets {
		if b.kind != "host" || len(b.osds) == 0 {
			continue
		}
		dead := 0
		for _, id := range b.osds {
			o := c.osds[id]
			if o != nil && !o.up && o.in > 0 {
				dead++
				down = append(down, fmt.Sprintf("osd.%d (root=default,host=%s) is down", id, b.name))
			}
		}
		if dead == len(b.osds) {
			osdsOfHosts += dead
			hosts = append(hosts, fmt.Sprintf("host %s (root=default) (%d osds) is down", b.name, dead))
		}
	}
	if len(down) > 0 {
		out = append(out, check{"OSD_DOWN", warns, fmt.Sprintf("%d osds down", len(down)), len(down), down})
	}
	if len(hosts) > 0 {
		word := "host"
		if len(hosts) > 1 {
			word = "hosts"
		}
		out = append(out, check{"OSD_HOST_DOWN", warns, fmt.Sprintf("%d %s (%d osds) down", len(hosts), word, osdsOfHosts), len(hosts), hosts})
	}
	return out
}

// tally counts the states of all placement groups. It is kept until something changes or time passes.
type tally struct {
	states                        map[string]int
	pgs, objects, copies          int
	degraded, misplaced, remapped int
	inactive, undersized, degr    []string
	damaged                       []string // states of the inactive
}

func (c *Cluster) tally() tally {
	if c.counted != nil {
		return *c.counted
	}
	t := tally{states: map[string]int{}}
	c.eachPG(func(p *pool, number int, v pgView) {
		t.states[v.state]++
		t.pgs++
		t.objects += objectsPerPG
		t.copies += objectsPerPG * p.size
		t.degraded += v.degraded
		t.misplaced += v.misplaced
		id := pgID(p.id, number)
		if strings.Contains(v.state, "remapped") {
			t.remapped++
		}
		if !v.active {
			t.inactive = append(t.inactive, fmt.Sprintf("pg %s is stuck inactive, current state %s, last acting %s", id, v.state, listOf(v.acting)))
		}
		if strings.Contains(v.state, "undersized") {
			t.undersized = append(t.undersized, id)
		}
		if strings.Contains(v.state, "degraded") {
			t.degr = append(t.degr, fmt.Sprintf("pg %s is %s, acting %s", id, v.state, listOf(v.acting)))
		}
	})
	c.counted = &t
	return t
}

// listOf is a set of OSDs as Ceph prints it.
func listOf(osds []int) string { return strings.ReplaceAll(fmt.Sprint(osds), " ", ",") }

const mostDetail = 50

func (c *Cluster) pgHealth() []check {
	var out []check
	t := c.tally()
	if n := len(t.inactive); n > 0 {
		parts := []string{fmt.Sprintf("%d pgs inactive", n)}
		for _, state := range []string{"down", "peering", "stale"} {
			count := 0
			for name, k := range t.states {
				if slices.Contains(strings.Split(name, "+"), state) {
					count += k
				}
			}
			if count > 0 {
				parts = append(parts, fmt.Sprintf("%d pgs %s", count, state))
			}
		}
		severity := warns
		out = append(out, check{"PG_AVAILABILITY", severity, "Reduced data availability: " + strings.Join(parts, ", "), n, t.inactive[:min(n, mostDetail)]})
	}
	if n := t.states["active+remapped+backfill_toofull"]; n > 0 {
		out = append(out, check{"PG_BACKFILL_FULL", warns, fmt.Sprintf("Low space hindering backfill (add storage if this doesn't resolve itself): %d pg backfill_toofull", n), n, nil})
	}
	if n := len(t.degr); n > 0 {
		summary := fmt.Sprintf("Degraded data redundancy: %d/%d objects degraded (%.3f%%), %d pgs degraded", t.degraded, t.copies, 100*float64(t.degraded)/float64(max(1, t.copies)), n)
		if u := len(t.undersized); u > 0 {
			summary += fmt.Sprintf(", %d pgs undersized", u)
		}
		out = append(out, check{"PG_DEGRADED", warns, summary, n, t.degr[:min(n, mostDetail)]})
	}
	return out
}

func (c *Cluster) poolHealth() []check {
	var out []check
	lists := map[string][]string{}
	for _, p := range c.pools {
		if p.size == 1 && p.profile == "" {
			lists["POOL_NO_REDUNDANCY"] = append(lists["POOL_NO_REDUNDANCY"], fmt.Sprintf("pool '%s' has no replicas configured", p.name))
		}
		if p.app == "" {
			lists["POOL_APP_NOT_ENABLED"] = append(lists["POOL_APP_NOT_ENABLED"], fmt.Sprintf("application not enabled on pool '%s'", p.name))
		}
		if p.autoscale == "warn" && len(c.osds) > 0 && p.scaleAt == 0 {
			text := fmt.Sprintf("Pool %s has %d placement groups, should have %d", p.name, len(p.pgs), c.wantedPGs(p))
			switch c.misscaled(p) {
			case 1:
				lists["POOL_TOO_FEW_PGS"] = append(lists["POOL_TOO_FEW_PGS"], text)
			case -1:
				lists["POOL_TOO_MANY_PGS"] = append(lists["POOL_TOO_MANY_PGS"], text)
			}
		}
	}
	for code, text := range map[string]string{
		"POOL_NO_REDUNDANCY": "%d pool(s) have no replicas configured", "POOL_APP_NOT_ENABLED": "%d pool(s) do not have an application enabled",
		"POOL_TOO_FEW_PGS": "%d pools have too few placement groups", "POOL_TOO_MANY_PGS": "%d pools have too many placement groups",
	} {
		if n := len(lists[code]); n > 0 {
			out = append(out, check{code, warns, fmt.Sprintf(text, n), n, lists[code]})
		}
	}
	return out
}

func (c *Cluster) fsHealth() []check {
	var out []check
	for _, f := range c.fs {
		holder := c.holder(f)
		switch {
		case holder == nil || !holder.on && len(c.standbys()) == 0:
			out = append(out, check{"MDS_ALL_DOWN", fails, "1 filesystem is offline", 1, []string{fmt.Sprintf("fs %s is offline because no MDS is active for it.", f.name)}})
		case !holder.on:
			out = append(out, check{"FS_DEGRADED", warns, "1 filesystem is degraded", 1, []string{fmt.Sprintf("fs %s is degraded", f.name)}})
		}
		if len(c.standbys()) == 0 && holder != nil && holder.on {
			out = append(out, check{"MDS_INSUFFICIENT_STANDBY", warns, "insufficient standby MDS daemons available", 1, []string{"have 0; want 1 more"}})
		}
	}
	return out
}
