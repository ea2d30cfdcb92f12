package health_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/detach"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/health"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

// five is what the nodes of a cluster of five print: a1 and a2 on one side of a cut, the others, which are quorate, on the other.
func five() map[string]map[string]string {
	names := []string{"a1", "a2", "b1", "b2", "b3"}
	conf := "totem {\n  cluster_name: lab\n  config_version: 5\n  version: 2\n}\nnodelist {\n"
	for i, name := range names {
		conf += fmt.Sprintf("  node {\n    name: %s\n    nodeid: %d\n    quorum_votes: 1\n    ring0_addr: 10.0.0.%d\n  }\n", name, i+1, i+1)
	}
	conf += "}\n"
	nodes := map[string]map[string]string{}
	for _, name := range names {
		a := answers(name)
		a["conf"], a["localconf"] = conf, conf
		quorate, mode := 1, "755"
		if name[0] == 'a' {
			quorate, mode = 0, "555"
		}
		var list, certs, rrd, lrms []string
		for i, other := range names {
			online := 0
			if other[0] == name[0] {
				online = 1
				rrd = append(rrd, "pve-node-9.0/"+other+":1::2\npve-storage-9.0/"+other+"/local:1:100:20\n")
			}
			age := 3
			if other[0] != name[0] {
				age = 400
			}
			list = append(list, fmt.Sprintf(`%q:{"id":%d,"online":%d,"ip":"10.0.0.%d"}`, other, i+1, online, i+1))
			certs = append(certs, "/etc/pve/nodes/"+other+"/pve-ssl.pem\n")
			lrms = append(lrms, fmt.Sprintf("#/etc/pve/nodes/%s/\n{\"mode\":\"active\",\"state\":\"active\",\"timestamp\":%d}\n", other, now-age))
		}
		a["members"] = fmt.Sprintf(`{"nodename":%q,"version":5,"cluster":{"name":"lab","version":5,"nodes":5,"quorate":%d},"nodelist":{%s}}`, name, quorate, strings.Join(list, ","))
		a["pmxcfs"], a["ha_quorate"] = "nodes/"+name+"\n"+mode+"\n", mode+"\n"
		a["certs"], a["h_rrd"], a["ha_lrm"] = strings.Join(certs, ""), strings.Join(rrd, ""), strings.Join(lrms, "")
		a["h_mons"] = "[mon.a1]\n[mon.b1]\n[mon.b2]\n"
		a["h_osds"] = "ceph-" + fmt.Sprint(slices.Index(names, name)) + "\n"
		if quorate == 1 {
			a["guests"] = `{"version":2,"ids":{"100":{"node":"b1","type":"qemu","version":2}}}`
			a["ha_manager"] = fmt.Sprintf(`{"master_node":"b2","timestamp":%d,"node_status":{},"service_status":{"vm:100":{"node":"b1","state":"started"}}}`, now-4)
			a["ha_guests"], a["ha_rrd"] = a["guests"], "pve-vm-9.0/100:10:web:running:0:1:4:0.1:4294967296:1\n"
			a["h_ceph"] = `{"fsid":"x","health":{"status":"HEALTH_WARN","checks":{` +
				`"MON_DOWN":{"severity":"HEALTH_WARN","summary":{"message":"1/3 mons down, quorum b1,b2"}},"OSD_DOWN":{"severity":"HEALTH_WARN","summary":{"message":"2 osds down"}},` +
				`"PG_DEGRADED":{"severity":"HEALTH_WARN","summary":{"message":"Degraded data redundancy: 9 pgs degraded"}}}},` +
				`"quorum_names":["b1","b2"],"monmap":{"num_mons":3},"osdmap":{"num_osds":5,"num_up_osds":3,"num_in_osds":5},"pgmap":{"num_pgs":9,"pgs_by_state":[{"state_name":"active+undersized+degraded","count":9}]}}`
		} else {
			a["quorum"] = "Quorum information\n------------------\nQuorum provider:  corosync_votequorum\nNodes:            2\nQuorate:          No\n"
			a["ha_manager"] = fmt.Sprintf(`{"master_node":"a1","timestamp":%d,"node_status":{},"service_status":{"vm:100":{"node":"a1","state":"started"}}}`, now-400)
			a["h_ceph"] = "rc1|[errno 110] RADOS timed out (error connecting to the cluster)"
		}
		nodes[name] = a
	}
	return nodes
}

// look reads and judges the cluster; change may alter what its nodes print, and a node without answers does not answer.
func look(t *testing.T, change func(nodes map[string]map[string]string)) health.Report {
	t.Helper()
	nodes := five()
	if change != nil {
		change(nodes)
	}
	hosts := []string{"a1", "a2", "b1", "b2", "b3"}
	w := pve.Wanted{Cluster: "lab"}
	for _, host := range hosts {
		w.Nodes = append(w.Nodes, pve.WantedNode{Name: host, Votes: 1})
	}
	s := health.Read(t.Context(), hosts, func(_ context.Context, host string) (transport.Conn, error) {
		if nodes[host] == nil {
			return nil, &transport.UnreachableError{Host: host, Phase: "connect", Cause: errors.New("no route to host")}
		}
		return node{out: printed(nodes[host])}, nil
	})
	return health.Judge(s, w).Folded()
}

