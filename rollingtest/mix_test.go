package rollingtest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pxrun/pxrun/lab"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"
)

// mix is one upgrade with troubles.
type mix struct {
	t           *testing.T
	w           *world
	shape       shape
	first, next *controller // who begins, and who goes on
	what        []trouble
	ctx         context.Context //nolint:containedctx // ends what is still to happen
	acts        conc.WaitGroup

	mu      sync.Mutex
	foreign []string // nodes that a person has taken into maintenance
	outputs []string
	faults  []lab.Fault
}

// fault arms a fault of the lab.
func (m *mix) fault(f lab.Fault) {
	m.faults = append(m.faults, f)
	_, err := m.w.lab.AddFault(f)
	require.NoError(m.t, err, "%+v", f)
}

// later does something after a while, unless the first run is over by then.
func (m *mix) later(after time.Duration, act func()) {
	m.acts.Go(func() {
		if m.w.lab.Clock().Sleep(m.ctx, after) == nil {
			act()
		}
	})
}

// said lets a controller upgrade, and keeps what it says.
func (m *mix) said(who string, c *controller) int {
	code, out := c.upgrade()
	m.keep(who, code, out)
	return code
}

func (m *mix) keep(who string, code int, out string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.outputs = append(m.outputs, fmt.Sprintf("---- %s, until %s: exit %d\n%s", who, m.w.lab.Clock().Elapsed().Round(time.Second), code, out))
}

// ended is how an upgrade went.
type ended struct {
	code    int    // of the first run
	out     string // of the first run
	resumes int
}

const (
	settles    = 4 * time.Minute // leases run out, HA settles, Ceph is clean again
	mostResume = 4
	takesBack  = 40 * time.Second // the HA manager has done what it was told last
)

// run upgrades a cluster in which things go wrong, mends them, and goes on until it is through.
func (m *mix) run(r *rand.Rand) ended {
	ctx, over := context.WithCancel(m.t.Context())
	defer over()
	m.ctx = ctx
	m.first = m.w.controller()
	m.next = m.first
	for _, trouble := range m.what {
		trouble.begin(m, r)
	}
	var e ended
	e.code, e.out = m.first.upgrade()
	m.keep("the first run", e.code, e.out)
	over()
	m.acts.Wait()
	m.first.setCut(m.next != m.first)
	_ = m.w.lab.Clock().Sleep(m.t.Context(), takesBack)
	m.accounted()
	m.mend()
	for code := -1; code != done; e.resumes++ {
		if e.code == done && m.next == m.first && e.resumes == 0 && m.clean() == "" {
			break
		}
		if e.resumes == mostResume {
			m.fail("it is not through after %d resumes", mostResume)
			return e
		}
		var out string
		if code, out = m.next.resume(); code != done {
			_ = m.w.lab.Clock().Sleep(m.t.Context(), time.Minute)
		}
		m.keep("resumed", code, out)
	}
	if left := m.clean(); left != "" {
		m.fail("in the end: %s", left)
	}
	return e
}

// mend ends all troubles, as people do who see to a cluster.
func (m *mix) mend() {
	_ = m.w.lab.ClearFault(0) // what a fault has changed may be elsewhere by now: that is for the troubles' own mending
	for _, h := range m.w.lab.Spec().Hosts {
		if machine := m.w.lab.Machine(h.Name); !machine.Up() {
			machine.PowerOff()
			machine.PowerOn()
		}
	}
	_ = m.w.lab.Clock().Sleep(m.t.Context(), 2*time.Minute)
	for _, trouble := range m.what {
		if trouble.mend != nil {
			trouble.mend(m)
		}
	}
	m.startGuests()
	_ = m.w.lab.Clock().Sleep(m.t.Context(), settles)
}

// startGuests starts those that a fault took down with their node: without HA, and not to be started at boot, nobody else does.
func (m *mix) startGuests() {
	for _, g := range m.shape.guests {
		if !g.Running || g.ha || len(m.w.lab.Guests().Where(g.ID)) > 0 || m.w.watch.excuse(g.ID) == "" {
			continue
		}
		for _, n := range m.shape.names() {
			m.w.on(n, fmt.Sprintf("qm unlock %[1]d; qm start %[1]d || pct start %[1]d", g.ID))
		}
	}
}

