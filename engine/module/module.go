// Package module is the contract of a built-in module: what a task can do. A module has one deciding function, Plan,
// which reads and returns changes; each change carries its own act. Nothing that was not planned can run. The package
// knows nothing of the engine that calls it and nothing of HCL beyond internal/schema.
package module

import (
	"context"
	"time"

	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

// Scope says how often a task of the module runs.
type Scope int

const (
	// PerHost modules are planned and applied for each of the task's hosts, at once.
	PerHost Scope = iota
	// PerCluster modules run once; their Target offers every host of the task. Their changes are made one after the
	// other in the order of the plan, whatever the parallelism, unless they share a Group.
	PerCluster
)

// Action is the kind of a change.
type Action string

// The actions.
const (
	Create Action = "create"
	Update Action = "update"
	Delete Action = "delete"
	Run    Action = "run"
	Reboot Action = "reboot"
)

// Risk says what a change may cost.
type Risk string

// The risks. A disruptive change interrupts a service for a while; a destructive one cannot be taken back.
const (
	RiskNone        Risk = ""
	RiskDisruptive  Risk = "disruptive"
	RiskDestructive Risk = "destructive"
)

// Spec declares a module to people. Doc is the embedded x.md: prose, and an example in its first ```hcl block.
type Spec struct {
	Name    string
	Summary string // one sentence without a full stop
	Doc     string
	Scope   Scope
	Risk    Risk
	// MayBeAway lets a PerHost module work on a host that does not answer, such as one without power: it reaches it another way.
	MayBeAway bool
	// Serves says that in a rolling block the module's changes only make way for those of the other tasks, or clear up after
	// them: a host on which no other task has anything to do is left alone.
	Serves bool
}

// Module is one built-in. Make it with Define.
type Module interface {
	Spec() Spec
	Args() *schema.Body
	Outputs() *schema.Body
	// NewArgs returns a pointer to a zero argument struct, to be filled by Args().Decode. Where the struct has
	// ValidateTask(name string) error, that judges the name of the task once the struct is filled.
	NewArgs() any
	// Probes lists reads that Plan is about to make, so that the engine can fetch those of many tasks in one round
	// trip. It is a hint: Plan makes the same reads through the connection and finds the answers there.
	Probes(t Target, args any) []Probe
	// Plan reads and decides. Empty means: as wanted. It must not write; its connections refuse to.
	Plan(ctx context.Context, t Target, args any) ([]Change, error)
	// Read gives the module's outputs from the state of the hosts, after apply or when nothing had to change.
	Read(ctx context.Context, t Target, args any) (any, error)
}

// Probe is one read of one host.
type Probe struct {
	Host    string
	Command transport.Command
}

// Change is one thing that will be made different.
type Change struct {
	// ID is stable over plans and unique within a task: "pve3/join".
	ID string `json:"id"`
	// Host is where it happens.
	Host    string `json:"host"`
	Summary string `json:"summary"` // "join pve3 to cluster lab"
	Action  Action `json:"action"`
	Risk    Risk   `json:"risk,omitempty"`
	// Before and After are what is shown, JSON-able, with secrets already masked. Texts that span lines are shown as a
	// diff.
	Before any `json:"before,omitempty"`
	After  any `json:"after,omitempty"`
	// Predicted is why this change is a forecast: it rests on changes of earlier tasks that are not made yet. It is
	// planned anew when they are.
	Predicted string `json:"predicted,omitempty"`
	// Imperative marks a change that no read can prove done, such as a bare command. The engine does not expect it to
	// vanish from the next plan.
	Imperative bool `json:"imperative,omitempty"`
	// Group, if set, lets changes that follow each other in the plan with the same group run at once on different hosts.
	// Those of one host stay in their order.
	Group string `json:"group,omitempty"`
	// Slots let changes of a Group share more than that: what this one holds while it is made, by any names, with how many
	// changes may hold each at once. Without any it holds its host alone. A change whose slots are free overtakes one that
	// waits for others.
	Slots map[string]int `json:"-"`
	// Undo, if set, is registered in the journal before Apply is called: the change is temporary.
	Undo *Undo `json:"undo,omitempty"`
	// Undoes names temporary changes, by their IDs, that this one takes back for good ("pve3/maintenance"). Once it is
	// made and proved, their registered undos on the same host are crossed off the journal.
	Undoes []string `json:"undoes,omitempty"`
	// Apply makes the change and waits until it can be seen.
	Apply func(ctx context.Context, t Target) error `json:"-"`
}

// Undo takes a temporary change back. It is data, so that another run, after a crash, can do it too.
type Undo struct {
	Host    string
	Summary string // "leave maintenance mode on pve3"
	// Command makes it undone; it must be safe to run twice and hold no secret. Only Argv, Script, Stdin and Timeout are
	// kept.
	Command transport.Command
	// Anywhere says that the command does the same on any node of the host's cluster that is quorate, and fails on one that is not:
	// when the host does not answer, it is run on another.
	Anywhere bool
	// ByHand is what a person types to the same end, where that is shorter than the command.
	ByHand string
}

// Target is what a module acts on and with. The engine makes one for each task and host.
type Target interface {
	// Host is the host of a PerHost module, and the first of Hosts otherwise.
	Host() inventory.Host
	// Hosts are the hosts of the task that are still in the run. For a PerHost module it is the one host.
	Hosts() []inventory.Host
	// Site is the whole inventory.
	Site() *inventory.Site
	// Cluster is the cluster that the runbook is for; nil if none.
	Cluster() *inventory.Cluster
	// Selected reports whether a host may be changed: --limit leaves hosts out. They may be read all the same.
	Selected(host string) bool
	// Conn returns the connection to any host of the site, by its name. It may dial.
	Conn(ctx context.Context, host string) (transport.Conn, error)
	// Planned lists the changes that earlier tasks of this plan would make but have not made. Empty while applying.
	Planned() []Planned
	// Task is the name of the task, its second label, with the key of for_each left out.
	Task() string
	// Run is the id of the run; "" while planning without one.
	Run() string
	// Detach runs a command on a host in a way that outlives the connection, follows it to its end, and finds it again
	// if an earlier run started the same job: see Job. It always counts as mutating.
	Detach(ctx context.Context, host string, j Job) (transport.Result, error)
	// WaitFor polls a condition until it holds.
	WaitFor(ctx context.Context, c Condition) error
	// Log reports a line about the host to the user's log; Warn reports something that the user should know.
	Log(host, line string)
	Warn(host, text string)
	// Keep hands over a value that is shown only once, such as a new API token. It is stored, never printed.
	Keep(name string, v secret.String)
	// Sleep waits on the engine's clock.
	Sleep(ctx context.Context, d time.Duration) error
	// Record hands over what was measured or done, for the report.
	Record(host string, r Record)
	// Block is the rolling block that the task stands in; nil if none.
	Block() *Block
	// Approve asks the person at the terminal a yes/no question. Without one it returns an error that says how to
	// answer beforehand.
	Approve(ctx context.Context, question string) error
}

// Planned is a change of an earlier task, with the module that planned it.
type Planned struct {
	Module string
	Change
}

// Job is a command that may outlast the connection. It runs as a transient systemd unit.
type Job struct {
	// Name is stable for the same work on the same host ("join"); a run that finds it running follows it instead of
	// starting it again.
	Name    string
	Command transport.Command // Output receives lines as they are followed
	// Timeout bounds the wait. The unit is left running when it is reached; the error says so.
	Timeout time.Duration
}

// Condition is a named wait with an end.
type Condition struct {
	Name string // "pve2 sees itself in the cluster"
	// Check returns nil when the condition holds. Its last error explains a timeout. An error wrapped with Fatal ends
	// the wait at once.
	Check   func(ctx context.Context) error
	Timeout time.Duration
	// Every is the longest pause between checks; polling starts faster and slows down to it. 0 means 2 s.
	Every time.Duration
}

// Fatal marks an error of a Condition that waiting will not mend.
func Fatal(err error) error { return &FatalError{err} }

// FatalError ends a wait.
type FatalError struct{ Cause error }

func (e *FatalError) Error() string { return e.Cause.Error() }

// Unwrap gives the cause.
func (e *FatalError) Unwrap() error { return e.Cause }
