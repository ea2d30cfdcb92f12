package gates

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// silent is the verdict on a Ceph that does not answer.
func silent(why string) Verdict {
	return closed(Ceph, why, "an answer from Ceph: what is not known counts as no", "ceph -s; ceph health detail", "none: bring its monitors back")
}

// benign are health checks that say nothing about a node that goes down (reference §8.5).
var benign = []string{
	"MON_CLOCK_SKEW", "RECENT_CRASH", "TELEMETRY_CHANGED", "AUTH_INSECURE_GLOBAL_ID_RECLAIM", "AUTH_INSECURE_GLOBAL_ID_RECLAIM_ALLOWED",
	"BLUESTORE_DISK_SIZE_MISMATCH", "BLUESTORE_SLOW_OP_ALERT", "PG_NOT_SCRUBBED", "PG_NOT_DEEP_SCRUBBED", "LARGE_OMAP_OBJECTS",
}

// ofAbsence are health checks that say no more than that daemons are away, which nodes under way explain.
var ofAbsence = []string{"MON_DOWN", "OSD_DOWN", "OSD_HOST_DOWN", "PG_DEGRADED"}

// Harmless reports whether a health check says nothing about a node that goes down, or no more than what nodes that are away
// explain. Flags of single hosts are for their own gate.
func Harmless(check string, away bool, accept []string) bool {
	return slices.Contains(benign, check) || slices.Contains(accept, check) || check == "OSD_FLAGS" || away && slices.Contains(ofAbsence, check)
}

// ceph judges Ceph; without any there is nothing to judge.
func (f Facts) ceph(o Options) []Verdict {
	c := f.Ceph
	if c == nil {
		return nil
	}
	if c.Silence != "" {
		return []Verdict{silent(c.Silence)}
	}
	return []Verdict{f.cephHealth(o), f.cephFlags(o), f.cephStop(o)}
}

// excused reports whether all daemons that are away are of nodes under way.
func (f Facts) excused(o Options) bool {
	c, away := f.Ceph, f.namesIn(o.Away)
	for _, osd := range c.Map.OSDs {
		if osd.Up || !osd.In {
			continue
		}
		if !slices.ContainsFunc(away, func(name string) bool { return slices.Contains(c.OSDs[name], osd.ID) }) {
			return false
		}
	}
	for _, m := range c.Mons {
		if !c.Status.InQuorum(m) && !slices.Contains(away, m) {
			return false
		}
	}
	return len(away) > 0
}

func (f Facts) cephHealth(o Options) Verdict {
	const want = "Ceph healthy but for harmless warnings, every placement group active and clean, all monitors in quorum, a manager"
	c, away := f.Ceph, f.excused(o)
	var bad, accept, borne, named []string
	for _, name := range slices.Sorted(maps.Keys(c.Status.Health.Checks)) {
		check := c.Status.Health.Checks[name]
		switch {
		case check.Muted, slices.Contains(benign, name), name == "OSD_FLAGS", name == "OSDMAP_FLAGS":
		case away && slices.Contains(ofAbsence, name):
		case slices.Contains(o.CephAccept, name):
			borne, named = append(borne, name+": "+check.Summary.Message), append(named, strconv.Quote(name))
		default:
			bad, accept = append(bad, name+": "+check.Summary.Message), append(accept, strconv.Quote(name))
		}
	}
	override := ""
	if len(accept) > 0 {
		override = "mend it; or, if it says nothing about a node that is away: ceph_accept = [" + strings.Join(accept, ", ") + "]"
	}
	unclean := c.Status.Clean()
	if away && c.Status.Serving() == "" {
		unclean = ""
	}
	if unclean != "" {
		bad = append(bad, unclean)
	}
	for _, m := range c.Mons {
		if !c.Status.InQuorum(m) && !away {
			bad = append(bad, "monitor "+m+" is not in quorum")
		}
	}
	if !c.Status.Mgr.Available {
		bad = append(bad, "no manager is active")
	}
	if len(bad) > 0 {
		if override == "" {
			override = "none: wait until it is whole again"
		}
		return closed(Ceph, strings.Join(bad, "; "), want, "ceph -s; ceph health detail", override)
	}
	if len(borne) > 0 {
		return overridden(closed(Ceph, strings.Join(borne, "; "), want, "ceph -s; ceph health detail", ""), "ceph_accept = ["+strings.Join(named, ", ")+"]")
	}
	return open(Ceph, fmt.Sprintf("%s, %d placement groups, monitors in quorum: %s", c.Status.Health.Status, c.Status.PGs.Total, strings.Join(c.Status.QuorumNames, ", ")), want)
}

// cephFlags looks for flags that others have set: somebody works on Ceph, or has left something behind.
func (f Facts) cephFlags(o Options) Verdict {
	const want = "no flag set but by this run"
	c := f.Ceph
	var found, look []string
	for _, flag := range c.Map.SetFlags() {
		found, look = append(found, flag), append(look, "ceph osd unset "+flag)
	}
	ours := slices.Concat(o.Noout, c.buckets(f.namesIn(o.Away)))
	for _, host := range slices.Sorted(maps.Keys(c.Map.NodeFlags)) {
		for _, flag := range c.Map.NodeFlags[host] {
			if flag != "noout" || !slices.Contains(ours, host) {
				found, look = append(found, flag+" on "+host), append(look, "ceph osd unset-group "+flag+" "+host)
			}
		}
	}
	for _, osd := range c.Map.OSDs {
		for _, word := range osd.State {
			if slices.Contains([]string{"noout", "noin", "noup", "nodown"}, word) {
				found, look = append(found, fmt.Sprintf("%s on osd.%d", word, osd.ID)), append(look, fmt.Sprintf("ceph osd rm-%s osd.%d", word, osd.ID))
			}
		}
	}
	if len(found) > 0 {
		return closed(CephFlags, "set: "+strings.Join(found, ", "), want, "ceph osd dump | grep flags", "if nobody works on it: "+strings.Join(look, "; "))
	}
	return open(CephFlags, "none is set by others", want)
}

func (f Facts) cephStop(o Options) Verdict {
	want := "Ceph to bear that " + strings.Join(append([]string{f.Node}, o.Away...), ", ") + " stop"
	c := f.Ceph
	look := "ceph osd ok-to-stop " + strings.Join(c.Asked, " ")
	if len(c.Asked) == 0 {
		look = "ceph osd tree; ceph osd metadata"
	}
	if len(c.AskedMons) > 0 {
		look += "; ceph mon ok-to-stop " + strings.Join(c.AskedMons, " ")
	}
	var no []string
	if c.OSDRefusal != "" {
		no = append(no, "ceph osd ok-to-stop "+strings.Join(c.Asked, " ")+": "+c.OSDRefusal)
	}
	if c.MonRefusal != "" {
		no = append(no, "ceph mon ok-to-stop "+strings.Join(c.AskedMons, " ")+": "+c.MonRefusal)
	}
	if len(no) > 0 {
		return closed(CephStop, strings.Join(no, "; "), want, look, "none: bring Ceph to full redundancy first, size 3 and min_size 2 over three hosts")
	}
	saw := "it holds no OSD and no monitor"
	if len(c.Asked)+len(c.AskedMons) > 0 {
		saw = fmt.Sprintf("it does: OSDs %s, monitors %s", orNone(c.Asked), orNone(c.AskedMons))
	}
	return open(CephStop, saw, want)
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}
