package gates

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/stretchr/testify/require"
)

// cluster is what n nodes of one vote each say, all of them well; change may alter it.
func cluster(n, device int, change func(*Facts)) Facts {
	conf := &pve.CorosyncConf{ClusterName: "lab", Version: 3}
	members := &pve.Members{}
	var rows []pve.QuorumMember
	for i := 1; i <= n; i++ {
		name := fmt.Sprintf("pve%d", i)
		conf.Nodes = append(conf.Nodes, pve.ConfNode{Name: name, ID: i, Votes: 1})
		members.Nodes = append(members.Nodes, pve.Member{Name: name, ID: i, Online: true})
		row := pve.QuorumMember{ID: i, Votes: 1, Name: name}
		if device > 0 {
			row.QDevice = []string{"A", "V", "NMW"}
		}
		rows = append(rows, row)
	}
	if device > 0 {
		conf.Device = &pve.ConfDevice{Host: "192.0.2.50", Votes: device}
	}
	f := Facts{Node: "pve2", Proxmox: true, Running: map[int]guest.Kind{}, HA: &ha.State{Now: time.Unix(1000, 0), LRMs: map[string]ha.LRM{}, Unread: map[string]string{}}}
	for i := 1; i <= n; i++ {
		q := &pve.QuorumStatus{Quorate: true, Expected: n + device, Total: n + device, Quorum: (n+device)/2 + 1, Members: append([]pve.QuorumMember{}, rows...)}
		if device > 0 {
			q.Device = &pve.QuorumDevice{Votes: device, Configured: device}
		}
		s := pve.NodeState{Host: fmt.Sprintf("pve%d", i), Hostname: fmt.Sprintf("pve%d", i), Conf: conf, Mounted: true, Writable: true, Members: members, Quorum: q, Unread: map[string]string{}}
		for j := 1; j <= n; j++ {
			if j != i {
				s.Links = append(s.Links, pve.PeerLink{NodeID: j, Link: 0, Enabled: true, Connected: true})
			}
		}
		f.States = append(f.States, s)
	}
	if change != nil {
		change(&f)
	}
	return f
}

// gone takes a node out of the cluster, as the others see it.
// restarts has been told to restart, and has not gone down yet.
func restarts(s *pve.NodeState, since time.Duration) {
	s.BootID, s.Time = "old", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	s.Restart = pve.Restart{Run: "01OTHER", BootID: "old", At: s.Time.Add(-since)}
}

func gone(f *Facts, i int) {
	online := &pve.Members{}
	for _, m := range f.States[0].Members.Nodes {
		m.Online = m.Online && m.ID != i
		online.Nodes = append(online.Nodes, m)
	}
	for k := range f.States {
		s := &f.States[k]
		s.Members = online
		if k == i-1 {
			s.Err = fmt.Errorf("no route to host")
			continue
		}
		q := *s.Quorum
		q.Members = nil
		for _, m := range s.Quorum.Members {
			if m.ID != i {
				q.Members = append(q.Members, m)
			}
		}
		q.Total--
		q.Quorate = q.Total >= q.Quorum
		s.Quorum, s.Writable = &q, q.Quorate
	}
}

// maintained puts the node into maintenance, as the HA manager and the node's HA agent have it.
func maintained(f *Facts, node, agent string) {
	f.HA.Manager = &ha.Manager{
		Time: f.HA.Now, Nodes: map[string]string{"pve2": node}, Maintenance: []string{"pve2"},
		Services: map[string]ha.Service{"vm:100": {Node: "pve1", State: "started"}},
	}
	f.HA.LRMs["pve2"] = ha.LRM{Mode: agent}
}

