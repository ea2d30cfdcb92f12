package rollingtest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/guest"
)

// single is one thing that goes wrong in an upgrade, and what is to come of it.
type single struct {
	name  string
	shape shape
	what  trouble
	code  int      // of the first run
	says  []string // of what it says: what went wrong where, why, and what is to be done
	never []string // what it does not say
	// stands is how the cluster is when the first run is over and nobody has mended anything; knows is what the journal then
	// knows to be in place, and cannot be seen in stands.
	stands string
	knows  string
	// resume says that there is something to go on with afterwards; again is of what that says.
	again []string
	// ends looks at more, after all.
	ends func(m *mix)
}

// play lets it go wrong, looks at what is there then, mends it, and goes on. One resume has to be enough.
func (c single) play(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, c.shape, 1)
		ctx, over := context.WithCancel(t.Context())
		defer over()
		m := &mix{t: t, w: w, shape: c.shape, what: []trouble{c.what}, ctx: ctx, first: w.controller()}
		m.next = m.first
		if c.what.begin != nil {
			c.what.begin(m, rand.New(rand.NewPCG(1, 2)))
		}
		code, out := m.first.upgrade()
		m.keep("the first run", code, out)
		over()
		m.acts.Wait()
		m.first.setCut(m.next != m.first)
		_ = w.lab.Clock().Sleep(t.Context(), takesBack)
		m.equal("the first run ends with", c.code, code)
		m.says("the first run", out, c.says, c.never)
		m.equal("the cluster stands", c.stands, m.stand())
		m.equal("the journal knows", c.knows, m.known())
		m.accounted()
		m.seeTo()
		if code != done || m.next != m.first || m.clean() != "" {
			code, out = m.next.resume()
			m.keep("resumed", code, out)
			m.equal("the second run ends with", done, code)
			m.says("the second run", out, c.again, nil)
		} else if len(c.again) > 0 {
			m.fail("there is nothing to go on with")
		}
		if left := m.clean(); left != "" {
			m.fail("in the end: %s", left)
		}
		if c.ends != nil {
			c.ends(m)
		}
		last := m.aftermath()
		if broken := w.watch.end(); len(broken) > 0 {
			t.Errorf("%s\n  %s\n%s", m.describe(), strings.Join(broken, "\n  "), strings.Join(append(m.outputs, last), "\n"))
		}
	})
}

// seeTo mends what went wrong, as somebody does who sees to the cluster and waits until it is at rest.
func (m *mix) seeTo() {
	down := false
	_ = m.w.lab.ClearFault(0)
	for _, h := range m.w.lab.Spec().Hosts {
		if machine := m.w.lab.Machine(h.Name); !machine.Up() {
			machine.PowerOff()
			machine.PowerOn()
			down = true
		}
	}
	if down {
		_ = m.w.lab.Clock().Sleep(m.t.Context(), time.Minute)
	}
	if m.what[0].mend != nil {
		m.what[0].mend(m)
	}
	m.startGuests()
	_ = m.w.lab.Clock().Sleep(m.t.Context(), time.Minute) // leases run out, HA settles, Ceph is clean again
}

func (m *mix) equal(what string, want, is any) {
	if want != is {
		m.fail("%s %v instead of %v", what, is, want)
	}
}

// says looks whether a run said what it should, and not what it should not.
func (m *mix) says(who, out string, want, never []string) {
	for _, words := range want {
		if !strings.Contains(out, words) {
			m.fail("%s does not say %q", who, words)
		}
	}
	for _, words := range never {
		if strings.Contains(out, words) {
			m.fail("%s says %q", who, words)
		}
	}
}

// stand is how the nodes are and where their guests, in a few words; nodes that are as in the beginning, and guests that run
// where they did, are left out.
func (m *mix) stand() string {
	var said []string
	for i, n := range m.shape.names() {
		if !m.w.lab.Machine(n).Up() {
			said = append(said, n+" down")
			continue
		}
		is, _ := m.w.on(n, "dpkg-query -W -f '${Status} ${Version}' pve-manager; dpkg --audit")
		switch version, ok := strings.CutPrefix(is, "install ok installed "); {
		case !ok || strings.Contains(version, "\n") || version != m.shape.pve && version != m.shape.next():
			said = append(said, n+" half upgraded")
		case version == m.shape.next() && i < m.shape.behind():
			said = append(said, n+" new")
		}
	}
	for line := range strings.Lines(m.state()) {
		what, node, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if what == "rolling.json" {
			what = "out"
		}
		said = append(said, strings.TrimSpace(node+" "+what))
	}
	for _, g := range m.shape.guests {
		switch at := m.w.lab.Guests().Where(g.ID); {
		case !g.Running || slices.Equal(at, []string{g.node}):
		case len(at) == 0:
			said = append(said, fmt.Sprintf("%d stopped", g.ID))
		default:
			said = append(said, fmt.Sprintf("%d on %s", g.ID, strings.Join(at, "+")))
		}
	}
	slices.Sort(said)
	return strings.Join(said, ", ")
}

