package rolling

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/guest"
)

// sim is the cluster at a moment of the run.
type sim struct {
	s       *Situation
	x       *guest.Index
	places  []place // all nodes of the cluster, by name
	at      map[string]int
	guests  []resident // by id
	ha      *placement
	classes classes
	refused map[processors]bool // pairs of processors that do not go together
	newest  version             // that any node has or is known to get
	// searched is how much was spent on looking for room.
	searched int
	// away are nodes of the run that are out beside those of a round, foreign those that are out for other reasons.
	away, foreign []string
	// counted are those of the foreign ones that count against the number of nodes that may be out.
	counted []string
}

// place is a node of the cluster.
type place struct {
	name string
	node *Node // nil if the run does not go over it
	// capacity is the memory for guests, free what is left of it.
	capacity, free int64
	// unfit is why no guest may come, ever; "" if one may.
	unfit string
	// out says that it is away right now; back that nothing more is done to it in this run; maintained that it is in maintenance.
	out, back, maintained bool
	first                 int64 // what was free at the beginning
	upgraded              bool
	hardware              int // nodes of one number can run the same
	here                  []int
	services              int // HA services that the manager counts on it
	haOnline              bool
	space                 map[string]int64
}

// resident is a guest where it is at the moment.
type resident struct {
	guest.Guest
	at, home      int // places
	running, sure bool
	policy        Policy
	named         bool // the policy was said of this very guest
	class         int
	moved         bool // by the run, not home yet
}

type version struct{ qemu, manager string }

func newSim(s *Situation) *sim {
	m := &sim{s: s, x: s.Site.Index(), at: map[string]int{}, refused: map[processors]bool{}}
	names := slices.Clone(s.Site.Names())
	slices.Sort(names)
	for i, name := range slices.Compact(names) {
		m.at[name] = i
		m.places = append(m.places, m.place(name))
	}
	for i := range s.Nodes {
		if at, ok := m.at[s.Nodes[i].Name]; ok {
			n := &s.Nodes[i]
			m.places[at].node = n
			m.places[at].back = n.Idle != ""
			m.places[at].keep(n.ReserveBytes)
			m.newest.qemu, m.newest.manager = newer(m.newest.qemu, n.Work.QEMU), newer(m.newest.manager, n.Work.Manager)
		}
	}
	for _, name := range s.Done {
		if at, ok := m.at[name]; ok {
			m.places[at].back, m.places[at].upgraded = true, true
		}
	}
	m.hardware()
	m.settle()
	m.ha = newPlacement(m)
	m.foreign = m.others()
	m.counted = slices.DeleteFunc(slices.Clone(m.foreign), func(name string) bool { return slices.Contains(s.Tolerated, name) })
	return m
}

// place reads what is known of a node.
func (m *sim) place(name string) place {
	p := place{name: name, back: true, haOnline: true}
	asked := m.s.Site.Nodes[name]
	switch {
	case !m.x.Online(name):
		p.unfit = name + " is offline"
	case slices.Contains(m.s.Failed, name):
		p.unfit = name + " failed, and its state is not known"
	case asked == nil:
		p.unfit = name + " was not asked what it has"
	case asked.Err != nil:
		p.unfit = asked.Err.Error()
	case asked.Memory <= 0:
		p.unfit = "how much memory " + name + " has could not be read"
	default:
		p.capacity = asked.Memory
		p.keep(max(m.s.Reserve.Bytes, asked.Memory*int64(m.s.Reserve.Percent)/100))
	}
	if asked != nil && asked.Err == nil {
		m.newest.qemu = newer(m.newest.qemu, asked.QEMU)
		m.newest.manager = newer(m.newest.manager, asked.Manager)
	}
	if h := m.s.Site.HA; h != nil && h.Manager != nil {
		status := h.Manager.Nodes[name]
		maintained := slices.Contains(h.Manager.Maintenance, name) || status == "maintenance"
		p.haOnline = status == "online" && !maintained
		if p.maintained = maintained; maintained && p.unfit == "" {
			p.unfit = name + inMaintenance
		}
	}
	p.haOnline = p.haOnline && m.x.Online(name)
	if free := m.s.Space[name]; free != nil {
		p.space = map[string]int64{}
		for storage, bytes := range free {
			p.space[storage] = bytes
		}
	}
	return p
}

const inMaintenance = " is in maintenance"

// keep takes a reserve off the memory for guests.
func (p *place) keep(bytes int64) {
	p.capacity = max(p.capacity-bytes, 0)
	p.free = p.capacity
}

