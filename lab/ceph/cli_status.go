package ceph

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"time"
)

func joinPort(a netip.Addr, port int) string { return netip.AddrPortFrom(a, uint16(port)).String() }

func statusCommands() map[string]handler {
	return map[string]handler{
		"status": func(k *call) error { return k.print(k.statusObject(), k.statusText) },
		"health": func(k *call) error { return k.health(k.arg(0) == "detail") },
		"health mute": func(k *call) error {
			if err := k.need(1); err != nil {
				return err
			}
			k.c.muted[k.args[0]] = true
			return nil
		},
		"health unmute": func(k *call) error { delete(k.c.muted, k.arg(0)); return nil },
		"fsid":          func(k *call) error { return k.print(object{"fsid": k.c.fsid}, func() string { return k.c.fsid }) },
		"df":            (*call).df,
		"versions":      (*call).versions,
	}
}

// healthObject is the health in JSON.
func (c *Cluster) healthObject(detail bool) object {
	checks := c.health()
	all := object{}
	for _, one := range checks {
		o := object{"severity": one.severity, "summary": object{"message": one.summary, "count": one.count}, "muted": c.muted[one.code]}
		if detail {
			list := []object{}
			for _, text := range one.detail {
				list = append(list, object{"message": text})
			}
			o["detail"] = list
		}
		all[one.code] = o
	}
	mutes := []object{}
	for _, code := range slices.Sorted(maps.Keys(c.muted)) {
		mutes = append(mutes, object{"code": code, "sticky": false, "summary": "", "count": 0})
	}
	return object{"status": c.verdict(checks), "checks": all, "mutes": mutes}
}

func (k *call) health(detail bool) error {
	return k.print(k.c.healthObject(detail), func() string {
		checks := k.c.health()
		var summaries []string
		for _, one := range checks {
			if !k.c.muted[one.code] {
				summaries = append(summaries, one.summary)
			}
		}
		text := k.c.verdict(checks)
		if len(summaries) > 0 {
			text += " " + strings.Join(summaries, "; ")
		}
		if !detail {
			return text
		}
		for _, one := range checks {
			mute := ""
			if k.c.muted[one.code] {
				mute = "(MUTED) "
			}
			text += fmt.Sprintf("\n%s[%s] %s: %s", mute, strings.TrimPrefix(one.severity, "HEALTH_")[:3], one.code, one.summary)
			for _, d := range one.detail {
				text += "\n    " + d
			}
		}
		return text
	})
}

// seconds is a time as an epoch, on the machine that asks.
func (k *call) epoch(t time.Duration) int64 {
	return k.n.m.Now().Add(t - k.c.model.now()).Unix()
}

// countOSDs counts those that are up, those that are in, and when the last of each changed.
func (c *Cluster) countOSDs() (up, in int, upSince time.Duration) {
	for _, o := range c.osds {
		up += flag01(o.up)
		in += flag01(o.in > 0)
		upSince = max(upSince, o.upAt, o.downAt)
	}
	return up, in, upSince
}

// statusObject is `ceph -s -f json`.
func (k *call) statusObject() object {
	c := k.c
	ranks := []int{}
	for _, m := range c.quorum {
		ranks = append(ranks, c.rank(m))
	}
	up, in, since := c.countOSDs()
	t := c.tally()
	release := releaseOf(c.quorum[0].version)
	modules := []string{"iostat", "nfs"}
	if release.name != "tentacle" {
		modules = append(modules, "restful")
	}
	standbys := 0
	for _, m := range c.mgrs {
		standbys += flag01(m.on && m != c.active)
	}
	return object{
		"fsid": c.fsid, "health": c.healthObject(false), "election_epoch": c.electionEpoch, "quorum": ranks, "quorum_names": c.inQuorum(), "quorum_age": int((c.model.now() - c.quorumSince).Seconds()),
		"monmap": object{"epoch": c.monEpoch, "min_mon_release_name": release.name, "num_mons": len(c.mons)},
		"osdmap": object{"epoch": c.osdEpoch, "num_osds": len(c.osds), "num_up_osds": up, "osd_up_since": k.epoch(since), "num_in_osds": in, "osd_in_since": k.epoch(since), "num_remapped_pgs": t.remapped},
		"pgmap":  c.pgmap(t), "fsmap": c.fsmap(release.name),
		"mgrmap":     object{"available": c.active != nil && c.active.on, "num_standbys": standbys, "modules": modules, "services": object{}},
		"servicemap": object{"epoch": 1, "modified": "0.000000", "services": object{}}, "progress_events": object{},
	}
}

