// Package labkit lets tests of modules act on a lab: a stand-in for the engine whose connections lead to simulated machines,
// without SSH between. Only tests import it.
package labkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/stretchr/testify/require"
)

// Target is a stand-in for the engine on a lab.
type Target struct {
	*testkit.Target
	Lab *lab.Lab
}

// speed is how much faster than time the labs run. Faster, and daemons that write every ten seconds look dead on a busy
// machine.
const speed = 40

// Password is root's on every node.
const Password = "s3cret-root"

// New builds nodes pve1 to pveN, with two corosync links each, and the inventory that wants them as cluster "lab". change
// may alter the spec; hosts that it adds and that run no Proxmox VE become plain hosts of the inventory.
func New(t testing.TB, n int, change func(*lab.Spec)) *Target {
	t.Helper()
	spec := lab.Spec{Seed: 1, Speed: speed}
	for i := range n {
		spec.Hosts = append(spec.Hosts, lab.HostSpec{
			Name: fmt.Sprintf("pve%d", i+1), Address: fmt.Sprintf("192.0.2.%d", 11+i), PVE: "9.1.8", RootPassword: Password,
			Links: []string{fmt.Sprintf("10.0.1.%d", 1+i), fmt.Sprintf("10.0.2.%d", 1+i)},
		})
	}
	if change != nil {
		change(&spec)
	}
	l, err := lab.New(spec)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	site, cluster := siteOf(spec)
	target := &Target{Lab: l, Target: &testkit.Target{
		TB: t, Whole: site, In: cluster, Conns: map[string]transport.Conn{}, RunID: "run1", Named: "task",
	}}
	for _, h := range site.Hosts {
		target.Conns[h.Name] = conn{l.Machine(h.Name)}
		if h.Node != nil {
			target.All = append(target.All, h)
		}
	}
	target.Of = target.All[0]
	target.OnDetach = func(host string, j module.Job) (transport.Result, error) {
		ctx, cancel := context.WithTimeout(t.Context(), max(time.Duration(float64(j.Timeout)/spec.Speed), time.Second))
		defer cancel()
		return target.Conns[host].Run(ctx, j.Command)
	}
	return target
}

func siteOf(spec lab.Spec) (*inventory.Site, *inventory.Cluster) {
	site, cluster := &inventory.Site{}, &inventory.Cluster{Name: "lab"}
	for _, h := range spec.Hosts {
		host := inventory.Host{Name: h.Name, Address: h.Address}
		if h.PVE != "" {
			host.Cluster, host.Node = "lab", &inventory.Node{Votes: 1}
			for _, l := range h.Links {
				host.Node.Links = append(host.Node.Links, inventory.Link{Address: netip.MustParseAddr(l)})
			}
			cluster.Nodes = append(cluster.Nodes, h.Name)
		}
		site.Hosts = append(site.Hosts, host)
	}
	site.Clusters = []*inventory.Cluster{cluster}
	return site, cluster
}

