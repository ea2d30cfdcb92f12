package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/stretchr/testify/require"
)

// labTarget is a stand-in for the engine that acts on simulated nodes, without SSH between.
type labTarget struct {
	*testkit.Target
	lab *lab.Lab
}

const labSpeed = 100

// newLab starts nodes with two links each and the inventory that wants them as cluster "lab".
func newLab(t *testing.T, n int, change func(*lab.Spec)) *labTarget {
	t.Helper()
	spec := lab.Spec{Seed: 1, Speed: labSpeed}
	site := &inventory.Site{}
	cluster := &inventory.Cluster{Name: "lab"}
	for i := range n {
		name, address := fmt.Sprintf("pve%d", i+1), fmt.Sprintf("192.0.2.%d", 11+i)
		links := []inventory.Link{{Address: netip.AddrFrom4([4]byte{10, 0, 1, byte(1 + i)}), Priority: 20}, {Address: netip.AddrFrom4([4]byte{10, 0, 2, byte(1 + i)})}}
		spec.Hosts = append(spec.Hosts, lab.HostSpec{Name: name, Address: address, Links: []string{links[0].Address.String(), links[1].Address.String()}, PVE: "9.1.8", RootPassword: "s3cret-root"})
		site.Hosts = append(site.Hosts, inventory.Host{Name: name, Address: address, Cluster: "lab", Node: &inventory.Node{Votes: 1, Links: links}})
		cluster.Nodes = append(cluster.Nodes, name)
	}
	site.Clusters = []*inventory.Cluster{cluster}
	if change != nil {
		change(&spec)
	}
	l, err := lab.New(spec)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	target := &labTarget{lab: l, Target: &testkit.Target{TB: t, Whole: site, In: cluster, All: site.Hosts, Of: site.Hosts[0], Conns: map[string]transport.Conn{}, RunID: "run1"}}
	for _, h := range site.Hosts {
		target.Conns[h.Name] = labConn{l.Machine(h.Name)}
	}
	target.OnDetach = func(host string, j module.Job) (transport.Result, error) {
		ctx, cancel := context.WithTimeout(t.Context(), j.Timeout/labSpeed)
		defer cancel()
		return target.Conns[host].Run(ctx, j.Command)
	}
	return target
}

