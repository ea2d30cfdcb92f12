package cluster

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

func TestJoinOneAfterTheOther(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.form("lab", "pve1")
	changes := testkit.Converge(t, nodeJoin(), w.target(), ``)
	require.Equal(t, []string{`join pve2 to cluster "lab"`, `join pve3 to cluster "lab"`}, testkit.Summaries(changes))
	require.Equal(t, "pve2/join", changes[0].ID)
	require.Equal(t, map[string]any{
		"cluster": "lab", "links": []string{"10.0.1.2"}, "votes": 1, "replaces": "the node's own /etc/pve: its storages, users, firewall and jobs",
	}, changes[0].After)
	require.Equal(t, []string{
		"pve2: cd / && exec \"$@\"\npvecm add 192.0.2.11 --link0 10.0.1.2 --use_ssh 1",
		"pve3: cd / && exec \"$@\"\npvecm add 192.0.2.11 --link0 10.0.1.3 --use_ssh 1",
	}, w.ran("pvecm add"))
	require.Equal(t, clusterOut{Cluster: "lab", Members: []string{"pve1", "pve2", "pve3"}, Votes: 3, Quorum: 2}, testkit.Read(t, nodeJoin(), w.target(), ``))
}

func TestJoinIsForecastWhileTheClusterIsPlanned(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	target := w.target()
	for _, c := range testkit.Plan(t, clusterCreate(), target, ``) {
		target.Earlier = append(target.Earlier, module.Planned{Module: "cluster_create", Change: c})
	}
	changes := testkit.Plan(t, nodeJoin(), target, ``)
	require.Equal(t, []string{`join pve2 to cluster "lab"`, `join pve3 to cluster "lab"`}, testkit.Summaries(changes))
	for _, c := range changes {
		require.Equal(t, `cluster "lab" is made by an earlier task`, c.Predicted)
	}
}

func TestJoinWithoutACluster(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	_, err := testkit.TryPlan(t, nodeJoin(), w.target(), ``)
	require.Equal(t, []string{": join cluster lab"}, gates(t, err))
}

