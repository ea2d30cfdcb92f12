package health_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/health"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

const now = 1795300245

// answers are what a healthy node of a cluster of two prints, by the name of the read.
func answers(node string) map[string]string {
	conf := `totem {
  cluster_name: lab
  config_version: 2
  version: 2
}
nodelist {
  node {
    name: pve1
    nodeid: 1
    quorum_votes: 1
    ring0_addr: 10.0.0.1
  }
  node {
    name: pve2
    nodeid: 2
    quorum_votes: 1
    ring0_addr: 10.0.0.2
  }
}
`
	return map[string]string{
		"id": fmt.Sprintf("uid 0\nhostname %s\nkernel 6.17.2-1-pve\ncpus 4\ntime %d.5\n", node, now), "mem": "MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n",
		"pmxcfs": "nodes/" + node + "\n755\n", "conf": conf, "localconf": conf,
		"members":  fmt.Sprintf(`{"nodename":%q,"version":5,"cluster":{"name":"lab","version":2,"nodes":2,"quorate":1},"nodelist":{"pve1":{"id":1,"online":1,"ip":"10.0.0.1"},"pve2":{"id":2,"online":1,"ip":"10.0.0.2"}}}`, node),
		"guests":   `{"version":1,"ids":{"100":{"node":"pve1","type":"qemu","version":1}}}`,
		"packages": "pve-manager 9.1.4 installed\n", "certs": "/etc/pve/nodes/pve1/pve-ssl.pem\n/etc/pve/nodes/pve2/pve-ssl.pem\n",
		"quorum": "Quorum information\n------------------\nQuorum provider:  corosync_votequorum\nNodes:            2\nNode ID:          0x00000001\nRing ID:          1.1a8\nQuorate:          Yes\n\n" +
			"Votequorum information\n----------------------\nExpected votes:   2\nHighest expected: 2\nTotal votes:      2\nQuorum:           2  \nFlags:            Quorate \n\n" +
			"Membership information\n----------------------\n    Nodeid      Votes Name\n0x00000001          1 10.0.0.1 (local)\n0x00000002          1 10.0.0.2\n",
		"here":   "/etc/corosync/authkey\n/var/lib/pve-cluster/config.db\n",
		"h_load": "1000.5 900.1\n0.50 0.40 0.30 1/200 999\n", "h_df": "Filesystem 1-blocks Used Available Capacity Mounted on\n/dev/a 100000000000 20000000000 80000000000 20% /\n",
		"h_failed": "", "h_kernels": "/boot/vmlinuz-6.17.2-1-pve\n", "h_cert": "notAfter=Nov 20 12:00:00 2027 GMT\n", "h_tasks": "", "h_watchdog": "Software Watchdog\n/run/watchdog-mux.active\n",
		"h_rrd":     "pve-node-9.0/pve1:1::2\npve-node-9.0/pve2:1::2\npve-vm-9.0/100:10:web:running:0:1:4:0.1:4294967296:1\npve-storage-9.0/pve1/local:1:100:20\npve-storage-9.0/pve2/local:1:100:20\n",
		"h_storage": "dir: local\n\tpath /var/lib/vz\n\tcontent iso\n", "h_locks": "", "h_ceph": "",
		"ha_time": fmt.Sprint(now), "ha_quorate": "755\n", "ha_resources": "vm: 100\n\tstate started\n",
		"ha_manager": fmt.Sprintf(`{"master_node":"pve1","timestamp":%d,"node_status":{"pve1":"online","pve2":"online"},"service_status":{"vm:100":{"node":"pve1","state":"started"}}}`, now-5),
		"ha_lrm":     fmt.Sprintf("#/etc/pve/nodes/pve1/\n{\"mode\":\"active\",\"state\":\"active\",\"timestamp\":%d}\n#/etc/pve/nodes/pve2/\n{\"mode\":\"active\",\"state\":\"wait_for_agent_lock\",\"timestamp\":%d}\n", now-3, now-4),
		"ha_guests":  `{"version":1,"ids":{"100":{"node":"pve1","type":"qemu","version":1}}}`,
		"ha_rrd":     "pve-vm-9.0/100:10:web:running:0:1:4:0.1:4294967296:1\n",
	}
}