// accounted looks whether everything temporary that is in place after the first run is known to the journal.
func (m *mix) accounted() {
	var pending []string
	for _, p := range m.next.pending() {
		pending = append(pending, p.ID)
	}
	for _, n := range m.shape.names() {
		if strings.Contains(m.state(), "maintenance "+n+"\n") && !slices.Contains(m.foreign, n) && !slices.Contains(pending, n+"/maintenance") {
			m.fail("%s was left in maintenance, and the journal does not know: it knows %v", n, pending)
		}
		if strings.Contains(m.state(), "noout "+n+"\n") && !slices.Contains(pending, n+"/noout") {
			m.fail("noout was left on %s, and the journal does not know: it knows %v", n, pending)
		}
	}
}

// state is what upgrades leave behind, one thing to a line.
func (m *mix) state() string {
	var b strings.Builder
	for _, n := range m.shape.names() {
		fs, enough := m.w.files(n)
		defer enough()
		if text, err := fs.ReadFile("/etc/pve/ha/manager_status"); err == nil && b.Len() == 0 {
			for _, other := range m.shape.names() {
				if strings.Contains(string(text), fmt.Sprintf("%q:\"maintenance\"", other)) {
					fmt.Fprintf(&b, "maintenance %s\n", other)
				}
			}
		}
		for _, name := range []string{"rolling.json", "kernel-pin"} {
			if _, err := fs.ReadFile("/var/lib/pxrun/" + name); err == nil {
				fmt.Fprintf(&b, "%s %s\n", name, n)
			}
		}
	}
	if m.shape.ceph {
		for flag, hosts := range m.w.lab.Ceph().Flags() {
			for _, h := range hosts {
				fmt.Fprintf(&b, "%s %s\n", flag, h)
			}
		}
	}
	return b.String()
}

// clean says what is not as it should be after an upgrade; "" if all is.
func (m *mix) clean() string {
	var b strings.Builder
	b.WriteString(m.state())
	for _, n := range m.shape.names() {
		if out, _ := m.w.on(n, "dpkg-query -W -f '${Version}' pve-manager"); out != m.shape.next() {
			fmt.Fprintf(&b, "%s has pve-manager %s\n", n, out)
		}
	}
	for _, g := range m.shape.guests {
		if g.Running && len(m.w.lab.Guests().Where(g.ID)) == 0 && m.w.watch.excuse(g.ID) == "" {
			fmt.Fprintf(&b, "guest %d does not run\n", g.ID)
		}
	}
	for _, p := range m.next.pending() {
		fmt.Fprintf(&b, "pending: %s\n", p.ID)
	}
	return b.String()
}

// fail notes what is wrong, for the end.
func (m *mix) fail(format string, args ...any) {
	m.w.watch.note(format, args...)
}

// upgradeWith runs one upgrade in a bubble of time and fails the test when something did not hold.
func upgradeWith(t *testing.T, s shape, seed uint64, what ...trouble) (e ended) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, s, seed)
		m := &mix{t: t, w: w, shape: s, what: what}
		e = m.run(rand.New(rand.NewPCG(seed, 2)))
		last := m.aftermath()
		broken := w.watch.end()
		if len(broken) > 0 {
			t.Errorf("seed %d: %s\n  %s\n%s", seed, m.describe(), strings.Join(broken, "\n  "), strings.Join(append(m.outputs, last), "\n"))
		}
	})
	return e
}

// describe names the cluster and what went wrong in it.
func (m *mix) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d nodes of %s, QDevice %t, Ceph %t, at most %d out, %v", m.shape.nodes, m.shape.pve, m.shape.arbiter, m.shape.ceph, max(1, m.shape.out), m.shape.args)
	for _, g := range m.shape.guests {
		fmt.Fprintf(&b, "\n    %s on %s running=%t ha=%t may stop=%t", g.sid(), g.node, g.Running, g.ha, g.mayStop)
	}
	for _, trouble := range m.what {
		fmt.Fprintf(&b, "\n    * %s", trouble.name)
	}
	for _, f := range m.faults {
		fmt.Fprintf(&b, "\n    %s", f)
	}
	return b.String()
}

// aftermath is what the nodes say in the end, where that helps to find out what went wrong.
func (m *mix) aftermath() string {
	if !m.w.watch.troubled() {
		return ""
	}
	var b strings.Builder
	b.WriteString("---- in the end\n")
	for i, n := range m.shape.names() {
		if i == 0 {
			out, _ := m.w.on(n, "ha-manager status; cat /etc/pve/.vmlist; ls /etc/pve/priv/pxrun /etc/pve/priv/lock")
			b.WriteString(out)
		}
		out, _ := m.w.on(n, "systemctl is-active pve-cluster; cat /var/lib/pxrun/rolling.json /var/lib/pxrun/reboot; journalctl --no-pager -n 25 -u pve-ha-lrm -u pve-ha-crm")
		fmt.Fprintf(&b, "-- %s\n%s", n, out)
	}
	return b.String()
}