func TestTheQuoratePartIsBelieved(t *testing.T) {
	r := look(t, nil)
	require.True(t, r.Quorate)
	require.Empty(t, r.Stale)
	require.Equal(t, "b2", r.HA.Master)
	require.Equal(t, map[string]int{"started": 1}, r.HA.States)
	require.Equal(t, "HEALTH_WARN", r.Ceph.Health)
	require.Equal(t, health.Guests{Total: 1, Running: 1}, r.Guests)
	guests := map[string]int{}
	for _, n := range r.Nodes {
		guests[n.Name] = n.Guests
		require.Equal(t, n.Name[0] == 'b', n.Online, n.Name)
	}
	require.Equal(t, map[string]int{"a1": 0, "a2": 0, "b1": 1, "b2": 0, "b3": 0}, guests, "where the guest was before the cut does not count")
	require.Len(t, r.Findings, 1, strings.Join(says(r), "\n"))
	require.Contains(t, r.Findings[0].Saw, "a1, a2 are cut off from the cluster")
	require.Equal(t, []string{
		"3 of 5 votes are there and 3 are needed: the next node that fails stops the cluster",
		"Ceph: 2 of 3 monitors are in quorum", "Ceph: 2 of 5 OSDs are down", "Ceph: Degraded data redundancy: 9 pgs degraded",
	}, r.Findings[0].Consequences)
}

func TestOnlyWhatALossExplainsFollowsFromIt(t *testing.T) {
	// An OSD of a node that is there is down too.
	r := look(t, func(nodes map[string]map[string]string) {
		for _, a := range nodes {
			a["h_ceph"] = strings.Replace(a["h_ceph"], `"num_up_osds":3`, `"num_up_osds":2`, 1)
		}
	})
	require.True(t, slices.ContainsFunc(says(r), func(s string) bool { return strings.HasPrefix(s, "warning ceph : OSD_DOWN") }), "%v", says(r))
	require.Contains(t, strings.Join(r.Findings[0].Consequences, "\n"), "monitors are in quorum")
	// A monitor of a node that is there is out of quorum.
	r = look(t, func(nodes map[string]map[string]string) {
		for _, a := range nodes {
			a["h_mons"] = "[mon.a1]\n[mon.b1]\n[mon.b2]\n[mon.b3]\n"
		}
	})
	require.True(t, slices.ContainsFunc(says(r), func(s string) bool { return strings.HasPrefix(s, "warning ceph : MON_DOWN") }), "%v", says(r))
	// A node that does not say which OSDs it has explains nothing.
	r = look(t, func(nodes map[string]map[string]string) { nodes["b3"]["h_osds"] = "rc124|" })
	require.True(t, slices.ContainsFunc(says(r), func(s string) bool { return strings.HasPrefix(s, "warning ceph : OSD_DOWN") }), "%v", says(r))
}

func TestWithoutQuorumOldWordsAreCalledOld(t *testing.T) {
	r := look(t, func(nodes map[string]map[string]string) {
		for _, name := range []string{"b1", "b2", "b3"} {
			delete(nodes, name)
		}
	})
	require.False(t, r.Quorate)
	require.Equal(t, "a1", r.Stale)
	require.Equal(t, "6m40s", r.HA.Age.String())
	require.Len(t, r.Findings, 2, strings.Join(says(r), "\n"))
	require.Equal(t, "quorum", r.Findings[0].Check)
	consequences := strings.Join(r.Findings[0].Consequences, "\n")
	require.Contains(t, consequences, "the HA master has not written for 6m40s")
	require.Contains(t, consequences, "Ceph does not answer")
	require.Contains(t, consequences, "what is shown of HA, storages and guests is what a1 remembers from before quorum was lost")
	require.Contains(t, r.Findings[1].Saw, "b1, b2, b3 are down")
}

func TestJobsThatNobodyTookAreTold(t *testing.T) {
	r := judge(t, func(a, b map[string]string) {
		a["h_jobs"] = "pxrun-0a1b 01AAA done 0 90 join\npxrun-0a1c 01AAB running -1 0 upgrade\nrubbish\n"
		b["h_jobs"] = "pxrun-0a1d 01AAC gone -1 0 \n"
	})
	found := strings.Join(says(r), "\n")
	require.Contains(t, found, `info jobs pve1: the job "join" of run 01AAA has ended with exit 0, and no run has taken its result`)
	require.Contains(t, found, `info jobs pve1: the job "upgrade" of run 01AAB is at work`)
	require.Contains(t, found, `info jobs pve2: the job "pxrun-0a1d" of run 01AAC was killed`)
	require.Equal(t, []detach.Left{{Unit: "pxrun-0a1d", Run: "01AAC", State: "gone", Exit: -1}}, r.Jobs["pve2"])
}

func TestANodeThatWasNotGivenBackIsTold(t *testing.T) {
	r := judge(t, func(_, b map[string]string) {
		b["h_service"] = `{"run":"01AAA","node":"pve2","since":1795330134,"guests":[{"sid":"vm:100"}]}`
	})
	require.Contains(t, strings.Join(says(r), "\n"), "warning service pve2: run 01AAA has taken it out of service at 2026-11-22 ")
	r = judge(t, func(a, _ map[string]string) { a["h_service"] = "{" })
	require.Contains(t, strings.Join(says(r), "\n"), "what it wrote down makes no sense")
}