// printed makes the output of a snapshot script; a value that begins with "rc" gives an exit status.
func printed(answers map[string]string) []byte {
	var b strings.Builder
	b.WriteString("@@n begin\n")
	for name, text := range answers {
		rc := 0
		if status, rest, ok := strings.Cut(text, "|"); ok && strings.HasPrefix(status, "rc") {
			_, _ = fmt.Sscanf(status, "rc%d", &rc)
			text = rest
		}
		fmt.Fprintf(&b, "@@n %s\n%s\n@@n rc %d\n", name, text, rc)
	}
	b.WriteString("@@n end\n")
	return []byte(b.String())
}

// node is a connection that answers with what a node prints, or fails.
type node struct {
	transport.Conn
	out []byte
	err error
}

func (n node) Run(context.Context, transport.Command) (transport.Result, error) {
	return transport.Result{Stdout: n.out}, n.err
}

func judge(t *testing.T, change func(pve1, pve2 map[string]string)) health.Report {
	t.Helper()
	one, two := answers("pve1"), answers("pve2")
	if change != nil {
		change(one, two)
	}
	conns := map[string]transport.Conn{"pve1": node{out: printed(one)}, "pve2": node{out: printed(two)}}
	s := health.Read(t.Context(), []string{"pve1", "pve2"}, func(_ context.Context, host string) (transport.Conn, error) { return conns[host], nil })
	return health.Judge(s, pve.Wanted{Cluster: "lab", Nodes: []pve.WantedNode{{Name: "pve1", Votes: 1}, {Name: "pve2", Votes: 1}}})
}

func says(r health.Report) []string {
	var out []string
	for _, f := range r.Findings {
		out = append(out, fmt.Sprintf("%s %s %s: %s", f.Severity, f.Check, f.Node, f.Saw))
	}
	return out
}

func TestAHealthyClusterHasNothingToMend(t *testing.T) {
	r := judge(t, nil)
	// Two nodes bear no failure, and a QDevice would change that; nothing else is found.
	for _, f := range r.Findings {
		require.Contains(t, []string{"quorum", "qdevice"}, f.Check, f.Saw)
	}
	require.Equal(t, []health.QuorumRow{
		{What: "now", Total: 2, Expected: 2, Needed: 2, Bearable: 0},
		{What: "with a QDevice", Total: 3, Expected: 3, Needed: 2, Bearable: 1},
	}, r.Quorum.Rows)
	require.Equal(t, 1, r.HA.Resources)
	require.Equal(t, health.Guests{Total: 1, Running: 1}, r.Guests)
	require.Nil(t, r.Ceph)
	require.Equal(t, "Software Watchdog", r.Loads[0].Watchdog)
	require.Equal(t, 1000500*time.Millisecond, r.Loads[0].Uptime)
}

