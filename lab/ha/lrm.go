package ha

import (
	"fmt"
	"sync"
	"time"
)

// The rounds of an LRM (reference §5.5).
const (
	lrmRound         = 10 * time.Second // while it holds its lock
	lrmMaintainRound = 5 * time.Second
	lrmPause         = 5 * time.Second
	lrmIdleRounds    = 60
	lockTries        = 5                // a second apart, for a lock that somebody else has
	workTime         = 8 * time.Second  // in which a round waits for its workers
	lostPatience     = 90 * time.Second // until a restarting LRM gives up without its lock
)

// lrm is the local resource manager of one node.
type lrm struct {
	*daemon
	state   string
	mode    string
	lock    lock
	results map[string]lrmResult
	workers map[string]*worker
	retries map[string]int // of starts that failed
	status  *managerStatus // as read last
	idle    int
	tries   int
	began   time.Duration // of the round's work; -1 between rounds
	lost    time.Duration // when the lock was lost

	shutdown bool // asked to end
	errors   int  // of stops while it ends

	mu       sync.Mutex
	finished []outcome
}

func newLRM(s *Stack) *lrm {
	l := &lrm{
		daemon: newDaemon(s, lrmUnit), state: lrmWait, mode: modeActive, lock: lock{id: agentLock(s.node.Name())},
		results: map[string]lrmResult{}, workers: map[string]*worker{}, retries: map[string]int{}, status: &managerStatus{}, began: -1,
	}
	l.work = l.round
	return l
}

func agentLock(node string) string { return "ha_agent_" + node + "_lock" }

func (l *lrm) set(state string) {
	if l.state == state {
		return
	}
	l.log(fmt.Sprintf("status change %s => %s", l.state, state))
	l.state = state
	l.lost = l.stack.clock.Elapsed()
}

// protectedLock is the node's lock together with its watchdog.
func (l *lrm) protectedLock() bool {
	if !l.take(&l.lock) {
		return false
	}
	return l.stack.watchdog.update("lrm")
}

// letGo gives up lock and watchdog. It must not be called with active services.
func (l *lrm) letGo() {
	l.stack.watchdog.close("lrm")
	l.drop(&l.lock)
}

// round does a round, or goes on with one whose workers run, and says when to come back.
func (l *lrm) round() time.Duration {
	if l.isStopping() && !l.shutdown {
		l.requestShutdown()
	}
	if l.began >= 0 {
		return l.goOn()
	}
	l.refresh()
	if wait, again := l.elect(); again {
		return wait
	}
	switch l.state {
	case lrmActive, lrmMaintenance:
		l.began = l.stack.clock.Elapsed()
		l.queueWork()
		return l.goOn()
	case lrmLost:
		return l.lostRound()
	}
	if l.shutdown {
		return -1
	}
	l.write()
	l.tries = 0
	return lrmPause
}

// elect is the change of state at the beginning of a round. again means to come back after wait: a lock that somebody else
// holds is asked for every second, five times.
func (l *lrm) elect() (wait time.Duration, again bool) {
	fenced := l.status.fenced(l.node.Name())
	switch l.state {
	case lrmWait, lrmLost:
		needed := l.state == lrmLost || l.status.activeOn(l.node.Name()) > 0 && l.mode != modeDisarm
		if fenced || !needed || !l.quorate() {
			return 0, false
		}
		if l.protectedLock() {
			l.tries = 0
			l.set(lrmActive)
			return 0, false
		}
		if l.state == lrmWait && l.tries < lockTries && !l.shutdown {
			l.tries++
			return time.Second, true
		}
	case lrmActive, lrmMaintenance:
		switch {
		case fenced:
			l.log("node need to be fenced - releasing agent_lock")
			l.set(lrmLost)
		case !l.protectedLock():
			l.set(lrmLost)
		case l.mode == modeMaintenance:
			l.set(lrmMaintenance)
		default:
			l.set(lrmActive)
			l.countIdle()
		}
	}
	return 0, false
}

// countIdle gives the lock up when no service has been on the node for long.
func (l *lrm) countIdle() {
	if l.status.anyOn(l.node.Name()) || len(l.workers) > 0 {
		l.idle = 0
		return
	}
	if l.idle++; l.idle <= lrmIdleRounds {
		return
	}
	l.idle = 0
	l.log(fmt.Sprintf("node had no service configured for %d rounds, going idle.", lrmIdleRounds))
	l.letGo()
	l.set(lrmWait)
}

