package engine

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/sourcegraph/conc/pool"
)

// Plan finds out what the runbook would change. It connects to every host at once, reads, and writes nothing. A task
// or host that cannot be planned does not keep the others from being planned: see HostPlan. The list holds problems of
// the runbook's expressions; with errors in it the plan must not be applied. The plan is nil only when planning could
// not begin or was interrupted.
func (e *Engine) Plan(ctx context.Context, rb *Runbook) (*Plan, diag.List) {
	ctx, stop := e.planningContext(ctx)
	defer stop()
	start := e.cfg.Clock.Now()
	b, problems := e.open(ctx, rb)
	if problems.HasErrors() {
		return nil, diag.Sort(problems)
	}
	p := &planner{e: e, b: b, told: causes{}, plan: &Plan{Format: PlanFormat, Created: start, Runbook: rb.Name, Source: e.cfg.Source}}
	if rb.Cluster != nil {
		p.plan.Cluster = rb.Cluster.Name
	}
	e.reach(ctx, b)
	p.steps(ctx, rb.Steps, nil, nil)
	problems = diag.Sort(append(problems, p.problems...))
	if ctx.Err() != nil {
		e.finishPlan(ctx, nil, start)
		return nil, append(problems, diag.Error("Interrupted", "Planning was interrupted. Nothing was changed.", diag.Range{})...)
	}
	if e.cfg.Command == "plan" {
		e.finishPlan(ctx, p.plan, start)
	}
	return p.plan, problems
}

type planner struct {
	e       *Engine
	b       *book
	plan    *Plan
	results results
	told    causes
	// idle are the hosts of the block at hand on which it has nothing to do, with the reason.
	idle map[string]string

	mu       sync.Mutex
	problems diag.List
}

// steps plans steps in order. planned are the changes of the steps before; it returns them with its own. Tasks that are not
// wanted are passed over; nil wants all.
func (p *planner) steps(ctx context.Context, steps []Step, planned []module.Planned, wanted func(*node) bool) []module.Planned {
	for _, s := range steps {
		if ctx.Err() != nil {
			return planned
		}
		switch s := s.(type) {
		case *Task:
			if n := p.b.byTask[s]; wanted == nil || wanted(n) {
				planned = append(planned, p.task(ctx, n, planned)...)
			}
		case *Parallel:
			before := slices.Clip(planned)
			for _, child := range s.Steps {
				all := p.steps(ctx, []Step{child}, before, wanted)
				planned = append(planned, all[len(before):]...)
			}
		case *Rolling:
			planned = p.rolling(ctx, s, planned)
		}
	}
	return planned
}

func (p *planner) task(ctx context.Context, n *node, planned []module.Planned) []module.Planned {
	e, path := p.e, n.task.Path
	start := e.cfg.Clock.Now()
	tp := TaskPlan{Step: path, Module: n.spec.Name, Continue: n.task.OnFailure == Continue}
	hosts := p.prepare(n, &tp)
	tp.On = hosts
	e.tell(ctx, path, "", event.StepStarted{Index: n.index + 1, Module: n.spec.Name, Hosts: hosts, Planning: true})
	outcomes := map[string]HostResult{}
	switch {
	case tp.Skipped != "":
		for _, h := range hosts {
			outcomes[h] = HostResult{Status: event.Skipped}
		}
		p.results.put(n.task.Name, outcomes)
	case tp.Deferred == "" && len(hosts) > 0:
		tp.Hosts = p.hosts(ctx, n, hosts, planned, outcomes)
		if len(outcomes) > 0 && (len(outcomes) == len(hosts) || n.block != nil) {
			p.results.put(n.task.Name, outcomes) // nothing will change here, so later tasks can rely on it; in a block each host for itself
		}
	}
	p.told.follow(path, tp.Hosts)
	planned = p.report(ctx, n, tp, start)
	for i := range tp.Hosts {
		tp.Hosts[i].Changes = n.shown(tp.Hosts[i].Changes)
	}
	p.plan.Tasks = append(p.plan.Tasks, tp)
	return planned
}

// prepare finds the hosts of a task, or why it does not run or cannot be planned.
func (p *planner) prepare(n *node, tp *TaskPlan) []string {
	scope := Scope{Results: p.results.view()}
	hosts, unknown, problems := p.e.hostsOf(p.b, n, scope)
	if n.left != "" {
		tp.Skipped = n.left
		return hosts
	}
	p.collect(problems)
	if unknown != nil {
		tp.Deferred = unknown.Reason
		return nil
	}
	items, unknown, more := n.itemsOf(scope)
	p.collect(more)
	switch {
	case problems.HasErrors() || more.HasErrors():
	case len(hosts) == 0 && len(p.e.cfg.Limit) > 0:
		tp.Skipped = "none of its hosts is selected"
	case len(hosts) == 0:
		tp.Skipped = "it has no hosts"
	case unknown != nil:
		tp.Deferred = unknown.Reason
	case len(items) == 0:
		tp.Skipped = "its for_each is empty"
	}
	return hosts
}