func TestFindings(t *testing.T) {
	ceph := `{"fsid":"x","health":{"status":"HEALTH_WARN","checks":{"OSDMAP_FLAGS":{"severity":"HEALTH_WARN","summary":{"message":"noout flag(s) set"}}}},"quorum_names":["pve1","pve2"],"monmap":{"num_mons":3},"osdmap":{"num_osds":4,"num_up_osds":3,"num_in_osds":4},"pgmap":{"num_pgs":10,"pgs_by_state":[{"state_name":"undersized+degraded+peered","count":2},{"state_name":"active+clean","count":8}]}}`
	for name, c := range map[string]struct {
		change func(pve1, pve2 map[string]string)
		want   string
	}{
		"full root":        {func(a, _ map[string]string) { a["h_df"] = "x\n/dev/a 100 96 4 96% /\n" }, "critical disk pve1: / is 96 % full, 4 B free"},
		"filling root":     {func(a, _ map[string]string) { a["h_df"] = "x\n/dev/a 100 86 14 86% /\n" }, "warning disk pve1: / is 86 % full"},
		"small boot":       {func(a, _ map[string]string) { a["h_df"] = "x\n/dev/a 500000000 400000000 100000000 80% /boot\n" }, "warning disk pve1: /boot is 80 % full"},
		"another kernel":   {func(_, b map[string]string) { b["h_kernels"] = "/boot/vmlinuz-6.17.4-1-pve\n" }, "info kernel pve2: runs 6.17.2-1-pve, and the next boot takes 6.17.4-1-pve"},
		"failed unit":      {func(_, b map[string]string) { b["h_failed"] = "● backup.service loaded failed failed x\n" }, "warning units pve2: failed: backup.service"},
		"old certificate":  {func(_, b map[string]string) { b["h_cert"] = "notAfter=Nov 25 12:00:00 2026 GMT\n" }, "warning certificate pve2: the API's certificate ends on 2026-11-25"},
		"dead certificate": {func(_, b map[string]string) { b["h_cert"] = "notAfter=Nov  1 12:00:00 2026 GMT\n" }, "critical certificate pve2: the API's certificate ended on 2026-11-01"},
		"replication": {func(a, _ map[string]string) {
			a["h_replication"] = `{"100":{"local/pve2":{"fail_count":3,"error":"no route"}}}`
		}, "warning replication pve1: replication of guest 100 to local/pve2 has failed 3 times: no route"},
		"failed task": {func(a, _ map[string]string) {
			a["h_tasks"] = fmt.Sprintf("UPID:pve1:0001:0002:0003:qmigrate:100:root@pam: %X migration aborted\n", now-60)
		}, "info tasks pve1: 1 of the last tasks failed, the latest: qmigrate 100: migration aborted"},
		"old failed task": {func(a, _ map[string]string) {
			a["h_tasks"] = fmt.Sprintf("UPID:pve1:0001:0002:0003:qmigrate:100:root@pam: %X migration aborted\n", now-100_000)
		}, ""},
		"stale master": {func(a, _ map[string]string) {
			a["ha_manager"] = strings.Replace(a["ha_manager"], fmt.Sprint(now-5), fmt.Sprint(now-90), 1)
		}, "critical ha pve1: the HA master has not written for 1m30s"},
		"stale LRM": {func(a, _ map[string]string) {
			a["ha_lrm"] = strings.Replace(a["ha_lrm"], fmt.Sprint(now-4), fmt.Sprint(now-40), 1)
		}, "critical ha pve2: the LRM has not written for 40s"},
		"service in error": {func(a, _ map[string]string) {
			a["ha_manager"] = strings.Replace(a["ha_manager"], `"state":"started"`, `"state":"error"`, 1)
		}, "critical ha : in state error: vm:100 on pve1"},
		"maintenance": {func(a, _ map[string]string) {
			a["ha_manager"] = strings.Replace(a["ha_manager"], `{"master`, `{"node_request":{"pve2":{"maintenance":1}},"master`, 1)
		}, "warning maintenance pve2: pve2 is in maintenance"},
		"disarmed": {func(a, _ map[string]string) {
			a["ha_manager"] = strings.Replace(a["ha_manager"], `{"master`, `{"disarm":{"mode":"freeze"},"master`, 1)
		}, "warning maintenance : HA is disarmed (freeze)"},
		"unreadable manager": {func(a, _ map[string]string) { a["ha_manager"] = "{" }, "critical ha pve1: the read of manager failed"},
		"locked guest":       {func(a, _ map[string]string) { a["h_locks"] = "pve1/qemu-server/100.conf:lock: backup\n" }, "info guests : locked: 100 (backup)"},
		"storage away": {func(a, _ map[string]string) {
			a["h_storage"] += "\nnfs: nas\n\tpath /mnt/pve/nas\n\tserver 10.0.0.9\n\texport /x\n\tnodes pve2\n"
		}, "warning storage : nas (nfs) is not reported active by pve2"},
		"disabled storage": {func(a, _ map[string]string) {
			a["h_storage"] += "\nnfs: nas\n\tdisable\n\tpath /mnt/pve/nas\n\tserver 10.0.0.9\n\texport /x\n"
		}, ""},
		"full storage": {func(a, _ map[string]string) {
			a["h_rrd"] = strings.ReplaceAll(a["h_rrd"], "local:1:100:20", "local:1:100:97")
		}, "critical storage : local is 97 % full"},
		"no statistics": {func(a, _ map[string]string) {
			a["h_rrd"] = strings.Replace(a["h_rrd"], "pve-node-9.0/pve2:1::2\n", "", 1)
		}, "warning statistics pve2: it has told nothing"},
		"too much memory": {func(a, _ map[string]string) {
			a["h_rrd"] = strings.Replace(a["h_rrd"], ":4294967296:", ":42949672960:", 1)
		}, "warning memory pve1: its running guests may use 40.0 GiB, and 8.0 GiB is free"},
		"Ceph's flags":         {func(a, _ map[string]string) { a["h_ceph"] = ceph }, "warning maintenance : OSDMAP_FLAGS: noout flag(s) set"},
		"a monitor less":       {func(a, _ map[string]string) { a["h_ceph"] = ceph }, "warning ceph : 2 of 3 monitors are in quorum"},
		"inactive PGs":         {func(a, _ map[string]string) { a["h_ceph"] = ceph }, "critical ceph : 8 of 10 placement groups are active"},
		"Ceph hangs":           {func(a, _ map[string]string) { a["h_ceph"] = "rc124|" }, "critical ceph pve1: Ceph does not answer: no answer within its time limit"},
		"not quorate anywhere": {func(a, b map[string]string) { a["pmxcfs"], b["pmxcfs"] = "nodes/pve1\n555\n", "nodes/pve2\n555\n" }, "critical quorum"},
	} {
		t.Run(name, func(t *testing.T) {
			found := says(judge(t, c.change))
			if c.want == "" {
				found = slices.DeleteFunc(found, func(s string) bool { return strings.Contains(s, "quorum") || strings.Contains(s, "qdevice") })
				require.Empty(t, found)
				return
			}
			require.True(t, slices.ContainsFunc(found, func(s string) bool { return strings.HasPrefix(s, c.want) }), "%q is not among\n%s", c.want, strings.Join(found, "\n"))
		})
	}
}

