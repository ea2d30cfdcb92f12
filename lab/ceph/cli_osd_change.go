package ceph

import (
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func (k *call) okToStop() error {
	if err := k.need(1); err != nil {
		return err
	}
	list, err := k.osdArgs(k.args)
	if err != nil {
		return err
	}
	gone, ids := map[int]bool{}, []int{}
	for _, o := range list {
		gone[o.number] = true
		ids = append(ids, o.number)
	}
	slices.Sort(ids)
	s := k.c.withoutOSDs(gone)
	out := object{"ok_to_stop": s.safe(), "osds": ids, "num_ok_pgs": len(s.ok) + len(s.more), "num_not_ok_pgs": len(s.notOK)}
	for key, pgs := range map[string][]string{"bad_become_inactive": s.become, "bad_already_inactive": s.inactive, "ok_become_degraded": s.ok, "ok_become_more_degraded": s.more, "unknown_pgs": s.unknown} {
		if len(pgs) > 0 {
			out[key] = pgs
		}
	}
	if k.format == "" {
		k.format = "plain-json" // it is JSON without being asked for, in one line
	}
	if err := k.printLine(out); err != nil {
		return err
	}
	if s.safe() {
		return nil
	}
	if len(s.notOK) == 0 {
		return refuse(syscall.EAGAIN, "%d pgs have unknown state; cannot draw any conclusions", len(s.unknown))
	}
	return refuse(syscall.EBUSY, "unsafe to stop osd(s) at this time (%d PGs are or would become offline)", len(s.notOK))
}

func (k *call) safeToDestroy() error {
	if err := k.need(1); err != nil {
		return err
	}
	list, err := k.osdArgs(k.args)
	if err != nil {
		return err
	}
	holds, maps, clean := map[int]int{}, map[int]int{}, true
	k.c.eachPG(func(p *pool, number int, v pgView) {
		clean = clean && v.clean()
		g := &p.pgs[number]
		for _, o := range append(slices.Clone(v.up), v.acting...) {
			maps[o]++
		}
		for _, o := range append(slices.Clone(g.have), g.late...) {
			holds[o]++
		}
	})
	var safe, active, stored, missing []int
	pgs := 0
	for _, o := range list {
		switch {
		case maps[o.number] > 0:
			active = append(active, o.number)
			pgs += maps[o.number]
		case holds[o.number] > 0 && !clean:
			stored = append(stored, o.number)
		case o.in == 0 || clean:
			safe = append(safe, o.number)
		default:
			missing = append(missing, o.number)
		}
	}
	none := func(l []int) []int { return append([]int{}, l...) }
	if k.format != "" {
		if err := k.print(object{"safe_to_destroy": none(safe), "active": none(active), "missing_stats": none(missing), "stored_pgs": none(stored)}, nil); err != nil {
			return err
		}
	}
	text := func(l []int) string { return strings.Trim(listOf(l), "[]") }
	switch {
	case len(active) > 0:
		return refuse(syscall.EBUSY, "OSD(s) %s have %d pgs currently mapped to them.", text(active), pgs)
	case len(missing) > 0:
		return refuse(syscall.EAGAIN, "OSD(s) %s have no reported stats, and not all PGs are active+clean; we cannot draw any conclusions.", text(missing))
	case len(stored) > 0:
		return refuse(syscall.EAGAIN, "OSD(s) %s last reported they still store some PG data, and not all PGs are active+clean; we cannot be sure they aren't still needed.", text(stored))
	}
	return k.say("OSD(s) %s are safe to destroy without reducing data durability.", text(safe))
}

// each does something with the named OSDs and tells of each.
func (k *call) each(do func(o *osd) string) error {
	if err := k.need(1); err != nil {
		return err
	}
	list, err := k.osdArgs(k.args)
	if err != nil {
		return err
	}
	var told []string
	for _, o := range list {
		told = append(told, do(o))
	}
	k.c.osdChanged(k.c.model.now())
	return k.say("%s", strings.Join(told, " "))
}

func (k *call) osdIn() error {
	return k.each(func(o *osd) string {
		if o.in > 0 {
			return "osd." + o.id + " is already in."
		}
		o.in, o.autoOut = 1, false
		return "marked in osd." + o.id + "."
	})
}

func (k *call) osdOut() error {
	return k.each(func(o *osd) string {
		if o.in == 0 {
			return "osd." + o.id + " is already out."
		}
		o.in, o.autoOut = 0, false
		return "marked out osd." + o.id + "."
	})
}

func (k *call) osdDown() error {
	return k.each(func(o *osd) string {
		if !o.up {
			return "osd." + o.id + " is already down."
		}
		o.up, o.downAt = false, k.c.model.now()
		return "marked down osd." + o.id + "."
	})
}

// osdRemove is rm, purge and destroy.
func (k *call) osdRemove() error {
	if err := k.need(1); err != nil {
		return err
	}
	purge := k.command != "osd rm"
	list, err := k.osdArgs(k.args[:1])
	if err != nil {
		return err
	}
	o := list[0]
	switch {
	case purge && k.flags["yes-i-really-mean-it"] == "":
		return refuse(syscall.EPERM, "Are you SURE?  Did you verify with 'ceph osd safe-to-destroy'?  This will PERMANENTLY DESTROY that OSD's data.  Pass --yes-i-really-mean-it if you really do.")
	case o.up:
		return refuse(syscall.EBUSY, "osd.%d is not `down`.", o.number)
	}
	k.c.removeOSD(o.number)
	if purge {
		return k.say("purged osd.%d", o.number)
	}
	return k.say("removed osd.%d", o.number)
}

func (k *call) osdReweight() error {
	if err := k.need(2); err != nil {
		return err
	}
	list, err := k.osdArgs(k.args[:1])
	if err != nil {
		return err
	}
	weight, err := strconv.ParseFloat(k.args[1], 64)
	if err != nil || weight < 0 || weight > 1 {
		return refuse(syscall.EINVAL, "%s not valid: expected weight in the range [0.0-1.0]", k.args[1])
	}
	list[0].in = weight
	k.c.osdChanged(k.c.model.now())
	return k.say("reweighted osd.%d to %g (%x)", list[0].number, weight, int(weight*65536))
}

func (k *call) osdNew() error {
	o := k.c.newOSD(k.arg(0), "")
	return k.print(object{"osdid": o.number}, func() string { return o.id })
}

func (k *call) osdPerf() error {
	rows := []object{}
	for _, o := range k.c.sortedOSDs() {
		rows = append(rows, object{"id": o.number, "perf_stats": object{"commit_latency_ms": 1, "apply_latency_ms": 1, "commit_latency_ns": 1000000, "apply_latency_ns": 1000000}})
	}
	return k.print(object{"osdstats": object{"osd_perf_infos": rows}}, nil)
}
