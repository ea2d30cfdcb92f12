package engine

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/sourcegraph/conc/pool"
)

// probesOf lists the reads that a task is about to make for a host and item, once they can be known.
func (e *Engine) probesOf(b *book, n *node, c *call, hosts []inventory.Host) []module.Probe {
	if !c.known() || c.skip != "" {
		return nil
	}
	n.mu.Lock()
	probed, probes := c.probed, c.probes
	n.mu.Unlock()
	if probed {
		return probes
	}
	t := &target{e: e, b: b, n: n, hosts: hosts}
	// Probes are a hint; a module that crashes here crashes again in Plan, where it is reported.
	_ = guard(n.spec.Name, func() error { probes = n.task.Module.Probes(t, c.args); return nil })
	n.mu.Lock()
	c.probed, c.probes = true, probes
	n.mu.Unlock()
	return probes
}

// actsOn gives the host whose reads and changes a task makes for a subject: another one with delegate_to.
func (n *node) actsOn(b *book, subject string) *inventory.Host {
	if n.task.DelegateTo != "" {
		return b.host(n.task.DelegateTo)
	}
	return b.host(subject)
}

// hostProbes lists the reads of one task on one host, for all of its items. Tasks whose arguments rest on results or
// facts that are not there yet list none.
func (e *Engine) hostProbes(b *book, n *node, host string, results map[string]TaskResult) []command {
	hosts, unknown, problems := e.hostsOf(b, n, Scope{Results: results})
	if unknown != nil || problems.HasErrors() || n.left != "" || !slices.Contains(hosts, host) {
		return nil
	}
	if n.once() && hosts[0] != host {
		return nil
	}
	items, unknown, problems := n.itemsOf(Scope{Results: results})
	if unknown != nil || problems.HasErrors() {
		return nil
	}
	h := n.actsOn(b, host)
	if h == nil || h.Name != host {
		return nil
	}
	on := []inventory.Host{*h}
	var cs []command
	for _, item := range items {
		c := n.callOf(e.scope(b, n, h, item, results))
		for _, p := range e.probesOf(b, n, c, on) {
			if p.Host == host {
				cs = append(cs, p.Command)
			}
		}
	}
	return cs
}

// clusterProbes lists the reads of a task that runs once, by host.
func (e *Engine) clusterProbes(b *book, n *node, results map[string]TaskResult) map[string][]command {
	names, unknown, problems := e.hostsOf(b, n, Scope{Results: results})
	if unknown != nil || problems.HasErrors() || n.left != "" || len(names) == 0 {
		return nil
	}
	items, unknown, problems := n.itemsOf(Scope{Results: results})
	if unknown != nil || problems.HasErrors() {
		return nil
	}
	hosts := b.inventory(names)
	byHost := map[string][]command{}
	for _, item := range items {
		c := n.callOf(e.scope(b, n, &hosts[0], item, results))
		for _, p := range e.probesOf(b, n, c, hosts) {
			byHost[p.Host] = append(byHost[p.Host], p.Command)
		}
	}
	return byHost
}

func (b *book) inventory(names []string) []inventory.Host {
	hosts := make([]inventory.Host, 0, len(names))
	for _, name := range names {
		if h := b.host(name); h != nil {
			hosts = append(hosts, *h)
		}
	}
	return hosts
}

// reach connects to every host that the runbook needs, all at once, gathers facts where they are asked for, and fetches
// what the tasks are going to read: one round trip for each host, two where arguments rest on facts.
func (e *Engine) reach(ctx context.Context, b *book) {
	cluster := make([]map[string][]command, len(b.nodes))
	wanted := map[string]bool{}
	for i, n := range b.nodes {
		hosts, _, _ := e.hostsOf(b, n, Scope{})
		if n.left != "" || len(hosts) == 0 {
			continue
		}
		for _, h := range hosts {
			wanted[h] = true
		}
		if n.task.DelegateTo != "" {
			wanted[n.task.DelegateTo] = true
		}
		if n.whole() && !n.task.NeedsFacts {
			cluster[i] = e.clusterProbes(b, n, nil)
		}
	}
	dialling := pool.New().WithMaxGoroutines(max(len(wanted), 1))
	for _, h := range b.rb.Site.Hosts {
		if wanted[h.Name] {
			dialling.Go(func() { e.reachHost(ctx, b, h.Name, cluster) })
		}
	}
	dialling.Wait()
}