func TestGates(t *testing.T) {
	t.Parallel()
	away := func(names ...string) Options { return Options{Away: names} }
	for name, test := range map[string]struct {
		facts Facts
		o     Options
		want  map[string]string // closed gates and a part of what they saw; none: the node may go down
	}{
		"three nodes":       {cluster(3, 0, nil), Options{}, nil},
		"two nodes":         {cluster(2, 0, nil), Options{}, map[string]string{Quorum: "1 of 2 votes stay without pve2, 2 are needed"}},
		"two and a QDevice": {cluster(2, 1, nil), Options{}, nil},
		"a QDevice that does not vote on a node": {cluster(2, 1, func(f *Facts) {
			f.States[0].Quorum.Members[0].QDevice = []string{"A", "NV", "NMW"}
		}), Options{}, map[string]string{Quorum: "1 of 3 votes stay without pve2, 2 are needed; the QDevice is not counted: pve1 shows A,NV,NMW for pve1"}},
		"a QDevice whose daemon is dead on a node": {cluster(4, 1, func(f *Facts) {
			for i := range f.States {
				f.States[i].Quorum.Members[3].QDevice = []string{"NA", "NV", "NMW"}
			}
		}), Options{}, nil},
		"the same, and one node away": {cluster(4, 1, func(f *Facts) {
			for i := range f.States {
				f.States[i].Quorum.Members[3].QDevice = []string{"NA", "NV", "NMW"}
			}
		}), away("pve1"), map[string]string{Quorum: "2 of 5 votes stay without pve2, pve1, 3 are needed; the QDevice is not counted: pve3 shows NA,NV,NMW for pve4"}},
		"a QDevice that is dead where it does not matter": {cluster(4, 1, func(f *Facts) {
			for i := range f.States {
				f.States[i].Quorum.Members[1].QDevice = []string{"NA", "NV", "NMW"}
			}
		}), away("pve1"), nil},
		"five nodes, one under way": {cluster(5, 0, nil), away("pve3"), nil},
		"five nodes, two under way": {cluster(5, 0, nil), away("pve3", "pve4"), map[string]string{Quorum: "2 of 5 votes stay without pve2, pve3, pve4, 3 are needed"}},
		"five nodes, one is down":   {cluster(5, 0, func(f *Facts) { gone(f, 4) }), Options{}, map[string]string{Others: "pve4 is down"}},
		"and may be":                {cluster(5, 0, func(f *Facts) { gone(f, 4) }), Options{Tolerate: []string{"pve4"}}, nil},
		"or is this run's":          {cluster(5, 0, func(f *Facts) { gone(f, 4) }), away("pve4"), nil},
		"another is in maintenance": {cluster(5, 0, func(f *Facts) {
			f.HA.Manager = &ha.Manager{Time: f.HA.Now, Nodes: map[string]string{"pve4": "maintenance", "pve2": "maintenance"}}
		}), Options{}, map[string]string{Others: "pve4 is in maintenance"}},
		"maintenance is asked for": {cluster(5, 0, func(f *Facts) {
			f.HA.Manager = &ha.Manager{Time: f.HA.Now, Nodes: map[string]string{"pve4": "online"}, Maintenance: []string{"pve4"}}
		}), Options{}, map[string]string{Others: "pve4 is in maintenance"}},
		"its own maintenance is in effect": {cluster(3, 0, func(f *Facts) { maintained(f, "maintenance", "maintenance") }), Options{Empty: true, Coming: true}, nil},
		"its HA agent was just restarted": {cluster(3, 0, func(f *Facts) { maintained(f, "maintenance", "restart") }), Options{Empty: true, Coming: true}, map[string]string{
			Guests: "its maintenance is not in effect: its HA agent is in mode restart",
		}},
		"the HA manager takes it for back": {cluster(3, 0, func(f *Facts) { maintained(f, "online", "maintenance") }), Options{Empty: true, Coming: true}, map[string]string{
			Guests: "its maintenance is not in effect: the HA manager has it as online",
		}},
		"and brings a guest": {cluster(3, 0, func(f *Facts) {
			maintained(f, "online", "active")
			f.HA.Manager.Services["vm:100"] = ha.Service{Node: "pve1", State: "migrate", Target: "pve2"}
		}), Options{Empty: true, Coming: true}, map[string]string{Guests: "the HA manager moves vm:100 to it"}},
		"a node was told to restart": {cluster(5, 0, func(f *Facts) { restarts(&f.States[3], 12*time.Second) }), Options{}, map[string]string{Others: "pve4 is about to go down: run 01OTHER told it to restart 12s ago"}},
		"by this run":                {cluster(5, 0, func(f *Facts) { restarts(&f.States[3], 12*time.Second) }), away("pve4"), nil},
		"and did not, long ago":      {cluster(5, 0, func(f *Facts) { restarts(&f.States[3], time.Hour) }), Options{}, nil},
		"and has": {cluster(5, 0, func(f *Facts) {
			restarts(&f.States[3], 12*time.Second)
			f.States[3].BootID = "new"
		}), Options{}, nil},
		"a node does not answer":   {cluster(5, 0, func(f *Facts) { f.States[3].Err = fmt.Errorf("timed out") }), Options{}, map[string]string{Others: "pve4 is not answering", Quorum: "pve4 does not answer: timed out"}},
		"corosync does not answer": {cluster(3, 0, func(f *Facts) { f.States[0].Quorum = nil }), Options{}, map[string]string{Quorum: "corosync does not answer on pve1"}},
		"they do not agree": {cluster(3, 0, func(f *Facts) {
			f.States[2].Quorum.Total = 2
			f.States[2].Quorum.Members = f.States[2].Quorum.Members[1:]
		}), Options{}, map[string]string{Quorum: "pve1 counts 3 of 3 votes from 3 nodes, pve3 2 of 3 from 2"}},
		"somebody lowered the votes": {cluster(3, 0, func(f *Facts) { gone(f, 3); f.States[0].Quorum.Expected, f.States[0].Quorum.Quorum = 1, 1 }), Options{Tolerate: []string{"pve3"}}, map[string]string{Quorum: "1 of 1 votes stay without pve2, 2 are needed"}},
		"a link is down":             {cluster(3, 0, func(f *Facts) { f.States[0].Links[1].Connected = false }), Options{}, map[string]string{Links: "link 0 from pve1 to pve3 is down"}},
		"its own link is down":       {cluster(3, 0, func(f *Facts) { f.States[0].Links[0].Connected = false }), Options{}, nil},
		"links are not told":         {cluster(3, 0, func(f *Facts) { f.States[0].Links = nil }), Options{}, map[string]string{Links: "pve1 tells nothing of its links to pve3"}},
		"HA is not known":            {cluster(3, 0, func(f *Facts) { f.HA = nil }), Options{}, map[string]string{HA: "no quorate node could tell", Others: "no quorate node could tell"}},
		"a guest is recovered": {cluster(3, 0, func(f *Facts) {
			f.HA.Manager = &ha.Manager{Time: f.HA.Now, Services: map[string]ha.Service{"vm:100": {Node: "pve1", State: "recovery"}}}
		}), Options{}, map[string]string{HA: "vm:100 is in state recovery on pve1"}},
		"a dead master": {cluster(3, 0, func(f *Facts) {
			f.HA.Resources = []ha.Resource{{SID: "vm:100"}}
			f.HA.Manager = &ha.Manager{Master: "pve1", Time: f.HA.Now.Add(-5 * time.Minute)}
		}), Options{}, map[string]string{HA: "the HA master pve1 has not written for 5m0s"}},
		"a dead master, read where the clock lags": {cluster(3, 0, func(f *Facts) {
			f.HA.Resources = []ha.Resource{{SID: "vm:100"}}
			f.HA.Manager = &ha.Manager{Master: "pve1", Time: f.HA.Now.Add(-5 * time.Second)}
			f.Clocks = map[string]time.Time{"pve1": f.HA.Now.Add(5 * time.Minute), "pve3": f.HA.Now}
		}), Options{}, map[string]string{HA: "the HA master pve1 has not written for 5m5s"}},
		"a dead master that tells no time": {cluster(3, 0, func(f *Facts) {
			f.HA.Resources = []ha.Resource{{SID: "vm:100"}}
			f.HA.Manager = &ha.Manager{Master: "pve2", Time: f.HA.Now}
			f.Clocks = map[string]time.Time{"pve1": f.HA.Now.Add(5 * time.Minute), "pve3": f.HA.Now}
		}), Options{}, map[string]string{HA: "the HA master pve2 has not written for 5m0s"}},
		"a master whose clock lags, and which writes": {cluster(3, 0, func(f *Facts) {
			f.HA.Resources = []ha.Resource{{SID: "vm:100"}}
			f.HA.Manager = &ha.Manager{Master: "pve1", Time: f.HA.Now.Add(-10*time.Minute - 5*time.Second)}
			f.Clocks = map[string]time.Time{"pve1": f.HA.Now.Add(-10 * time.Minute)}
		}), Options{}, nil},
		"a master whose clock was set back": {cluster(3, 0, func(f *Facts) {
			f.HA.Resources = []ha.Resource{{SID: "vm:100"}}
			f.HA.Manager = &ha.Manager{Master: "pve1", Time: f.HA.Now}
			f.Clocks = map[string]time.Time{"pve1": f.HA.Now.Add(-10 * time.Minute)}
		}), Options{}, map[string]string{HA: "the HA master pve1 has last written 10m0s in the future of its node's clock"}},
		"a dead HA agent with guests": {cluster(3, 0, func(f *Facts) {
			f.HA.Manager = &ha.Manager{Master: "pve1", Time: f.HA.Now, Services: map[string]ha.Service{"vm:100": {Node: "pve3", State: "started"}}}
			f.HA.LRMs["pve3"] = ha.LRM{State: "active", Mode: "active", Time: f.HA.Now.Add(-2 * time.Second)}
			f.Clocks = map[string]time.Time{"pve1": f.HA.Now, "pve3": f.HA.Now.Add(2 * time.Minute)}
		}), Options{}, map[string]string{HA: "the HA agent of pve3 has not written for 2m2s"}},
		"and that is ignored": {cluster(3, 0, func(f *Facts) {
			f.HA.Resources = []ha.Resource{{SID: "vm:100"}}
			f.HA.Manager = &ha.Manager{Master: "pve1", Time: f.HA.Now.Add(-5 * time.Minute)}
		}), Options{Ignore: []string{HA}}, nil},
		"tasks are not known":  {cluster(3, 0, func(f *Facts) { f.WorkersErr = fmt.Errorf("no answer") }), Options{}, map[string]string{Tasks: "no answer"}},
		"a backup":             {cluster(3, 0, func(f *Facts) { f.Workers = []Worker{{Node: "pve2", Type: "vzdump", ID: "100"}} }), Options{}, map[string]string{Tasks: "in progress: vzdump 100 on pve2"}},
		"a console":            {cluster(3, 0, func(f *Facts) { f.Workers = []Worker{{Node: "pve2", Type: "vncproxy", ID: "100"}} }), Options{}, nil},
		"guests are not known": {cluster(3, 0, func(f *Facts) { f.RunningErr = fmt.Errorf("no answer") }), Options{Empty: true}, map[string]string{Guests: "no answer"}},
		"guests":               {cluster(3, 0, func(f *Facts) { f.Running = map[int]guest.Kind{100: guest.VM, 101: guest.CT} }), Options{Empty: true, Stay: []string{"ct:101"}}, map[string]string{Guests: "vm:100 running on it"}},
		"a node for itself":    {cluster(1, 0, func(f *Facts) { f.Node = "pve1" }), Options{Empty: true}, nil},
		"nobody answers": {cluster(3, 0, func(f *Facts) {
			for i := range f.States {
				f.States[i] = pve.NodeState{Host: f.States[i].Host, Err: fmt.Errorf("away")}
			}
		}), Options{}, map[string]string{Quorum: "no node of the cluster could tell"}},
		"Ceph is silent": {cluster(3, 0, func(f *Facts) { f.Ceph = &CephFacts{Silence: "no answer within 15 s"} }), Options{Ignore: Ignorable}, map[string]string{Ceph: "no answer within 15 s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := Judge(test.facts, test.o)
			got := map[string]string{}
			for _, v := range j.Verdicts {
				if !v.OK && v.Reading.Override == "" {
					got[v.Gate] = v.Saw
					require.NotEmpty(t, v.Want, v.Gate)
					require.NotEmpty(t, v.Look, v.Gate)
				}
			}
			require.Len(t, got, len(test.want), "%v", got)
			for gate, part := range test.want {
				require.Contains(t, got[gate], part)
			}
			require.Len(t, j.Refusals("restart pve2"), len(got))
		})
	}
}

