package gates

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/pve/storage"
)

// The checks of a node that has come back, in the order in which they are made (reference §7.5).
const (
	WellAnswers  = "answers"
	WellPmxcfs   = "pmxcfs"
	WellMember   = "membership"
	WellLinks    = "links"
	WellServices = "services"
	WellLRM      = "lrm"
	WellNetwork  = "network"
	WellStorages = "storages"
	WellClock    = "clock"
	WellUnits    = "units"
	WellCeph     = "ceph"
	WellOSDs     = "osds"
	WellPGs      = "pgs"
)

// WellChecks are all of them.
var WellChecks = []string{WellAnswers, WellPmxcfs, WellMember, WellLinks, WellServices, WellLRM, WellNetwork, WellStorages, WellClock, WellUnits, WellCeph, WellOSDs, WellPGs}

// WellOptions say what a node must be like.
type WellOptions struct {
	// Away are the other nodes that are under way: they need not see the node, and their OSDs explain what is not clean.
	Away []string
	// Tolerate are other nodes that may be down.
	Tolerate []string
	// Failed are names of units that may have failed, with * for any part.
	Failed    []string
	MaxOffset time.Duration
}

// harmlessUnits fail on many hosts and say nothing about a node.
var harmlessUnits = []string{
	"apt-daily*.service", "e2scrub*", "fstrim.service", "logrotate.service", "man-db.service", "pve-daily-update.service", "smartmontools.service", "systemd-networkd-wait-online.service",
}

// networkScript names the interfaces that are to be brought up at the start, and those that are there.
const networkScript = `sh -c 'for f in /etc/network/interfaces /etc/network/interfaces.d/*; do [ -f "$f" ] && sed -n "s/^[[:space:]]*auto[[:space:]]*/auto /p" "$f"; done; cat /proc/net/dev'`

// WellReads are the reads of the node itself that Well needs.
func WellReads() []frame.Read {
	reads := slices.DeleteFunc(pve.NodeReads(), func(r frame.Read) bool { return !slices.Contains([]string{"units", "time"}, r.Name) })
	return append(reads,
		frame.Read{Name: "well_failed", Seconds: readSeconds, Command: `systemctl list-units --failed --no-legend --plain`},
		frame.Read{Name: "well_network", Seconds: readSeconds, Command: networkScript},
		frame.Read{Name: "well_storages", Seconds: 30, Command: `sh -c 'if [ -e /etc/pve/storage.cfg ]; then exec pvesm status; fi'`, Pmxcfs: true},
	)
}

// Well judges whether a node is a whole member of its cluster. Each check is a verdict, open or closed.
func Well(f Facts, o WellOptions) []Verdict {
	if f.Err != nil {
		return []Verdict{closed(WellAnswers, f.Err.Error(), "an answer from the node", "ssh "+f.Node, "")}
	}
	w := well{f, o}
	var out []Verdict
	if f.clustered() && f.conf() == nil {
		out = append(out, closed(WellPmxcfs, "no node has a corosync.conf that can be read", "/etc/pve mounted and writable", "stat /etc/pve/local", ""))
	} else if f.clustered() {
		out = append(out, w.pmxcfs(), w.membership(), w.links(), w.lrm())
	}
	if f.Proxmox {
		out = append(out, w.services(), w.storages())
	}
	out = append(out, w.network(), w.clock(), w.units())
	if f.Ceph != nil {
		out = append(out, w.ceph()...)
	}
	slices.SortStableFunc(out, func(a, b Verdict) int { return slices.Index(WellChecks, a.Gate) - slices.Index(WellChecks, b.Gate) })
	return out
}

type well struct {
	f Facts
	o WellOptions
}

// self is the node's own state.
func (w well) self() pve.NodeState {
	for _, s := range w.f.States {
		if s.Host == w.f.Node {
			return s
		}
	}
	return pve.NodeState{Host: w.f.Node}
}

// others are the nodes that can be asked about the node: all but those under way, and those that do not answer anyway.
func (w well) others() []pve.NodeState {
	return slices.DeleteFunc(w.f.witnesses(Options{Away: w.o.Away}), func(s pve.NodeState) bool { return s.Err != nil })
}

