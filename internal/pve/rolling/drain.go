package rolling

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/pxrun/pxrun/internal/pve/guest"
)

// leaving is a guest of a node that is emptied.
type leaving struct {
	i      int // of sim.guests
	plan   Plan
	policy Policy // by which it would move
	// otherwise is what is done when it cannot: Shutdown, Leave, or Refuse.
	otherwise Policy
	to        int // -1: nowhere
	move      guest.Move
	before    earlier // it moved
	fixed     bool    // what keeps it where it is does so wherever it would go
	moves     bool    // it is to move
	ha        bool
}

// earlier is what a move changes of a guest.
type earlier struct {
	at, home int
	moved    bool
	jobs     []guest.Job
}

// drain decides what happens to every guest of some nodes that are emptied at the same time, and moves those that move. The
// nodes must be out.
func (m *sim) drain(nodes []int) []leaving {
	total := 0
	for _, at := range nodes {
		total += len(m.places[at].here)
	}
	all := make([]leaving, 0, total)
	for _, at := range nodes {
		for _, i := range m.places[at].here {
			all = append(all, m.sort(i))
		}
	}
	slices.SortFunc(all, func(a, b leaving) int { return cmp.Compare(a.i, b.i) })
	m.byManager(all)
	m.byUs(all)
	return all
}

// sort decides by a guest's state and policy whether it is to move.
func (m *sim) sort(i int) leaving {
	r := &m.guests[i]
	l := leaving{i: i, to: -1, policy: r.policy, otherwise: Refuse, ha: r.ByHA(), plan: Plan{
		ID: r.ID, Kind: r.Kind, Name: r.Name, Guest: r.String(), From: m.places[r.at].name, ByHA: r.ByHA(), Policy: r.policy,
		MemoryBytes: r.Memory, Again: r.moved,
	}}
	p := &l.plan
	switch {
	case !r.sure || !m.read(r.at) && !r.Template:
		l.fixed = true
		l.block(Block{
			Gate: UnknownGate, Code: guest.StateUnknown, Saw: "whether it runs is not known", Want: "its state",
			Look: fmt.Sprintf("%s status %d", r.Kind.Tool(), r.ID),
		})
		return l
	case !r.running && r.Template:
		p.Fate, p.Policy, p.Why = Stays, "", "a template stays where it is"
		return l
	case !r.running:
		p.Fate, p.Policy, p.Why = Stays, "", "it does not run"
		if r.ByHA() && r.Managed.State == "started" {
			p.Notes = append(p.Notes, "the HA manager is to start it, and moves it when it does")
		}
		return l
	}
	if r.Lock != "" {
		p.Locked = r.Lock
		p.Notes = append(p.Notes, "it is locked now ("+r.Lock+"): that is waited for")
	}
	if r.transient() {
		p.Notes = append(p.Notes, "the HA manager is at work on it ("+r.Managed.Service.State+"): that is waited for")
	}
	switch {
	case r.named && r.policy == Refuse:
		l.fixed = true
		l.block(Block{Gate: GuestGate, Saw: "its policy is block, and it runs", Want: "that it does not run there", Look: fmt.Sprintf("%s status %d", r.Kind.Tool(), r.ID), Override: "move or stop it yourself, or give it another policy"})
	case r.named && r.policy == Shutdown:
		m.stop(&l, "its policy is to be shut down")
	case r.named && r.policy == Leave && !l.ha:
		m.leave(&l, "its policy is to stay")
	case r.policy == Leave && l.ha:
		// In maintenance, the HA manager moves what it can: only what cannot move stays.
		l.moves, l.policy, l.otherwise = true, Migrate, Leave
	default:
		l.moves = true
		switch r.policy {
		case Shutdown, Leave:
			l.policy, l.otherwise = Migrate, r.policy
		case Refuse:
			l.policy = Migrate
		}
	}
	return l
}

// read reports whether a node itself told which guests run on it. What the cluster has heard may be old.
func (m *sim) read(at int) bool {
	n := m.s.Site.Nodes[m.places[at].name]
	return n != nil && n.Err == nil
}

func (l *leaving) block(b Block) {
	b.Node, b.Guest = l.plan.From, l.plan.Guest
	l.plan.Fate, l.plan.To = Blocked, ""
	l.plan.Blocks = append(l.plan.Blocks, b)
	if l.plan.Why == "" {
		l.plan.Why = b.Saw
	}
}

// stop has a guest shut down and started again on the same node.
func (m *sim) stop(l *leaving, why string) {
	l.plan.Fate, l.plan.Policy, l.plan.Why = StopsIt, Shutdown, why
}

func (m *sim) leave(l *leaving, why string) {
	l.plan.Fate, l.plan.Policy, l.plan.Why = Stays, Leave, why
	if node := m.places[m.guests[l.i].at].node; node == nil || node.Work.Reboot != No {
		l.plan.Notes = append(l.plan.Notes, "it goes down with the node, and comes back with it if it is started at boot")
	}
}