// cephSays is the script's output about a cluster that is well.
func cephSays(change func(parts map[string]string)) string {
	parts := map[string]string{
		"status": `{"health":{"status":"HEALTH_OK","checks":{}},"quorum_names":["pve1","pve2","pve3"],"monmap":{"num_mons":3},"pgmap":{"pgs_by_state":[{"state_name":"active+clean","count":33}],"num_pgs":33},"mgrmap":{"available":true}}`,
		"dump":   `{"flags_set":["sortbitwise","recovery_deletes"],"crush_node_flags":{},"osds":[{"osd":0,"up":1,"in":1,"state":["exists","up"]},{"osd":1,"up":1,"in":1,"state":["exists","up"]},{"osd":2,"up":1,"in":1,"state":["exists","up"]}]}`,
		"mons":   "dumped monmap epoch 3\n" + `{"mons":[{"name":"pve1"},{"name":"pve2"},{"name":"pve3"}]}`,
		"state":  "", "tree": `{"nodes":[{"id":-1,"name":"default","type":"root","children":[-2,-3,-4]},` + hostNode(-2, "pve1", 0) + "," + hostNode(-3, "pve2", 1) + "," + hostNode(-4, "pve3", 2) + `]}`,
		"metadata":  `[{"id":0,"hostname":"pve1"},{"id":1,"hostname":"pve2"},{"id":2,"hostname":"pve3"}]`,
		"asked osd": "1", "osd stop": "{\"ok_to_stop\":true}\nexit 0", "asked mon": "pve2", "mon stop": "exit 0", "end": "",
	}
	if change != nil {
		change(parts)
	}
	var b strings.Builder
	for _, name := range []string{"status", "dump", "tree", "metadata", "mons", "error", "state", "asked osd", "osd stop", "asked mon", "mon stop", "end"} {
		if body, ok := parts[name]; ok {
			fmt.Fprintf(&b, "\n#%s\n%s\n", name, body)
		}
	}
	return b.String()
}