func (c *Cluster) pgmap(t tally) object {
	states := []object{}
	for _, name := range slices.SortedFunc(maps.Keys(t.states), func(a, b string) int { return cmp.Or(t.states[b]-t.states[a], strings.Compare(a, b)) }) {
		states = append(states, object{"state_name": name, "count": t.states[name]})
	}
	used, total := c.space()
	o := object{
		"pgs_by_state": states, "num_pgs": t.pgs, "num_pools": len(c.pools), "num_objects": t.objects, "data_bytes": int64(t.objects) * objectSize, "bytes_used": used, "bytes_avail": total - used, "bytes_total": total,
	}
	if inactive := len(t.inactive); inactive > 0 {
		o["inactive_pgs_ratio"] = float64(inactive) / float64(t.pgs)
	}
	if t.degraded > 0 {
		o["degraded_objects"], o["degraded_total"], o["degraded_ratio"] = t.degraded, t.copies, float64(t.degraded)/float64(t.copies)
	}
	if t.misplaced > 0 {
		o["misplaced_objects"], o["misplaced_total"], o["misplaced_ratio"] = t.misplaced, t.copies, float64(t.misplaced)/float64(t.copies)
	}
	if c.copies() {
		o["recovering_objects_per_sec"], o["recovering_bytes_per_sec"], o["recovering_keys_per_sec"] = 24, 24*objectSize, 0
	}
	return o
}

// copies reports whether anything is being copied.
func (c *Cluster) copies() bool {
	for _, p := range c.pools {
		if slices.ContainsFunc(p.pgs, func(g pg) bool { return g.done > 0 && g.done != forever }) {
			return true
		}
	}
	return false
}

func (c *Cluster) fsmap(release string) object {
	ranks := []object{}
	for _, d := range c.mds {
		if d.fs != nil {
			ranks = append(ranks, object{"filesystem_id": d.fs.id, "rank": 0, "name": d.id, "status": d.state(c), "gid": d.gid})
		}
	}
	o := object{"epoch": max(1, c.fsEpoch), "by_rank": ranks, "up:standby": len(c.standbys())}
	if release != "reef" && release != "quincy" {
		o["btime"] = "0.000000"
	}
	if len(c.fs) > 0 {
		f := c.fs[0]
		o["id"], o["up"], o["in"], o["max"] = f.id, flag01(c.holder(f) != nil), 1, 1
	}
	return o
}

// state is what a metadata server does.
func (d *mds) state(c *Cluster) string {
	const replays = 4 * time.Second
	switch {
	case d.fs == nil:
		return "up:standby"
	case c.model.now()-d.since < replays:
		return "up:replay"
	}
	return "up:active"
}

