package ha

import (
	"context"
	"hash/fnv"
	"io"
	"sync"
	"time"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/vfs"
)

// daemon is one life of pve-ha-crm or pve-ha-lrm: rounds on the lab's clock, each after the other. What it reads and writes
// goes through the node's /etc/pve.
type daemon struct {
	stack  *Stack
	node   *cluster.Node
	unit   string
	ctx    context.Context //nolint:containedctx // ends with the daemon
	cancel context.CancelFunc
	view   *vfs.View
	work   func() time.Duration // does a round and says when the next one is due; less than 0 ends the daemon
	done   chan struct{}

	mu       sync.Mutex
	stopping bool // asked to end in order
	hurry    bool // the next round is due at once
	timer    func() bool
	due      time.Duration // when the next round is to begin
	began    time.Duration // of the round that goes on
	inRound  bool
	late     bool // the round began long after its time
}

func newDaemon(s *Stack, unit string) *daemon {
	d := &daemon{stack: s, node: s.node, unit: unit, done: make(chan struct{})}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.view = s.machine.FS.As(0)
	d.view.Ctx = d.ctx
	return d
}

// start begins the rounds. Daemons of different nodes never wake at the same instant, so that it is not chance who gets a
// lock.
func (d *daemon) start() {
	const spread = 2000 // milliseconds, below the shortest round
	h := fnv.New32a()
	_, _ = h.Write([]byte(d.node.Name() + d.unit)) // a hash takes everything
	d.after(time.Duration(h.Sum32()%spread) * time.Millisecond)
}

func (d *daemon) after(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return
	}
	if d.hurry {
		delay, d.hurry = 0, false
	}
	d.due = d.stack.clock.Elapsed() + delay
	d.timer = d.stack.clock.AfterFunc(delay, d.tick)
}

// slack is how much later than asked for a timer may fire on a host that has enough time for the lab.
const slack = 2 * time.Second

func (d *daemon) tick() {
	d.mu.Lock()
	d.timer, d.inRound, d.began = nil, true, d.stack.clock.Elapsed()
	d.late = d.began > d.due+slack
	d.mu.Unlock()
	next := time.Duration(-1)
	switch {
	case !d.alive():
	case d.stack.hangs(d.unit):
		next = time.Second // to see whether it still hangs
	default:
		next = d.work()
	}
	d.mu.Lock()
	d.inRound = false
	d.mu.Unlock()
	if next < 0 || d.ctx.Err() != nil {
		d.end()
		return
	}
	d.after(next)
}

// starved reports whether the daemon has not done its round because the host of a fast lab had no time for it. That must
// not look like a daemon that is stuck: a pause of half a second is a minute at a hundred times the speed.
func (d *daemon) starved() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.stack.clock.Elapsed()
	switch {
	case d.ctx.Err() != nil:
		return false
	case d.inRound:
		return d.late && now-d.began < clientWarning
	}
	return now > d.due
}

// alive reports whether the process exists: somebody may have killed it, or the power went.
func (d *daemon) alive() bool {
	if d.ctx.Err() != nil || !d.stack.machine.Up() {
		return false
	}
	state, _ := d.stack.machine.Unit(d.unit)
	return state.Active == "active" || state.Active == "activating" || state.Active == "deactivating"
}

// end is the end of the process, for whatever reason.
func (d *daemon) end() {
	d.cancel()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer()
		d.timer = nil
	}
	select {
	case <-d.done:
	default:
		close(d.done)
	}
}

// stop asks the daemon to end in order and waits for it.
func (d *daemon) stop(ctx context.Context) error {
	d.mu.Lock()
	d.stopping = true
	switch {
	case d.timer != nil && d.timer():
		d.due = d.stack.clock.Elapsed()
		d.timer = d.stack.clock.AfterFunc(0, d.tick)
	default:
		d.hurry = true // it is inside a round
	}
	d.mu.Unlock()
	return d.wait(ctx)
}

func (d *daemon) isStopping() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopping
}

// wait returns when the daemon has ended. Its unit is stopped with the patience that systemd gives it: without a limit.
func (d *daemon) wait(ctx context.Context) error {
	const look = 500 * time.Millisecond
	for {
		select {
		case <-d.done:
			return nil
		default:
		}
		if !d.stack.machine.Up() {
			return nil
		}
		if err := d.stack.clock.Sleep(ctx, look); err != nil {
			return err
		}
	}
}

