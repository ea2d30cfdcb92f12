package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/lab"
	"github.com/stretchr/testify/require"
)

// labTarget adds to the stand-in for the engine what tests of memberships say often.
type labTarget struct{ *labkit.Target }

// newLab starts nodes with two links each and the inventory that wants them as cluster "lab".
func newLab(t *testing.T, n int, change func(*lab.Spec)) *labTarget {
	t.Helper()
	target := &labTarget{labkit.New(t, n, func(s *lab.Spec) {
		s.Speed = 100
		if change != nil {
			change(s)
		}
	})}
	for _, h := range target.All {
		h.Node.Links[0].Priority = 20
	}
	return target
}

// form makes the cluster on the first node.
func (t *labTarget) form() {
	t.TB.Helper()
	t.Converge(clusterCreate(), ``)
}

func (t *labTarget) states() []pve.NodeState {
	return pve.ReadCluster(t.TB.Context(), t.In.Nodes, pve.Options{}, t.Conn)
}

func TestLabThreeNodes(t *testing.T) {
	t.Parallel()
	target := newLab(t, 3, nil)
	require.Empty(t, target.Converge(preflight(time.Now), `min_links = 2`))
	require.Empty(t, target.Warnings())
	require.Equal(t, []string{`create cluster "lab" on pve1`}, target.Converge(clusterCreate(), ``))
	require.Equal(t, []string{`join pve2 to cluster "lab"`, `join pve3 to cluster "lab"`}, target.Converge(nodeJoin(), ``))
	require.Empty(t, target.Converge(preflight(time.Now), ``))
	require.Empty(t, target.Converge(preflight(time.Now), `for = "running"`))
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
	target.Converge(nodeJoin(), "method = \"api\"\npassword = secret.root")
	target = newLab(t, 2, func(s *lab.Spec) { s.Hosts[0].RootPassword = "another" })
	target.form()
	changes, err := target.Plan(nodeJoin(), "method = \"api\"\npassword = secret.root")
	require.NoError(t, err)
	require.ErrorContains(t, target.Apply(changes), "401 authentication failure")
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
					target.Converge(nodeJoin(), `nodes = ["pve2"]`)
				}
				target.Fault(lab.Fault{Kind: "die", Target: fmt.Sprintf("pve%d", tt.nodes), Phase: "join:" + phase})
				changes, err := target.Plan(nodeJoin(), ``)
				require.NoError(t, err)
				require.Error(t, target.Apply(changes))
				require.LessOrEqual(t, len(target.Converge(nodeJoin(), ``)), 1)
				require.Empty(t, target.Converge(preflight(time.Now), `for = "running"`))
			})
		}
	}
}

func TestLabCreateThatDiesIsFinishedOrExplained(t *testing.T) {
	for phase, refused := range map[string]bool{"create:start": false, "create:keygen": true, "create:conf": false, "create:restart": false, "create:end": false} {
		t.Run(phase, func(t *testing.T) {
			t.Parallel()
			target := newLab(t, 1, nil)
			target.Fault(lab.Fault{Kind: "die", Target: "pve1", Phase: phase})
			changes, err := target.Plan(clusterCreate(), ``)
			require.NoError(t, err)
			_ = target.Apply(changes)
			_, err = target.Plan(clusterCreate(), ``)
			if refused && err != nil {
				require.ErrorContains(t, err, "left over from another cluster or from a create or join that was cut off")
				return
			}
			target.Converge(clusterCreate(), ``)
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
			id, err := target.Lab.AddFault(tt.fault)
			require.NoError(t, err)
			_, err = target.Plan(preflight(time.Now), ``)
			require.ErrorContains(t, err, tt.want)
			require.NoError(t, target.Lab.ClearFault(id))
		})
	}
	require.Empty(t, target.Converge(preflight(time.Now), ``), "all of them are gone")
}

func TestLabJoinThatCannotReachQuorumIsExplained(t *testing.T) {
	t.Parallel()
	target := newLab(t, 3, nil)
	target.form()
	target.Converge(nodeJoin(), `nodes = ["pve2"]`)
	target.Fault(lab.Fault{Kind: "quorum-hang", Target: "pve3"})
	changes, err := target.Plan(nodeJoin(), `quorum_timeout = "30s"`)
	require.NoError(t, err)
	err = target.Apply(changes)
	require.ErrorContains(t, err, "pvecm add")
	require.ErrorContains(t, err, "what to do")
}

func TestLabJoinLies(t *testing.T) {
	t.Parallel()
	target := newLab(t, 2, nil)
	target.form()
	target.Fault(lab.Fault{Kind: "lie", Target: "pve2", Match: "pvecm add", Value: "can't rsync data from host '192.0.2.11'"})
	changes, err := target.Plan(nodeJoin(), ``)
	require.NoError(t, err)
	require.ErrorContains(t, target.Apply(changes), "pvecm add failed (exit 0): can't rsync data")
	target.Converge(nodeJoin(), ``)
}

type ctx = context.Context

// downConn is a host that does not answer.
type downConn struct{ transport.Conn }

func (downConn) Run(context.Context, transport.Command) (transport.Result, error) {
	return transport.Result{}, &transport.UnreachableError{Host: "it", Phase: "connect", Cause: errors.New("no route to host")}
}
