package pve

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func data(t testing.TB, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	require.NoError(t, err)
	return text
}

func TestQuorumtoolShapes(t *testing.T) {
	local := QuorumMember{ID: 1, Votes: 1, Name: "10.77.0.1", Local: true}
	tests := map[string]QuorumStatus{
		"quorum-one.txt": {
			Nodes: 1, NodeID: 1, RingID: "1.5", Quorate: true, Expected: 1, Highest: 1, Total: 1, Quorum: 1, Flags: []string{"Quorate"},
			Members: []QuorumMember{{ID: 1, Votes: 1, Name: "pve1", Local: true}},
		},
		"quorum-blocked.txt": {
			Nodes: 1, NodeID: 1, RingID: "1.11", Expected: 3, Highest: 3, Total: 1, Quorum: 2, Blocked: true, Flags: []string{},
			Members: []QuorumMember{{ID: 1, Votes: 1, Name: "pve1", Local: true}},
		},
		"quorum-blocked-pvecm.txt": {
			Nodes: 1, NodeID: 1, RingID: "1.11", Expected: 3, Highest: 3, Total: 1, Quorum: 2, Blocked: true, Flags: []string{},
			Members: []QuorumMember{local},
		},
		"quorum-qdevice.txt": {
			Nodes: 2, NodeID: 1, RingID: "1.9", Quorate: true, Expected: 3, Highest: 3, Total: 3, Quorum: 2, Flags: []string{"Quorate", "Qdevice"},
			Members: []QuorumMember{
				{ID: 1, Votes: 1, Name: "10.77.0.1", Local: true, QDevice: []string{"A", "V", "NMW"}},
				{ID: 2, Votes: 1, Name: "10.77.0.2", QDevice: []string{"A", "V", "NMW"}},
			},
			Device: &QuorumDevice{Votes: 1, Configured: 1},
		},
		"quorum-qdevice-absent.txt": {
			Expected: 3, Highest: 3, Total: 2, Quorum: 2, Flags: []string{"Quorate", "Qdevice"},
			Members: []QuorumMember{
				{ID: 1, Votes: 1, Name: "10.77.0.1", Local: true, QDevice: []string{"A", "NV", "NMW"}},
				{ID: 2, Votes: 1, Name: "10.77.0.2", QDevice: []string{"A", "NV", "NMW"}},
			},
			Device: &QuorumDevice{Votes: 0, Configured: 1},
		},
		"quorum-unregistered.txt": {
			Expected: 2, Highest: 2, Total: 2, Quorum: 2, Flags: []string{"Quorate", "Qdevice"},
			Members: []QuorumMember{
				{ID: 2, Votes: 1, Name: "10.77.0.2", Local: true, QDevice: []string{"NA", "NV", "NMW"}},
				{ID: 3, Votes: 1, Name: "10.77.0.3", QDevice: []string{"NR"}},
			},
			Device: &QuorumDevice{},
		},
	}
	for file, want := range tests {
		t.Run(file, func(t *testing.T) {
			got, err := ParseQuorum(data(t, file))
			require.NoError(t, err)
			require.Equal(t, want, *got)
		})
	}
}

func TestQuorumtoolErrorIsAnError(t *testing.T) {
	_, err := ParseQuorum([]byte("Cannot initialize CMAP service\n"))
	require.ErrorContains(t, err, "Cannot initialize CMAP service")
}

func TestOnlyAliveAndVotingNodesCast(t *testing.T) {
	for flags, want := range map[string]bool{"quorum-qdevice.txt": true, "quorum-qdevice-absent.txt": false, "quorum-unregistered.txt": false} {
		q, err := ParseQuorum(data(t, flags))
		require.NoError(t, err)
		for _, m := range q.Members {
			require.Equal(t, want, m.Casting(), "%s node %d", flags, m.ID)
		}
	}
}