// WaitFor polls on the lab's clock.
func (t *labTarget) WaitFor(ctx context.Context, c module.Condition) error {
	for start := t.lab.Clock().Elapsed(); ; {
		err := c.Check(ctx)
		if fatal, ok := errors.AsType[*module.FatalError](err); ok {
			return fatal.Cause
		}
		if err == nil {
			return nil
		}
		if t.lab.Clock().Elapsed()-start > c.Timeout {
			return fmt.Errorf("%s: %w", c.Name, err)
		}
		if err := t.lab.Clock().Sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}

// labConn runs commands on a simulated machine.
type labConn struct{ m *machine.Machine }

func (c labConn) Run(ctx context.Context, cmd transport.Command) (transport.Result, error) {
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

// buffer takes the output of a script's background jobs, which write at once.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (c labConn) Batch(ctx context.Context, cs []transport.Command) ([]transport.Result, error) {
	results := make([]transport.Result, len(cs))
	for i, cmd := range cs {
		r, err := c.Run(ctx, cmd)
		if err != nil {
			return nil, err
		}
		results[i] = r
	}
	return results, nil
}

func (labConn) Put(context.Context, transport.File) error    { return errors.New("not used") }
func (labConn) Get(context.Context, string, io.Writer) error { return errors.New("not used") }
func (labConn) Close() error                                 { return nil }

// plan plans a module on the lab.
func (t *labTarget) plan(m module.Module, src string) ([]module.Change, error) {
	return m.Plan(t.TB.Context(), t, testkit.Args(t.TB, m, src))
}

func (t *labTarget) apply(changes []module.Change) error {
	for _, c := range changes {
		if err := c.Apply(t.TB.Context(), t); err != nil {
			return err
		}
	}
	return nil
}

// converge plans, applies, and plans again, which must leave nothing.
func (t *labTarget) converge(m module.Module, src string) []string {
	t.TB.Helper()
	changes, err := t.plan(m, src)
	require.NoError(t.TB, err)
	require.NoError(t.TB, t.apply(changes))
	again, err := t.plan(m, src)
	require.NoError(t.TB, err)
	require.Empty(t.TB, testkit.Summaries(again), "%s is not proved", m.Spec().Name)
	return testkit.Summaries(changes)
}

func (t *labTarget) fault(f lab.Fault) {
	t.TB.Helper()
	_, err := t.lab.AddFault(f)
	require.NoError(t.TB, err)
}

// form makes the cluster on the first node.
func (t *labTarget) form() {
	t.TB.Helper()
	t.converge(clusterCreate(), ``)
}

func (t *labTarget) states() []pve.NodeState {
	return pve.ReadCluster(t.TB.Context(), t.In.Nodes, pve.Options{}, t.Conn)
}

func TestLabThreeNodes(t *testing.T) {
	t.Parallel()
	target := newLab(t, 3, nil)
	require.Empty(t, target.converge(preflight(time.Now), `min_links = 2`))
	require.Empty(t, target.Warnings())
	require.Equal(t, []string{`create cluster "lab" on pve1`}, target.converge(clusterCreate(), ``))
	require.Equal(t, []string{`join pve2 to cluster "lab"`, `join pve3 to cluster "lab"`}, target.converge(nodeJoin(), ``))
	require.Empty(t, target.converge(preflight(time.Now), ``))
	require.Empty(t, target.converge(preflight(time.Now), `for = "running"`))
	require.Empty(t, target.Warnings())
	out, err := nodeJoin().Read(t.Context(), target, testkit.Args(t, nodeJoin(), ``))
	require.NoError(t, err)
	require.Equal(t, clusterOut{Cluster: "lab", Members: []string{"pve1", "pve2", "pve3"}, Votes: 3, Quorum: 2}, out)

	report := pve.Status(target.states(), pve.WantedCluster(target.In, target.Whole))
	require.True(t, report.Healthy(), "%+v", report.Findings)
	require.Equal(t, 1, report.Votes.Bearable)
	require.Len(t, report.Nodes[0].Links, 4, "two links to each of two nodes")
}

func TestLabJoinOverTheAPI(t *testing.T) {
	t.Parallel()
	target := newLab(t, 2, nil)
	target.form()
	target.converge(nodeJoin(), "method = \"api\"\npassword = secret.root")
	target = newLab(t, 2, func(s *lab.Spec) { s.Hosts[0].RootPassword = "another" })
	target.form()
	changes, err := target.plan(nodeJoin(), "method = \"api\"\npassword = secret.root")
	require.NoError(t, err)
	require.ErrorContains(t, target.apply(changes), "401 authentication failure")
}

// Whatever point a join dies at, the next run finishes it. With two nodes it costs the first its quorum.
func TestLabJoinThatDiesIsFinished(t *testing.T) {
	tests := []struct {
		nodes  int
		phases string
	}{
		{2, "copied added fetched stopping stopped backed-up waiting quorate certs"},
		{3, "added waiting"},
	}
	for _, tt := range tests {
		for phase := range strings.FieldsSeq(tt.phases) {
			t.Run(fmt.Sprintf("%s/%d", phase, tt.nodes), func(t *testing.T) {
				t.Parallel()
				target := newLab(t, tt.nodes, nil)
				target.form()
				if tt.nodes > 2 {
					target.converge(nodeJoin(), `nodes = ["pve2"]`)
				}
				target.fault(lab.Fault{Kind: "die", Target: fmt.Sprintf("pve%d", tt.nodes), Phase: "join:" + phase})
				changes, err := target.plan(nodeJoin(), ``)
				require.NoError(t, err)
				require.Error(t, target.apply(changes))
				require.LessOrEqual(t, len(target.converge(nodeJoin(), ``)), 1)
				require.Empty(t, target.converge(preflight(time.Now), `for = "running"`))
			})
		}
	}
}

func TestLabCreateThatDiesIsFinishedOrExplained(t *testing.T) {
	for phase, refused := range map[string]bool{"create:start": false, "create:keygen": true, "create:conf": false, "create:restart": false, "create:end": false} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			target := newLab(t, 1, nil)
			target.fault(lab.Fault{Kind: "die", Target: "pve1", Phase: phase})
			changes, err := target.plan(clusterCreate(), ``)
			require.NoError(t, err)
			_ = target.apply(changes)
			_, err = target.plan(clusterCreate(), ``)
			if refused && err != nil {
				require.ErrorContains(t, err, "left over from another cluster or from a create or join that was cut off")
				return
			}
			target.converge(clusterCreate(), ``)
		})
	}
}