// hosts plans a task for its hosts at once. Hosts where nothing is to be done get an outcome.
func (p *planner) hosts(ctx context.Context, n *node, hosts []string, planned []module.Planned, outcomes map[string]HostResult) []HostPlan {
	items, _, _ := n.itemsOf(Scope{Results: p.results.view()})
	if n.whole() || n.once() {
		subject := hosts[0]
		plans, outcome := p.host(ctx, n, subject, p.targetHosts(n, hosts), items, planned)
		if outcome != nil {
			for _, h := range hosts {
				outcomes[h] = *outcome
			}
		}
		return plans
	}
	type onHost struct {
		plans   []HostPlan
		outcome *HostResult
	}
	all := make([]onHost, len(hosts))
	work := pool.New().WithMaxGoroutines(p.e.cfg.Parallelism)
	for i, host := range hosts {
		work.Go(func() {
			plans, outcome := p.host(ctx, n, host, p.targetHosts(n, []string{host}), items, planned)
			all[i] = onHost{plans, outcome}
		})
	}
	work.Wait()
	plans := make([]HostPlan, 0, len(hosts))
	for i, host := range hosts {
		plans = append(plans, all[i].plans...)
		if all[i].outcome != nil {
			outcomes[host] = *all[i].outcome
		}
	}
	return plans
}

// targetHosts are the machines that a task acts on for its subjects.
func (p *planner) targetHosts(n *node, subjects []string) []inventory.Host {
	if n.whole() {
		if n.task.OnFailure == Continue {
			subjects = slices.DeleteFunc(slices.Clone(subjects), p.unreachable)
		}
		return p.b.inventory(subjects)
	}
	return []inventory.Host{*n.actsOn(p.b, subjects[0])} // readBook has seen to it that there is one
}

func (p *planner) unreachable(host string) bool {
	k, err := p.e.links.of(p.b.rb.Site, host)
	if err != nil {
		return true
	}
	raw, _ := k.conns()
	return raw == nil
}

// host plans one task for one subject and all items. The outcome is set when nothing has to be done.
func (p *planner) host(ctx context.Context, n *node, subject string, on []inventory.Host, items []*Item, planned []module.Planned) ([]HostPlan, *HostResult) {
	plans := make([]HostPlan, 0, len(items))
	settled := true
	var outcome *HostResult
	for _, item := range items {
		hp, res := p.unlessIdle(ctx, n, subject, on, item, planned)
		plans = append(plans, hp)
		if res == nil {
			settled = false
		} else if outcome == nil || res.Status != event.Skipped {
			outcome = res
		}
	}
	if !settled {
		return plans, nil
	}
	return plans, outcome
}

// unlessIdle leaves out the tasks of a rolling block that serve others which have nothing to do on the host. What clears up
// after an earlier run is not left out.
func (p *planner) unlessIdle(ctx context.Context, n *node, subject string, on []inventory.Host, item *Item, planned []module.Planned) (HostPlan, *HostResult) {
	idle := p.idle[subject]
	if idle == "" || n.block == nil || !n.yields() {
		return p.item(ctx, n, subject, on, item, planned)
	}
	hp := HostPlan{Host: subject, Skipped: idle}
	parts, _ := p.b.partsOf(n.block)
	if n.spec.Serves && slices.Contains(parts.after, n) {
		then, res := p.item(ctx, n, subject, on, item, planned)
		if due(then.Changes) {
			return then, res
		}
		hp.spared, hp.looked = allOf([]HostPlan{then})
	}
	if item != nil {
		hp.Item = item.Key
	}
	return hp, &HostResult{Status: event.Skipped}
}