const twoLinks = `# made by hand
totem {
  cluster_name: lab
  config_version: 7
  token_coefficient: 125
  interface {
    linknumber: 0
    knet_link_priority: 20
  }
  interface {
    ringnumber: 1
  }
  new_option: of a later release
}
nodelist {
  node {
    name: pve2
    nodeid: 2
    quorum_votes: 1
    ring0_addr: 10.0.1.2   # first
    ring1_addr: 10.0.2.2
  }
  node {
    ring0_addr: 10.0.1.1
    ring1_addr: 10.0.2.1
    nodeid: 1
  }
}
quorum {
  provider: corosync_votequorum
  device {
    model: net
    votes: 1
    net {
      algorithm: ffsplit
      host: 10.0.0.250
    }
  }
}
`

func TestCorosyncConf(t *testing.T) {
	c, err := ParseCorosyncConf([]byte(twoLinks))
	require.NoError(t, err)
	require.Equal(t, "lab", c.ClusterName)
	require.Equal(t, 7, c.Version)
	require.Equal(t, map[int]int{0: 20}, c.LinkPriorities)
	require.Equal(t, []int{0, 1}, c.LinkNumbers())
	require.Equal(t, &ConfDevice{Model: "net", Host: "10.0.0.250", Algorithm: "ffsplit", Votes: 1}, c.Device)
	require.Equal(t, []ConfNode{
		{Name: "pve2", ID: 2, Votes: 1, Links: map[int]string{0: "10.0.1.2", 1: "10.0.2.2"}},
		{Name: "10.0.1.1", ID: 1, Links: map[int]string{0: "10.0.1.1", 1: "10.0.2.1"}},
	}, c.Nodes)
	require.Equal(t, "of a later release", c.Root.Sub("totem").Get("new_option"), "unknown settings are kept")
}

func TestCorosyncConfMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"totem {\n":                        `block "totem" is not closed`,
		"}\n":                              "line 1: } without a block",
		"totem {\n  config_version: x\n}":  `config_version "x" is not a number`,
		"just words\n":                     "neither a setting nor a block",
		"a b {\n}\n":                       "does not open a block",
		"\n\n  {\n}\n":                     "line 3",
		string(make([]byte, 2<<20)) + "\n": "too long",
	} {
		_, err := ParseCorosyncConf([]byte(text))
		require.ErrorContains(t, err, want)
	}
}

func TestMembers(t *testing.T) {
	m, err := ParseMembers(data(t, "members-offline.json"))
	require.NoError(t, err)
	require.Equal(t, "pve1", m.NodeName)
	require.Equal(t, &MemberCluster{Name: "lab", Version: 3, Nodes: 3}, m.Cluster)
	require.Equal(t, []Member{
		{Name: "pve1", ID: 1, Online: true, IP: "10.77.0.1"}, {Name: "pve2", ID: 2, IP: "10.77.0.2"}, {Name: "pve3", ID: 3, IP: "10.77.0.3"},
	}, m.Nodes)
	require.True(t, m.Online("pve1"))
	require.False(t, m.Online("pve2"))
	require.False(t, m.Online("pve9"))
	var none *Members
	require.False(t, none.Online("pve1"))

	alone, err := ParseMembers([]byte(`{"nodename": "pve1", "version": 0}`))
	require.NoError(t, err)
	require.Nil(t, alone.Cluster)
}

func TestGuests(t *testing.T) {
	guests, err := ParseGuests(data(t, "vmlist-one.json"))
	require.NoError(t, err)
	require.Equal(t, []Guest{{ID: "100", Node: "pve2", Type: "qemu"}}, guests)
	none, err := ParseGuests([]byte("{\n\"version\": 1\n\n}"))
	require.NoError(t, err)
	require.Empty(t, none)

	written := "{\n\"version\": 7,\n\"ids\": {\n\"1001\": { \"node\": \"pve1\", \"type\": \"lxc\", \"version\": 4 },\n\"200\": { \"node\": \"pve-2\", \"type\": \"qemu\", \"version\": 6 }}\n\n}\n"
	want := []Guest{{ID: "200", Node: "pve-2", Type: "qemu"}, {ID: "1001", Node: "pve1", Type: "lxc"}}
	_, ok := guestLines(written)
	require.True(t, ok, "as pmxcfs writes it")
	for _, text := range []string{written, strings.ReplaceAll(written, "\n", ""), strings.Replace(written, "pve1", `pve\u0031`, 1)} {
		guests, err := ParseGuests([]byte(text))
		require.NoError(t, err)
		require.Equal(t, want, guests)
	}
	_, err = ParseGuests([]byte(strings.Replace(written, "lxc", "l\nxc", 1)))
	require.Error(t, err)
}

