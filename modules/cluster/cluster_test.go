package cluster

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestDeclarations(t *testing.T) { testkit.CheckModules(t, All()) }

// gates lists whom a refused plan refuses, and at which gate.
func gates(t *testing.T, err error) []string {
	t.Helper()
	rs, ok := errors.AsType[module.Refusals](err)
	require.True(t, ok, "%v", err)
	var list []string
	for _, r := range rs {
		require.NotEmpty(t, r.Saw)
		list = append(list, r.Host+": "+r.Gate)
	}
	return list
}

func TestCreateFreshCluster(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	target := w.target()
	target.Whole.Hosts[0].Node.Links[0].Priority = 20
	changes := testkit.Converge(t, clusterCreate(), target, `token_coefficient = 200`)
	require.Equal(t, []string{`create cluster "lab" on pve1`}, testkit.Summaries(changes))
	require.Len(t, w.ran("pvecm create lab --link0 10.0.1.1,priority=20 --token-coefficient 200"), 1)
	require.Equal(t, clusterOut{Cluster: "lab", Members: []string{"pve1"}, Votes: 1, Quorum: 1}, testkit.Read(t, clusterCreate(), target, ``))
}

func TestCreateDecides(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(*world)
		refused string // what was seen; empty: not refused
		changes int
	}{
		{"fresh", func(*world) {}, "", 1},
		{"there already", func(w *world) { w.form("lab", "pve1", "pve2") }, "", 0},
		{"on another node of the inventory", func(w *world) { w.form("lab", "pve2") }, "", 0},
		{"in another cluster", func(w *world) { w.form("prod", "pve1") }, `belongs to cluster "prod"`, 0},
		{"left-over key", func(w *world) { w.nodes["pve1"].authkey = true }, "authkey", 0},
		{"written and not started", func(w *world) {
			w.form("lab", "pve1")
			w.nodes["pve1"].corosync = false
			w.nodes["pve1"].writable = false
		}, "", 1},
		{"at work", func(w *world) { w.nodes["pve1"].joining = true }, "pvecm is running", 0},
		{"not root", func(w *world) { w.nodes["pve1"].uid = 1000 }, "user id 1000", 0},
		{"no Proxmox VE", func(w *world) { w.nodes["pve1"].release = "" }, "not installed", 0},
		{"wrong address", func(w *world) { w.nodes["pve1"].addrs[1] = "10.0.9.1/24" }, "no interface of pve1 has 10.0.1.1", 0},
		{"other name", func(w *world) { w.nodes["pve1"].hostname = "node1" }, `calls itself "node1"`, 0},
		{"guests are kept", func(w *world) { w.nodes["pve1"].guests = []string{"100"} }, "", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "pve1", "pve2")
			tt.prepare(w)
			changes, err := testkit.TryPlan(t, clusterCreate(), w.target(), ``)
			if tt.refused != "" {
				require.Equal(t, []string{`pve1: create cluster "lab"`}, gates(t, err))
				require.ErrorContains(t, err, tt.refused)
				return
			}
			require.NoError(t, err)
			require.Len(t, changes, tt.changes)
		})
	}
}

func TestCreateFinishesWhatWasWritten(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	w.form("lab", "pve1")
	w.nodes["pve1"].corosync, w.nodes["pve1"].writable = false, false
	target := w.target()
	require.Empty(t, refusedBy(t, preflight(time.Now), target))
	for _, c := range testkit.Plan(t, clusterCreate(), target, ``) {
		target.Earlier = append(target.Earlier, module.Planned{Module: "cluster_create", Change: c})
	}
	require.Equal(t, []string{`join pve2 to cluster "lab"`}, testkit.Summaries(testkit.Plan(t, nodeJoin(), target, ``)))
	changes := testkit.Converge(t, clusterCreate(), w.target(), ``)
	require.Equal(t, []string{`finish making cluster "lab": start corosync on pve1`}, testkit.Summaries(changes))
}

func TestCreateThatFailsWithExitZero(t *testing.T) {
	w := newWorld(t, "pve1")
	target := w.target()
	changes := testkit.Plan(t, clusterCreate(), target, ``)
	target.OnDetach = func(string, module.Job) (transport.Result, error) {
		return transport.Result{Stderr: []byte("can't lock file '/var/lock/pvecm.lock' - got timeout\n")}, nil
	}
	err := testkit.Apply(t.Context(), target, changes)
	require.ErrorContains(t, err, "pvecm create failed (exit 0): can't lock file")
}

func TestCreateKeepsTheKeys(t *testing.T) {
	w := newWorld(t, "pve1")
	target := w.target()
	changes := testkit.Plan(t, clusterCreate(), target, ``)
	run := target.OnDetach
	target.OnDetach = func(host string, j module.Job) (transport.Result, error) {
		w.nodes["pve1"].keys = []string{"ssh-rsa AAAArootpve1 root@pve1"}
		return run(host, j)
	}
	require.NoError(t, testkit.Apply(t.Context(), target, changes))
	require.Contains(t, w.nodes["pve1"].keys, "ssh-ed25519 AAAAadmin admin")
}

func TestBadArguments(t *testing.T) {
	tests := []struct {
		m    module.Module
		src  string
		want string
	}{
		{clusterCreate(), `name = "a-name-of-sixteen"`, "allows 15"},
		{clusterCreate(), `node = ["pve1", "pve2"]`, "only one node"},
		{nodeJoin(), `method = "api"`, "needs the password"},
		{nodeJoin(), `password = secret.x`, "only used with"},
		{nodeJoin(), `via = ["pve1", "pve2"]`, "only one member"},
		{nodeJoin(), `cluster = "my_lab"`, "inner hyphens"},
		{preflight(time.Now), `ignore = ["rtts"]`, `no check "rtts"`},
	}
	for _, tt := range tests {
		t.Run(tt.src, func(t *testing.T) {
			_, problems := testkit.TryArgs(t, tt.m, tt.src)
			require.Len(t, problems, 1)
			require.Contains(t, problems[0], tt.want)
		})
	}
}

// least are the arguments without which a module cannot be planned.
var least = map[string]string{"qdevice": `arbiter = "arbiter"`, "node_remove": "node = \"pve9\"\nconfirm = \"pve9\""}

func TestRunbookWithoutCluster(t *testing.T) {
	w := newWorld(t, "pve1")
	for _, m := range All() {
		target := w.target()
		target.In = nil
		_, err := testkit.TryPlan(t, m, target, least[m.Spec().Name])
		require.ErrorContains(t, err, errNoCluster.Error(), m.Spec().Name)
	}
}

func TestUnreachableNodeIsNoRefusal(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	w.nodes["pve2"].down = &transport.UnreachableError{Host: "pve2", Phase: "connect", Cause: errors.New("refused")}
	for _, m := range All() {
		if slices.Contains([]string{"health", "datacenter"}, m.Spec().Name) {
			continue // one judges nodes that do not answer, the other is content with one that does
		}
		_, err := testkit.TryPlan(t, m, w.target(), least[m.Spec().Name])
		_, unreachable := errors.AsType[*transport.UnreachableError](err)
		require.True(t, unreachable, "%s: %v", m.Spec().Name, err)
	}
}
