package rolling

import (
	"cmp"
	"slices"

	"github.com/pxrun/pxrun/internal/pve/guest"
)

// What is usual, in seconds, where nothing else is known.
const (
	usualWorkers   = 4 // of the HA manager and of bulk migrations (reference §11)
	usualPackage   = 1.5
	usualUpgrade   = 20 // packages of Proxmox VE and Debian in a week or two
	usualBoot      = 240.0
	usualShutdown  = 60.0
	usualSettle    = 60.0
	usualStart     = 10.0
	managerRounds  = 25.0 // until maintenance has reached the LRM, and until it is over
	refreshSeconds = 15.0
	verifySeconds  = 30.0
	releaseSeconds = 10.0
)

func (s Speeds) network() guest.Speed { return cmp.Or(s.Network, guest.GigabitSpeed) }

func (m *sim) workers() int { return cmp.Or(m.s.Speeds.Workers, m.s.Site.MaxWorkers, usualWorkers) }

// times reckons how long the steps of a round take.
func (m *sim) times(r *Round) {
	inbound := map[string]int64{}
	for _, s := range r.Steps {
		for _, g := range s.Guests {
			inbound[g.To] += g.RAMBytes + g.DiskBytes
		}
	}
	for k := range r.Steps {
		s := &r.Steps[k]
		m.stepTimes(s, inbound)
		r.Seconds = max(r.Seconds, s.Seconds)
	}
}

func (m *sim) stepTimes(s *Step, inbound map[string]int64) {
	node := m.places[m.at[s.Node]].node
	t := m.s.Speeds
	drain := m.makespan(s.Guests, inbound)
	shutdown := cmp.Or(t.ShutdownSeconds, usualShutdown)
	stopped := false
	var manager bool
	for _, g := range s.Guests {
		stopped = stopped || g.Fate == StopsIt
		manager = manager || g.Fate == Moves && g.ByHA
	}
	if stopped {
		drain = max(drain, shutdown)
	}
	upgrade := 0.0
	if n := node.Work.Packages; n > 0 {
		if node.Work.Unsure {
			n = max(n, usualUpgrade)
		}
		upgrade = refreshSeconds + float64(n)*cmp.Or(t.PackageSeconds, usualPackage)
		if t.Download > 0 {
			upgrade += float64(node.Work.DownloadBytes) / float64(t.Download)
		}
	}
	reboot := 0.0
	if s.Reboot != No {
		reboot = cmp.Or(node.BootSeconds, t.BootSeconds, usualBoot)
	}
	verify := verifySeconds
	if m.s.Ceph != nil && len(m.s.Ceph.OSDs[s.Node]) > 0 {
		verify += cmp.Or(t.SettleSeconds, usualSettle)
	}
	release := releaseSeconds + m.makespan(s.Home, nil)
	if stopped {
		release += usualStart
	}
	if manager {
		drain += managerRounds
		release += managerRounds
	}
	s.Phases = []Phase{{"drain", drain}, {"upgrade", upgrade}, {"reboot", reboot}, {"verify", verify}, {"release", release}}
	if t.SoakSeconds > 0 {
		s.Phases = append(s.Phases, Phase{"soak", t.SoakSeconds})
	}
	for _, p := range s.Phases {
		s.Seconds += p.Seconds
	}
	for k := range s.Guests {
		g := &s.Guests[k]
		switch {
		case g.Fate == StopsIt:
			g.Downtime = shutdown + upgrade + reboot + verify + usualStart
		case g.Policy == Leave && reboot > 0:
			g.Downtime = shutdown + reboot
		}
	}
	s.count()
}

// makespan is how long some moves take with so many at once: each by itself, and all together over the network of the node and
// of the targets.
func (m *sim) makespan(plans []Plan, inbound map[string]int64) float64 {
	var bytes int64
	var each []float64
	targets := map[string]bool{}
	for _, p := range plans {
		if p.Fate == Moves {
			each = append(each, p.Seconds)
			bytes += p.RAMBytes + p.DiskBytes
			targets[p.To] = true
		}
	}
	if len(each) == 0 {
		return 0
	}
	for to := range targets {
		bytes = max(bytes, inbound[to])
	}
	slices.SortFunc(each, func(a, b float64) int { return cmp.Compare(b, a) })
	slots := make([]float64, min(m.workers(), len(each)))
	for _, seconds := range each {
		k := 0
		for i := range slots {
			if slots[i] < slots[k] {
				k = i
			}
		}
		slots[k] += seconds
	}
	return max(slices.Max(slots), float64(bytes)/float64(m.s.Speeds.network()))
}

// homecomers counts the guests that come home.
func homecomers(home []Plan) (n int) {
	for _, g := range home {
		if g.Fate == Moves {
			n++
		}
	}
	return n
}

// count counts what happens to the guests of a step.
func (s *Step) count() {
	s.MoveOuts, s.Stops, s.Blocked = 0, 0, 0
	for _, g := range s.Guests {
		switch g.Fate {
		case Moves:
			s.MoveOuts++
		case Blocked:
			s.Blocked++
		}
		if g.Stopping() {
			s.Stops++
		}
	}
	for _, g := range s.Home {
		if g.Stopping() {
			s.Stops++
		}
	}
}

// Stopping reports whether the guest does not answer for longer than the blink of a live migration.
func (p Plan) Stopping() bool { return p.Downtime > 1 }
