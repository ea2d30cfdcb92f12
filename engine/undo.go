package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/inventory"
)

// pendingUndo is a temporary change in place. begun orders it among the changes of this process; 0 is an earlier one.
type pendingUndo struct {
	event.Pending
	begun int
	// on is the host that the change is about; the undo may run on another one.
	on string
}

// inherited are the temporary changes that were in place before this process.
func (e *Engine) inherited() []pendingUndo {
	var all []pendingUndo
	add := func(p event.Pending) {
		if !slices.ContainsFunc(all, func(q pendingUndo) bool { return q.Run == p.Run && q.ID == p.ID && q.Undo.Host == p.Undo.Host }) {
			all = append(all, pendingUndo{Pending: p})
		}
	}
	if e.cfg.Past != nil {
		for _, p := range e.cfg.Past.Pending {
			add(p)
		}
	}
	for _, p := range e.cfg.Pending {
		add(p)
	}
	return all
}

// begun notes that a change is about to be made. A temporary one joins those that are in place; after any other one
// the host is no longer what the earlier temporary changes found.
func (r *run) begun(n *node, c module.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moment++
	if n.block != nil && !n.yields() {
		if r.worked == nil {
			r.worked = map[string]bool{}
		}
		r.worked[c.Host] = true
	}
	if c.Undo == nil {
		r.settle(c.Host, r.moment)
		return
	}
	r.pending = slices.DeleteFunc(r.pending, func(p pendingUndo) bool { // an attempt before this one has made the same
		return p.begun == 0 && p.Run == r.e.cfg.RunID && p.ID == c.ID && p.Undo.Host == c.Undo.Host
	})
	r.pending = append(r.pending, pendingUndo{begun: r.moment, on: c.Host, Pending: event.Pending{
		Run: r.e.cfg.RunID, Step: n.task.Path, ID: c.ID, Since: r.e.cfg.Clock.Now(), Undo: *c.Undo,
	}})
}

// unsettle notes that a change on a host failed: nobody knows what state it is in.
func (r *run) unsettle(host string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.moment++
	r.settle(host, r.moment)
}

func (r *run) settle(host string, moment int) {
	if r.settled == nil {
		r.settled = map[string]int{}
	}
	r.settled[host] = moment
}

// crossOff takes temporary changes off the list that the changes made took back for good.
func (r *run) crossOff(ctx context.Context, changes []module.Change) error {
	return r.strike(ctx, func(p pendingUndo) bool {
		return slices.ContainsFunc(changes, func(c module.Change) bool { return event.Takes(c, p.Pending) })
	})
}

// crossOffPast takes off the list what a change of an earlier process took back, or was about to: the task has just been planned for its
// host, and does not want it any more.
func (r *run) crossOffPast(ctx context.Context, n *node, hosts []string, wanted []module.Change) error {
	return r.strike(ctx, func(p pendingUndo) bool {
		was := p.Back
		return p.begun == 0 && was != nil && was.Step == n.task.Path && (was.Proved || was.Done) && slices.Contains(hosts, was.Host) &&
			!slices.ContainsFunc(wanted, func(c module.Change) bool { return c.ID == was.ID })
	})
}

// strike takes temporary changes off the list.
func (r *run) strike(ctx context.Context, which func(pendingUndo) bool) error {
	var gone []pendingUndo
	r.mu.Lock()
	r.pending = slices.DeleteFunc(r.pending, func(p pendingUndo) bool {
		if !which(p) {
			return false
		}
		gone = append(gone, p)
		return true
	})
	r.mu.Unlock()
	var err error
	for _, p := range gone {
		err = errors.Join(err, r.e.undone(ctx, r.b.rb.Site, p.Pending, nil))
	}
	return err
}

// undone writes down that a temporary change was taken back, or why it could not be.
func (e *Engine) undone(ctx context.Context, site *inventory.Site, p event.Pending, failed error) error {
	told := event.UndoDone{ID: p.ID, Summary: p.Undo.Summary, About: p.Undo.Host}
	if node, _, _ := strings.Cut(p.ID, "/"); node != told.About {
		if _, is := site.Host(node); is {
			told.About = node
		}
	}
	if p.Run != e.cfg.RunID {
		told.Of = p.Run
	}
	if failed != nil {
		told.Error = failed.Error()
	}
	return e.cfg.Bus.Emit(ctx, p.Step, p.Undo.Host, told)
}

// undoWhatIsSafe takes back temporary changes of this run after the first interrupt, newest first. It is safe where
// nothing else was changed on the host since, and nothing failed there: what is half done stays out of service.
func (r *run) undoWhatIsSafe(ctx context.Context) {
	r.mu.Lock()
	all := slices.Clone(r.pending)
	r.mu.Unlock()
	kept := map[string]bool{}
	for _, p := range slices.Backward(all) {
		if kept[about(p.Pending)] {
			continue
		}
		r.mu.Lock()
		safe := p.begun > 0 && (r.settled[p.Undo.Host] < p.begun && r.settled[p.on] < p.begun || r.onlyMadeWay(p))
		_, out := r.dropped[p.Undo.Host]
		_, alsoOut := r.dropped[p.on]
		out = out || alsoOut
		r.mu.Unlock()
		if !safe || out || ctx.Err() != nil {
			kept[about(p.Pending)] = p.begun > 0
			continue
		}
		failed := r.e.takeBack(ctx, r.b.rb.Site, p.Pending)
		told := r.e.undone(ctx, r.b.rb.Site, p.Pending, failed)
		kept[about(p.Pending)] = failed != nil || told != nil
		if failed == nil && told == nil {
			r.mu.Lock()
			r.pending = slices.DeleteFunc(r.pending, func(q pendingUndo) bool { return q.begun == p.begun })
			r.mu.Unlock()
		}
	}
}