func (w well) pmxcfs() Verdict {
	const want, look = "/etc/pve mounted and writable", "stat /etc/pve/local; journalctl -u pve-cluster"
	s := w.self()
	switch {
	case !s.Mounted:
		return closed(WellPmxcfs, "it is not mounted", want, look, "")
	case !s.Writable:
		return closed(WellPmxcfs, "it is mounted and not writable: the node is not quorate", want, look, "")
	}
	return open(WellPmxcfs, "mounted and writable", want)
}

// membership wants the node online for all others, and everybody with the same configuration and votes.
func (w well) membership() Verdict {
	const want, look = "the node online for all others, with the same configuration and votes", "cat /etc/pve/.members; corosync-quorumtool -s"
	name, self, others := w.f.own(), w.self(), w.others()
	var bad []string
	for _, gone := range w.f.down(Options{Away: w.o.Away}) {
		if gone != name && !slices.Contains(w.f.namesIn(w.o.Away), gone) && !slices.Contains(w.f.namesIn(w.o.Tolerate), gone) {
			bad = append(bad, gone+" is down")
		}
	}
	for _, s := range others {
		switch {
		case !s.Members.Online(name):
			bad = append(bad, s.Host+" does not see it online")
		case s.Conf == nil || self.Conf == nil || s.Conf.Version != self.Conf.Version || s.ConfSum != self.ConfSum:
			bad = append(bad, s.Host+" has another corosync.conf")
		}
		if !self.Members.Online(nameOf(s)) {
			bad = append(bad, "it does not see "+s.Host+" online")
		}
	}
	if self.Mounted && !self.ConfsEqual {
		bad = append(bad, "its /etc/corosync/corosync.conf differs from the cluster's")
	}
	if why := w.f.disagreement(append(slices.Clone(others), self)); why != "" && len(bad) == 0 {
		bad = append(bad, why)
	}
	if len(others) == 0 {
		bad = append(bad, "no other node can be asked")
	}
	if len(bad) > 0 {
		return closed(WellMember, strings.Join(bad, ", "), want, look, "")
	}
	return open(WellMember, fmt.Sprintf("%d nodes agree, configuration version %d", len(others)+1, self.Conf.Version), want)
}

// links looks at the node's links to the others, as both ends see them, and at those of the others.
func (w well) links() Verdict {
	const want, look = "every corosync link connected, on every node", "corosync-cfgtool -n"
	conf := w.f.conf()
	var bad []string
	see := func(from pve.NodeState, to string) {
		peer, ok := conf.Node(to)
		if !ok {
			return
		}
		seen := false
		for _, l := range from.Links {
			if l.NodeID == peer.ID {
				seen = true
				if !l.Connected {
					bad = append(bad, fmt.Sprintf("link %d from %s to %s is down", l.Link, from.Host, to))
				}
			}
		}
		if !seen {
			bad = append(bad, from.Host+" tells nothing of its links to "+to)
		}
	}
	for _, s := range w.others() {
		see(s, w.f.own())
		see(w.self(), nameOf(s))
	}
	if between := w.f.links(Options{Away: w.o.Away}); !between.OK {
		bad = append(bad, between.Saw)
	}
	if len(bad) > 0 {
		slices.Sort(bad)
		return closed(WellLinks, strings.Join(bad, ", "), want, look, "")
	}
	return open(WellLinks, "all are connected", want)
}

func (w well) services() Verdict {
	const want = "all services of Proxmox VE active"
	s := w.self()
	services := slices.Clone(pve.Services)
	if !w.f.clustered() {
		services = slices.DeleteFunc(services, func(u string) bool { return u == "corosync" })
	}
	if c := w.f.conf(); c != nil && c.Device != nil {
		services = append(services, "corosync-qdevice")
	}
	var bad, names []string
	for _, unit := range services {
		if u := s.Units[unit]; !u.Running() {
			state := u.Active
			if !u.Installed() {
				state = "not installed"
			}
			bad, names = append(bad, unit+" is "+state), append(names, unit)
		}
	}
	if len(bad) > 0 {
		return closed(WellServices, strings.Join(bad, ", "), want, "systemctl status "+strings.Join(names, " "), "")
	}
	return open(WellServices, strings.Join(services, ", "), want)
}