// refresh reads what the master wrote and follows its requests.
func (l *lrm) refresh() {
	status, err := l.managerStatus()
	if err != nil {
		l.log("updating service status from manager failed: " + err.Error())
		return
	}
	l.status = status
	if l.shutdown {
		return
	}
	mode := modeActive
	switch {
	case status.Disarm != nil:
		mode = modeDisarm
	case status.requested(l.node.Name()):
		mode = modeMaintenance
	}
	if mode != l.mode {
		l.log(fmt.Sprintf("mode change %s => %s", l.mode, mode))
		l.mode = mode
	}
}

// requestShutdown is what the signal to end does: how it goes on depends on whether the machine goes down, and how
// (reference §5.7).
func (l *lrm) requestShutdown() {
	l.shutdown = true
	down, reboot := l.stack.machine.ShuttingDown()
	policy := l.datacenter().policy
	if !down {
		l.log("restart LRM, freeze all services")
		l.mode = modeRestart
		l.write()
		return
	}
	l.log(fmt.Sprintf("got shutdown request with shutdown policy '%s'", policy))
	kind := "shutdown"
	if reboot {
		kind = "reboot"
	}
	freeze := policy == "freeze" || policy != "failover" && reboot
	switch {
	case l.mode == modeMaintenance:
		l.log(kind + " LRM, manual maintenance is active, ignoring the shutdown policy")
		l.queueStops()
	case policy == "migrate":
		l.log(kind + " LRM, doing maintenance, removing this node from active list")
		l.mode = modeMaintenance
	case freeze:
		l.log(kind + " LRM, stop and freeze all services")
		l.mode = modeRestart
		l.queueStops()
	default:
		l.log("shutdown LRM, stop all services")
		l.mode = modeShutdown
		l.queueStops()
	}
	l.write()
}

// queueStops has all services of the node stopped. Their results are for nobody.
func (l *lrm) queueStops() {
	for sid, s := range l.status.Services {
		if s.Node == l.node.Name() {
			l.queue(sid, &worker{sid: sid, order: stateRequestStop})
		}
	}
}

// goOn lets workers run until none is left or the round's time is over, and then ends the round.
func (l *lrm) goOn() time.Duration {
	now := l.stack.clock.Elapsed()
	if l.runWorkers() > 0 && now-l.began < workTime {
		return time.Second
	}
	began := l.began
	l.began = -1
	if l.shutdown && l.mayEnd() {
		if l.errors == 0 {
			l.letGo()
		}
		l.write()
		return -1
	}
	if l.mode == modeDisarm && len(l.workers) == 0 {
		l.log("releasing agent lock and watchdog, HA stack is being disarmed")
		l.letGo()
		l.set(lrmWait)
	}
	l.write()
	length := lrmRound
	if l.state == lrmMaintenance {
		length = lrmMaintainRound
	}
	return max(began+length-l.stack.clock.Elapsed(), 0)
}

// mayEnd reports whether an LRM that was asked to end has nothing left to do. In the modes that leave services on the node
// it waits for the CRM to have frozen or moved them.
func (l *lrm) mayEnd() bool {
	if len(l.workers) > 0 {
		return false
	}
	if l.mode == modeShutdown || l.stopped() {
		return true
	}
	if status, err := l.managerStatus(); err == nil {
		l.status = status
	}
	return l.status.activeOn(l.node.Name()) == 0
}

// lostRound waits without the lock: the watchdog fires soon unless it comes back.
func (l *lrm) lostRound() time.Duration {
	if !l.shutdown {
		return lrmPause
	}
	active := l.status.activeOn(l.node.Name())
	if active == 0 {
		l.stack.watchdog.close("lrm")
		return -1
	}
	l.log(fmt.Sprintf("get shutdown request in state 'lost_agent_lock' - detected %d running services", active))
	if l.mode == modeRestart && l.stack.clock.Elapsed()-l.lost > lostPatience {
		l.log("lost agent lock and restart request for over 90 seconds - giving up!")
		return -1
	}
	return lrmPause
}

// write writes lrm_status. Without quorum it stays as it is.
func (l *lrm) write() {
	if !l.quorate() {
		return
	}
	l.prune()
	status := lrmStatus{Mode: l.mode, Results: l.results, State: l.state, Time: l.stack.machine.Now().Unix()}
	if err := replace(l.view, lrmFile(l.node.Name()), encode(status)); err != nil {
		l.log("unable to write lrm status file - " + err.Error())
	}
}