func (e *Engine) reachHost(ctx context.Context, b *book, host string, cluster []map[string][]command) {
	k, err := e.patiently(ctx, b, host)
	if err != nil {
		return // the plan of its tasks says so
	}
	release, err := e.fork(ctx)
	if err != nil {
		return
	}
	defer release()
	var first []command
	needFacts := false
	for i, n := range b.nodes {
		first = append(first, cluster[i][host]...)
		if n.task.NeedsFacts {
			needFacts = needFacts || e.usesFacts(b, n, host)
			continue
		}
		if !n.whole() {
			first = append(first, e.hostProbes(b, n, host, nil)...)
		}
	}
	if needFacts {
		first = append(first, e.cfg.Facts.Probes...)
	}
	// A read that fails here fails again where a task makes it, and is reported there.
	_ = k.ahead(ctx, first)
	if !needFacts || e.gather(ctx, k) != nil {
		return
	}
	var second []command
	for _, n := range b.nodes {
		if n.task.NeedsFacts && !n.whole() {
			second = append(second, e.hostProbes(b, n, host, nil)...)
		}
	}
	_ = k.ahead(ctx, second)
}

// patience are the pauses before a host is dialled again whose last change may still be at work: a node that joins a
// cluster refuses logins for a while, and punishes those who come too often.
var patience = []time.Duration{3 * time.Second, 10 * time.Second, 15 * time.Second, 20 * time.Second}

// patiently connects to a host. One that an earlier process of this run left in the middle of a change gets some time.
func (e *Engine) patiently(ctx context.Context, b *book, host string) (*link, error) {
	k, err := e.links.get(ctx, b.rb.Site, host)
	if err == nil || e.cfg.Past == nil || k == nil {
		return k, err
	}
	amidst := slices.IndexFunc(e.cfg.Past.Unknown, func(u event.Unfinished) bool { return u.Change.Host == host })
	if amidst < 0 {
		return k, err
	}
	for _, pause := range patience {
		e.tell(ctx, "", host, event.Note{Text: fmt.Sprintf(
			"it cannot be reached, and %q may still be going on there: tried again in %s", e.cfg.Past.Unknown[amidst].Change.Summary, pause)})
		if e.cfg.Clock.Sleep(ctx, pause) != nil {
			return k, err
		}
		if err = k.connect(ctx, true); err == nil {
			return k, nil
		}
	}
	return k, err
}

// usesFacts reports whether a task evaluates an expression with the facts of a host.
func (e *Engine) usesFacts(b *book, n *node, host string) bool {
	hosts, _, _ := e.hostsOf(b, n, Scope{})
	if n.left != "" || !slices.Contains(hosts, host) {
		return false
	}
	return !n.whole() && !n.once() || hosts[0] == host
}

func (e *Engine) gather(ctx context.Context, k *link) error {
	k.mu.Lock()
	known := !k.facts.IsNull()
	k.mu.Unlock()
	if known || e.cfg.Facts.Gather == nil {
		return nil
	}
	_, reads := k.conns()
	facts, err := e.cfg.Facts.Gather(ctx, transport.ReadOnly(unclosed{reads}))
	if err != nil {
		e.tell(ctx, "", k.host.Name, event.Warning{Text: "its facts could not be read: " + err.Error()})
		return err
	}
	k.mu.Lock()
	k.facts = facts
	k.mu.Unlock()
	return nil
}