func newer(a, b string) string {
	if pve.CompareVersions(a, b) < 0 {
		return b
	}
	return a
}

// settle puts the guests where they are.
func (m *sim) settle() {
	m.guests = make([]resident, 0, len(m.s.Site.Guests))
	for _, g := range m.s.Site.Guests {
		at, ok := m.at[g.Node]
		if !ok {
			continue // of a node that is no member any more: it runs nowhere
		}
		r := resident{Guest: g, at: at, home: at}
		r.running, r.sure = m.x.Runs(g.ID)
		r.policy, r.named = m.s.Policies.of(&g)
		m.guests = append(m.guests, r)
	}
	slices.SortStableFunc(m.guests, func(a, b resident) int { return cmp.Compare(a.ID, b.ID) })
	for i := range m.guests {
		r := &m.guests[i]
		p := &m.places[r.at]
		p.here = append(p.here, i)
		if r.takes() {
			p.free -= r.Memory
		}
		r.class = m.classes.of(r)
	}
	for i := range m.places {
		m.places[i].first = m.places[i].free
	}
}

// takes reports whether the guest counts on the memory of its node.
func (r *resident) takes() bool { return r.running || !r.sure }

// of says what is done with a guest, and whether that was said of this very guest.
func (p Policies) of(g *guest.Guest) (policy Policy, named bool) {
	if said, ok := p.Guests[g.ID]; ok && said != "" {
		return said, true
	}
	tags := slices.Clone(g.Tags)
	slices.Sort(tags)
	for _, tag := range tags {
		if said := p.Tags[tag]; said != "" {
			return said, true
		}
	}
	if g.Kind == guest.CT && p.Containers != "" {
		return p.Containers, false
	}
	return cmp.Or(p.Default, Refuse), false
}

// move puts a guest on another node.
func (m *sim) move(i, to int) {
	r := &m.guests[i]
	from := r.at
	a, b := &m.places[from], &m.places[to]
	at, _ := slices.BinarySearch(a.here, i)
	a.here = slices.Delete(a.here, at, at+1)
	at, _ = slices.BinarySearch(b.here, i)
	b.here = slices.Insert(b.here, at, i)
	if r.takes() {
		a.free += r.Memory
		b.free -= r.Memory
	}
	if r.counts() {
		a.services--
		b.services++
	}
	r.at, r.Node = to, b.name
	r.flip(a.name, b.name)
}

// flip turns the replication of a guest that moved to its target round, as Proxmox VE does it.
func (r *resident) flip(from, to string) {
	for i, j := range r.Jobs {
		if j.Target == to {
			r.Jobs = slices.Clone(r.Jobs)
			r.Jobs[i].Target = from
		}
	}
}

// finish says that a node is through.
func (m *sim) finish(at int) {
	p := &m.places[at]
	p.out, p.back, p.upgraded = false, true, true
	if p.maintained {
		// Whoever asked for it, it ends when the node is released.
		p.maintained, p.haOnline = false, true
		m.x.Release(p.name)
		if p.unfit == p.name+inMaintenance {
			p.unfit = ""
		}
	}
	if p.node == nil || p.node.Work.Packages == 0 && p.node.Work.QEMU == "" && p.node.Work.Manager == "" {
		return
	}
	// What a node will have is newer than all that is there, unless it was said what it will be.
	qemu, manager := p.node.Work.QEMU, p.node.Work.Manager
	if qemu == "" {
		qemu = m.newest.qemu + "+"
	}
	if manager == "" {
		manager = m.newest.manager + "+"
	}
	m.x.SetVersions(p.name, qemu, manager)
}

// hardware numbers the nodes so that those of one number can run the same.
func (m *sim) hardware() {
	numbers := map[string]int{}
	for i := range m.places {
		var key strings.Builder
		if n := m.s.Site.Nodes[m.places[i].name]; n != nil {
			flags := make([]string, 0, len(n.Flags))
			for flag, set := range n.Flags {
				if set {
					flags = append(flags, flag)
				}
			}
			slices.Sort(flags)
			key.WriteString(n.Vendor + "|" + n.Model + "|" + strings.Join(flags, " "))
		}
		number, ok := numbers[key.String()]
		if !ok {
			number = len(numbers)
			numbers[key.String()] = number
		}
		m.places[i].hardware = number
	}
}

// sortedKeys are the keys of a map in their order.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
