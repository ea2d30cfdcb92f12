package engine

import (
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
)

// Runbook is a procedure: its steps run as written. Package runbooks makes it from HCL.
type Runbook struct {
	Name    string
	Cluster *inventory.Cluster // nil for a runbook that names none
	Site    *inventory.Site
	Steps   []Step
	Range   diag.Range
}

// Step is one thing to do in a runbook: a *Task, a *Parallel or a *Rolling.
type Step interface{ step() }

// Parallel runs its steps at once and ends when all have.
type Parallel struct {
	Steps []Step
	Range diag.Range
}

// Rolling runs its steps host by host, or batch by batch.
type Rolling struct {
	Name  string
	Range diag.Range
	// Over gives the hosts in their order.
	Over func(Scope) ([]string, *Unknown, diag.List)
	// MaxUnavailable is how many hosts are under way at once: a count, or a percentage of all (at least one).
	MaxUnavailable Amount
	// PerSite applies MaxUnavailable to the hosts of each place by itself. Only a block with a module.Roller knows places.
	PerSite bool
	// Canary is how many hosts go first, alone. Default 1 when MaxUnavailable is more than 1.
	Canary int
	// MaxFailed is how many hosts may fail before the rest is left alone. It counts over the whole block. Default 0.
	MaxFailed int
	// Soak is waited after each host, before another is begun.
	Soak  time.Duration
	Steps []Step
	// Between are done with each host that is through, after the soak, while others are left.
	Between []Step
	// Pause says before which hosts somebody must approve; PauseLimit how long that may take. 0 means 24 hours.
	Pause      Pause
	PauseLimit time.Duration
	// Hours bound when hosts are begun; nil is any time. A host that would not be through at their end is not begun.
	Hours *Hours
	// StopAfter bounds how long after the beginning of the block, or of its hours if those were waited for, hosts may be at work; 0 is no limit. A host that would not be
	// through by then is not begun.
	StopAfter     time.Duration
	OnHostFailure OnHostFailure
}

// Pause says before which hosts of a rolling block somebody must approve.
type Pause string

// The choices. AfterFirst lets the first host through and asks before all others, once.
const (
	NeverPause  Pause = "never"
	BeforeHost  Pause = "before_node"
	AfterFirst  Pause = "after_first"
	pauseWithin       = 24 * time.Hour
)

// OnHostFailure says what a host that failed means for the hosts after it.
type OnHostFailure string

// The choices. SkipHost goes on with the others while the gates still let them.
const (
	StopBlock OnHostFailure = "stop"
	SkipHost  OnHostFailure = "skip"
)

// Amount is a count or a percentage.
type Amount struct {
	N       int
	Percent bool
}

// Task is one module with its arguments and where to run it. Its functions evaluate the expressions of the file against
// what is known by then; they never connect to anything.
type Task struct {
	// Path is unique in the runbook: "site/members". Name is its label, by which later tasks refer to its results.
	Path, Name string
	Module     module.Module
	Range      diag.Range
	Tags       []string
	Timeout    time.Duration // of one host's plan or apply; 0: the module's own limits only
	Retry      Retry
	OnFailure  OnFailure
	Sensitive  bool // output lines and diffs are withheld
	RunOnce    bool // the first host stands for all; its result is every host's
	DelegateTo string
	// Aside says that the task stands in a hook or between hosts: what it does is no reason to begin a host of a rolling block.
	Aside bool
	// NeedsFacts says that an expression uses self.facts.
	NeedsFacts bool

	// Hosts gives the hosts of the task; empty for "all nodes of the runbook's cluster".
	Hosts func(Scope) ([]string, *Unknown, diag.List)
	// Items gives the for_each items; nil if the task has none.
	Items func(Scope) ([]Item, *Unknown, diag.List)
	// When decides whether the task runs for a host (and item); nil means always.
	When func(Scope) (bool, *Unknown, diag.List)
	// Args evaluates and decodes the arguments into what Module.NewArgs returned.
	Args func(Scope) (any, *Unknown, diag.List)
}

func (*Task) step()     {}
func (*Parallel) step() {}
func (*Rolling) step()  {}

// Unknown is why an expression has no value yet: it uses results that are not there. A task with it is deferred.
type Unknown struct{ Reason string }

// Retry repeats a failing apply. Attempts counts all tries; 0 and 1 mean no repetition. Refusals, lost connections in
// a mutating command, and cancellation are not retried.
type Retry struct {
	Attempts int
	Delay    time.Duration
}

// OnFailure says what a failed host means for the run.
type OnFailure string

// The choices. Stop is the default: the run ends before the next task.
const (
	Stop     OnFailure = "stop"
	Continue OnFailure = "continue"
)

// Item is one element of for_each.
type Item struct {
	Key   string
	Value cty.Value
}

// Scope is what an expression can see. Host is nil outside of a host's evaluation (Hosts, Items, Over).
type Scope struct {
	Host    *inventory.Host
	Facts   cty.Value // self.facts; cty.NilVal if they were not gathered
	Item    *Item
	Results map[string]TaskResult // by task name; a task that has not run is absent
}

// TaskResult is task.<name> for later tasks.
type TaskResult struct {
	Status  event.Status
	Changed bool
	Failed  bool
	Hosts   map[string]HostResult
}

// HostResult is task.<name>.results[host].
type HostResult struct {
	Status  event.Status
	Changed bool
	Failed  bool
	Error   string
	Outputs cty.Value // the module's outputs as an object; cty.NilVal if there are none
}