func (k *call) statusText() string {
	c, now := k.c, k.c.model.now()
	checks := c.health()
	var b strings.Builder
	fmt.Fprintf(&b, "  cluster:\n    id:     %s\n    health: %s\n", c.fsid, c.verdict(checks))
	for _, one := range checks {
		if !c.muted[one.code] {
			fmt.Fprintf(&b, "            %s\n", one.summary)
		}
	}
	fmt.Fprintf(&b, " \n  services:\n    mon: %d daemons, quorum %s (age %s)", len(c.mons), strings.Join(c.inQuorum(), ","), age(now-c.quorumSince))
	if out := len(c.mons) - len(c.quorum); out > 0 {
		var names []string
		for _, m := range c.mons {
			if !slices.Contains(c.quorum, m) {
				names = append(names, m.id)
			}
		}
		fmt.Fprintf(&b, ", out of quorum: %s", strings.Join(names, ", "))
	}
	var standbys []string
	for _, m := range c.mgrs {
		if m.on && m != c.active {
			standbys = append(standbys, m.id)
		}
	}
	mgr := "no daemons active"
	if c.active != nil && c.active.on {
		mgr = c.active.id + "(active)"
	}
	if len(standbys) > 0 {
		mgr += ", standbys: " + strings.Join(standbys, ", ")
	}
	fmt.Fprintf(&b, "\n    mgr: %s\n", mgr)
	for _, f := range c.fs {
		fmt.Fprintf(&b, "    mds: %d/1 daemons up, %d standby\n", flag01(c.holder(f) != nil), len(c.standbys()))
	}
	up, in, since := c.countOSDs()
	fmt.Fprintf(&b, "    osd: %d osds: %d up (since %s), %d in (since %s)", len(c.osds), up, age(now-since), in, age(now-since))
	t := c.tally()
	if t.remapped > 0 {
		fmt.Fprintf(&b, "; %d remapped pgs", t.remapped)
	}
	used, total := c.space()
	fmt.Fprintf(&b, "\n \n  data:\n    pools:   %d pools, %d pgs\n    objects: %d objects, %s\n    usage:   %s used, %s / %s avail\n    pgs:     ", len(c.pools), t.pgs, t.objects, bytesText(int64(t.objects)*objectSize), bytesText(used), bytesText(total-used), bytesText(total))
	first := true
	for _, name := range slices.SortedFunc(maps.Keys(t.states), func(a, b string) int { return cmp.Or(t.states[b]-t.states[a], strings.Compare(a, b)) }) {
		if !first {
			b.WriteString("             ")
		}
		first = false
		fmt.Fprintf(&b, "%d %s\n", t.states[name], name)
	}
	return b.String() + " \n"
}

func age(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	}
	return fmt.Sprintf("%dh", int(d.Hours()))
}

func bytesText(n int64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if v := float64(n) / u.size; v >= 1 {
			if v >= 10 {
				return fmt.Sprintf("%.0f %s", v, u.name)
			}
			return fmt.Sprintf("%.1f %s", v, u.name)
		}
	}
	return fmt.Sprintf("%d B", n)
}

func (k *call) df() error {
	c := k.c
	used, total := c.space()
	pools := []object{}
	for _, p := range c.pools {
		bytes, percent := c.usage(p)
		pools = append(pools, object{"id": p.id, "name": p.name, "stats": object{
			"stored": p.stored(), "objects": len(p.pgs) * objectsPerPG, "kb_used": bytes / 1024, "bytes_used": bytes, "percent_used": percent, "max_avail": (total - used) * int64(p.k) / int64(max(1, p.size)),
		}})
	}
	ratio := 0.0
	if total > 0 {
		ratio = float64(used) / float64(total)
	}
	value := object{
		"stats":          object{"total_bytes": total, "total_avail_bytes": total - used, "total_used_bytes": used, "total_used_raw_bytes": used, "total_used_raw_ratio": ratio, "num_osds": len(c.osds), "num_per_pool_osds": len(c.osds), "num_per_pool_omap_osds": len(c.osds)},
		"stats_by_class": object{}, "pools": pools,
	}
	return k.print(value, func() string {
		text := "--- RAW STORAGE ---\nCLASS     SIZE    AVAIL    USED  RAW USED  %RAW USED\n"
		text += fmt.Sprintf("TOTAL  %s  %s  %s  %s  %10.2f\n \n--- POOLS ---\nPOOL  ID  PGS  STORED  OBJECTS  USED  %%USED  MAX AVAIL\n", bytesText(total), bytesText(total-used), bytesText(used), bytesText(used), 100*ratio)
		for _, p := range c.pools {
			bytes, percent := c.usage(p)
			text += fmt.Sprintf("%s  %d  %d  %s  %d  %s  %.2f  %s\n", p.name, p.id, len(p.pgs), bytesText(p.stored()), len(p.pgs)*objectsPerPG, bytesText(bytes), 100*percent, bytesText((total-used)*int64(p.k)/int64(p.size)))
		}
		return text
	})
}

func (k *call) versions() error {
	out := map[string]map[string]int{"mon": {}, "mgr": {}, "osd": {}, "overall": {}}
	if len(k.c.mds) > 0 {
		out["mds"] = map[string]int{}
	}
	for _, d := range k.c.daemons() {
		if d.on && d.version != "" {
			full := releaseOf(d.version).full()
			out[d.kind][full]++
			out["overall"][full]++
		}
	}
	return k.print(out, nil)
}

var errInvalid = refuse(syscall.EINVAL, "invalid command")
