package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/inventory"
	"github.com/sourcegraph/conc/pool"
)

// hostWork is what a rolling block has to do on a host.
type hostWork struct {
	changes []module.Planned // of the tasks for which the others make way
	unknown string           // why some cannot be told yet
	idle    string           // why there are none; "" if there are, or may be
	// cleanUp says that the host is idle and something is left on it that the last tasks of the block clear up.
	cleanUp bool
	// after is what the last tasks of the block would do on an idle host, as far as that could be planned.
	after []afterwards
}

// afterwards is what one of the last tasks of a block would do.
type afterwards struct {
	n       *node
	changes []module.Change
}

// parts are the tasks of a block by what they are for.
type parts struct {
	work  []*node // what the block is about
	after []*node // serving tasks behind all of those: they clear up
	tail  int     // the first step behind the last one that holds work
}

// partsOf takes a block apart. Without serving tasks, or without others, no host is idle: there is nothing to weigh.
func (b *book) partsOf(block *Rolling) (parts, bool) {
	var p parts
	serving := false
	for i, s := range block.Steps {
		all := b.under(s)
		work := slices.DeleteFunc(slices.Clone(all), func(n *node) bool { return n.yields() || n.left != "" })
		serving = serving || slices.ContainsFunc(all, func(n *node) bool { return n.spec.Serves })
		p.work = append(p.work, work...)
		if len(work) > 0 {
			p.tail = i + 1
		}
	}
	for _, s := range block.Steps[p.tail:] {
		p.after = append(p.after, b.under(s)...)
	}
	return p, serving && len(p.work) > 0
}

// under are the tasks of a step.
func (b *book) under(s Step) []*node {
	switch s := s.(type) {
	case *Task:
		return []*node{b.byTask[s]}
	case *Parallel:
		var all []*node
		for _, child := range s.Steps {
			all = append(all, b.under(child)...)
		}
		return all
	}
	return nil
}

// roller is the task of a block that knows its course; nil if none does.
func (b *book) roller(block *Rolling) (*node, module.Roller) {
	for _, n := range b.nodes {
		if r, ok := n.task.Module.(module.Roller); ok && n.block == block && n.left == "" {
			return n, r
		}
	}
	return nil, nil
}

// due reports whether a serving task has something to do that does not rest on what the block would do first.
func due(changes []module.Change) bool {
	return slices.ContainsFunc(changes, func(c module.Change) bool { return c.Predicted == "" && !c.Imperative })
}

// add counts what one task would do on the host.
func (w *hostWork) add(n *node, h HostPlan) {
	for _, c := range h.Changes {
		w.changes = append(w.changes, module.Planned{Module: n.spec.Name, Change: c})
	}
	switch {
	case h.Deferred != "":
		w.unknown = fmt.Sprintf("%s: %s", n.task.Name, h.Deferred)
	case h.Error != "":
		w.unknown = fmt.Sprintf("%s could not be planned: %s", n.task.Name, h.Error)
	}
}

// settle decides whether the host is idle.
func (w *hostWork) settle(p parts) {
	if len(w.changes) > 0 || w.unknown != "" {
		return
	}
	names := make([]string, len(p.work))
	for i, n := range p.work {
		names[i] = n.task.Name
	}
	w.idle = fmt.Sprintf("nothing to do: %s would change nothing", strings.Join(names, ", "))
}

// works finds out anew, from the hosts, what a block has to do on some of them.
func (r *run) works(ctx context.Context, block *Rolling, hosts []string) map[string]*hostWork {
	all := make(map[string]*hostWork, len(hosts))
	p, weighs := r.b.partsOf(block)
	var mu sync.Mutex
	work := pool.New().WithMaxGoroutines(r.e.cfg.Parallelism)
	for _, host := range hosts {
		work.Go(func() {
			w := &hostWork{}
			if weighs {
				w = r.work1(ctx, p, host)
			}
			mu.Lock()
			defer mu.Unlock()
			all[host] = w
		})
	}
	work.Wait()
	return all
}

// work1 plans the tasks of a block for one host, as if nothing of it were going to be done.
func (r *run) work1(ctx context.Context, p parts, host string) *hostWork {
	scratch := &planner{e: r.e, b: r.b, told: causes{}, plan: &Plan{}}
	scratch.results.byName = r.results.view()
	w := &hostWork{}
	plan := func(n *node) []HostPlan {
		items, _, _ := n.itemsOf(Scope{Results: scratch.results.view()})
		on := []inventory.Host{*n.actsOn(r.b, host)} // readBook has seen to it that there is one
		plans, outcome := scratch.host(ctx, n, host, on, items, w.changes)
		if outcome != nil {
			scratch.results.put(n.task.Name, map[string]HostResult{host: *outcome})
		}
		return plans
	}
	for _, n := range p.work {
		for _, h := range plan(n) {
			w.add(n, h)
		}
	}
	if problems := scratch.problems; problems.HasErrors() {
		w.unknown = problems.Error()
	}
	w.settle(p)
	if w.idle == "" {
		return w
	}
	for _, n := range p.after {
		plans := plan(n)
		for _, h := range plans {
			w.cleanUp = w.cleanUp || n.spec.Serves && due(h.Changes)
		}
		if changes, ok := allOf(plans); ok {
			w.after = append(w.after, afterwards{n, changes})
		}
	}
	return w
}

// allOf are the changes of plans, if all could be made.
func allOf(plans []HostPlan) (changes []module.Change, ok bool) {
	for _, h := range plans {
		if h.looked {
			changes = append(changes, h.spared...)
			continue
		}
		if h.Error != "" || h.Deferred != "" || h.Skipped != "" {
			return nil, false
		}
		changes = append(changes, h.Changes...)
	}
	return changes, len(plans) > 0
}

// planned are the works of a block as a plan has them.
func (p *planner) works(block *Rolling, hosts []string) map[string]*hostWork {
	all := make(map[string]*hostWork, len(hosts))
	for _, h := range hosts {
		all[h] = &hostWork{}
	}
	parts, weighs := p.b.partsOf(block)
	if !weighs {
		return all
	}
	byStep := map[string]*node{}
	for _, n := range parts.work {
		byStep[n.task.Path] = n
	}
	for _, t := range p.plan.Tasks {
		n := byStep[t.Step]
		if n == nil {
			continue
		}
		if t.Deferred != "" {
			for _, w := range all {
				w.unknown = t.Deferred
			}
		}
		for _, h := range t.Hosts {
			if w := all[h.Host]; w != nil {
				w.add(n, h)
			}
		}
	}
	for _, w := range all {
		w.settle(parts)
	}
	return all
}

// idleOf are the idle hosts with the reason.
func idleOf(works map[string]*hostWork) map[string]string {
	idle := map[string]string{}
	for host, w := range works {
		if w.idle != "" && !w.cleanUp {
			idle[host] = w.idle
		}
	}
	return idle
}

// skipped closes the records of those tasks of a block that are left out on a host.
func (r *run) skipped(block *Rolling, host string, which func(*node) bool) {
	for _, rec := range r.recordsOf(block) {
		if !which(rec.n) {
			continue
		}
		rec.begin(r.e.cfg.Clock.Now())
		rec.put(host, &outcome{status: event.Skipped, result: HostResult{Status: event.Skipped}})
	}
}