// lrmLimit is the age from which an LRM counts as dead: it writes every ten seconds (reference §5.4).
const lrmLimit = 30 * time.Second

func (w well) lrm() Verdict {
	const want, look = "the node's LRM writing", "ha-manager status; systemctl status pve-ha-lrm"
	if w.f.HA == nil {
		return closed(WellLRM, "no other quorate node could tell", want, look, "")
	}
	lrm, known := w.f.HA.LRMs[w.f.own()]
	if !known {
		return closed(WellLRM, "it has written nothing", want, look, "")
	}
	if why := silence(w.f.age(w.f.own(), lrm.Time), lrmLimit); why != "" {
		return closed(WellLRM, "it "+why, want, look, "")
	}
	return open(WellLRM, fmt.Sprintf("%s (%s)", lrm.State, lrm.Mode), want)
}

// network looks for interfaces that the configuration brings up and that are not there: a card that got another name.
func (w well) network() Verdict {
	const want, look = "every interface of /etc/network/interfaces there", "ip link; cat /etc/network/interfaces"
	text, why := w.f.Own["well_network"].Found()
	if why != "" {
		return closed(WellNetwork, "the interfaces cannot be read: "+why, want, look, "")
	}
	there := map[string]bool{"lo": true}
	var wanted, missing []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if names, ok := strings.CutPrefix(line, "auto "); ok {
			wanted = append(wanted, strings.Fields(names)...)
		} else if name, _, ok := strings.Cut(line, ":"); ok && !strings.Contains(name, " ") {
			there[name] = true
		}
	}
	for _, name := range wanted {
		base, _, _ := strings.Cut(name, ":") // an alias
		if !there[base] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		return closed(WellNetwork, "missing: "+strings.Join(missing, ", ")+"; there: "+strings.Join(slices.Sorted(maps.Keys(there)), ", "), want, look, "a network card may have got another name: pve-network-interface-pinning")
	}
	return open(WellNetwork, fmt.Sprintf("all %d are there", len(wanted)), want)
}

func (w well) storages() Verdict {
	const want, look = "every storage that is for the node active", "pvesm status"
	a := w.f.Own["well_storages"]
	if a.Hung() {
		return closed(WellStorages, "pvesm status does not answer: a storage hangs", want, look, "mend the storage, or disable it")
	}
	var bad []string
	active := 0
	states := storage.ParseStatus(a.Text)
	if a.RC != 0 || len(states) == 0 {
		said := strings.Split(strings.TrimSpace(string(a.Text)), "\n")
		return closed(WellStorages, "pvesm status: "+said[len(said)-1], want, look, "")
	}
	for _, s := range states {
		switch s.Status {
		case "active":
			active++
		case "disabled":
		default:
			bad = append(bad, s.ID+" is "+s.Status)
		}
	}
	if len(bad) > 0 {
		return closed(WellStorages, strings.Join(bad, ", "), want, look, "mend the storage, or disable it")
	}
	return open(WellStorages, fmt.Sprintf("%d are active", active), want)
}

func (w well) clock() Verdict {
	const look = "chronyc tracking"
	want := "a clock in step, no more than " + w.o.MaxOffset.String() + " off"
	s := w.self()
	switch {
	case s.Tracking == nil && !s.Units["chrony"].Installed():
		return open(WellClock, "not known: chrony is not there", want)
	case s.Tracking == nil:
		return closed(WellClock, "chrony does not answer", want, look, "")
	case !s.Tracking.Synced:
		return closed(WellClock, "it is not synchronised", want, look, "module time_sync")
	case s.Tracking.Offset.Abs() > w.o.MaxOffset:
		return closed(WellClock, "it is "+s.Tracking.Offset.Round(time.Millisecond).String()+" off", want, look, "module time_sync")
	}
	return open(WellClock, s.Tracking.Offset.Round(time.Microsecond).String()+" off", want)
}

