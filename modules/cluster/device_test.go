package cluster

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/stretchr/testify/require"
)

// deviceStates are members of a cluster whose QDevice is set up; change may alter them.
func deviceStates(n int, change func(conf *pve.CorosyncConf, states []pve.NodeState)) []pve.NodeState {
	conf := &pve.CorosyncConf{ClusterName: "lab", Version: 3, Device: &pve.ConfDevice{Model: "net", Host: "192.0.2.50", Algorithm: "ffsplit", Votes: 1}}
	names := []string{"pve1", "pve2", "pve3", "pve4"}[:n]
	members := &pve.Members{Cluster: &pve.MemberCluster{Name: "lab", Version: 3}}
	for i, name := range names {
		conf.Nodes = append(conf.Nodes, pve.ConfNode{Name: name, ID: i + 1, Votes: 1})
		members.Nodes = append(members.Nodes, pve.Member{Name: name, ID: i + 1, Online: true})
	}
	var states []pve.NodeState
	for i, name := range names {
		states = append(states, pve.NodeState{
			Host: name, Hostname: name, Mounted: true, Writable: true, ConfsEqual: true, Conf: conf, LocalConf: conf, Members: members,
			Packages: map[string]string{"corosync-qdevice": "3.0.3-2"}, Units: map[string]pve.Unit{"corosync-qdevice": {Load: "loaded", Active: "active", Enabled: "enabled"}},
			Quorum: &pve.QuorumStatus{Quorate: true, Expected: n + 1, Device: &pve.QuorumDevice{Votes: 1, Configured: 1}, Members: []pve.QuorumMember{{ID: i + 1, Local: true, QDevice: []string{"A", "V", "NMW"}}}},
		})
	}
	if change != nil {
		change(conf, states)
	}
	return states
}

func TestQDeviceDecisions(t *testing.T) {
	whole := &arbiterState{Host: "arbiter", UID: "0", Package: true, Unit: pve.Unit{Load: "loaded", Active: "active", Enabled: "enabled"}}
	tests := []struct {
		name    string
		n       int
		change  func(*pve.CorosyncConf, []pve.NodeState)
		replace bool
		want    string
		refused string
	}{
		{name: "as wanted", n: 2},
		{name: "another arbiter", n: 2, change: func(c *pve.CorosyncConf, _ []pve.NodeState) { c.Device.Host = "192.0.2.99" }, refused: "is on 192.0.2.99"},
		{name: "another arbiter, replaced", n: 2, replace: true, change: func(c *pve.CorosyncConf, _ []pve.NodeState) { c.Device.Host = "192.0.2.99" }, want: "qdevice-off pve1, qdevice-trust pve1, qdevice-on pve1"},
		{name: "the algorithm for odd numbers", n: 2, change: func(c *pve.CorosyncConf, _ []pve.NodeState) { c.Device.Algorithm, c.Device.Votes = "lms", 0 }, refused: "the algorithm lms and votes for all nodes but one"},
		{name: "odd, with a device", n: 3, refused: `ensure = "absent" takes the one off`},
		{name: "no package on one node", n: 2, change: func(_ *pve.CorosyncConf, s []pve.NodeState) {
			s[1].Packages, s[1].Units = nil, map[string]pve.Unit{"corosync-qdevice": {Load: "not-found", Active: "inactive"}}
		}, want: "install pve2, qdevice-daemon pve2, qdevice-votes pve1"},
		{name: "not started at boot", n: 4, change: func(_ *pve.CorosyncConf, s []pve.NodeState) {
			s[3].Units["corosync-qdevice"] = pve.Unit{Load: "loaded", Active: "active", Enabled: "disabled"}
		}, want: "qdevice-daemon pve4, qdevice-votes pve1"},
		{name: "a note of a run that was cut off", n: 2, change: func(_ *pve.CorosyncConf, s []pve.NodeState) { s[0].QDeviceNote = []byte(`{"host":"192.0.2.50"}`) }, want: "qdevice-forget pve1"},
		{name: "none, and certificates of an earlier one", n: 2, change: func(c *pve.CorosyncConf, s []pve.NodeState) { c.Device = nil; s[1].DeviceStore = true }, want: "qdevice-trust pve1, qdevice-clean pve2, qdevice-on pve1"},
		{name: "none, and a node without quorum", n: 2, change: func(c *pve.CorosyncConf, s []pve.NodeState) { c.Device = nil; s[1].Writable = false }, refused: "not quorate here"},
		{name: "none, and two configurations", n: 2, change: func(c *pve.CorosyncConf, s []pve.NodeState) { c.Device = nil; s[1].ConfsEqual = false }, refused: "one configuration on all members"},
		{name: "none, and a pmxcfs that hangs", n: 2, change: func(c *pve.CorosyncConf, s []pve.NodeState) {
			c.Device = nil
			s[1].Unread = map[string]string{"members": "no answer"}
		}, refused: "no answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			states := deviceStates(tt.n, tt.change)
			v := &deviceView{args: qdeviceArgs{Replace: tt.replace}, cluster: "lab", states: states, members: states, conf: states[0].Conf, count: tt.n, address: "192.0.2.50", arbiter: whole}
			var got []string
			for _, s := range v.wanted() {
				got = append(got, string(s.kind)+" "+s.host)
			}
			if tt.refused != "" {
				require.NotEmpty(t, v.refusals)
				require.Contains(t, v.refusals.Error(), tt.refused)
				return
			}
			require.Empty(t, v.refusals)
			require.Equal(t, tt.want, strings.Join(got, ", "))
		})
	}
}