func TestJoinRefuses(t *testing.T) {
	tests := []struct {
		name    string
		prepare func(w *world)
		want    string
	}{
		{"guests", func(w *world) { w.nodes["pve3"].guests = []string{"100", "101"} }, "2 guests: 100, 101"},
		{"another cluster", func(w *world) { w.form("prod", "pve3") }, `belongs to cluster "prod"`},
		{"a left-over key", func(w *world) { w.nodes["pve3"].authkey = true }, "/etc/corosync/authkey is on pve3 without any cluster configuration"},
		{"another major release", func(w *world) { w.nodes["pve3"].release = "8.4.1" }, "Proxmox VE 8.4.1, and 9.1.4 on pve1"},
		{"a link without interface", func(w *world) { w.nodes["pve3"].addrs[1] = "10.0.9.3/24" }, "no interface has 10.0.1.3 of link 0"},
		{"another name", func(w *world) { w.nodes["pve3"].hostname = "node3" }, `calls itself "node3"`},
		{"no root", func(w *world) { w.nodes["pve3"].uid = 1000 }, "user id 1000"},
		{"no Proxmox VE", func(w *world) { w.nodes["pve3"].release = "" }, "Proxmox VE is not installed"},
		{"no pmxcfs", func(w *world) { w.nodes["pve3"].mounted = false }, "/etc/pve is not mounted"},
		{"a member away", func(w *world) { w.nodes["pve1"].online = []string{"pve1"} }, "does not see pve2 online"},
		{"no quorum", func(w *world) { w.nodes["pve1"].writable = false }, "the cluster is not quorate here"},
		{"configurations that differ", func(w *world) {
			c := *w.nodes["pve1"].conf
			c.version = 9
			w.nodes["pve1"].conf = &c
		}, "version 2 of the configuration, and 9 elsewhere"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "pve1", "pve2", "pve3")
			w.form("lab", "pve1", "pve2")
			tt.prepare(w)
			_, err := testkit.TryPlan(t, nodeJoin(), w.target(), ``)
			require.NotEmpty(t, gates(t, err))
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestJoinRefusesAllAtOnce(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.form("lab", "pve1")
	w.nodes["pve2"].guests = []string{"100"}
	w.nodes["pve3"].uid = 1000
	_, err := testkit.TryPlan(t, nodeJoin(), w.target(), ``)
	require.Equal(t, []string{"pve2: join pve2", "pve3: join pve3"}, gates(t, err))
}

func TestJoinFailsWithExitZero(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	w.form("lab", "pve1")
	target := w.target()
	changes := testkit.Plan(t, nodeJoin(), target, ``)
	target.OnDetach = func(string, module.Job) (transport.Result, error) {
		return transport.Result{Stdout: []byte("copy corosync auth key\n"), Stderr: []byte("can't rsync data from host '192.0.2.11'\n")}, nil
	}
	err := testkit.Apply(t.Context(), target, changes)
	require.ErrorContains(t, err, "pvecm add failed (exit 0): can't rsync data from host '192.0.2.11'")
	require.ErrorContains(t, err, "state: pve2 is in no cluster")
}

// addedOnly is the state after the first half of a join: the members list the node, which knows nothing.
func addedOnly(w *world, joiner string) *fakeConf {
	c := *w.nodes["pve1"].conf
	c.version++
	c.nodes = append(append([]string{}, c.nodes...), joiner)
	members := w.nodes["pve1"].online
	c.links[joiner] = w.linksOf(joiner)
	for _, m := range members {
		n := w.nodes[m]
		n.conf, n.local, n.writable = &c, &c, len(members) > len(c.nodes)/2
	}
	return &c
}

// A join that dies on the way is seen in the next plan and finished there, from each place where it may have died.
func TestJoinIsResumed(t *testing.T) {
	tests := []struct {
		name    string
		members []string
		prepare func(w *world)
		ran     string // how it was finished
	}{
		{"added, quorum lost", []string{"pve1"}, func(w *world) { addedOnly(w, "pve3") }, "restart corosync pve-cluster"},
		{"added, still quorate", []string{"pve1", "pve2"}, func(w *world) { addedOnly(w, "pve3") }, "pvecm add 192.0.2.11 --link0 10.0.1.3 --nodeid 3 --use_ssh 1"},
		{"key copied", []string{"pve1"}, func(w *world) {
			addedOnly(w, "pve3")
			w.nodes["pve3"].authkey = true
		}, "restart corosync pve-cluster"},
		{"pmxcfs stopped", []string{"pve1"}, func(w *world) {
			n := w.nodes["pve3"]
			n.authkey, n.local, n.mounted, n.writable, n.certs = true, addedOnly(w, "pve3"), false, false, nil
		}, "restart corosync pve-cluster"},
		{"no certificate", []string{"pve1"}, func(w *world) {
			c := addedOnly(w, "pve3")
			w.enter(w.nodes["pve3"], c)
			w.settle(c)
			w.nodes["pve1"].certs, w.nodes["pve3"].certs = []string{"pve1"}, []string{"pve1"}
		}, "pvecm updatecerts --force 1 && systemctl"},
	}
	for _, tt := range tests {
		resumed := func(t *testing.T) *world {
			t.Helper()
			w := newWorld(t, append(tt.members, "pve3")...)
			for _, n := range w.order {
				w.nodes[n].addrs[1] = "10.0.1." + strings.TrimPrefix(n, "pve") + "/24"
			}
			w.form("lab", tt.members...)
			tt.prepare(w)
			return w
		}
		target := func(w *world) *testkit.Target {
			target := w.target()
			for _, h := range target.Whole.Hosts {
				ip, _, _ := strings.Cut(w.nodes[h.Name].addrs[1], "/")
				h.Node.Links[0].Address = netip.MustParseAddr(ip)
			}
			return target
		}
		t.Run(tt.name, func(t *testing.T) {
			w := resumed(t)
			require.Empty(t, refusedBy(t, preflight(time.Now), target(w)), "preflight lets node_join do its work")
			changes := testkit.Converge(t, nodeJoin(), target(w), ``)
			require.Equal(t, []string{`finish the join of pve3 to cluster "lab"`}, testkit.Summaries(changes))
			require.Equal(t, "pve3/join", changes[0].ID)
			require.Len(t, w.ran(tt.ran), 1)
		})
		t.Run(tt.name+", not allowed to", func(t *testing.T) {
			w := resumed(t)
			_, err := testkit.TryPlan(t, nodeJoin(), target(w), `resume = false`)
			require.Contains(t, gates(t, err), "pve3: join pve3")
		})
	}
}

// refusedBy lists what a module refuses.
func refusedBy(t *testing.T, m module.Module, target *testkit.Target) []string {
	t.Helper()
	_, err := testkit.TryPlan(t, m, target, ``)
	if err == nil {
		return nil
	}
	return gates(t, err)
}

func TestJoinWaitsForOneThatRuns(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	w.form("lab", "pve1")
	w.nodes["pve2"].joining = true
	target := w.target()
	changes := testkit.Plan(t, nodeJoin(), target, ``)
	require.Equal(t, []string{`finish the join of pve2 to cluster "lab"`}, testkit.Summaries(changes))
	looks := 0
	conn := target.Conns["pve2"].(*fakeConn)
	target.Conns["pve2"] = watched{conn, func() {
		if looks++; looks == 3 {
			conn.n.joining = false
			conn.w.add(conn.n)
		}
	}}
	require.NoError(t, testkit.Apply(t.Context(), target, changes))
	require.Empty(t, w.ran("pvecm add"), "a second pvecm add beside the first would be a disaster")
}

func TestJoinOverTheAPI(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	w.form("lab", "pve1")
	target := w.target()
	testkit.Converge(t, nodeJoin(), target, "method = \"api\"\npassword = secret.root")
	require.Len(t, w.ran("pvecm add 192.0.2.11 --link0 10.0.1.2 --fingerprint AB:AB:"), 1)
	require.Empty(t, w.ran("s3cret-root"), "the password is in no argument")
	require.Equal(t, "s3cret-root\n", string(target.Jobs()[0].Command.Stdin))
}

func TestJoinShowsAndKeepsTheKeys(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	w.form("lab", "pve1")
	w.nodes["pve2"].keys = []string{"ssh-ed25519 AAAAadmin admin", `from="192.0.2.0/24" ssh-ed25519 AAAAops ops team`}
	changes := testkit.Converge(t, nodeJoin(), w.target(), ``)
	require.Equal(t, []string{"ssh-ed25519 ops team"}, changes[0].After.(map[string]any)["login_keys_let_in"])
	for _, n := range []string{"pve1", "pve2"} {
		require.Empty(t, missingKeys([]string{"ssh-ed25519 AAAAadmin admin", "ssh-ed25519 AAAAops ops team"}, w.nodes[n].keys), n)
	}
}

func TestDeviceIsTakenOffAndPutBack(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3", "pve4")
	w.form("lab", "pve1", "pve2").device = "192.0.2.50"
	changes := testkit.Converge(t, nodeJoin(), w.target(), ``)
	require.Equal(t, []string{
		"take the QDevice 192.0.2.50 off while nodes join", `join pve3 to cluster "lab"`, `join pve4 to cluster "lab"`, "set the QDevice 192.0.2.50 up again",
	}, testkit.Summaries(changes))
	require.Equal(t, "192.0.2.50", w.nodes["pve4"].conf.device)
	require.Empty(t, w.nodes["pve1"].note)
	require.Equal(t, []string{changes[0].ID}, changes[3].Undoes)
	require.Equal(t, changes[0].Host, changes[3].Host)
	require.Contains(t, changes[0].Undo.Command.Script, "pvecm qdevice setup")
}

func TestDeviceStaysOffWithAnOddNumberOfNodes(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.form("lab", "pve1", "pve2").device = "192.0.2.50"
	target := w.target()
	changes := testkit.Converge(t, nodeJoin(), target, ``)
	require.Equal(t, []string{"take the QDevice 192.0.2.50 off while nodes join", `join pve3 to cluster "lab"`, "forget the note of a QDevice that was taken off"}, testkit.Summaries(changes))
	require.Contains(t, target.Warnings(), ": with 3 nodes the QDevice 192.0.2.50 stays off: Proxmox VE supports one for even numbers only")
}

func TestDeviceOfARunThatDiedIsPutBack(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	w.form("lab", "pve1", "pve2")
	w.nodes["pve1"].note = `{"host":"192.0.2.50"}`
	changes := testkit.Converge(t, nodeJoin(), w.target(), ``)
	require.Equal(t, []string{"set the QDevice 192.0.2.50 up again"}, testkit.Summaries(changes))
}

func TestDeviceThatCouldNotBePutBackIsNotTakenOff(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3", "pve4")
	w.form("lab", "pve1", "pve2").device = "192.0.2.50"
	w.nodes["pve4"].packages = []string{"proxmox-ve"}
	_, err := testkit.TryPlan(t, nodeJoin(), w.target(), ``)
	require.Equal(t, []string{"pve4: take the QDevice off"}, gates(t, err))
	_, err = testkit.TryPlan(t, nodeJoin(), w.target(), `qdevice = "leave_off"`)
	require.NoError(t, err)
}

// The state that the plan saw is not the one that counts: quorum may be lost since.
func TestJoinLooksAgainBeforeItActs(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.form("lab", "pve1", "pve2")
	target := w.target()
	changes := testkit.Plan(t, nodeJoin(), target, ``)
	w.nodes["pve1"].writable = false
	err := testkit.Apply(t.Context(), target, changes)
	refusal, ok := errors.AsType[*module.Refusal](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, "the cluster is not quorate here", refusal.Saw)
	require.Empty(t, w.ran("pvecm"))
}

func TestNodesThatDoNotMatterMayBeDown(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.form("lab", "pve1")
	w.nodes["pve3"].down = errors.New("pve3: no route to host")
	changes := testkit.Plan(t, nodeJoin(), w.target(), `nodes = ["pve2"]`)
	require.Equal(t, []string{`join pve2 to cluster "lab"`}, testkit.Summaries(changes))
	_, err := testkit.TryPlan(t, nodeJoin(), w.target(), `nodes = ["pve2", "pve3"]`)
	require.ErrorContains(t, err, "no route to host")
	_, err = testkit.TryPlan(t, nodeJoin(), w.target(), `nodes = ["pve9"]`)
	require.ErrorContains(t, err, "pve9 is not a node of cluster")
}

func TestKeyBlob(t *testing.T) {
	for line, want := range map[string]string{
		"ssh-rsa AAAA root@pve1": "AAAA", "ssh-ed25519 BBBB": "BBBB", `command="ssh-x y",no-pty ecdsa-sha2-nistp256 CCCC x y`: "CCCC",
		"sk-ssh-ed25519@openssh.com DDDD key": "DDDD", "ssh-rsa": "", "": "", "nonsense here": "",
	} {
		require.Equal(t, want, keyBlob(line), line)
	}
}
