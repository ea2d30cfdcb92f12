package rolling

import (
	"slices"

	"github.com/pxrun/pxrun/internal/pve/guest"
)

// Proof is how a run would go, and what stands against it.
type Proof struct {
	// Order are the nodes in the order in which they go, Skipped those on which nothing is to be done.
	Order   []string  `json:"order"`
	Skipped []Skipped `json:"skipped,omitempty"`
	// Next are those that may begin right now beside the ones that are away; Why says why none may.
	Next   []string `json:"next"`
	Why    string   `json:"why,omitempty"`
	Rounds []Round  `json:"rounds"`
	// Packed says that guests had to be packed rather than spread for all of them to fit.
	Packed bool `json:"packed,omitempty"`
	// Blocks stand against the run. Nothing does if there are none.
	Blocks   []Block  `json:"blocks,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
	// MayChange says what may be otherwise when it comes to it.
	MayChange []string `json:"may_change,omitempty"`
	// Moves counts migrations of guests, those home among them; Again is how often a guest leaves a node that it was put on
	// before; Stops counts guests that stop.
	Moves   int     `json:"moves"`
	Again   int     `json:"moves_again"`
	Stops   int     `json:"stops"`
	Seconds float64 `json:"duration_seconds"`
}

// Skipped is a node on which nothing is to be done.
type Skipped struct {
	Node string `json:"node"`
	Why  string `json:"why"`
}

// Round is a number of nodes that are out at the same time: one, mostly.
type Round struct {
	Nodes []string `json:"nodes"`
	Steps []Step   `json:"steps"`
	// Why is the reason why no more nodes go at once.
	Why   string `json:"why_no_more,omitempty"`
	Votes Votes  `json:"votes"`
	Ceph  string `json:"ceph,omitempty"`
	// Headroom is the memory that is left on each node that is there while these are away, by name. Least is the smallest.
	Headroom []Headroom `json:"headroom"`
	Least    Headroom   `json:"least_headroom"`
	Seconds  float64    `json:"duration_seconds"`
}

// Votes are the votes while the nodes of a round are away.
type Votes struct {
	Left   int `json:"left"`
	Needed int `json:"needed"`
	// Device is how many of those left are the QDevice's.
	Device int `json:"device,omitempty"`
}

// Headroom is what a node has left beside its reserve and the configured memory of its running guests. It is negative on one
// that has promised more than it has.
type Headroom struct {
	Node  string `json:"node"`
	Bytes int64  `json:"bytes"`
}

// Step is what happens to one node.
type Step struct {
	Node string `json:"node"`
	// Why says why it goes now.
	Why string `json:"why"`
	// Work is what is done on it.
	Work     string  `json:"work"`
	Reboot   Need    `json:"reboot"`
	Guests   []Plan  `json:"guests"`         // every guest that is on it by then, by id
	Home     []Plan  `json:"home,omitempty"` // those that come back
	Phases   []Phase `json:"phases"`
	Seconds  float64 `json:"duration_seconds"`
	MoveOuts int     `json:"moves_out"`
	Stops    int     `json:"stops"`
	Blocked  int     `json:"blocked"`
}

// Phase is a part of a step and about how long it takes.
type Phase struct {
	Name    string  `json:"name"` // drain, upgrade, reboot, verify, release
	Seconds float64 `json:"duration_seconds"`
}

// Fate is what happens to a guest.
type Fate string

// The fates.
const (
	Moves   Fate = "moves"   // to another node
	StopsIt Fate = "stops"   // it is shut down, and started when the node is back
	Stays   Fate = "stays"   // it does not run, or it is left by policy
	Blocked Fate = "blocked" // it cannot move, and may not stop
)

// Plan is what happens to one guest, and why.
type Plan struct {
	ID    int        `json:"id"`
	Kind  guest.Kind `json:"kind"`
	Name  string     `json:"name,omitempty"`
	Guest string     `json:"guest"` // for people: vm 100 (web01)
	From  string     `json:"from"`
	To    string     `json:"to,omitempty"`
	Fate  Fate       `json:"fate"`
	// Way is how it moves; ByHA that the HA manager decides where, To being what it is expected to choose.
	Way  guest.Way `json:"way,omitempty"`
	ByHA bool      `json:"by_ha,omitempty"`
	// Policy is what was said of the guest, or what was done for lack of that.
	Policy Policy `json:"policy,omitempty"`
	// Why is the reason for the target, or for what else happens to it.
	Why         string `json:"why"`
	MemoryBytes int64  `json:"memory_bytes"` // configured
	RAMBytes    int64  `json:"ram_bytes,omitempty"`
	DiskBytes   int64  `json:"disk_bytes,omitempty"`
	// Seconds is about how long the move takes, Downtime how long the guest does not answer.
	Seconds  float64 `json:"duration_seconds,omitempty"`
	Downtime float64 `json:"downtime_seconds,omitempty"`
	// Locked is the lock that holds it now, and that is waited for.
	Locked string `json:"locked,omitempty"`
	// Notes are worth knowing.
	Notes []string `json:"notes,omitempty"`
	// Again says that it was put on this node by the run itself.
	Again bool `json:"again,omitempty"`
	// Blocks say why it cannot move.
	Blocks []Block `json:"blocks,omitempty"`
}

// Options are what a move by a policy may do. Memory is not in them.
func (p Policy) Options() guest.Options {
	return guest.Options{LocalDisks: p == MigrateWithDisks, Restart: p == RestartContainer}
}

// Options are what the guest's move may do.
func (p Plan) Options() guest.Options { return p.Policy.Options() }

// Gate names what a block is about.
type Gate string

// The gates.
const (
	VotesGate   Gate = "votes"
	CephGate    Gate = "ceph"
	MemoryGate  Gate = "memory"
	GuestGate   Gate = "guest"
	HAGate      Gate = "ha"
	OwnGate     Gate = "own"
	AwayGate    Gate = "away" // too many nodes are out already
	WindowGate  Gate = "window"
	UnknownGate Gate = "unknown"
)

// Block stands against the run: what is the case, what would have to be, how to look for oneself, how to go on.
type Block struct {
	Gate  Gate   `json:"gate"`
	Node  string `json:"node,omitempty"`  // in whose step
	Guest string `json:"guest,omitempty"` // "vm 100 (web01)"
	// Code is guest.Code for what keeps a guest from moving.
	Code     guest.Code `json:"code,omitempty"`
	Saw      string     `json:"saw"`
	Want     string     `json:"want"`
	Look     string     `json:"look,omitempty"`
	Override string     `json:"override,omitempty"`
	// ShortBytes and ShortVotes are how much is missing.
	ShortBytes int64 `json:"short_bytes,omitempty"`
	ShortVotes int   `json:"short_votes,omitempty"`
}

func (b Block) String() string {
	where := ""
	if b.Node != "" {
		where = b.Node + ": "
	}
	if b.Guest != "" {
		where += b.Guest + ": "
	}
	return where + b.Saw
}

// Step finds the step of a node.
func (p Proof) Step(node string) (Step, bool) {
	for _, r := range p.Rounds {
		if i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Node == node }); i >= 0 {
			return r.Steps[i], true
		}
	}
	return Step{}, false
}

// Holds reports whether nothing stands against the run.
func (p Proof) Holds() bool { return len(p.Blocks) == 0 }

// Against are the blocks that stand against a node's turn: its own, and those that stand against all.
func (p Proof) Against(node string) (out []Block) {
	for _, b := range p.Blocks {
		if b.Node == "" || b.Node == node {
			out = append(out, b)
		}
	}
	return out
}

// Takes is about how many seconds each node takes.
func (p Proof) Takes() map[string]float64 {
	out := map[string]float64{}
	for _, r := range p.Rounds {
		for _, s := range r.Steps {
			out[s.Node] = s.Seconds
		}
	}
	return out
}
