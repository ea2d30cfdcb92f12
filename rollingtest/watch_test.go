package rollingtest_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// tick is how often what must always hold is looked at, and how long it may fail to hold while daemons agree on a change.
const (
	tick        = 250 * time.Millisecond
	quorumHolds = 12 * time.Second // a token and a new membership
	groupsHold  = 8 * time.Second  // peering
	guestHolds  = 3 * time.Second  // the last moment of a live migration
	// endless is longer than any upgrade takes with all its troubles and resumes, in the lab's time.
	endless = 12 * time.Hour
	// notice is how long after a fault pxrun may still act as if it had not happened.
	notice = 30 * time.Second
)

// watch looks at the lab all the time and notes what must never be.
type watch struct {
	w    *world
	stop chan struct{}
	over sync.WaitGroup

	mu      sync.Mutex
	ticks   int
	broken  []string
	said    map[string]bool
	boot    map[string]string // the boot id of each node at the last tick
	up      map[string]bool   // whether it was up
	sent    map[string]bool   // pxrun restarts it
	takenAt time.Duration     // when pxrun took the last node down
	taken   bool              // whether it took any
	faultAt time.Duration     // when the last fault took something down
	fault   bool              // whether one did
	hits    map[int]int       // of the lab's faults
	now     map[int][]string  // where each guest runs
	full    map[string][]int  // which guests run on each node
	runs    map[int][]string  // where each guest ran last
	since   map[string]time.Duration
	excused map[int]string // guests that a fault stopped
	must    map[int]placed // guests that ran in the beginning
}

func newWatch(w *world) *watch {
	v := &watch{
		w: w, stop: make(chan struct{}), said: map[string]bool{}, boot: map[string]string{}, up: map[string]bool{}, sent: map[string]bool{},
		hits: map[int]int{}, runs: map[int][]string{}, since: map[string]time.Duration{}, excused: map[int]string{}, must: map[int]placed{},
	}
	for _, g := range w.shape.guests {
		if g.Running {
			v.must[g.ID] = g
		}
	}
	v.look()
	v.over.Go(func() {
		for {
			select {
			case <-v.stop:
				return
			case <-time.After(tick):
				v.look()
				if w.lab.Clock().Elapsed() > endless { // what hangs cannot be ended from here, and time would go on for ever
					panic(w.t.Name() + " has not ended after " + endless.String() + " of the lab's time")
				}
			}
		}
	})
	return v
}

func (v *watch) end() []string {
	close(v.stop)
	v.over.Wait()
	return v.broken
}

// breach notes what must not be, once.
func (v *watch) breach(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !v.said[text] {
		v.said[text] = true
		v.broken = append(v.broken, fmt.Sprintf("at %s (tick %d): %s", v.w.lab.Clock().Elapsed().Round(time.Millisecond), v.ticks, text))
	}
}

// lasting reports whether something has been so for a while.
func (v *watch) lasting(what string, is bool, while time.Duration) bool {
	now := v.w.lab.Clock().Elapsed()
	if !is {
		delete(v.since, what)
		return false
	}
	if _, known := v.since[what]; !known {
		v.since[what] = now
	}
	return now-v.since[what] > while
}

// blamed reports whether what is lost now is lost by pxrun's doing: no fault took anything, or pxrun took one more node
// although the fault was to be seen.
func (v *watch) blamed() bool {
	return !v.fault || v.taken && v.takenAt > v.faultAt+notice
}

func (v *watch) look() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ticks++
	v.now, v.full = v.w.lab.Guests().Places(), map[string][]int{}
	for _, g := range v.w.shape.guests {
		for _, node := range v.now[g.ID] {
			v.full[node] = append(v.full[node], g.ID)
		}
	}
	v.faults()
	out := v.nodes()
	if len(out) > max(1, v.w.shape.out) {
		v.breach("%d nodes are out: %s", len(out), strings.Join(out, ", "))
	}
	v.guests()
	v.quorum()
	if v.w.shape.ceph {
		n := v.w.lab.Ceph().Inactive()
		if v.lasting("inactive", n > 0, groupsHold) && v.blamed() {
			v.breach("placement groups are inactive")
		}
	}
}

// faults notes when the lab's faults strike.
func (v *watch) faults() {
	for _, f := range v.w.lab.Faults() {
		if f.Hits > v.hits[f.ID] {
			v.hits[f.ID] = f.Hits
			v.fault, v.faultAt = true, v.w.lab.Clock().Elapsed()
		}
	}
}

// nodes looks at which nodes are up and why not, and gives those that are out by pxrun's doing.
func (v *watch) nodes() []string {
	var out []string
	for _, h := range v.w.lab.Spec().Hosts {
		m := v.w.lab.Machine(h.Name)
		up, boot := m.Up(), m.BootID()
		text, _ := m.FS.ReadFile("/var/lib/pxrun/reboot")
		sent := strings.Contains(string(text), "boot_id "+v.boot[h.Name]+"\n")
		if sent && !v.sent[h.Name] {
			v.taken, v.takenAt = true, v.w.lab.Clock().Elapsed()
			for _, id := range v.full[h.Name] {
				if !v.must[id].left && slices.Contains(v.w.lab.Guests().Where(id), h.Name) { // still: the file was read later than the guests
					v.breach("%s is restarted while guest %d runs on it", h.Name, id)
				}
			}
		}
		if fell := v.up[h.Name] && !up || v.boot[h.Name] != "" && boot != v.boot[h.Name] && up; fell && !v.sent[h.Name] && !sent {
			v.fault, v.faultAt = true, v.w.lab.Clock().Elapsed()
			for id, nodes := range v.runs {
				if slices.Contains(nodes, h.Name) {
					v.excused[id] = h.Name + " went down"
				}
			}
		}
		v.up[h.Name], v.sent[h.Name] = up, sent && boot == v.boot[h.Name]
		v.boot[h.Name] = boot
		if _, err := m.FS.ReadFile("/var/lib/pxrun/rolling.json"); err == nil || v.sent[h.Name] {
			out = append(out, h.Name)
		}
	}
	return out
}

func (v *watch) guests() {
	for _, g := range v.w.shape.guests {
		where := v.now[g.ID]
		if len(where) > 1 {
			v.breach("guest %d runs on %s at once", g.ID, strings.Join(where, " and "))
		}
		was, must := v.must[g.ID]
		away := v.lasting(fmt.Sprint("guest ", g.ID), must && len(where) == 0, guestHolds)
		if away && !was.mayStop && v.excused[g.ID] == "" {
			v.breach("guest %d, which may not stop, runs no more (last on %s)", g.ID, strings.Join(v.runs[g.ID], ", "))
		}
		if len(where) > 0 {
			v.runs[g.ID] = where
		}
	}
}

// quorum looks whether every node that runs guests is in a part of the cluster that has the majority.
func (v *watch) quorum() {
	for _, name := range v.w.shape.names() {
		view, _ := v.w.lab.Node(name)
		without := v.up[name] && !v.sent[name] && len(v.full[name]) > 0 && !view.Quorate
		if v.lasting("quorum "+name, without, quorumHolds) && v.blamed() {
			v.breach("%s runs guests without quorum: %d of %d votes, it sees %s", name, view.Total, view.Expected, strings.Join(view.Members, ", "))
		}
	}
}

// excuse is why a guest may have stopped; "" if no fault was near it.
func (v *watch) excuse(id int) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.excused[id]
}

// note adds a breach that somebody else has found.
func (v *watch) note(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.breach(format, args...)
}

// troubled reports whether anything did not hold so far.
func (v *watch) troubled() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.broken) > 0
}