// onlyMadeWay reports whether a temporary change made way for the work of a rolling block that was not begun on the host: it is as it
// was, whatever was moved off it. Call it with mu held.
func (r *run) onlyMadeWay(p pendingUndo) bool {
	n := r.b.byPath(p.Step)
	return n != nil && n.block != nil && n.spec.Serves && !r.worked[p.on]
}

// giveUp takes back what the tasks that make way have set for a host on which nothing else was begun: it is as it was, and goes on
// serving. What cannot be taken back keeps what was done before it in place too.
func (r *run) giveUp(ctx context.Context, b *Rolling, host string) {
	r.mu.Lock()
	_, out := r.dropped[host]
	spared := !out || r.worked[host]
	all := slices.Clone(r.pending)
	// What an earlier process has set is not known well enough to be taken back here: release works it off.
	spared = spared || slices.ContainsFunc(all, func(p pendingUndo) bool { return p.begun == 0 && strings.HasPrefix(p.ID, host+"/") })
	r.mu.Unlock()
	if spared || r.stopped() != nil {
		return
	}
	ctx, stop := r.stopper.waiting(ctx)
	defer stop()
	for _, p := range slices.Backward(all) {
		n := r.b.byPath(p.Step)
		if p.begun == 0 || p.on != host || n == nil || n.block != b || !n.spec.Serves {
			continue
		}
		r.e.links.forget(everyHost)
		failed := r.e.takeBack(ctx, r.b.rb.Site, p.Pending)
		told := r.e.undone(ctx, r.b.rb.Site, p.Pending, failed)
		if failed != nil || told != nil {
			return
		}
		r.mu.Lock()
		r.pending = slices.DeleteFunc(r.pending, func(q pendingUndo) bool { return q.begun == p.begun })
		r.mu.Unlock()
	}
}

// takeBack runs the command of an undo: on its host, or on another node of the cluster if that does not answer and the command does the
// same there. What cannot be taken back comes with the command for it.
func (e *Engine) takeBack(ctx context.Context, site *inventory.Site, p event.Pending) error {
	err := e.undoOn(ctx, site, p, p.Undo.Host)
	if err == nil || ctx.Err() != nil {
		return err
	}
	for _, node := range e.standIns(site, p) {
		if e.undoOn(ctx, site, p, node) == nil {
			return nil
		}
	}
	where := p.Undo.Host
	if p.Undo.Anywhere {
		where = "any quorate node"
	}
	switch {
	case p.Undo.ByHand != "":
		return fmt.Errorf("%w\n  by hand, on %s: %s", err, where, p.Undo.ByHand)
	case p.Undo.Command.Script == "":
		return fmt.Errorf("%w\n  by hand, on %s: %s", err, where, p.Undo.Command.String())
	}
	return err
}

// standIns are the nodes that an undo may be run on in place of its host.
func (e *Engine) standIns(site *inventory.Site, p event.Pending) []string {
	host, ok := site.Host(p.Undo.Host)
	if !ok || !p.Undo.Anywhere {
		return nil
	}
	cluster, ok := site.Cluster(host.Cluster)
	if !ok {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(cluster.Nodes), func(node string) bool { return node == host.Name })
}

func (e *Engine) undoOn(ctx context.Context, site *inventory.Site, p event.Pending, host string) error {
	k, err := e.links.get(ctx, site, host)
	if err != nil {
		return err
	}
	c := p.Undo.Command
	c.Mutates = true
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Minute
	}
	k.mutating()
	_, reads := k.conns()
	res, err := reads.Run(ctx, c)
	if err != nil {
		return err
	}
	return res.Err(c)
}

// about is what a temporary change is about: the host that its id begins with, and the run.
func about(p event.Pending) string {
	host, _, _ := strings.Cut(p.ID, "/")
	return p.Run + " " + host
}

// Undo takes back temporary changes that runs left behind, the newest first, each host's own in order. Past one that fails it goes on
// with those of other hosts. It takes the lease like any run: a *LockedError says that another run is at work there. It returns what is
// still in place.
func (e *Engine) Undo(ctx context.Context, site *inventory.Site, pending []event.Pending) ([]event.Pending, error) {
	var concerned []string
	for _, p := range pending {
		node, _, _ := strings.Cut(p.ID, "/")
		concerned = append(concerned, p.Undo.Host, node)
	}
	held, release, err := e.Hold(ctx, site, concerned)
	if err != nil {
		return pending, err
	}
	defer release()
	var left []event.Pending
	var errs []error
	failed := map[string]bool{} // what stands before it of the same thing rests on what could not be taken back
	for _, p := range slices.Backward(pending) {
		if held.Err() != nil || failed[about(p)] { // what is under way when the lease is lost comes to its end
			left = append(left, p)
			continue
		}
		err := e.takeBack(ctx, site, p)
		if told := e.undone(ctx, site, p, err); told != nil && err == nil {
			err = told
		}
		if err != nil {
			failed[about(p)] = true
			left = append(left, p)
			errs = append(errs, fmt.Errorf("%s: %s: %w", p.Undo.Host, p.Undo.Summary, err))
		}
	}
	slices.Reverse(left)
	if held.Err() != nil && len(left) > 0 {
		errs = append(errs, context.Cause(held))
	}
	return left, errors.Join(errs...)
}