func TestLinks(t *testing.T) {
	want := []PeerLink{
		{NodeID: 2, Local: "10.77.0.1", Remote: "10.77.0.2", Enabled: true, Connected: true, MTU: 1397},
		{NodeID: 3, Local: "10.77.0.1", Remote: "10.77.0.3", Enabled: true, Connected: true, MTU: 1397},
	}
	require.Equal(t, want, ParseLinks(data(t, "cfgtool-n.txt")))
	require.Equal(t, []PeerLink{{NodeID: 2, Link: 1, Local: "10.0.2.1", Remote: "10.0.2.2", Enabled: true}},
		ParseLinks([]byte("Local node ID 1, transport knet\nnodeid: 2 reachable   onwire (min/max/cur): 0, 1, 1\n   LINK: 1 udp (10.0.2.1->10.0.2.2) enabled\n")))
}

func TestSmallReads(t *testing.T) {
	tracking, err := ParseTracking([]byte("C0000201,192.0.2.1,3,1732291000.1,-0.061000000,0.0001,0.0002,1.5,0.1,0.2,0.01,0.001,64.2,Normal\n"))
	require.NoError(t, err)
	require.Equal(t, Tracking{Synced: true, Offset: -61 * time.Millisecond}, tracking)
	tracking, err = ParseTracking([]byte("C0000201,a-time-server-with-a-long-name.in-a-long-domain.example.com,3,1732291000.123456789,-0.061000000,0.000100000,0.000200000,1.500,0.100,0.200,0.010000000,0.001000000,64.2,Normal\n"))
	require.NoError(t, err)
	require.True(t, tracking.Synced)
	_, err = ParseTracking([]byte("506 Cannot talk to daemon\n"))
	require.ErrorContains(t, err, "506 Cannot talk to daemon")

	require.Equal(t, OSRelease{ID: "debian", Version: "13", Codename: "trixie", Name: "Debian GNU/Linux 13 (trixie)"},
		ParseOSRelease([]byte("PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\nVERSION_CODENAME=trixie\nID=debian\nHOME_URL=https://example.org/?a=b\n")))
}

func TestSnapshotOfAMember(t *testing.T) {
	s := ParseNode("one", data(t, "snapshot-member.txt"))
	require.NoError(t, s.Err)
	require.Empty(t, s.Unread)
	require.Equal(t, "pve1", s.Hostname)
	require.Equal(t, "pve1.lab.local", s.FQDN)
	require.Zero(t, s.UID)
	require.Equal(t, "9.1.8", s.Version())
	require.Equal(t, "lab", s.ClusterName())
	require.Equal(t, time.Unix(1795302507, 442591320), s.Time)
	require.True(t, s.Mounted)
	require.True(t, s.Writable)
	require.True(t, s.ConfsEqual)
	require.True(t, s.Authkey)
	require.False(t, s.Joining)
	require.Nil(t, s.Tracking, "chrony does not run there")
	require.Equal(t, []string{"pve1", "pve2", "pve3"}, s.Certs)
	require.Equal(t, []string{"pve1", "pve2", "pve3"}, s.Conf.Names())
	require.Equal(t, 3, s.Quorum.Total)
	require.Len(t, s.Links, 2, "the loopback of the statistics is no link")
	require.Equal(t, 129*time.Microsecond, s.Links[0].RTT)
	require.True(t, s.Units["pve-cluster"].Running())
	require.False(t, s.Units["corosync-qdevice"].Running())
	require.Len(t, s.AuthorizedKeys, 2)
	addr, ok := s.HostnameAddr()
	require.True(t, ok)
	require.Equal(t, netip.MustParseAddr("10.77.0.1"), addr)
	require.True(t, s.HasAddress(addr))
	require.Equal(t, PhaseMember, ClassifyJoin("lab", s, nil).Phase)
}

