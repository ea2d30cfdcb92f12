package pve

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReadClusterAtOnceAndInOrder(t *testing.T) {
	conns := map[string]*testkit.Conn{}
	for _, host := range []string{"pve1", "pve2"} {
		conns[host] = testkit.NewConn(t, host).OnOutput("@@%s begin", strings.ReplaceAll(string(data(t, "snapshot-member.txt")), "hostname pve1", "hostname "+host))
	}
	states := ReadCluster(t.Context(), []string{"pve2", "pve3", "pve1"}, Options{}, func(_ context.Context, host string) (transport.Conn, error) {
		if c, ok := conns[host]; ok {
			return c, nil
		}
		return nil, errors.New(host + ": no route to host")
	})
	require.Len(t, states, 3)
	require.Equal(t, "pve2", states[0].Hostname)
	require.EqualError(t, states[1].Err, "pve3: no route to host")
	require.Equal(t, "pve1", states[2].Hostname)
	require.Equal(t, 1, conns["pve1"].RoundTrips())
}

func TestReadNodeKeepsTheCauseOfALostConnection(t *testing.T) {
	lost := &transport.LostError{Host: "pve1", Command: "sh", Cause: errors.New("reset")}
	s := ReadNode(t.Context(), "pve1", testkit.NewConn(t, "pve1").On("begin", testkit.Reply{Err: lost}), Options{})
	require.ErrorIs(t, s.Err, lost)
	require.ErrorContains(t, s.Err, "read the state of pve1")
}

func TestProbesAreConstantAndSeparate(t *testing.T) {
	for _, o := range []Options{{}, {Brief: true}, {Keys: true}} {
		require.Equal(t, ProbeNode(o), ProbeNode(o))
		require.False(t, ProbeNode(o).Mutates)
	}
	require.NotEqual(t, ProbeNode(Options{}).Script, ProbeNode(Options{Brief: true}).Script)
	require.NotContains(t, ProbeNode(Options{Brief: true}).Script, "dpkg-query")
	require.Contains(t, ProbeNode(Options{Keys: true}).Script, "authorized_keys")
}

// The scripts run in any POSIX shell, on a host that has nothing of Proxmox too.
func TestSnapshotOfThisHost(t *testing.T) {
	if _, err := exec.LookPath("timeout"); err != nil {
		t.Fatal("the snapshot needs timeout of coreutils: ", err)
	}
	for _, o := range []Options{{}, {Brief: true}} {
		s := ReadNode(t.Context(), "here", testkit.NewLocal(t), o)
		require.NoError(t, s.Err)
		require.NotEmpty(t, s.Hostname)
		require.False(t, s.Mounted)
		require.Nil(t, s.Conf)
	}
}

// A pmxcfs that hangs costs one time limit, not one for each of its files.
func TestSnapshotAsksAHangingPmxcfsOnce(t *testing.T) {
	here := testkit.NewLocal(t)
	here.Program(t, "timeout", `shift 3
case "$*" in *'/etc/pve/'*) echo asked >>"$0.asked"; exit 124;; esac
exec "$@"
`)
	s := ReadNode(t.Context(), "here", here, Options{})
	require.NoError(t, s.Err)
	require.Equal(t, "no answer within its time limit", s.Unread["conf"])
	require.NotEmpty(t, s.Hostname, "the rest is read")
	asked, err := os.ReadFile(filepath.Join(here.Bin, "timeout.asked"))
	require.NoError(t, err)
	require.Equal(t, "asked\n", string(asked))
}

func TestFactsOfANode(t *testing.T) {
	facts, err := Facts(t.Context(), testkit.NewConn(t, "pve1").OnOutput("begin", string(data(t, "snapshot-member.txt"))))
	require.NoError(t, err)
	get := func(name string) cty.Value { return facts.GetAttr(name) }
	require.Equal(t, "pve1", get("hostname").AsString())
	require.Equal(t, "pve1.lab.local", get("fqdn").AsString())
	require.Equal(t, "trixie", get("os").GetAttr("codename").AsString())
	require.Equal(t, "lab", get("cluster").AsString())
	require.True(t, get("pve").GetAttr("major").RawEquals(cty.NumberIntVal(9)))
	require.True(t, get("addresses").RawEquals(cty.ListVal([]cty.Value{cty.StringVal("10.77.0.1")})))
	require.True(t, get("memory_mib").RawEquals(cty.NumberIntVal(24105)))
}

func TestFactsOfAHostWithoutProxmox(t *testing.T) {
	facts, err := Facts(t.Context(), testkit.NewConn(t, "arbiter").OnOutput("begin", "@@n begin\n@@n id\nuid 1000\nhostname arbiter\n\n@@n rc 0\n@@n end\n"))
	require.NoError(t, err)
	require.True(t, facts.GetAttr("pve").IsNull())
	require.True(t, facts.GetAttr("cluster").IsNull())
	require.Zero(t, facts.GetAttr("addresses").LengthInt())
	_, err = Facts(t.Context(), testkit.NewConn(t, "arbiter").OnOutput("begin", "sh: not found\n"))
	require.ErrorContains(t, err, "gather facts")
}
