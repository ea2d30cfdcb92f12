package ha

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// worker is something that an LRM does, or has still to do, with one service.
type worker struct {
	sid, uid string // without a uid it is a stop of a node that goes down
	order    string // the state of the service that it serves
	target   string
	timeout  time.Duration
	running  bool
	waited   int // rounds in the queue: who waited longest is next
}

// outcome is how a worker ended.
type outcome struct {
	sid  string
	exit int
}

// tryAgain is the exit code of what the LRM repeats without telling the CRM.
const tryAgain = -2

// notForLRM are the states in which an LRM leaves a service alone.
var notForLRM = []string{stateRecovery, stateFreeze, stateFence, stateRequestStart}

// queueWork queues what the states of the node's services ask for.
func (l *lrm) queueWork() {
	for sid := range l.retries {
		if l.status.Services[sid] == nil {
			delete(l.retries, sid)
		}
	}
	if l.shutdown && (l.mode != modeMaintenance || l.stopped()) || l.mode == modeDisarm {
		return
	}
	for sid, s := range l.status.Services {
		if s.Node != l.node.Name() || s.UID == "" || slices.Contains(notForLRM, s.State) {
			continue
		}
		w := &worker{sid: sid, uid: s.UID, order: s.State, target: s.Target, timeout: -1}
		if seconds, err := strconv.Atoi(s.Timeout); err == nil {
			w.timeout = time.Duration(seconds) * time.Second
		}
		l.queue(sid, w)
	}
}

// stopped reports whether the services of a node that goes down are being stopped, whatever the CRM wants of them.
func (l *lrm) stopped() bool {
	down, _ := l.stack.machine.ShuttingDown()
	return down && l.status.requested(l.node.Name())
}

// queue adds a worker, unless the same order has been carried out or one is under way.
func (l *lrm) queue(sid string, w *worker) {
	if w.uid != "" && w.order != stateStopped {
		if _, answered := l.results[w.uid]; answered {
			return
		}
	}
	if w.uid == "" {
		w.timeout = -1
	}
	if old := l.workers[sid]; old != nil {
		if old.running {
			return
		}
		w.waited = old.waited
	}
	l.workers[sid] = w
}

// runWorkers takes in what has finished, starts what may start and returns how many run.
func (l *lrm) runWorkers() int {
	l.mu.Lock()
	finished := l.finished
	l.finished = nil
	l.mu.Unlock()
	for _, one := range finished {
		l.settle(one)
	}
	running := 0
	var waiting []*worker
	for _, w := range l.workers {
		if w.running {
			running++
		} else {
			waiting = append(waiting, w)
		}
	}
	slices.SortFunc(waiting, func(a, b *worker) int {
		if a.waited != b.waited {
			return b.waited - a.waited
		}
		return strings.Compare(a.sid, b.sid)
	})
	limit := l.datacenter().maxWorkers
	conf := l.confs()
	for _, w := range waiting {
		w.waited++
		if exit, done := l.quick(w, conf[w.sid]); done {
			l.settle(outcome{sid: w.sid, exit: exit})
			continue
		}
		if running >= limit {
			continue
		}
		running++
		l.launch(w)
	}
	return running
}

func (l *lrm) confs() map[string]*serviceConf {
	c, _, err := l.config()
	if err != nil {
		return nil
	}
	return c.conf
}

// quick answers an order for which nothing has to be done.
func (l *lrm) quick(w *worker, c *serviceConf) (exit int, done bool) {
	switch {
	case c == nil || c.Node == "":
		l.log(fmt.Sprintf("missing resource configuration for '%s'", w.sid))
		return exitUnknown, true
	case w.order == stateError:
		l.log(fmt.Sprintf("service %s is in an error state and needs manual intervention. Look up 'ERROR RECOVERY' in the documentation.", w.sid))
		return exitOK, true
	case c.Node != l.node.Name():
		l.log(fmt.Sprintf("service '%s' not on this node", w.sid))
		return exitWrongNode, true
	}
	runs := l.stack.site.guests.Running(l.node.Name(), w.sid)
	switch w.order {
	case stateStarted:
		return exitOK, runs
	case stateRequestStop, stateStopped:
		return exitOK, !runs
	case stateBalance:
		return exitIgnored, runs
	case stateMigrate, stateRelocate:
		return exitOK, w.target == l.node.Name()
	}
	return exitUnknown, true
}