// An override is recorded where it was needed, and only there.
func TestOverridesThatWereNeeded(t *testing.T) {
	t.Parallel()
	all := Options{Tolerate: []string{"pve4"}, CephAccept: []string{"POOL_FULL"}, Ignore: Ignorable}
	used := func(f Facts, o Options) map[string]string {
		out := map[string]string{}
		j := Judge(f, o)
		require.Empty(t, j.Refusals("restart pve2"))
		for _, v := range j.Verdicts {
			if v.Reading.Override != "" {
				require.False(t, v.OK, v.Gate)
				out[v.Gate] = v.Reading.Override + ": " + v.Saw
			}
		}
		return out
	}
	well := ParseCeph([]byte(cephSays(nil)), 0)
	require.Empty(t, used(cluster(5, 0, func(f *Facts) { f.Ceph = &well }), all))
	full := ParseCeph([]byte(cephSays(func(p map[string]string) {
		p["status"] = strings.Replace(p["status"], `"status":"HEALTH_OK","checks":{}`, `"status":"HEALTH_WARN","checks":{"POOL_FULL":{"severity":"HEALTH_WARN","summary":{"message":"1 pool(s) full"}}}`, 1)
	})), 0)
	require.Equal(t, map[string]string{
		Others: `tolerate = ["pve4"]: pve4 is down`, Ceph: `ceph_accept = ["POOL_FULL"]: POOL_FULL: 1 pool(s) full`, Tasks: `ignore = ["tasks"]: in progress: vzdump 100 on pve2`,
	}, used(cluster(5, 0, func(f *Facts) {
		gone(f, 4)
		f.Ceph = &full
		f.Workers = []Worker{{Node: "pve2", Type: "vzdump", ID: "100"}}
	}), all))
	require.EqualError(t, CheckIgnore([]string{"ha", "task"}), `"task": it is no gate that can be ignored; those that can: others, links, ha, tasks, ceph_flags`)
}

