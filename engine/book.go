package engine

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/inventory"
)

// book is a runbook as the engine works with it: its tasks in order, each with what is known about it so far.
type book struct {
	rb     *Runbook
	nodes  []*node
	byTask map[*Task]*node
	byName map[string]*inventory.Host
	hosts  []string // every host that a task may run on, as far as that is known before the run
}

// node is one task of the runbook.
type node struct {
	task  *Task
	spec  module.Spec
	index int
	block *Rolling // the rolling block that it stands in
	left  string   // why tags leave it out

	mu    sync.Mutex
	hosts []string // once known; nil before
	items []*Item  // once known; one nil for a task without for_each
	calls map[callKey]*call

	encoded *encoded // the outputs that were last made a value
}

// yields reports whether the task is no reason to begin a host of its rolling block: it serves those that are, or stands aside.
func (n *node) yields() bool { return n.spec.Serves || n.task.Aside }

type callKey struct{ host, item string }

func (e *Engine) readBook(rb *Runbook) (*book, diag.List) {
	b := &book{rb: rb, byTask: map[*Task]*node{}, byName: make(map[string]*inventory.Host, len(rb.Site.Hosts)), hosts: []string{}}
	for i := range rb.Site.Hosts {
		b.byName[rb.Site.Hosts[i].Name] = &rb.Site.Hosts[i]
	}
	b.flatten(rb.Steps, nil)
	seen := map[string]bool{}
	var problems diag.List
	for _, n := range b.nodes {
		n.left = e.leftOut(n.task.Tags)
		if seen[n.task.Path] {
			problems = append(problems, diag.Error("Duplicate task", fmt.Sprintf("The runbook has more than one task %q.", n.task.Path), n.task.Range)...)
		}
		seen[n.task.Path] = true
		if to := n.task.DelegateTo; to != "" && b.host(to) == nil {
			problems = append(problems, diag.Error("Unknown host", fmt.Sprintf("Task %q is delegated to %q, which is not a host of this site.", n.task.Path, to), n.task.Range)...)
		}
	}
	for _, name := range e.cfg.Limit {
		if b.host(name) == nil {
			problems = append(problems, diag.Error("Unknown host", fmt.Sprintf("The selection names %q, which is not a host of this site.", name), diag.Range{})...)
		}
	}
	if problems.HasErrors() {
		return nil, problems
	}
	used := map[string]bool{}
	for _, n := range b.nodes {
		if n.left != "" {
			continue
		}
		hosts, _, _ := e.hostsOf(b, n, Scope{})
		for _, h := range hosts {
			used[h] = true
		}
		if n.task.DelegateTo != "" {
			used[n.task.DelegateTo] = true
		}
	}
	for _, h := range rb.Site.Hosts {
		if used[h.Name] {
			b.hosts = append(b.hosts, h.Name)
		}
	}
	return b, problems
}

// host gives a host by its name; nil if there is none.
func (b *book) host(name string) *inventory.Host { return b.byName[name] }

// leased are the hosts that the lease is taken on. A rolling block moves what runs on its hosts to others of the cluster, and its hosts
// restart: the lease is on all nodes then, so that one of them keeps it.
func (b *book) leased() []string {
	hosts := slices.Clone(b.hosts)
	if b.rb.Cluster == nil || !slices.ContainsFunc(b.nodes, func(n *node) bool {
		_, rolls := n.task.Module.(module.Roller)
		return rolls && n.left == ""
	}) {
		return hosts
	}
	for _, name := range b.rb.Cluster.Nodes {
		if !slices.Contains(hosts, name) && b.host(name) != nil {
			hosts = append(hosts, name)
		}
	}
	return hosts
}

// byPath gives a task by its path; nil if there is none.
func (b *book) byPath(path string) *node {
	for _, n := range b.nodes {
		if n.task.Path == path {
			return n
		}
	}
	return nil
}

func (b *book) flatten(steps []Step, block *Rolling) {
	for _, s := range steps {
		switch s := s.(type) {
		case *Task:
			n := &node{task: s, spec: s.Module.Spec(), index: len(b.nodes), block: block, calls: map[callKey]*call{}}
			b.nodes = append(b.nodes, n)
			b.byTask[s] = n
		case *Parallel:
			b.flatten(s.Steps, block)
		case *Rolling:
			b.flatten(slices.Concat(s.Steps, s.Between), s)
		}
	}
}

// leftOut says why tags keep a task from running; "" if they do not.
func (e *Engine) leftOut(tags []string) string {
	has := func(wanted string) bool { return slices.Contains(tags, wanted) }
	switch {
	case slices.ContainsFunc(e.cfg.SkipTags, has):
		return "left out by --skip-tags"
	case len(e.cfg.Tags) > 0 && !slices.ContainsFunc(e.cfg.Tags, has):
		return "left out by --tags"
	default:
		return ""
	}
}

// whole reports whether the task runs once for all of its hosts. In a rolling block it is the block that says which
// hosts are at work, so there it runs for each.
func (n *node) whole() bool { return n.spec.Scope == module.PerCluster && n.block == nil }

// needsHost reports whether the task begins on a host only when that answers.
func (n *node) needsHost() bool { return !n.whole() && !n.spec.MayBeAway }

// once reports whether one host stands for all.
func (n *node) once() bool { return n.task.RunOnce && !n.whole() }