// WaitFor polls on the lab's clock.
func (t *Target) WaitFor(ctx context.Context, c module.Condition) error {
	for start := t.Lab.Clock().Elapsed(); ; {
		err := c.Check(ctx)
		if fatal, ok := errors.AsType[*module.FatalError](err); ok {
			return fatal.Cause
		}
		if err == nil {
			return nil
		}
		if t.Lab.Clock().Elapsed()-start > c.Timeout {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		if err := t.Lab.Clock().Sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}

// Sleep waits on the lab's clock.
func (t *Target) Sleep(ctx context.Context, d time.Duration) error {
	return t.Lab.Clock().Sleep(ctx, d)
}

// Form makes the cluster by hand: pve1 creates it, the others join by the API.
func (t *Target) Form() {
	t.TB.Helper()
	t.Must("pve1", "pvecm create lab"+links(t.All[0]))
	f := "f=/etc/pve/local/pve-ssl.pem; openssl x509 -noout -fingerprint -sha256 -in $f | sed 's/.*=//'"
	print := strings.TrimSpace(t.Must("pve1", f))
	for _, h := range t.All[1:] {
		t.Eventually("pve1", "[ $(stat -c %a /etc/pve/local) = 755 ]")
		out := t.Must(h.Name, fmt.Sprintf("cd / && echo %s | pvecm add 192.0.2.11 --fingerprint %s%s", Password, print, links(h)))
		require.Contains(t.TB, out, "successfully added node")
	}
	for _, h := range t.All {
		t.Eventually(h.Name, fmt.Sprintf(`[ "$(grep -c '"online": 1' /etc/pve/.members)" = %d ]`, len(t.All)))
	}
}

func links(h inventory.Host) string {
	var b strings.Builder
	for i, l := range h.Node.Links {
		fmt.Fprintf(&b, " --link%d %s", i, l.Address)
	}
	return b.String()
}

// Must runs a script on a host and returns what it printed on standard output. It has to succeed.
func (t *Target) Must(host, script string) string {
	t.TB.Helper()
	r, err := t.Conns[host].Run(t.TB.Context(), transport.Command{Script: script, Mutates: true})
	require.NoError(t.TB, err)
	require.Zero(t.TB, r.Exit, "%s: %s: %s%s", host, script, r.Stdout, r.Stderr)
	return string(r.Stdout)
}

// Eventually waits until a script succeeds on a host, for ten minutes of the lab's time.
func (t *Target) Eventually(host, script string) {
	t.TB.Helper()
	err := t.WaitFor(t.TB.Context(), module.Condition{Name: script, Timeout: 10 * time.Minute, Check: func(ctx context.Context) error {
		r, err := t.Conns[host].Run(ctx, transport.Command{Script: script})
		if err == nil && r.Exit != 0 {
			err = fmt.Errorf("%s: exit %d: %s%s", host, r.Exit, r.Stdout, r.Stderr)
		}
		return err
	}})
	require.NoError(t.TB, err)
}

// Plan plans a module with arguments in HCL. Connections refuse to write while it does.
func (t *Target) Plan(m module.Module, src string) ([]module.Change, error) {
	return m.Plan(t.TB.Context(), t, testkit.Args(t.TB, m, src))
}

// Apply makes changes one after the other.
func (t *Target) Apply(changes []module.Change) error {
	for _, c := range changes {
		if err := c.Apply(t.TB.Context(), t); err != nil {
			return err
		}
	}
	return nil
}

// Converge plans, applies, and plans again, which must leave nothing. It returns the summaries of the changes.
func (t *Target) Converge(m module.Module, src string) []string {
	t.TB.Helper()
	changes, err := t.Plan(m, src)
	require.NoError(t.TB, err)
	require.NoError(t.TB, t.Apply(changes))
	again, err := t.Plan(m, src)
	require.NoError(t.TB, err)
	require.Empty(t.TB, testkit.Summaries(again), "%s is not proved", m.Spec().Name)
	return testkit.Summaries(changes)
}

// Fault lets something go wrong.
func (t *Target) Fault(f lab.Fault) {
	t.TB.Helper()
	_, err := t.Lab.AddFault(f)
	require.NoError(t.TB, err)
}

// Only returns the module of a name.
func Only(t testing.TB, all []module.Module, name string) module.Module {
	t.Helper()
	m, ok := module.NewRegistry(all...).Get(name)
	require.True(t, ok, "there is no module %q", name)
	return m
}

// conn runs commands on a simulated machine.
type conn struct{ m *machine.Machine }

func (c conn) Run(ctx context.Context, cmd transport.Command) (transport.Result, error) {
	argv := cmd.Argv
	if cmd.Script != "" {
		argv = append([]string{"/bin/sh", "-c", cmd.Script, "sh"}, cmd.Argv...)
	}
	var stdout, stderr buffer
	code := c.m.Exec(ctx, machine.Proc{Argv: argv, Stdin: bytes.NewReader(cmd.Stdin), Stdout: &stdout, Stderr: &stderr})
	if ctx.Err() != nil {
		return transport.Result{}, context.Cause(ctx)
	}
	return transport.Result{Stdout: stdout.text.Bytes(), Stderr: stderr.text.Bytes(), Exit: code}, nil
}
