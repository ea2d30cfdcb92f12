package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/stretchr/testify/require"
)

func TestPreflightPassesFreshNodesAndTheClusterTheyBecome(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	m := preflight(time.Now)
	require.Empty(t, testkit.Plan(t, m, w.target(), ``))
	require.Equal(t, preflightOut{Members: []string{}, Fresh: []string{"pve1", "pve2", "pve3"}, Release: "9.1.4"}, testkit.Read(t, m, w.target(), ``))

	testkit.Converge(t, clusterCreate(), w.target(), ``)
	require.Empty(t, testkit.Plan(t, m, w.target(), ``), "in between")
	testkit.Converge(t, nodeJoin(), w.target(), ``)
	require.Empty(t, testkit.Plan(t, m, w.target(), ``))
	require.Empty(t, testkit.Plan(t, m, w.target(), `for = "running"`))
	require.Empty(t, w.ran("ping"))
}

func TestPreflightRefuses(t *testing.T) {
	tests := []struct {
		name    string
		args    string
		prepare func(w *world)
		check   string // which refuses, or warns
		saw     string
		warns   bool
	}{
		{"too many nodes", `max_nodes = 2`, func(*world) {}, checkCount, "3 nodes", false},
		{"not root", ``, func(w *world) { w.nodes["pve2"].uid = 1000 }, checkRoot, "user id 1000", false},
		{"no Proxmox VE", ``, func(w *world) { w.nodes["pve2"].release = "" }, checkRelease, "not installed", false},
		{"unknown release", ``, func(w *world) {
			for _, n := range w.nodes {
				n.release = "7.4.1"
			}
		}, checkRelease, "Proxmox VE 7.4.1", false},
		{"two majors", ``, func(w *world) { w.nodes["pve2"].release = "8.4.1" }, checkRelease, "8 on pve2; 9 on pve1, pve3", false},
		{"two minors", ``, func(w *world) { w.nodes["pve2"].release = "9.1.5" }, checkRelease, "2 different versions", true},
		{"other name", ``, func(w *world) { w.nodes["pve2"].hostname = "node2" }, checkHostname, `calls itself "node2"`, false},
		{"loopback name", ``, func(w *world) { w.nodes["pve2"].resolves = []string{"127.0.1.1"} }, checkHostname, "loopback", false},
		{"unresolvable name", ``, func(w *world) { w.nodes["pve2"].resolves = []string{"x"} }, checkHostname, "no address", false},
		{"name of another", ``, func(w *world) { w.nodes["pve2"].resolves = []string{"192.0.2.99"} }, checkHostname, "192.0.2.99, which no interface has", false},
		{"name and inventory differ", ``, func(w *world) { w.nodes["pve2"].resolves = []string{"10.0.1.2"} }, checkHostname, "the inventory reaches it by 192.0.2.12", true},
		{"cloned machine id", ``, func(w *world) { w.nodes["pve2"].machineID = w.nodes["pve1"].machineID }, checkUnique, "the same machine id as on pve1", false},
		{"cloned host key", ``, func(w *world) { w.nodes["pve2"].hostKey = w.nodes["pve1"].hostKey }, checkUnique, "the same SSH host key as on pve1", false},
		{"link not there", ``, func(w *world) { w.nodes["pve2"].addrs[1] = "10.0.9.2/24" }, checkLinks, "no interface has 10.0.1.2 of link 0", false},
		{"too few links", `min_links = 2`, func(*world) {}, checkLinks, "1 corosync links", false},
		{"unequal MTU", ``, func(w *world) { w.nodes["pve2"].mtu = 9000 }, checkMTU, "MTU 9000, and pve1 has 1500", false},
		{"MTU that does not pass", ``, func(w *world) {
			for _, n := range w.nodes {
				n.mtu = 9000
			}
		}, checkMTU, "packets of 9000 bytes do not get from 10.0.1.1 to 10.0.1.2 whole", false},
		{"slow", ``, func(w *world) { w.pings = answerOf(5, "2.5") }, checkRTT, "2.5ms away", true},
		{"too slow", ``, func(w *world) { w.pings = answerOf(5, "7.25") }, checkRTT, "7.25ms away", false},
		{"too slow by own limits", "warn_rtt = \"100us\"\nfail_rtt = \"140us\"", func(*world) {}, checkRTT, "145µs away", false},
		{"lossy", ``, func(w *world) { w.pings = answerOf(3, "0.2") }, checkRTT, "2 of 5 packets", true},
		{"silent", ``, func(w *world) {
			w.pings = "5 packets transmitted, 0 received, 100% packet loss, time 4100ms"
		}, checkLinks, "does not answer", false},
		{"closed port", ``, func(w *world) { w.ports["192.0.2.12:8006"] = true }, checkPorts, "TCP port 8006 of pve2 (192.0.2.12)", false},
		{"clock off", ``, func(w *world) { w.nodes["pve2"].skew = time.Minute }, checkTime, "1m0s off", false},
		{"no pmxcfs", ``, func(w *world) { w.nodes["pve2"].mounted = false }, checkPmxcfs, "/etc/pve is not mounted", false},
		{"guests on a joiner", ``, func(w *world) { w.nodes["pve2"].guests = []string{"100"} }, checkGuests, "guest 100", false},
		{"left-over key", ``, func(w *world) { w.nodes["pve2"].authkey = true }, checkHalf, "/etc/corosync/authkey", false},
		{"another cluster", ``, func(w *world) { w.form("prod", "pve2") }, checkCluster, `belongs to cluster "prod"`, false},
		{"join that can be finished", ``, func(w *world) { w.form("lab", "pve1"); addedOnly(w, "pve2") }, checkHalf, "node_join finishes it", true},
		{"member away", ``, func(w *world) {
			w.form("lab", "pve1", "pve2", "pve3")
			w.nodes["pve1"].online = []string{"pve1", "pve3"}
		}, checkCluster, "does not see pve2 online", false},
		{"not a member", `for = "running"`, func(w *world) { w.form("lab", "pve1", "pve2") }, checkCluster, "pve3 is in no cluster", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, "pve1", "pve2", "pve3")
			tt.prepare(w)
			target := w.target()
			_, err := testkit.TryPlan(t, preflight(time.Now), target, tt.args)
			if tt.warns {
				require.NoError(t, err)
				require.True(t, slices.ContainsFunc(target.Warnings(), func(s string) bool {
					return strings.Contains(s, tt.check+": ") && strings.Contains(s, tt.saw)
				}), "%v", target.Warnings())
				return
			}
			require.ErrorContains(t, err, "refused: preflight "+tt.check)
			require.ErrorContains(t, err, tt.saw)

			w.lines = nil
			ignoring := w.target()
			_, err = testkit.TryPlan(t, preflight(time.Now), ignoring, tt.args+fmt.Sprintf("\nignore = [%q]", tt.check))
			if err != nil {
				require.NotContains(t, err.Error(), "refused: preflight "+tt.check+"\n", "ignored checks do not refuse")
			}
		})
	}
}