func TestLabFaultsAreRefusedBeforeAnythingIsTouched(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		fault lab.Fault
		want  string
	}{
		{"stale key", lab.Fault{Kind: "stale-authkey", Target: "pve3"}, "/etc/corosync/authkey is on pve3"},
		{"guests", lab.Fault{Kind: "guests", Target: "pve3", Value: "100,101"}, "2 guests: 100, 101"},
		{"link missing", lab.Fault{Kind: "link-missing", Target: "pve3"}, "no interface has 10.0.2.3 of link 1"},
		{"link down", lab.Fault{Kind: "link-down", Target: "pve3"}, "link 1"},
		{"far away", lab.Fault{Kind: "rtt", Target: "pve3", Value: "8ms"}, "away"},
		{"small packets", lab.Fault{Kind: "mtu", Target: "pve3", Value: "1400"}, "packets of 1500 bytes"},
		{"wrong clock", lab.Fault{Kind: "skew", Target: "pve3", Value: "5m"}, "its clock is"},
		{"old release", lab.Fault{Kind: "version", Target: "pve3", Value: "8.4.1"}, "different major releases"},
		{"pmxcfs hangs", lab.Fault{Kind: "pmxcfs-hang", Target: "pve3"}, "failed"},
	}
	target := newLab(t, 3, nil)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			id, err := target.lab.AddFault(tt.fault)
			require.NoError(t, err)
			_, err = target.plan(preflight(time.Now), ``)
			require.ErrorContains(t, err, tt.want)
			require.NoError(t, target.lab.ClearFault(id))
		})
	}
	require.Empty(t, target.converge(preflight(time.Now), ``), "all of them are gone")
}

func TestLabJoinThatCannotReachQuorumIsExplained(t *testing.T) {
	t.Parallel()
	target := newLab(t, 3, nil)
	target.form()
	target.converge(nodeJoin(), `nodes = ["pve2"]`)
	target.fault(lab.Fault{Kind: "quorum-hang", Target: "pve3"})
	changes, err := target.plan(nodeJoin(), `quorum_timeout = "30s"`)
	require.NoError(t, err)
	err = target.apply(changes)
	require.ErrorContains(t, err, "pvecm add")
	require.ErrorContains(t, err, "what to do")
}

func TestLabJoinLies(t *testing.T) {
	t.Parallel()
	target := newLab(t, 2, nil)
	target.form()
	target.fault(lab.Fault{Kind: "lie", Target: "pve2", Match: "pvecm add", Value: "can't rsync data from host '192.0.2.11'"})
	changes, err := target.plan(nodeJoin(), ``)
	require.NoError(t, err)
	require.ErrorContains(t, target.apply(changes), "pvecm add failed (exit 0): can't rsync data")
	target.converge(nodeJoin(), ``)
}

type ctx = context.Context

// downConn is a host that does not answer.
type downConn struct{ labConn }

func (downConn) Run(context.Context, transport.Command) (transport.Result, error) {
	return transport.Result{}, &transport.UnreachableError{Host: "it", Phase: "connect", Cause: errors.New("no route to host")}
}