func (p *planner) item(ctx context.Context, n *node, subject string, on []inventory.Host, item *Item, planned []module.Planned) (HostPlan, *HostResult) {
	hp := HostPlan{Host: subject}
	if item != nil {
		hp.Item = item.Key
	}
	if len(on) == 0 {
		hp.Error, hp.Unreachable = "none of its hosts can be reached", true
		return hp, nil
	}
	self := p.b.host(subject)
	if n.task.NeedsFacts {
		if k, err := p.e.links.of(p.b.rb.Site, subject); err == nil && !p.unreachable(subject) {
			_ = p.e.gather(ctx, k) // told as a warning; the expression that needs them fails
		}
	}
	t := &target{e: p.e, b: p.b, n: n, hosts: on, planned: planned}
	if n.block != nil {
		t.block = &module.Block{Name: n.block.Name, Planning: true}
	}
	if n.needsHost() {
		if _, err := t.link(ctx, on[0].Name); err != nil {
			setFailure(&hp, err)
			return hp, nil
		}
	}
	c := n.callOf(p.e.scope(p.b, n, self, item, p.results.view()))
	switch {
	case c.problems.HasErrors():
		p.collect(c.problems)
		hp.Error = c.problems.Error()
		return hp, nil
	case c.unknown != "":
		hp.Deferred = c.unknown
		return hp, nil
	case c.skip != "":
		hp.Skipped = c.skip
		return hp, &HostResult{Status: event.Skipped}
	}
	release, err := p.e.fork(ctx)
	if err != nil {
		hp.Error = err.Error()
		return hp, nil
	}
	defer release()
	ctx, cancel := n.timeout(ctx)
	defer cancel()
	changes, err := n.plan(ctx, t, c)
	if err != nil {
		setFailure(&hp, cause(ctx, err))
		p.e.tellCrash(ctx, n, subject, err)
		return hp, nil
	}
	if len(changes) > 0 {
		hp.Changes = changes
		return hp, nil
	}
	outputs, err := n.read(ctx, t, c.args)
	if err != nil {
		setFailure(&hp, cause(ctx, err))
		return hp, nil
	}
	return hp, &HostResult{Status: event.OK, Outputs: n.encode(outputs)}
}

func (p *planner) collect(problems diag.List) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.problems = append(p.problems, problems...)
}

// setFailure writes an error of planning down for what it is.
func setFailure(hp *HostPlan, err error) {
	hp.Error = transport.Explain(err)
	hp.Refused = refusals(err)
	away := awayOf(err)
	hp.Unreachable = len(away) > 0
	if slices.ContainsFunc(away, func(a Away) bool { return a.Host != hp.Host }) {
		hp.Away = away
	}
}

// awayOf finds the hosts of an error that could not be connected to, also in one that is made of several.
func awayOf(err error) []Away {
	switch e := err.(type) { //nolint:errorlint // it goes through them itself
	case nil:
		return nil
	case *transport.UnreachableError:
		return []Away{{e.Host, transport.Explain(e)}}
	case interface{ Unwrap() []error }:
		var all []Away
		for _, one := range e.Unwrap() {
			for _, a := range awayOf(one) {
				if !slices.Contains(all, a) {
					all = append(all, a)
				}
			}
		}
		return all
	default:
		return awayOf(errors.Unwrap(err))
	}
}

// refusals are the gates that said no.
func refusals(err error) module.Refusals {
	if all, ok := errors.AsType[module.Refusals](err); ok {
		return all
	}
	if one, ok := errors.AsType[*module.Refusal](err); ok {
		return module.Refusals{one}
	}
	return nil
}

// report tells what was found and returns the changes for later tasks to build on.
func (p *planner) report(ctx context.Context, n *node, tp TaskPlan, start time.Time) []module.Planned {
	var planned []module.Planned
	status := event.OK
	if tp.Skipped != "" || tp.Deferred != "" {
		p.e.tell(ctx, tp.Step, "", event.StepPlanned{Deferred: tp.Deferred, Skipped: tp.Skipped})
		status = event.Skipped
		if tp.Deferred != "" {
			status = event.Deferred
		}
	}
	for _, h := range tp.Hosts {
		status = worse(status, h.status())
		switch {
		case h.Error != "":
			p.e.tell(ctx, tp.Step, h.Host, event.HostDone{Status: h.status(), Error: h.Error})
		case len(h.Changes) > 0 || h.Deferred != "" || h.Skipped != "":
			p.e.tell(ctx, tp.Step, h.Host, event.StepPlanned{Changes: n.shown(h.Changes), Deferred: h.Deferred, Skipped: h.Skipped})
		}
		for _, c := range h.Changes {
			planned = append(planned, module.Planned{Module: n.spec.Name, Change: c})
		}
	}
	p.e.tell(ctx, tp.Step, "", event.StepDone{Status: status, Duration: p.e.cfg.Clock.Now().Sub(start)})
	return planned
}

func (h HostPlan) status() event.Status {
	switch {
	case h.Unreachable:
		return event.Unreachable
	case len(h.Refused) > 0:
		return event.Refused
	case h.Error != "":
		return event.Failed
	case h.Deferred != "":
		return event.Deferred
	case len(h.Changes) > 0:
		return event.Changed
	case h.Skipped != "":
		return event.Skipped
	default:
		return event.OK
	}
}

// finishPlan closes a run that only plans.
func (e *Engine) finishPlan(ctx context.Context, p *Plan, start time.Time) {
	done := event.RunDone{Status: event.Cancelled, Duration: e.cfg.Clock.Now().Sub(start)}
	if p != nil {
		done.Status = event.OK
		for _, t := range p.Tasks {
			for _, h := range t.Hosts {
				done.Status = worse(done.Status, h.status())
			}
		}
	}
	_ = e.end(ctx, done) // a plan leaves nothing that would have to be on disk
}
