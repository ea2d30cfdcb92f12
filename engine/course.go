package engine

import (
	"context"
	"fmt"
	"slices"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
)

// asked is what a Roller is asked with: the engine's view of a block.
type asked struct {
	block *Rolling
	hosts []string // all of them, as they are written
	works map[string]*hostWork
	state *window // nil while planning
}

// course asks the Roller of a block how it goes on. It is nil without an error if the block has none.
func (e *Engine) course(ctx context.Context, b *book, t *target, a asked, results map[string]TaskResult) (*module.Course, error) {
	n, roller := b.roller(a.block)
	if roller == nil {
		return nil, nil
	}
	roll := module.Roll{Block: a.block.Name, MaxUnavailable: a.block.MaxUnavailable.of(len(a.hosts)), Canary: a.block.Canary, Planning: a.state == nil, PerSite: a.block.PerSite}
	if a.block.MaxUnavailable.Percent {
		roll.Percent = a.block.MaxUnavailable.N
	} else if a.block.PerSite {
		roll.MaxUnavailable = a.block.MaxUnavailable.N
	}
	if w := a.state; w != nil {
		roll.Away, roll.Done, roll.Failed, roll.Canary = w.away, w.done, w.failed, w.canaries
	}
	for _, host := range a.hosts {
		h := module.RollHost{Name: host}
		if w := a.works[host]; w != nil {
			h.Work, h.Unknown, h.Idle = w.changes, w.unknown, w.idle
			if w.cleanUp {
				h.Idle, h.Unknown, h.CleanUp = "", "something was left on it", true
			}
		}
		c := n.callOf(e.scope(b, n, b.host(host), nil, results))
		switch {
		case c.problems.HasErrors():
			return nil, c.problems
		case c.unknown != "":
			return nil, fmt.Errorf("the arguments of %s for %s are not known yet: %s", n.task.Path, host, c.unknown)
		case c.skip == "":
			h.Args = c.args
		}
		roll.Hosts = append(roll.Hosts, h)
	}
	t.n, t.hosts = n, b.inventory(a.hosts)
	var course module.Course
	err := guard(n.spec.Name, func() (err error) {
		course, err = roller.Roll(ctx, t, roll)
		return err
	})
	if err != nil {
		return nil, cause(ctx, err)
	}
	return &course, nil
}

// rolling plans a block: first what it is about, then what makes way for that and clears up behind it.
func (p *planner) rolling(ctx context.Context, block *Rolling, planned []module.Planned) []module.Planned {
	all := slices.Concat(block.Steps, block.Between)
	planned = p.steps(ctx, all, planned, func(n *node) bool { return !n.yields() })
	hosts, err := p.over(block)
	works := p.works(block, hosts)
	p.idle = idleOf(works)
	planned = p.steps(ctx, all, planned, (*node).yields)
	p.idle = nil
	p.leftovers(block, works)
	index := map[string]int{}
	for _, n := range p.b.nodes {
		index[n.task.Path] = n.index
	}
	slices.SortStableFunc(p.plan.Tasks, func(a, b TaskPlan) int { return index[a.Step] - index[b.Step] })
	bp := BlockPlan{Name: block.Name, Order: hosts, Idle: idleOf(works)}
	if err != nil {
		bp.Error = err.Error()
		bp.Order = []string{}
	} else {
		p.course(ctx, block, &bp, hosts, works)
	}
	p.plan.Blocks = append(p.plan.Blocks, bp)
	return planned
}

// leftovers notes the idle hosts on which the last tasks of the block have something to clear up.
func (p *planner) leftovers(block *Rolling, works map[string]*hostWork) {
	parts, _ := p.b.partsOf(block)
	for _, t := range p.plan.Tasks {
		if !slices.ContainsFunc(parts.after, func(n *node) bool { return n.task.Path == t.Step && n.spec.Serves }) {
			continue
		}
		for _, h := range t.Hosts {
			if w := works[h.Host]; w != nil && w.idle != "" && due(h.Changes) {
				w.cleanUp = true
			}
		}
	}
}

// over gives the hosts of a block in their order; none and no error if that is not known yet: its tasks say so.
func (p *planner) over(block *Rolling) ([]string, error) {
	hosts, unknown, problems := block.Over(Scope{Results: p.results.view()})
	p.collect(problems)
	if problems.HasErrors() || unknown != nil {
		return nil, nil
	}
	return p.e.among(hosts, nil), nil
}

func (p *planner) course(ctx context.Context, block *Rolling, bp *BlockPlan, hosts []string, works map[string]*hostWork) {
	if len(hosts) == 0 || len(bp.Idle) == len(hosts) {
		bp.Order = []string{}
		return
	}
	t := &target{e: p.e, b: p.b, block: &module.Block{Name: block.Name, Planning: true}}
	course, err := p.e.course(ctx, p.b, t, asked{block: block, hosts: hosts, works: works}, p.results.view())
	switch {
	case err != nil:
		bp.Error, bp.Refused = err.Error(), refusals(err)
		return
	case course == nil && block.PerSite:
		bp.Error = "max_unavailable_per = \"site\" needs a task in the block that knows the places of its hosts, such as drain"
		return
	case course == nil:
		bp.Order = slices.DeleteFunc(slices.Clone(hosts), func(h string) bool { return bp.Idle[h] != "" })
		return
	}
	n, _ := p.b.roller(block)
	bp.Step, bp.Order, bp.Takes, bp.Showing = n.task.Path, course.Order, course.Takes, course.Showing
	if len(course.Refusals) > 0 {
		bp.Error, bp.Refused = course.Refusals.Error(), course.Refusals
	}
	p.e.tellCourse(ctx, bp.Step, block.Name, course)
}

func (e *Engine) tellCourse(ctx context.Context, step, block string, c *module.Course) {
	told := event.BlockPlanned{Block: block, Order: c.Order}
	if c.Showing != nil {
		told.Showing = *c.Showing
	}
	e.tell(ctx, step, "", told)
}

// among are hosts of the selection and among only, if that is given, each once.
func (e *Engine) among(hosts, only []string) []string {
	order := []string{}
	for _, h := range hosts {
		in := len(e.cfg.Limit) == 0 || slices.Contains(e.cfg.Limit, h)
		if in && (only == nil || slices.Contains(only, h)) && !slices.Contains(order, h) {
			order = append(order, h)
		}
	}
	return order
}
