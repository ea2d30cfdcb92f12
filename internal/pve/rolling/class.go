package rolling

import (
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/pve/guest"
)

// classes are guests that need the same of a node: storages, bridges, mapped devices. Which nodes have all that is found out
// once for each class; what is left is decided by guest.CanMove.
type classes struct {
	numbers map[string]int
	needs   []need
	fit     [][]uint64 // by class: a bit for each node that has all
}

// need is what a class needs of a node.
type need struct{ storages, bridges, mappings []string }

// processors are the processor of a guest with those of two nodes.
type processors struct {
	cpu      string
	from, to int
}

// of is the class of a guest.
func (c *classes) of(r *resident) int {
	var n need
	for _, v := range r.Volumes {
		if v.Storage != "" {
			n.storages = append(n.storages, v.Storage)
		}
	}
	for _, d := range r.Mapped {
		n.mappings = append(n.mappings, d.Mapping)
	}
	n.bridges = slices.Clone(r.Bridges)
	var key strings.Builder
	for _, list := range []*[]string{&n.storages, &n.bridges, &n.mappings} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
		for _, word := range *list {
			key.WriteString(word)
			key.WriteByte(0)
		}
		key.WriteByte(1)
	}
	if c.numbers == nil {
		c.numbers = map[string]int{}
	}
	number, ok := c.numbers[key.String()]
	if !ok {
		number = len(c.needs)
		c.numbers[key.String()] = number
		c.needs = append(c.needs, n)
		c.fit = append(c.fit, nil)
	}
	return number
}

// fit are the nodes that have what a class needs.
func (m *sim) fit(class int) []uint64 {
	if set := m.classes.fit[class]; set != nil {
		return set
	}
	set := make([]uint64, (len(m.places)+63)/64)
	for i := range m.places {
		if m.has(&m.places[i], m.classes.needs[class]) {
			set[i/64] |= 1 << (i % 64)
		}
	}
	m.classes.fit[class] = set
	return set
}

func (m *sim) has(p *place, n need) bool {
	for _, storage := range n.storages {
		if !m.x.Usable(storage, p.name) {
			return false
		}
	}
	for _, mapping := range n.mappings {
		if !slices.Contains(m.s.Site.Mappings[mapping], p.name) {
			return false
		}
	}
	asked := m.s.Site.Nodes[p.name]
	if asked == nil {
		return false
	}
	for _, bridge := range n.bridges {
		if !slices.Contains(asked.Interfaces, bridge) {
			return false
		}
	}
	return true
}

// could reports whether a node that takes guests is worth asking about: nothing that is known for the guest's whole class speaks against it.
func (m *sim) could(r *resident, to int, fit []uint64) bool {
	if fit[to/64]&(1<<(to%64)) == 0 {
		return false
	}
	if len(r.Jobs) > 0 && !slices.ContainsFunc(r.Jobs, func(j guest.Job) bool { return j.Target == m.places[to].name }) {
		return false
	}
	return len(m.refused) == 0 || !m.refused[m.pair(r, to)]
}

func (m *sim) pair(r *resident, to int) processors {
	return processors{r.CPU, m.places[r.at].hardware, m.places[to].hardware}
}

// ask decides whether a guest can go to a node, memory aside. What speaks against it for all guests with its processor is
// remembered.
func (m *sim) ask(r *resident, to int, o guest.Options) guest.Move {
	g := r.Guest
	if g.Lock != "" {
		g.Lock = "" // it is waited for
	}
	if r.transient() {
		g.Managed.Service.State = "started"
	}
	o.Overcommit = true
	move := m.x.CanMove(g, m.places[to].name, o)
	if said, asked := m.s.Preconditions[r.ID]; asked && !(said.Refused != "" && r.Lock != "") {
		move.Add(said, o)
	}
	if move.Has(guest.CPUDiffers) {
		m.refused[m.pair(r, to)] = true
	}
	if len(r.Jobs) > 0 && r.Kind == guest.CT && !slices.ContainsFunc(r.Jobs, func(j guest.Job) bool { return j.Target == m.places[to].name }) {
		move.Reasons = append(move.Reasons, guest.Reason{
			Code: guest.NotReplicated, Saw: "it is not replicated to " + m.places[to].name, Want: "a target of its replication",
			Look: "cat /etc/pve/replication.cfg", Override: "another policy for it",
		})
		move.Way = guest.Nowhere
	}
	if short, storage := m.full(to, move); short > 0 {
		move.Reasons = append(move.Reasons, guest.Reason{
			Code: guest.StorageMissing, Saw: "storage " + storage + " of " + m.places[to].name + " is " + guest.FormatBytes(short) + " short of what would be copied to it",
			Want: "room for its disks", Look: "pvesm status --storage " + storage, Override: "another policy for it",
		})
		move.Way = guest.Nowhere
	}
	return move
}

// full is how much room a storage of a node lacks for what a move would copy to it.
func (m *sim) full(to int, move guest.Move) (short int64, storage string) {
	if m.places[to].space == nil || move.Disk == 0 {
		return 0, ""
	}
	needed := map[string]int64{}
	for _, v := range move.Copied {
		needed[v.Storage] += v.Size
	}
	for name, bytes := range needed {
		if free, known := m.places[to].space[name]; known && bytes-free > 0 && (storage == "" || name < storage) {
			short, storage = bytes-free, name
		}
	}
	return short, storage
}
