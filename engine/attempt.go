package engine

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/inventory"
	"github.com/sourcegraph/conc/pool"
)

// attempt plans the task anew for one subject and item, makes the changes one after the other, and proves that they
// hold.
func (r *run) attempt(ctx context.Context, n *node, subject string, on []inventory.Host, item *Item, o *outcome) (err error) {
	if err := r.stopped(); err != nil {
		return err
	}
	ctx, cancel := n.timeout(ctx)
	defer cancel()
	defer func() { err = cause(ctx, err) }()

	block := r.blockOf(n.block, on[0].Name)
	look := &target{e: r.e, b: r.b, n: n, hosts: on, run: r, block: block}
	act := &target{e: r.e, b: r.b, n: n, hosts: on, run: r, acts: true, block: block}
	if n.needsHost() {
		if _, err := look.link(ctx, on[0].Name); err != nil {
			return err
		}
	}
	c, err := r.evaluate(ctx, n, subject, item)
	if err != nil || c.skip != "" {
		return err
	}
	r.warm(ctx, n, on)
	changes, err := n.plan(ctx, look, c)
	if err != nil {
		return err
	}
	hp := r.approved.of(n.task.Path, subject, c.item)
	if err := hp.refuse(changes); err != nil && !(n.yields() && n.block != nil) { // which follow what the others do
		o.notDone = promises(changes)
		return err
	}
	if len(changes) > 0 && (hp == nil || len(hp.Changes) == 0 || hp.Changes[0].Predicted != "") {
		r.e.tell(ctx, n.task.Path, subject, event.StepPlanned{Changes: n.shown(changes)})
	}
	if err := r.changes(ctx, n, c, act, changes, o); err != nil {
		return err
	}
	if err := r.prove(ctx, n, look, c, changes, o); err != nil {
		return err
	}
	if err := act.keepError(); err != nil {
		return err
	}
	return r.result(ctx, n, look, c.args, len(changes) > 0, o)
}

func (r *run) evaluate(ctx context.Context, n *node, subject string, item *Item) (*call, error) {
	if n.task.NeedsFacts {
		if k, err := r.e.links.get(ctx, r.b.rb.Site, subject); err == nil {
			_ = r.e.gather(ctx, k) // told as a warning; the expression that needs them fails
		}
	}
	c := n.callOf(r.e.scope(r.b, n, r.b.host(subject), item, r.results.view()))
	switch {
	case c.problems.HasErrors():
		return nil, c.problems
	case c.unknown != "":
		return nil, fmt.Errorf("a result that it needs is missing: %s", c.unknown)
	}
	return c, nil
}

// change makes one change: first it is written down, with the way back if it is temporary.
func (r *run) change(ctx context.Context, n *node, act *target, c module.Change) error {
	shown := n.shownOne(c)
	if err := r.confirm(ctx, c.Host); err != nil {
		return err
	}
	if c.Undo != nil {
		undo := *c.Undo
		if undo.Host == "" {
			undo.Host = c.Host
		}
		c.Undo = &undo
		if err := r.announce(ctx, n, undo.Host, event.UndoRegistered{ID: c.ID, Undo: undo}); err != nil {
			return err
		}
	}
	r.begun(n, c)
	if err := r.announce(ctx, n, c.Host, event.ChangeStarted{Change: shown}); err != nil {
		return err
	}
	start := r.e.cfg.Clock.Now()
	over := r.e.links.calm.change()
	err := cause(ctx, guard(n.spec.Name, func() error { return c.Apply(ctx, act) }))
	over()
	done := event.ChangeDone{ID: c.ID, Duration: r.e.cfg.Clock.Now().Sub(start)}
	if err != nil {
		done.Error = err.Error()
		r.unsettle(c.Host)
		err = changeError(c, err)
	}
	r.e.tell(ctx, n.task.Path, c.Host, done)
	return err
}

// prove plans again: nothing but bare commands may be left to do.
func (r *run) prove(ctx context.Context, n *node, look *target, asked *call, made []module.Change, o *outcome) error {
	provable := slices.ContainsFunc(made, func(c module.Change) bool { return !c.Imperative })
	if provable {
		r.warm(ctx, n, look.hosts)
		left, err := n.plan(ctx, look, asked)
		if err != nil {
			return fmt.Errorf("it was done and cannot be proved: %w", err)
		}
		left = slices.DeleteFunc(left, func(c module.Change) bool { return c.Imperative })
		if len(left) > 0 {
			for _, c := range left {
				r.unsettle(c.Host)
			}
			o.notDone = promises(left)
			return holdError(n.spec.Name, made, left)
		}
	}
	hosts := make([]string, len(look.hosts))
	for i, h := range look.hosts {
		hosts[i] = h.Name
	}
	return errors.Join(r.crossOff(ctx, made), r.crossOffPast(ctx, n, hosts, nil))
}