func answerOf(received int, avg string) string {
	return fmt.Sprintf("5 packets transmitted, %d received, 0%% packet loss, time 204ms rtt min/avg/max/mdev = 0.034/%s/9.061/0.010 ms", received, avg)
}

func TestPreflightRefusesEverythingAtOnce(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.nodes["pve2"].guests = []string{"100"}
	w.nodes["pve3"].machineID = w.nodes["pve1"].machineID
	w.ports["192.0.2.11:22"] = true
	_, err := testkit.TryPlan(t, preflight(time.Now), w.target(), ``)
	require.Equal(t, []string{"pve3: preflight unique", "pve2: preflight guests", "pve2: preflight ports", "pve3: preflight ports"}, gates(t, err))
}

func TestFirstNodeKeepsItsGuests(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.nodes["pve1"].guests = []string{"100"}
	require.Empty(t, testkit.Plan(t, preflight(time.Now), w.target(), ``))
}

func TestMembersAreNotMeasuredAgain(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3")
	w.form("lab", "pve1", "pve2")
	target := w.target()
	v := siteView{cluster: "lab", wanted: pve.WantedCluster(target.In, target.Whole), hosts: target.Whole.Hosts}
	for _, n := range w.order {
		v.states = append(v.states, pve.ReadNode(t.Context(), n, target.Conns[n], pve.Options{}))
	}
	for from, qs := range v.questions() {
		for _, q := range qs {
			require.True(t, from == "pve3" || q.peerHost == "pve3", "%s measures %s", from, q.peerHost)
		}
	}
}

func TestClocksAreComparedWithinWhatIsKnown(t *testing.T) {
	clocks := []clock{
		{"pve1", 100 * time.Millisecond, time.Millisecond},
		{"pve2", 130 * time.Millisecond, time.Millisecond},
		{"pve3", 900 * time.Millisecond, time.Millisecond},
		{"pve4", -700 * time.Millisecond, time.Second}, // a slow answer proves nothing
	}
	found := compareClocks(clocks, 500*time.Millisecond)
	require.Len(t, found, 1)
	require.Equal(t, "pve3", found[0].host)
	require.Empty(t, compareClocks(clocks[:1], 0))
}