func TestSnapshotThatIsCut(t *testing.T) {
	whole := data(t, "snapshot-member.txt")
	for _, n := range []int{0, 10, 200, len(whole) / 2, len(whole) - 3} {
		s := ParseNode("pve1", whole[:n])
		require.ErrorContains(t, s.Err, "read the state of pve1", "%d bytes", n)
		require.Equal(t, PhaseUnknown, ClassifyJoin("lab", s, nil).Phase)
	}
}

func TestSnapshotAfterABanner(t *testing.T) {
	s := ParseNode("pve1", append([]byte("Welcome!\n@@ not a marker\n"), data(t, "snapshot-member.txt")...))
	require.NoError(t, s.Err)
	require.Equal(t, "pve1", s.Hostname)
}

func TestSnapshotOfAHangingPmxcfs(t *testing.T) {
	s := ParseNode("pve1", []byte("@@n begin\n@@n id\nuid 0\nhostname pve1\n\n@@n rc 0\n@@n pmxcfs\n\n@@n rc 124\n@@n conf\n\n@@n rc 137\n@@n members\ncat: /etc/pve/.members: Transport endpoint is not connected\n\n@@n rc 1\n@@n end\n"))
	require.NoError(t, s.Err)
	require.Equal(t, map[string]string{
		"pmxcfs": "no answer within its time limit", "conf": "no answer within its time limit",
		"members": "cat: /etc/pve/.members: Transport endpoint is not connected",
	}, s.Unread)
	require.Equal(t, PhaseUnknown, ClassifyJoin("lab", s, nil).Phase, "what cannot be read proves nothing")
}

func TestNames(t *testing.T) {
	require.NoError(t, CheckClusterName("lab-1"))
	require.ErrorContains(t, CheckClusterName("a-name-of-sixteen"), "allows 15")
	require.ErrorContains(t, CheckClusterName("my_lab"), "letters, digits and inner hyphens")
	require.NoError(t, CheckNodeName("pve1"))
	require.Error(t, CheckNodeName("-pve"))
	require.Error(t, CheckNodeName("pve1.example.org"))
	require.Error(t, CheckNodeName(""))
}

func TestVersions(t *testing.T) {
	require.Equal(t, 9, Major("9.1.4"))
	require.Equal(t, 0, Major("sid"))
	inOrder := []string{"", "8.4~rc1", "8.4", "8.4.1", "8.4.10", "9.0~", "9.0", "9.1.2-1", "9.1.2-1+deb13u1", "10"}
	for i := range inOrder {
		for j := range inOrder {
			got := CompareVersions(inOrder[i], inOrder[j])
			require.Equal(t, sign(i-j), sign(got), "%q against %q", inOrder[i], inOrder[j])
		}
	}
}

func sign(n int) int { return max(-1, min(1, n)) }

func TestJoinOutput(t *testing.T) {
	ok := string(data(t, "add-ok.txt"))
	require.True(t, JoinSucceeded(ok, "pve2"))
	require.False(t, JoinSucceeded(ok, "pve3"))
	require.False(t, JoinSucceeded(ok[:len(ok)-20], "pve2"))
	require.Equal(t, "* authentication key '/etc/corosync/authkey' already exists; * cluster config '/etc/pve/corosync.conf' already exists; "+
		"* corosync is already running, is this node already in a cluster?!; Check if node may join a cluster failed!",
		JoinFailure(string(data(t, "add-refused.txt")), "Check if node may join a cluster failed!\n"))
	require.Equal(t, "it ended after: waiting for quorum...", JoinFailure("stopping pve-cluster service\nwaiting for quorum...", ""))
	require.Equal(t, "it ended without a word", JoinFailure("", ""))
}