func (w well) units() Verdict {
	const want = "no unit failed but those that may"
	text, why := w.f.Own["well_failed"].Found()
	if why != "" {
		return closed(WellUnits, "the failed units cannot be read: "+why, want, "systemctl --failed", "")
	}
	var bad []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(strings.TrimLeft(line, "● *"))
		if len(f) == 0 {
			continue
		}
		may := func(pattern string) bool {
			ok, _ := path.Match(pattern, f[0])
			return ok || pattern == strings.TrimSuffix(f[0], ".service")
		}
		if !slices.ContainsFunc(harmlessUnits, may) && !slices.ContainsFunc(w.o.Failed, may) {
			bad = append(bad, f[0])
		}
	}
	if len(bad) > 0 {
		return closed(WellUnits, "failed: "+strings.Join(bad, ", "), want, "systemctl status "+strings.Join(bad, " "), fmt.Sprintf("mend it; or allow_failed = [%q]", bad[0]))
	}
	return open(WellUnits, "none failed", want)
}

// ceph looks at the node's monitor, at its OSDs, and at the placement groups of all.
func (w well) ceph() []Verdict {
	const look = "ceph -s; ceph osd tree"
	c := w.f.Ceph
	if c.Silence != "" {
		return []Verdict{closed(WellCeph, c.Silence, "an answer from Ceph", look, "")}
	}
	out := []Verdict{open(WellCeph, "monitors in quorum: "+strings.Join(c.Status.QuorumNames, ", "), "the node's monitor in quorum")}
	for _, m := range append([]string{w.f.own()}, w.f.Mons...) {
		if slices.Contains(c.Mons, m) && !c.Status.InQuorum(m) {
			out[0] = closed(WellCeph, "its monitor "+m+" is not in quorum", "the node's monitor in quorum", "ceph -s; systemctl status ceph-mon@"+m, "")
		}
	}
	return append(out, w.osds(), w.pgs())
}

func (w well) osds() Verdict {
	const want, look = "the node's OSDs up and in", "ceph osd tree"
	var bad []string
	own := slices.Clone(w.f.Ceph.OSDs[w.f.own()])
	for _, id := range w.f.OSDs {
		if _, known := w.f.Ceph.Map.OSD(id); known && !slices.Contains(own, id) {
			own = append(own, id) // in a host of the CRUSH map with another name
		}
	}
	for _, id := range own {
		switch o, ok := w.f.Ceph.Map.OSD(id); {
		case !ok:
			bad = append(bad, fmt.Sprintf("osd.%d is not in the map", id))
		case !o.Up:
			bad = append(bad, fmt.Sprintf("osd.%d is down", id))
		case !o.In:
			bad = append(bad, fmt.Sprintf("osd.%d is out", id))
		}
	}
	if len(bad) > 0 {
		return closed(WellOSDs, strings.Join(bad, ", "), want, look+"; journalctl -u ceph-osd@<id>", "mend the disk; or, if it was so before: ignore = [\"osds\"]")
	}
	return open(WellOSDs, fmt.Sprintf("%d are up and in", len(own)), want)
}

// pgs wants all placement groups clean; while other nodes are under way, what their OSDs explain does not count.
func (w well) pgs() Verdict {
	const want, look = "all placement groups active and clean", "ceph -s; ceph pg dump_stuck"
	s := w.f.Ceph.Status
	unclean := s.Clean()
	if unclean != "" && s.Serving() == "" && w.f.excused(Options{Away: w.o.Away}) {
		return open(WellPGs, unclean+", which nodes under way explain", want)
	}
	if unclean != "" {
		if s.PGs.Degraded > 0 {
			unclean += fmt.Sprintf("; %d objects lack copies", s.PGs.Degraded)
		}
		return closed(WellPGs, unclean, want, look, "")
	}
	return open(WellPGs, fmt.Sprintf("all %d are", s.PGs.Total), want)
}