func (d *daemon) log(text string) { d.node.Log(d.unit, text) }

// quorate is what PVE's tools mean by it: pmxcfs takes changes.
func (d *daemon) quorate() bool { return d.node.Mounted() && d.node.Writable() }

// absent is the stamp of what is not there.
var absent cluster.Stamp

// managerStatus reads what the master wrote last.
func (d *daemon) managerStatus() (*managerStatus, error) {
	stamp := d.node.Stamp(managerFile)
	if stamp == absent {
		return &managerStatus{}, nil
	}
	return d.stack.site.manager.get(stamp, func() (*managerStatus, error) {
		text, err := read(d.view, managerFile)
		if err != nil {
			return &managerStatus{}, err
		}
		return parseManagerStatus(text)
	})
}

// config reads resources, groups and rules.
func (d *daemon) config() (*configured, configStamp, error) {
	stamp := configStamp{
		resources: d.node.Stamp(resourcesFile), groups: d.node.Stamp(groupsFile), rules: d.node.Stamp(rulesFile), guests: d.node.GuestStamp(),
	}
	if stamp.resources == absent && stamp.groups == absent && stamp.rules == absent {
		return &configured{}, stamp, nil // the usual lab, which must cost nothing
	}
	c, err := d.stack.site.configs.get(stamp, func() (*configured, error) { return readConfig(d.view) })
	return c, stamp, err
}

func readConfig(v *vfs.View) (*configured, error) {
	var texts [4][]byte
	for i, name := range []string{resourcesFile, groupsFile, rulesFile, ".vmlist"} {
		text, err := read(v, name)
		if err != nil {
			return &configured{}, err
		}
		texts[i] = text
	}
	return &configured{
		conf: parseResources(string(texts[0]), nodesOf(guestNodes(texts[3]))), groups: parseGroups(string(texts[1])), rules: parseRules(string(texts[2])),
	}, nil
}

func (d *daemon) datacenter() datacenter {
	dc, err := d.stack.site.datacenter.get(d.node.Stamp(dcFile), func() (datacenter, error) {
		text, err := read(d.view, dcFile)
		return parseDatacenter(string(text)), err
	})
	if err != nil {
		return parseDatacenter("")
	}
	return dc
}

func (d *daemon) lrmStatus(node string) *lrmStatus {
	s, err := d.stack.site.lrmMemory(node).get(d.node.Stamp(lrmFile(node)), func() (*lrmStatus, error) {
		text, err := read(d.view, lrmFile(node))
		if err != nil {
			return nil, err
		}
		return parseLRMStatus(text)
	})
	if err != nil || s == nil {
		return &lrmStatus{}
	}
	return s
}

// locked runs code under the lock of the HA configuration.
func (d *daemon) locked(code func() error) error {
	return locked(d.ctx, d.stack.clock, d.view, io.Discard, code)
}

// lock is a lock that the daemon holds, or tries to.
type lock struct {
	id   string
	last time.Duration // of the last renewal, on the lab's clock; 0 before the first
	held bool
}

// lockLife is how long a lock lives without being renewed. Within that time its owner goes on renewing it, also after an
// outage of pmxcfs; after it the lock has to be won anew.
const lockLife = 120 * time.Second

// take renews a lock, or tries to get it. An expired lock of somebody else is taken away by one try, for the next to win.
func (d *daemon) take(l *lock) bool {
	path := pve + "priv/lock/" + l.id
	now := d.stack.clock.Elapsed()
	held := false
	switch {
	case !d.node.Mounted():
	case l.last > 0 && now-l.last < lockLife:
		held = d.view.Chtimes(path, time.Unix(0, 0), d.stack.machine.Now()) == nil
	default:
		if held = d.view.Mkdir(path, 0o755) == nil; !held {
			_ = d.view.Chtimes(path, time.Unix(0, 0), time.Unix(0, 0)) // asks for an expired lock to be taken away
		}
	}
	if held != l.held {
		word := "lost lock"
		if held {
			word = "successfully acquired lock"
		}
		d.log(word + " '" + l.id + "'")
	}
	l.held = held
	if held {
		l.last = max(now, 1)
	}
	return held
}

// drop gives a lock back.
func (d *daemon) drop(l *lock) {
	if l.held && d.node.Mounted() {
		_ = d.view.Remove(pve + "priv/lock/" + l.id) // else it expires
	}
	l.last, l.held = 0, false
}