// hostNode is a host of the CRUSH map with one OSD.
func hostNode(id int, name string, osd int) string {
	return fmt.Sprintf(`{"id":%d,"name":%q,"type":"host","children":[%d]},{"id":%d,"name":"osd.%d","type":"osd"}`, id, name, osd, osd, osd)
}

func TestGatesOfCeph(t *testing.T) {
	t.Parallel()
	check := func(name, message string) func(map[string]string) {
		return func(p map[string]string) {
			p["status"] = strings.Replace(p["status"], `"status":"HEALTH_OK","checks":{}`, `"status":"HEALTH_WARN","checks":{"`+name+`":{"severity":"HEALTH_WARN","summary":{"message":"`+message+`"}}}`, 1)
		}
	}
	down := func(p map[string]string) { // pve3 with osd.2 and its monitor
		p["dump"] = strings.Replace(p["dump"], `{"osd":2,"up":1,`, `{"osd":2,"up":0,`, 1)
		p["status"] = strings.NewReplacer(`"pve2","pve3"]`, `"pve2"]`, "active+clean", "active+undersized+degraded").Replace(p["status"])
		check("OSD_DOWN", "1 osds down")(p)
	}
	for name, test := range map[string]struct {
		out  string
		exit int
		o    Options
		want map[string]string
	}{
		"well":               {out: cephSays(nil)},
		"a harmless warning": {out: cephSays(check("PG_NOT_SCRUBBED", "3 pgs not scrubbed"))},
		"another":            {out: cephSays(check("POOL_FULL", "1 pool(s) full")), want: map[string]string{Ceph: "POOL_FULL: 1 pool(s) full"}},
		"that is accepted":   {out: cephSays(check("POOL_FULL", "1 pool(s) full")), o: Options{CephAccept: []string{"POOL_FULL"}}},
		"not clean": {out: cephSays(func(p map[string]string) {
			p["status"] = strings.Replace(p["status"], "active+clean", "active+recovering", 1)
		}), want: map[string]string{Ceph: "33 active+recovering"}},
		"no manager": {out: cephSays(func(p map[string]string) {
			p["status"] = strings.Replace(p["status"], `"available":true`, `"available":false`, 1)
		}), want: map[string]string{Ceph: "no manager is active"}},
		"a monitor is out":   {out: cephSays(func(p map[string]string) { p["status"] = strings.Replace(p["status"], `"pve2","pve3"]`, `"pve2"]`, 1) }), want: map[string]string{Ceph: "monitor pve3 is not in quorum"}},
		"a node is down":     {out: cephSays(down), want: map[string]string{Ceph: "OSD_DOWN"}},
		"which is under way": {out: cephSays(down), o: Options{Away: []string{"pve3"}}},
		"which is under way, in a bucket of another name": {out: cephSays(func(p map[string]string) {
			down(p)
			p["tree"] = strings.Replace(p["tree"], `"pve3"`, `"hdd-of-row-4"`, 1)
		}), o: Options{Away: []string{"pve3"}}},
		"another in the bucket of the one that is under way": {out: cephSays(func(p map[string]string) {
			down(p)
			p["metadata"] = strings.Replace(p["metadata"], `"pve3"`, `"pve1"`, 1)
		}), o: Options{Away: []string{"pve3"}}, want: map[string]string{Ceph: "OSD_DOWN"}},
		"another is under way": {out: cephSays(down), o: Options{Away: []string{"pve1"}}, want: map[string]string{Ceph: "OSD_DOWN"}},
		"noout of somebody": {out: cephSays(func(p map[string]string) {
			p["dump"] = strings.Replace(p["dump"], `"crush_node_flags":{}`, `"crush_node_flags":{"pve2":["noout"]}`, 1)
		}), want: map[string]string{CephFlags: "set: noout on pve2"}},
		"noout of this run": {out: cephSays(func(p map[string]string) {
			p["dump"] = strings.Replace(p["dump"], `"crush_node_flags":{}`, `"crush_node_flags":{"pve2":["noout"]}`, 1)
		}), o: Options{Noout: []string{"pve2"}}},
		"noout of this run, for a bucket of another name": {out: cephSays(func(p map[string]string) {
			p["tree"] = strings.Replace(p["tree"], `"pve2"`, `"hdd-of-row-4"`, 1)
			p["dump"] = strings.Replace(p["dump"], `"crush_node_flags":{}`, `"crush_node_flags":{"hdd-of-row-4":["noout"]}`, 1)
		}), o: Options{Noout: []string{"hdd-of-row-4"}}},
		"noout for such a bucket of a node that is under way": {out: cephSays(func(p map[string]string) {
			p["tree"] = strings.Replace(p["tree"], `"pve3"`, `"hdd-of-row-4"`, 1)
			p["dump"] = strings.Replace(p["dump"], `"crush_node_flags":{}`, `"crush_node_flags":{"hdd-of-row-4":["noout"]}`, 1)
		}), o: Options{Away: []string{"pve3"}}},
		"noout of somebody, on another bucket of the node": {out: cephSays(func(p map[string]string) {
			p["dump"] = strings.Replace(p["dump"], `"crush_node_flags":{}`, `"crush_node_flags":{"hdd-of-row-4":["noout"],"pve2":["noout"]}`, 1)
		}), o: Options{Noout: []string{"pve2"}}, want: map[string]string{CephFlags: "set: noout on hdd-of-row-4"}},
		"another flag": {out: cephSays(func(p map[string]string) {
			p["dump"] = strings.Replace(p["dump"], `"crush_node_flags":{}`, `"crush_node_flags":{"pve2":["noout","noin"]}`, 1)
		}), o: Options{Noout: []string{"pve2"}}, want: map[string]string{CephFlags: "set: noin on pve2"}},
		"a flag of the cluster": {out: cephSays(func(p map[string]string) {
			p["dump"] = strings.Replace(p["dump"], `"recovery_deletes"`, `"recovery_deletes","noout"`, 1)
		}), o: Options{Noout: []string{"pve2"}}, want: map[string]string{CephFlags: "set: noout"}},
		"a flag of an OSD": {out: cephSays(func(p map[string]string) {
			p["dump"] = strings.Replace(p["dump"], `["exists","up"]`, `["exists","up","noout"]`, 1)
		}), want: map[string]string{CephFlags: "noout on osd.0"}},
		"it would stop data": {out: cephSays(func(p map[string]string) {
			p["osd stop"] = "{\"ok_to_stop\":false}\nError EBUSY: unsafe to stop osd(s) at this time (12 PGs are or would become offline)\nexit 16"
		}), want: map[string]string{CephStop: "Error EBUSY: unsafe to stop osd(s) at this time (12 PGs are or would become offline)"}},
		"it would stop monitors": {out: cephSays(func(p map[string]string) {
			p["mon stop"] = "Error EBUSY: not enough monitors would be available (pve1)\nexit 16"
		}), want: map[string]string{CephStop: "ceph mon ok-to-stop pve2: Error EBUSY"}},
		"no word on OSDs":           {out: cephSays(func(p map[string]string) { p["osd stop"] = "exit 124" }), want: map[string]string{CephStop: "no answer within 15 s"}},
		"OSDs were not asked about": {out: cephSays(func(p map[string]string) { delete(p, "osd stop") }), want: map[string]string{CephStop: "it was not asked"}},
		"no daemons on the node": {out: cephSays(func(p map[string]string) {
			p["asked osd"], p["asked mon"] = "", ""
			delete(p, "osd stop")
			delete(p, "mon stop")
		})},
		"cut off":             {out: cephSays(func(p map[string]string) { delete(p, "end") }), want: map[string]string{Ceph: "Ceph does not answer"}},
		"cut off before that": {out: cephSays(func(p map[string]string) { delete(p, "state") }), want: map[string]string{Ceph: "Ceph does not answer"}},
		"nothing":             {exit: 1, want: map[string]string{Ceph: "Ceph does not answer"}},
		"an error":            {out: "\n#status\nError connecting to cluster: TimedOut\n", exit: 1, want: map[string]string{Ceph: "Ceph does not answer (status): Error connecting to cluster: TimedOut"}},
		"no sense":            {out: cephSays(func(p map[string]string) { p["dump"] = "{" }), want: map[string]string{Ceph: "Ceph's answer makes no sense"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := ParseCeph([]byte(test.out), test.exit)
			f := cluster(5, 0, func(f *Facts) { f.Ceph = &c })
			got := map[string]string{}
			for _, v := range Judge(f, test.o).Verdicts {
				if !v.OK && v.Reading.Override == "" {
					got[v.Gate] = v.Saw
				}
			}
			require.Len(t, got, len(test.want), "%v", got)
			for gate, part := range test.want {
				require.Contains(t, got[gate], part)
			}
		})
	}
}