// holdError explains what is left to do after everything was done.
func holdError(name string, made, left []module.Change) error {
	var all []error
	for _, l := range left {
		i := slices.IndexFunc(made, func(c module.Change) bool { return c.ID == l.ID })
		why := fmt.Sprintf("module %s wants it only after its own changes, so it is not idempotent", name)
		switch {
		case i >= 0 && reflect.DeepEqual(made[i].Before, l.Before) && reflect.DeepEqual(made[i].After, l.After):
			why = "the host reported success, and its state is what it was before"
		case i >= 0 && reflect.DeepEqual(made[i].After, l.After):
			why = fmt.Sprintf("the state of the host changed, and is still not what module %s wants", name)
		case i >= 0:
			why = fmt.Sprintf("module %s now wants something else, so it is not idempotent", name)
		}
		all = append(all, &HoldError{Module: name, Summary: l.Summary, Why: why})
	}
	return errors.Join(all...)
}

func (r *run) result(ctx context.Context, n *node, look *target, args any, changed bool, o *outcome) error {
	outputs, err := n.read(ctx, look, args)
	if err != nil {
		return fmt.Errorf("its results cannot be read: %w", err)
	}
	status := event.OK
	if changed {
		status = event.Changed
	}
	o.status = worse(o.status, status)
	o.result = HostResult{Status: o.status, Changed: o.status == event.Changed, Outputs: n.encode(outputs)}
	return nil
}

// strict tasks judge by more than their own host, so reads from before a change anywhere do not count.
func (n *node) strict() bool {
	return n.spec.Scope == module.PerCluster || n.block != nil || n.task.DelegateTo != ""
}

// warm fetches what the task is about to read, together with what later tasks will, up to the next change. Failed
// reads are not reported here: whoever makes them finds out.
func (r *run) warm(ctx context.Context, n *node, on []inventory.Host) {
	if n.whole() {
		probes := r.e.clusterProbes(r.b, n, r.results.view())
		work := pool.New().WithMaxGoroutines(max(len(on), 1))
		for _, h := range on {
			k, err := r.e.links.of(r.b.rb.Site, h.Name)
			if err != nil {
				continue
			}
			work.Go(func() {
				k.freshen(true)
				_ = k.ahead(ctx, probes[h.Name])
			})
		}
		work.Wait()
		return
	}
	k, err := r.e.links.of(r.b.rb.Site, on[0].Name)
	if err != nil {
		return
	}
	k.freshen(n.strict())
	if k.isWarm(n.index, n.strict()) {
		return
	}
	probes, upTo := r.upcoming(n.index, on[0].Name, n.block)
	if k.ahead(ctx, probes) == nil {
		k.warmed(upTo)
	}
}

// upcoming lists the reads of a host from a task on, up to and with the next task that is expected to change it: what
// stands behind that one would have to be read again.
func (r *run) upcoming(from int, host string, block *Rolling) (probes []command, upTo int) {
	view := r.results.view()
	upTo = from - 1
	for i := from; i < len(r.b.nodes); i++ {
		m := r.b.nodes[i]
		if m.block != block || m.whole() {
			break
		}
		probes = append(probes, r.e.hostProbes(r.b, m, host, view)...)
		upTo = i
		if r.expectsChange(m, host) {
			break
		}
	}
	return probes, upTo
}

func (r *run) expectsChange(n *node, host string) bool {
	if n.left != "" {
		return false
	}
	n.mu.Lock()
	items := n.items
	n.mu.Unlock()
	for _, item := range items {
		key := ""
		if item != nil {
			key = item.Key
		}
		if hp := r.approved.of(n.task.Path, host, key); hp != nil && (len(hp.Changes) > 0 || hp.Deferred != "") {
			return true
		}
	}
	return false
}

// followUp sends the proof of a host's last change, and what the next tasks read, along with the change itself.
func (r *run) followUp(n *node, c *call, on []inventory.Host, changes []module.Change) {
	if n.whole() || n.task.DelegateTo != "" {
		return
	}
	k, err := r.e.links.of(r.b.rb.Site, on[0].Name)
	if err != nil {
		return
	}
	probes, upTo := r.upcoming(n.index+1, on[0].Name, n.block)
	if slices.ContainsFunc(changes, func(c module.Change) bool { return !c.Imperative }) {
		own := make([]command, 0, len(c.probes)+len(probes))
		for _, p := range r.e.probesOf(r.b, n, c, on) {
			if p.Host == on[0].Name {
				own = append(own, p.Command)
			}
		}
		probes = append(own, probes...)
	}
	k.follow(probes, upTo)
}