func TestEveryFindingSaysHowToLookAndWhatToDo(t *testing.T) {
	r := judge(t, func(a, b map[string]string) {
		a["h_df"], a["h_ceph"], a["ha_manager"], b["h_failed"] = "x\n/dev/a 100 96 4 96% /\n", "rc1|Error", "{", "x.service loaded failed failed\n"
	})
	for _, f := range r.Findings {
		require.NotEmpty(t, f.Look, f.Saw)
		require.NotEmpty(t, f.Remedy, f.Saw)
	}
}

func TestTheSecondNodeIsBelievedWhenTheFirstIsAway(t *testing.T) {
	two := node{out: printed(answers("pve2"))}
	s := health.Read(t.Context(), []string{"pve1", "pve2"}, func(_ context.Context, host string) (transport.Conn, error) {
		if host == "pve1" {
			return nil, errors.New("connection refused")
		}
		return two, nil
	})
	r := health.Judge(s, pve.Wanted{Cluster: "lab", Nodes: []pve.WantedNode{{Name: "pve1", Votes: 1}, {Name: "pve2", Votes: 1}}})
	require.NotNil(t, r.HA)
	require.Equal(t, 1, r.Guests.Total)
}

func TestOnlyTheFirstNodesAreAskedForTheGuestsOfTheCluster(t *testing.T) {
	three := answers("pve3")
	three["guests"] = "{}"
	fresh := answers("pve4")
	delete(fresh, "conf")
	fresh["localconf"], fresh["guests"] = "rc1|cat: /etc/corosync/corosync.conf: No such file or directory", `{"ids":{"200":{"node":"pve4","type":"lxc"}}}`
	out := map[string][]byte{"pve1": printed(answers("pve1")), "pve2": printed(answers("pve2")), "pve3": printed(three), "pve4": printed(fresh)}
	s := health.Read(t.Context(), []string{"pve1", "pve2", "pve3", "pve4"}, func(_ context.Context, host string) (transport.Conn, error) {
		return node{out: out[host]}, nil
	})
	states := s.States()
	for _, member := range states[:3] {
		require.Equal(t, []pve.Guest{{ID: "100", Node: "pve1", Type: "qemu"}}, member.Guests, member.Host)
	}
	require.Equal(t, []pve.Guest{{ID: "200", Node: "pve4", Type: "lxc"}}, states[3].Guests, "a node outside of the cluster has guests of its own")
	require.Contains(t, health.Probe(1).Script, "\np guests 10 cat /etc/pve/.vmlist\n")
	require.NotContains(t, health.Probe(2).Script, "guests 10 cat")
}

func FuzzParseNode(f *testing.F) {
	f.Add(printed(answers("pve1")))
	f.Add([]byte("@@n begin\n@@n h_df\nx\n@@n rc 0\n@@n end\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		n := health.ParseNode("pve1", out)
		r := health.Judge(health.Snapshot{Nodes: []health.Node{n}}, pve.Wanted{Cluster: "lab"})
		if n.Err != nil && len(r.Findings) == 0 {
			t.Error("a node that cannot be read is not found")
		}
	})
}