func TestVotesAreProvedOnEachNode(t *testing.T) {
	s := deviceStates(2, nil)[0]
	require.NoError(t, voteOf(s))
	for name, change := range map[string]func(*pve.QuorumStatus){
		`shows "NR"`:          func(q *pve.QuorumStatus) { q.Members[0].QDevice = []string{"NR"} },
		`shows "A,NV,NMW"`:    func(q *pve.QuorumStatus) { q.Members[0].QDevice = []string{"A", "NV", "NMW"} },
		"casts no vote":       func(q *pve.QuorumStatus) { q.Device.Votes = 0 },
		"it should be 3":      func(q *pve.QuorumStatus) { q.Expected = 2 },
		"the QDevice casts n": func(q *pve.QuorumStatus) { q.Device = nil },
	} {
		broken := deviceStates(2, nil)[0]
		change(broken.Quorum)
		require.ErrorContains(t, voteOf(broken), name)
	}
	s.Quorum = nil
	require.ErrorContains(t, voteOf(s), "corosync does not answer")
}

const arbiterAnswer = "@@n begin\n@@n uid\n0\n\n@@n rc 0\n@@n package\ncorosync-qnetd 3.0.3-2 installed\n\n@@n rc 0\n@@n unit\nId=corosync-qnetd.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n\n@@n rc 0\n" +
	"@@n sshd\nport 22\npermitrootlogin without-password\npubkeyauthentication yes\n\n@@n rc 0\n@@n hostkeys\nssh-ed25519 AAAA root@arbiter\n\n@@n rc 0\n@@n end\n"

func TestArbiterAnswers(t *testing.T) {
	a, err := parseArbiter("arbiter", []byte(arbiterAnswer))
	require.NoError(t, err)
	require.True(t, a.Package && a.Unit.Running())
	require.Equal(t, "without-password", a.RootBy)
	require.Len(t, a.HostKeys, 1)
	require.Nil(t, a.loginRefusal())
	for from, to := range map[string]string{
		"uid\n0\n": "uid\n1000\n", "permitrootlogin without-password": "permitrootlogin no", "pubkeyauthentication yes": "pubkeyauthentication no",
	} {
		a, err := parseArbiter("arbiter", []byte(strings.Replace(arbiterAnswer, from, to, 1)))
		require.NoError(t, err)
		require.NotNil(t, a.loginRefusal(), to)
	}
	// What sshd would say is not known: the login itself tells.
	a, err = parseArbiter("arbiter", []byte(strings.Replace(arbiterAnswer, "pubkeyauthentication yes\n\n@@n rc 0", "\n@@n rc 255", 1)))
	require.NoError(t, err)
	require.Nil(t, a.loginRefusal())
	_, err = parseArbiter("arbiter", []byte("@@n begin\n@@n uid"))
	require.Error(t, err)
}

func FuzzArbiter(f *testing.F) {
	f.Add([]byte(arbiterAnswer))
	f.Fuzz(func(t *testing.T, out []byte) {
		a, err := parseArbiter("arbiter", out)
		if err == nil && a.UID != "0" && a.loginRefusal() == nil {
			t.Errorf("an arbiter without root: %+v", a)
		}
	})
}
