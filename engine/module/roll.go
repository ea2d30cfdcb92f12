package module

import (
	"context"
	"slices"
	"time"
)

// Roller is a module that knows in what order the hosts of a rolling block go, how many may be away at once, and what
// stands against it. The engine asks the one task of a block whose module is a Roller: once while planning, and again, with
// everything read anew, before each host. A block without one goes over its hosts as they are written.
type Roller interface {
	Module
	// Roll reads and decides; it must not write. An error means that nothing is known, and no host is begun.
	Roll(ctx context.Context, t Target, r Roll) (Course, error)
}

// Roll is a rolling block as its Roller sees it.
type Roll struct {
	Block string
	// Hosts are all hosts of the block, in the order in which they are written.
	Hosts []RollHost
	// MaxUnavailable is how many hosts may be under way at once, Canary how many go first, each alone.
	MaxUnavailable, Canary int
	// PerSite says that the limit is that of the hosts of each place by itself, Percent that it was written as a share of them; 0 as a
	// number. What a place is, the Roller knows.
	PerSite bool
	Percent int
	// Away are the hosts that are under way, Done those that are through, Failed those that failed and may be in any state.
	// All are empty while planning.
	Away, Done, Failed []string
	// Planning says that nothing is begun after this: the course is shown to people.
	Planning bool
}

// RollHost is a host of a rolling block.
type RollHost struct {
	Name string
	// Args are the arguments of the Roller's own task on this host, as DefineRoller says; nil where its when leaves the host out.
	Args any
	// Work are the changes that the block's other tasks would make there, those that only serve them (Spec.Serves) left out.
	Work []Planned
	// Unknown is why some of them cannot be told before the host's turn; "" if all can.
	Unknown string
	// Idle is why nothing is to be done there ("nothing to upgrade, no reboot needed"); "" if something is, or may be.
	Idle string
	// CleanUp says that something was left on the host, which the last tasks of the block clear up: it does not go down again.
	CleanUp bool
}

// Course is how a rolling block goes on.
type Course struct {
	// Order are the hosts that are not idle and not begun yet, in the order in which they should be.
	Order []string
	// Next are the first of them that may begin right now beside those that are away; at least one, unless Why says why none may.
	Next []string
	Why  string
	// Refusals stand against the whole course: while planning they block the plan, later they end the block.
	Refusals Refusals
	// Takes is about how long a host takes. Hosts without one are not bound by the end of a maintenance window.
	Takes map[string]time.Duration
	// Showing is the course for people and programs: who moves where and why, what is left, what stops.
	Showing *Showing
}

// Find gives a host of the block.
func (r Roll) Find(name string) (RollHost, bool) {
	for _, h := range r.Hosts {
		if h.Name == name {
			return h, true
		}
	}
	return RollHost{}, false
}

// Block is the rolling block in which a task is planned or performed, as far as a module may need it: who else is away.
type Block struct {
	Name string
	// Planning says that the whole block is being planned: what stands against it as a whole is for its Roller to say.
	Planning bool
	// Away are the other hosts that are under way now. Empty while planning.
	Away []string
	// Later are the hosts that have not begun, in their order, Done those that are through.
	Later, Done []string
	// Failed are the hosts whose turn failed, now or before a resume: they may be in any state, and are not begun again.
	Failed []string
}

// Out are the other hosts that must not be counted on: those that are under way, and those that have failed. A task outside of a
// block has none.
func (b *Block) Out() []string {
	if b == nil {
		return nil
	}
	return slices.Concat(b.Away, b.Failed)
}