// hostsOf gives the hosts of a task: its own or the cluster's nodes, those of its rolling block, within the limit.
func (e *Engine) hostsOf(b *book, n *node, s Scope) ([]string, *Unknown, diag.List) {
	n.mu.Lock()
	known := n.hosts
	n.mu.Unlock()
	if known != nil {
		return known, nil, nil
	}
	names, unknown, problems := e.wantedHosts(b, n, s)
	if unknown != nil || problems.HasErrors() {
		return nil, unknown, problems
	}
	hosts := []string{}
	for _, name := range names {
		if b.host(name) == nil {
			problems = append(problems, diag.Error("Unknown host", fmt.Sprintf("Task %q is to run on %q, which is not a host of this site.", n.task.Path, name), n.task.Range)...)
			continue
		}
		if !slices.Contains(hosts, name) && e.limitAllows(name) {
			hosts = append(hosts, name)
		}
	}
	if problems.HasErrors() {
		return nil, nil, problems
	}
	n.mu.Lock()
	n.hosts = hosts
	n.mu.Unlock()
	return hosts, nil, problems
}

// limitAllows reports whether a host is within the limit of the run.
func (e *Engine) limitAllows(host string) bool {
	return len(e.cfg.Limit) == 0 || slices.Contains(e.cfg.Limit, host)
}

func (e *Engine) wantedHosts(b *book, n *node, s Scope) ([]string, *Unknown, diag.List) {
	var own []string
	if n.task.Hosts != nil {
		names, unknown, problems := n.task.Hosts(s)
		if unknown != nil || problems.HasErrors() {
			return nil, unknown, problems
		}
		own = names
	}
	if n.block != nil {
		over, unknown, problems := n.block.Over(s)
		if unknown != nil || problems.HasErrors() || len(own) == 0 {
			return over, unknown, problems
		}
		return slices.DeleteFunc(slices.Clone(over), func(h string) bool { return !slices.Contains(own, h) }), nil, nil
	}
	if len(own) == 0 && b.rb.Cluster != nil {
		return b.rb.Cluster.Nodes, nil, nil
	}
	return own, nil, nil
}

// itemsOf gives the items of for_each; a task without one has a single nil.
func (n *node) itemsOf(s Scope) ([]*Item, *Unknown, diag.List) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.items != nil {
		return n.items, nil, nil
	}
	items := []*Item{nil}
	if n.task.Items != nil {
		all, unknown, problems := n.task.Items(s)
		if unknown != nil || problems.HasErrors() {
			return nil, unknown, problems
		}
		items = make([]*Item, len(all))
		for i := range all {
			items[i] = &all[i]
		}
	}
	n.items = items
	return items, nil, nil
}

// call is a task evaluated for one host and item. Once known it does not change: an expression that has a value
// without the results of earlier tasks has the same value with them.
type call struct {
	host, item string
	skip       string // why it does not run
	unknown    string // why it cannot be evaluated yet
	problems   diag.List
	args       any
	probes     []module.Probe
	probed     bool
}

func (c *call) known() bool { return c.unknown == "" && !c.problems.HasErrors() }

// callOf evaluates the task for a host and item.
func (n *node) callOf(s Scope) *call {
	key := callKey{host: s.Host.Name}
	if s.Item != nil {
		key.item = s.Item.Key
	}
	n.mu.Lock()
	c := n.calls[key]
	n.mu.Unlock()
	if c != nil {
		return c
	}
	c = &call{host: key.host, item: key.item}
	if err := guard(n.spec.Name, func() error { n.evaluate(s, c); return nil }); err != nil {
		c.problems = diag.Error("Task cannot be evaluated", err.Error(), n.task.Range)
	}
	if c.known() && n.block == nil { // in a block, what the tasks before it have found on the host may change until its turn
		n.mu.Lock()
		n.calls[key] = c
		n.mu.Unlock()
	}
	return c
}

func (n *node) evaluate(s Scope, c *call) {
	if n.task.When != nil {
		yes, unknown, problems := n.task.When(s)
		c.problems = problems
		switch {
		case problems.HasErrors():
			return
		case unknown != nil:
			c.unknown = unknown.Reason
			return
		case !yes:
			c.skip = "its condition is false"
			return
		}
	}
	args, unknown, problems := n.task.Args(s)
	c.args, c.problems = args, append(c.problems, problems...)
	if unknown != nil {
		c.unknown = unknown.Reason
	}
}

// scope makes the scope of a host and item.
func (e *Engine) scope(b *book, n *node, h *inventory.Host, item *Item, results map[string]TaskResult) Scope {
	return Scope{Host: h, Item: item, Results: b.seen(n, h.Name, results), Facts: e.links.facts(h.Name)}
}

// seen is what a task sees of the results. In a rolling block the other tasks of the block are those of the same host:
// the hosts before it have theirs, and do not answer for it.
func (b *book) seen(n *node, host string, results map[string]TaskResult) map[string]TaskResult {
	if n.block == nil || len(results) == 0 {
		return results
	}
	own := maps.Clone(results)
	for _, other := range b.nodes {
		name := other.task.Name
		all, ok := results[name]
		if !ok || other.block != n.block {
			continue
		}
		if mine, ran := all.Hosts[host]; ran {
			own[name] = taskResult(map[string]HostResult{host: mine})
		} else if len(all.Hosts) > 0 {
			delete(own, name)
		}
	}
	return own
}