func FuzzParseCeph(f *testing.F) {
	f.Add([]byte(cephSays(nil)), 0)
	f.Add([]byte("\n#status\n{}\n#end\n"), 0)
	f.Fuzz(func(t *testing.T, out []byte, exit int) {
		c := ParseCeph(out, exit)
		facts := cluster(3, 0, func(f *Facts) { f.Ceph = &c })
		if exit != 0 && len(Judge(facts, Options{Ignore: Ignorable}).Refusals("x")) == 0 {
			t.Error("a script that failed lets pass")
		}
		_ = Well(facts, WellOptions{})
	})
}

func TestRunningTasks(t *testing.T) {
	t.Parallel()
	stat := func(start string) string { return "S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 " + start + " 0 0" }
	text := "UPID:pve2:0003A1B2:0112C4D5:6740ADF3:qmigrate:100:root@pam: " + stat("18007253") + "\n" +
		"to node 'pve3\n" +
		"UPID:pve2:0003A1B3:0112C4D5:6740ADF3:vzdump::root@pam: " + stat("18007253") + "\n" +
		"UPID:pve2:0003A1B4:0112C4D5:6740ADF3:qmstart:101:root@pam: " + stat("99") + "\n" + // the number is another process's
		"UPID:pve2:zz\n"
	got, err := parseWorkers("pve2", frame.Answer{Text: []byte(text)})
	require.NoError(t, err)
	require.Equal(t, []Worker{{Node: "pve2", Type: "qmigrate", ID: "100", To: "pve3"}, {Node: "pve2", Type: "vzdump"}}, got)
	require.Equal(t, "vzdump on pve2", got[1].String())
	_, err = parseWorkers("pve2", frame.Answer{RC: 124})
	require.Error(t, err)
}

func TestRunningReplication(t *testing.T) {
	t.Parallel()
	state := `{"100":{"local/pve2":{"pid":411,"ptime":"5","last_sync":1}},"101":{"local/pve1":{"pid":"412"},"local/pve2":{"last_sync":3}}}`
	for name, test := range map[string]struct {
		text string
		rc   int
		want []Worker
		err  string
	}{
		"none":            {},
		"nothing runs":    {text: state},
		"one of two runs": {text: state + "\n411\n", want: []Worker{{Node: "pve3", Type: "replication", ID: "100", To: "pve2"}}},
		"both":            {text: state + "\n411\n412\n", want: []Worker{{Node: "pve3", Type: "replication", ID: "100", To: "pve2"}, {Node: "pve3", Type: "replication", ID: "101", To: "pve1"}}},
		"no sense":        {text: "{\n411\n", err: "the state of replication makes no sense"},
		"no answer":       {rc: 124, err: "no answer within its time limit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseReplication("pve3", frame.Answer{Text: []byte(test.text), RC: test.rc})
			require.Equal(t, test.want, got)
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
		})
	}
}
