package engine

import (
	"fmt"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
)

// PlanFormat is the version of the plan's stored form.
const PlanFormat = 1

// Plan is everything that a run would do, and it is the list that apply works off. Planning writes nothing.
type Plan struct {
	Format  int       `json:"format"`
	Created time.Time `json:"created"`
	Runbook string    `json:"runbook"`
	Cluster string    `json:"cluster,omitempty"`
	// Source is a digest of the files, variables and selections that the plan was made from.
	Source string     `json:"source"`
	Tasks  []TaskPlan `json:"tasks"`
	// Blocks are the courses of rolling blocks.
	Blocks []BlockPlan `json:"blocks,omitempty"`

	digest string // of a plan that was loaded; its texts may have been redacted since
}

// TaskPlan is one task of a plan. In a rolling block there is one for each task with all hosts of the block.
type TaskPlan struct {
	Step   string `json:"step"`
	Module string `json:"module"`
	// On are the hosts that the task is for. Hosts has fewer entries when the module is of cluster scope.
	On []string `json:"on,omitempty"`
	// Skipped, if set, is why the task will not run: its when, tags, or no hosts.
	Skipped string `json:"skipped,omitempty"`
	// Deferred, if set, is why the task cannot be planned yet as a whole.
	Deferred string `json:"deferred,omitempty"`
	// Continue says that a failure on a host does not keep the others, or the later tasks, from running.
	Continue bool       `json:"continue,omitempty"`
	Hosts    []HostPlan `json:"hosts,omitempty"`
}

// BlockPlan is how a rolling block would go.
type BlockPlan struct {
	Name string `json:"name"`
	// Step is the path of the task that knows the course; "" if the block goes over its hosts as they are written.
	Step string `json:"step,omitempty"`
	// Order are the hosts in their order, Idle those that are left alone, with the reason.
	Order []string          `json:"order"`
	Idle  map[string]string `json:"idle,omitempty"`
	// Takes is about how long each host takes.
	Takes   map[string]time.Duration `json:"takes_ns,omitempty"`
	Showing *module.Showing          `json:"showing,omitempty"`
	// Error says why the block must not be begun.
	Error   string          `json:"error,omitempty"`
	Refused module.Refusals `json:"refused,omitempty"`
}

// HostPlan is one task for one host. For a module of cluster scope there is one, and its changes name their hosts.
type HostPlan struct {
	Host     string          `json:"host"`
	Item     string          `json:"item,omitempty"`
	Changes  []module.Change `json:"changes,omitempty"`
	Deferred string          `json:"deferred,omitempty"`
	Skipped  string          `json:"skipped,omitempty"`
	// Error is a failed or refused plan; an apply of such a plan does not start.
	Error   string          `json:"error,omitempty"`
	Refused module.Refusals `json:"refused,omitempty"`
	// Follows is the step of an earlier task that the same thing stands against; Error then only names it.
	Follows string `json:"follows,omitempty"`
	// Unreachable says that the host could not be connected to.
	Unreachable bool `json:"unreachable,omitempty"`
	// Away are the hosts that could not be connected to, where they are others than Host: a task for a whole cluster looks at all nodes.
	Away []Away `json:"away,omitempty"`
	// spared is what a task would do that was skipped since the host is idle; looked says that this was found out.
	spared []module.Change
	looked bool
}

// Away is a host that could not be connected to, and why.
type Away struct {
	Host  string `json:"host"`
	Error string `json:"error"`
}

// Empty reports whether there is nothing to do and nothing unknown.
func (p *Plan) Empty() bool {
	for _, t := range p.Tasks {
		if t.Deferred != "" {
			return false
		}
		for _, h := range t.Hosts {
			if len(h.Changes) > 0 || h.Deferred != "" || h.Error != "" {
				return false
			}
		}
	}
	return true
}

// Blocked says why the plan must not be performed; nil if nothing stands against it. Hosts of tasks that say
// on_failure = "continue" do not block: they are left out.
func (p *Plan) Blocked() error {
	b := &BlockedError{}
	var followers []string
	for _, t := range p.Tasks {
		for _, h := range t.Hosts {
			if h.Error == "" || t.Continue {
				continue
			}
			b.Status = worse(b.Status, h.status())
			text := t.Step + " on " + h.Host + ": " + h.Error
			if h.Follows != "" {
				followers = append(followers, text)
				continue
			}
			b.Failures = append(b.Failures, text)
		}
	}
	for _, block := range p.Blocks {
		if block.Error != "" {
			b.Status = worse(b.Status, block.status())
			b.Failures = append(b.Failures, fmt.Sprintf("rolling %q: %s", block.Name, block.Error))
		}
	}
	if len(b.Failures) == 0 {
		b.Failures = followers // what they follow is left out with its hosts, and they are not
	}
	if len(b.Failures) == 0 {
		return nil
	}
	return b
}

func (b BlockPlan) status() event.Status {
	switch {
	case len(b.Refused) > 0:
		return event.Refused
	case b.Error != "":
		return event.Failed
	}
	return event.OK
}