// give puts a guest where it moves to.
func (m *sim) give(l *leaving, to int, move guest.Move, why string) {
	r := &m.guests[l.i]
	l.before = earlier{r.at, r.home, r.moved, r.Jobs}
	l.to, l.move = to, move
	if r.ByHA() {
		r.home = r.at // the HA manager brings it back to the node that it leaves
	}
	l.plan.Fate, l.plan.To, l.plan.Way, l.plan.Policy, l.plan.Why = Moves, m.places[to].name, move.Way, l.policy, why
	l.plan.RAMBytes, l.plan.DiskBytes = move.RAM, move.Disk
	speed := m.s.Speeds.network()
	l.plan.Seconds, l.plan.Downtime = move.Duration(speed).Seconds(), move.Downtime(speed).Seconds()
	if space := m.places[to].space; space != nil {
		for _, v := range move.Copied {
			if _, known := space[v.Storage]; known {
				space[v.Storage] -= v.Size
			}
		}
	}
	for _, n := range move.Notes {
		l.plan.Notes = append(l.plan.Notes, n.Saw)
	}
	m.move(l.i, to)
	r.moved = to != r.home
}

// fall does what is done with a guest that cannot move.
func (m *sim) fall(l *leaving, blocks []Block) {
	// Memory that is short is no property of the guest: it stops only if that was said of this very guest.
	short := slices.ContainsFunc(blocks, func(b Block) bool { return b.Gate == MemoryGate })
	switch {
	case l.otherwise == Shutdown && !short:
		m.stop(l, "it cannot move: "+blocks[0].Saw)
	case l.otherwise == Leave && !short:
		m.leave(l, "it cannot move: "+blocks[0].Saw)
	default:
		for _, b := range blocks {
			l.block(b)
		}
	}
}

// byManager foretells where the HA manager puts its services, in the order in which it looks at them.
func (m *sim) byManager(all []leaving) {
	var services []*leaving
	for k := range all {
		if all[k].ha && all[k].moves {
			services = append(services, &all[k])
		}
	}
	slices.SortFunc(services, func(a, b *leaving) int { return cmp.Compare(m.guests[a.i].SID(), m.guests[b.i].SID()) })
	for _, l := range services {
		r := &m.guests[l.i]
		to, why := m.going(l.i), "it is on its way there"
		if to < 0 {
			to, why = m.ha.choose(m, l.i, -1)
		}
		if to < 0 {
			m.fall(l, []Block{{
				Gate: HAGate, Saw: "the HA manager has nowhere to put it: " + why + "; it would stay on the node", Want: "a node that its rules allow",
				Look: "ha-manager rules config; ha-manager status", Override: "change the rules, or policy shutdown for it",
			}})
			continue
		}
		p := &m.places[to]
		if p.unfit != "" {
			m.fall(l, []Block{{Gate: HAGate, Saw: "the HA manager would put it on " + p.name + ", and " + p.unfit, Want: "a node of which everything is known", Look: "ha-manager status"}})
			continue
		}
		move := m.ask(r, to, l.policy.Options())
		var blocks []Block
		for _, reason := range move.Reasons {
			l.fixed = l.fixed || r.everywhere(reason)
			b := blockOf(reason)
			b.Saw = "the HA manager would put it on " + p.name + ": " + b.Saw
			blocks = append(blocks, b)
		}
		if short := r.Memory - p.free; short > 0 && !m.s.Overcommit {
			blocks = append(blocks, Block{
				Gate: MemoryGate, Code: guest.MemoryShort, ShortBytes: short,
				Saw:  fmt.Sprintf("the HA manager would put it on %s, which has %s left for its %s: %s short", p.name, guest.FormatBytes(max(p.free, 0)), guest.FormatBytes(r.Memory), guest.FormatBytes(short)),
				Want: "a node with room for it", Look: "pvesh get /cluster/resources --type vm", Override: "a node affinity that leads elsewhere, crs: ha=static, or overcommit = true",
			})
		}
		if len(blocks) > 0 {
			m.fall(l, blocks)
			continue
		}
		m.give(l, to, move, why+"; the HA manager decides")
	}
}

// overrides are how to go on where policies can do more than a single move.
var overrides = map[guest.Code]string{
	guest.LocalDisk:    "policy migrate_with_disks for it, which copies them there and back, or shutdown",
	guest.NeedsRestart: "policy restart_container for it, or shutdown",
	guest.LocalDevice:  "policy shutdown for it, or take the devices out of its config",
	guest.HasSnapshot:  "remove the snapshot, or policy shutdown for it",
	guest.LocalPath:    "policy shutdown for it",
	guest.StorageKind:  "policy shutdown for it, or move the disk first: move_disk",
	guest.CPUDiffers:   "policy shutdown for it, or a portable cpu type from its next start",
}

func blockOf(r guest.Reason) Block {
	b := Block{Gate: GuestGate, Code: r.Code, Saw: r.Saw, Want: r.Want, Look: r.Look, Override: r.Override}
	if override := overrides[r.Code]; override != "" {
		b.Override = override
	}
	switch r.Code {
	case guest.StateUnknown:
		b.Gate = UnknownGate
	case guest.InHAError, guest.HADisarmed:
		b.Gate = HAGate
	case guest.MemoryShort:
		b.Gate = MemoryGate
	}
	return b
}