// known is what the journal knows to be in place, one word for each.
func (m *mix) known() string {
	var ids []string
	for _, p := range m.next.pending() {
		ids = append(ids, p.ID)
	}
	slices.Sort(ids)
	return strings.Join(ids, " ")
}

// three is the cluster in which single faults strike. pve1 is to be upgraded and has most guests; the others are upgraded already.
func three(change ...func(*shape)) shape {
	disks := func(storage string) []guest.Disk { return []guest.Disk{{Storage: storage, SizeGiB: 4}} }
	s := shape{
		nodes: 3, pve: nine, out: 1, current: 2,
		args: []string{"soak=10s", "containers=restart_container", "bring_home=moved", `canary_nodes=["pve1"]`},
		guests: []placed{
			{node: "pve1", Spec: guest.Spec{ID: 100, Running: true, MemoryMiB: 1024, Disks: disks("san")}},
			{node: "pve1", Spec: guest.Spec{ID: 101, Running: true, MemoryMiB: 1024, Disks: disks("san")}, ha: true},
			{node: "pve1", Spec: guest.Spec{ID: 102, Type: "lxc", Running: true, MemoryMiB: 512, Disks: disks("san")}, mayStop: true},
			{node: "pve2", Spec: guest.Spec{ID: 103, Running: true, MemoryMiB: 1024, Disks: disks("san")}},
		},
	}
	for _, f := range change {
		f(&s)
	}
	return s
}

func withCeph(s *shape) { s.ceph = true }

// both are two nodes to be upgraded: pve2 comes after pve1.
func both(s *shape) { s.current = 1 }

// two are two nodes with an arbiter, neither upgraded.
func two(s *shape) { s.nodes, s.current, s.arbiter = 2, 0, true }

// with adds arguments of the run.
func with(args ...string) func(*shape) {
	return func(s *shape) { s.args = append(s.args, args...) }
}

// mayStop says that the policies of the run let a guest stop, left that they let it go down with its node.
func mayStop(id int) func(*shape) { return allowed(id, false) }
func left(id int) func(*shape)    { return allowed(id, true) }

func allowed(id int, left bool) func(*shape) {
	return func(s *shape) {
		for i := range s.guests {
			if s.guests[i].ID == id {
				s.guests[i].mayStop, s.guests[i].left = true, left
			}
		}
	}
}

// strikes is a trouble made of faults of the lab.
func strikes(faults ...lab.Fault) trouble {
	return trouble{name: "fault", begin: func(m *mix, _ *rand.Rand) {
		for _, f := range faults {
			m.fault(f)
		}
	}}
}

// happens is a trouble that somebody makes at a time.
func happens(after time.Duration, act func(*mix)) trouble {
	return trouble{name: "act", begin: func(m *mix, _ *rand.Rand) { m.later(after, func() { act(m) }) }}
}

// when is a trouble that somebody makes at the first moment at which something is so.
func when(is func(*mix) bool, act func(*mix)) trouble {
	return trouble{name: "act", begin: func(m *mix, _ *rand.Rand) {
		m.acts.Go(func() {
			for m.w.lab.Clock().Sleep(m.ctx, tick) == nil {
				if is(m) {
					act(m)
					return
				}
			}
		})
	}}
}

// mended is a trouble with what a person does about it afterwards, besides ending the lab's faults.
func mended(t trouble, mend func(*mix)) trouble {
	t.mend = mend
	return t
}

// restarts is what a person does about a node that is to start anew.
func restarts(node string) func(*mix) {
	return func(m *mix) {
		m.w.lab.Machine(node).PowerOff()
		m.w.lab.Machine(node).PowerOn()
		_ = m.w.lab.Clock().Sleep(m.t.Context(), time.Minute)
	}
}

// Moments of an upgrade.
func hasHit(m *mix) bool {
	return slices.ContainsFunc(m.w.lab.Faults(), func(f lab.Fault) bool { return f.Hits > 0 })
}

func isDown(node string) func(*mix) bool {
	return func(m *mix) bool { return !m.w.lab.Machine(node).Up() }
}

func isOn(id int, node string) func(*mix) bool {
	return func(m *mix) bool { return slices.Contains(m.w.lab.Guests().Where(id), node) }
}

func isOut(node string) func(*mix) bool {
	return func(m *mix) bool {
		_, err := m.w.lab.Machine(node).FS.ReadFile("/var/lib/pxrun/rolling.json")
		return err == nil
	}
}

// TestSingleFaults plays every fault alone.
func TestSingleFaults(t *testing.T) {
	playAll(t, slices.Concat(guestFaults, nodeFaults, cephFaults, packageFaults, controlFaults))
}

func playAll(t *testing.T, all []single) {
	t.Helper()
	if raceDetector() {
		t.Skip("a whole upgrade in a bubble takes ten times as long with the race detector: make test runs them once more without it")
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.play(t)
		})
	}
}

func raceDetector() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