// launch carries an order out in the background.
func (l *lrm) launch(w *worker) {
	w.running = true
	sid, order, target, timeout := w.sid, w.order, w.target, w.timeout
	l.stack.clock.AfterFunc(0, func() {
		exit := l.carryOut(l.ctx, sid, order, target, timeout)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.finished = append(l.finished, outcome{sid: sid, exit: exit})
	})
}

// carryOut does what an order asks for and returns its exit code.
func (l *lrm) carryOut(ctx context.Context, sid, order, target string, timeout time.Duration) int {
	guests, node := l.stack.site.guests, l.node.Name()
	fail := func(err error) {
		if err != nil {
			l.log(err.Error())
		}
	}
	switch order {
	case stateStarted:
		l.log("starting service " + sid)
		if err := l.node.Phase(ctx, phaseStart, 0); err != nil {
			fail(err)
		} else {
			fail(guests.Start(ctx, node, sid))
		}
		if !guests.Running(node, sid) {
			l.log("unable to start service " + sid)
			return exitError
		}
		l.log("service status " + sid + " started")
	case stateRequestStop, stateStopped:
		l.log("stopping service " + sid)
		if err := l.node.Phase(ctx, phaseStop, 0); err != nil {
			fail(err)
		} else {
			fail(guests.Shutdown(ctx, node, sid, timeout))
		}
		if guests.Running(node, sid) {
			l.log("unable to stop stop service " + sid + " (still running)")
			return exitError
		}
		l.log("service status " + sid + " stopped")
	default:
		err := l.node.Phase(ctx, phaseMigrate, 0)
		if err == nil {
			err = guests.Migrate(ctx, node, sid, target, order == stateMigrate)
		}
		if err != nil {
			fail(err)
		}
		if err != nil && l.holds(sid) {
			l.log("service " + sid + " not moved (migration error)")
			return exitError
		}
	}
	return exitOK
}

// holds reports whether the config of a service lies on the LRM's node: by that, and not by how its task ended, it is told whether a
// migration has failed.
func (l *lrm) holds(sid string) bool {
	path, ok := guestFile(sid, l.node.Name())
	if !ok {
		return true
	}
	text, err := read(l.view, path)
	return err != nil || text != nil
}

// settle takes in the outcome of a worker.
func (l *lrm) settle(o outcome) {
	w := l.workers[o.sid]
	if w == nil {
		return
	}
	delete(l.workers, o.sid)
	if w.uid == "" {
		if o.exit != exitOK {
			l.errors++
		}
		return
	}
	exit := l.retry(w, o.exit)
	if exit == tryAgain {
		return
	}
	l.results[w.uid] = lrmResult{Exit: exit, SID: w.sid, State: w.order}
}

// prune forgets results that the master has taken in.
func (l *lrm) prune() {
	if len(l.results) == 0 {
		return
	}
	valid := make(map[string]bool, len(l.status.Services))
	for _, s := range l.status.Services {
		valid[s.UID] = true
	}
	maps.DeleteFunc(l.results, func(uid string, _ lrmResult) bool { return !valid[uid] })
}

// retry applies the restart policy to a failed start.
func (l *lrm) retry(w *worker, exit int) int {
	if w.order != stateStarted {
		return exit
	}
	if exit == exitOK {
		delete(l.retries, w.sid)
		return exit
	}
	if exit != exitError {
		return exit
	}
	limit := 0
	if c := l.confs()[w.sid]; c != nil {
		limit = c.MaxRestart
	}
	if l.retries[w.sid] >= limit {
		l.log(fmt.Sprintf("unable to start service %s on local node after %d retries", w.sid, l.retries[w.sid]))
		delete(l.retries, w.sid)
		return exitError
	}
	l.retries[w.sid]++
	l.log(fmt.Sprintf("restart policy: retry number %d for service '%s'", l.retries[w.sid], w.sid))
	return tryAgain
}
