package network

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/hardware"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func bonded(s *lab.Spec) {
	for i := range s.Hosts {
		s.Hosts[i].Bonds = []hardware.Bond{{Name: "bond0", Mode: "802.3ad", Members: []string{"eno1", "eno2"}}}
	}
}

const wantBond = "bond \"bond0\" {\n mode = \"802.3ad\"\n members = [\"eno2\", \"eno1\"]\n}\nmin_speed = 10000"

func TestLabNetworkThatIsFine(t *testing.T) {
	t.Parallel()
	target := labkit.New(t, 3, bonded)
	require.Empty(t, target.Converge(networkCheck(), wantBond), "also before there is a cluster")
	target.Form()
	require.Empty(t, target.Converge(networkCheck(), wantBond))
	require.Empty(t, target.Warnings())
	out, err := networkCheck().Read(t.Context(), target, testkit.Args(t, networkCheck(), wantBond))
	require.NoError(t, err)
	o := out.(networkCheckOut)
	require.Len(t, o.Links, 12, "three nodes, two links, both ways")
	require.Zero(t, o.Lost)
	require.Contains(t, o.Bonds, "pve2 bond0: 802.3ad, eno1 10000 Mbit/s, eno2 10000 Mbit/s")
}

func TestLabNetworkThatIsNot(t *testing.T) {
	target := labkit.New(t, 3, bonded)
	target.Form()
	for _, tt := range []struct {
		name  string
		fault lab.Fault
		args  string
		want  string
	}{
		{"a link down", lab.Fault{Kind: "link-down", Target: "pve3", Value: "10.0.2.3"}, "", "pve3 on link 1 (10.0.2.3) does not answer from 10.0.2.1"},
		{"small packets", lab.Fault{Kind: "mtu", Target: "10.0.2.3", Value: "1400"}, "", "packets of 1500 bytes do not get from 10.0.2.1 to 10.0.2.3 (pve3, link 1) whole"},
		{"far away", lab.Fault{Kind: "rtt", Target: "10.0.2.3", Value: "7ms"}, "", "on link 1 (10.0.2.3) is"},
		{"a bond member", lab.Fault{Kind: "bond-member", Target: "pve2", Value: "eno2"}, wantBond, "bond0: eno2 has no link"},
		{"another mode", lab.Fault{}, "bond \"bond0\" {\n mode = \"active-backup\"\n}", "bond0: the mode is 802.3ad"},
		{"no bond", lab.Fault{}, "bond \"bond1\" {\n mode = \"active-backup\"\n}", "there is no bond bond1"},
		{"slow cards", lab.Fault{}, "bond \"bond0\" {\n mode = \"802.3ad\"\n}\nmin_speed = 25000", "eno1 has 10000 Mbit/s"},
		{"jumbo frames wanted", lab.Fault{}, "mtu = 9000", "packets of 9000 bytes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.fault.Kind != "" {
				id, err := target.Lab.AddFault(tt.fault)
				require.NoError(t, err)
				defer func() { require.NoError(t, target.Lab.ClearFault(id)) }()
			}
			_, err := target.Plan(networkCheck(), tt.args+"\nduration = \"1s\"")
			var refusals module.Refusals
			require.ErrorAs(t, err, &refusals)
			require.ErrorContains(t, err, tt.want)
		})
	}
	// A bond of which nobody said how it shall be only warns, and only some links are looked at if that is said.
	target.Fault(lab.Fault{Kind: "bond-member", Target: "pve2", Value: "eno1"})
	target.Fault(lab.Fault{Kind: "link-down", Target: "pve3", Value: "10.0.2.3"})
	_, err := target.Plan(networkCheck(), "links = [0]\nduration = \"1s\"")
	require.NoError(t, err)
	require.Contains(t, strings.Join(target.Warnings(), "\n"), "pve2: bond0: eno1 has no link")
}

// What corosync loses while it is watched counts, even when every ping came back.
func TestCountersOfCorosync(t *testing.T) {
	v := &networkView{states: []pve.NodeState{{Host: "pve1", Quorum: &pve.QuorumStatus{NodeID: 1}}, {Host: "pve2", Quorum: &pve.QuorumStatus{NodeID: 2}}}}
	stats := func(moment string, connected, downs, failures int) string {
		return fmt.Sprintf("%[1]s stats.knet.node2.link1.connected (u8) = %[2]d\n%[1]s stats.knet.node2.link1.down_count (u32) = %[3]d\n%[1]s stats.knet.node2.link1.tx_total_errors (u64) = %[4]d\n%[1]s stats.knet.node1.link1.connected (u8) = 0\n", moment, connected, downs, failures)
	}
	for _, tt := range []struct {
		name, out string
		want      []string
	}{
		{"steady", stats("before", 1, 7, 3) + stats("after", 1, 7, 3), nil},
		{"down", stats("before", 1, 7, 3) + stats("after", 0, 8, 5), []string{
			"corosync is not connected to pve2 on link 1", "corosync lost pve2 on link 1 1 times while it was watched", "corosync could not send 2 packets to pve2 on link 1 while it was watched",
		}},
		{"no corosync", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var saw []string
			for _, p := range parseReport("pve1", nil, tt.out).counters(v, networkCheckArgs{}) {
				saw = append(saw, p.saw)
			}
			require.Equal(t, tt.want, saw)
		})
	}
}

func TestLossIsJudged(t *testing.T) {
	args := networkCheckArgs{MaxRTT: 5 * time.Millisecond, WarnRTT: 2 * time.Millisecond, MaxLoss: 1}
	judge := func(said string) (problem, bool) {
		a := answer{said: said}
		a.ping, a.answered = pve.ParsePing(said)
		return a.judgeLink(args)
	}
	_, bad := judge("300 packets transmitted, 298 received, 0.66% packet loss rtt min/avg/max/mdev = 0.1/0.2/0.3/0.1 ms")
	require.False(t, bad)
	p, bad := judge("300 packets transmitted, 290 received, 3.3% packet loss rtt min/avg/max/mdev = 0.1/0.2/0.3/0.1 ms")
	require.True(t, bad)
	require.Contains(t, p.saw, "10 of 300 packets")
	p, bad = judge("300 packets transmitted, 300 received, 0% packet loss rtt min/avg/max/mdev = 0.1/0.2/60.3/0.1 ms")
	require.True(t, bad && p.warn)
	p, bad = judge("ping: bind: Cannot assign requested address")
	require.True(t, bad && !p.warn)
	require.Contains(t, p.saw, "Cannot assign requested address")
}

func FuzzReport(f *testing.F) {
	f.Add("before stats.knet.node2.link1.down_count (u32) = 1\nbond b Bonding Mode: x\nbond b Slave Interface: e\ncard e half\nping 10.0.0.1 10.0.0.2 1 packets transmitted, 1 received\n")
	f.Fuzz(func(t *testing.T, out string) {
		v := &networkView{reports: []report{parseReport("pve1", nil, out)}}
		for _, p := range v.judge(networkCheckArgs{Bonds: []bondArgs{{Name: "b", Mode: "802.3ad"}}}) {
			if p.saw == "" || p.host == "" {
				t.Errorf("%+v", p)
			}
		}
	})
}

func TestLabTime(t *testing.T) {
	t.Parallel()
	target := labkit.New(t, 2, nil)
	target.Of = target.All[0]
	require.Empty(t, target.Converge(timeSync(), ``))

	require.Equal(t, []string{"have chrony ask 192.0.2.12"}, target.Converge(timeSync(), `servers = ["192.0.2.12"]`))
	require.Equal(t, []string{"have chrony ask 192.0.2.12, ntp.example.com"}, target.Converge(timeSync(), `servers = ["192.0.2.12", "ntp.example.com"]`))
	require.Equal(t, []string{"have chrony ask 2.debian.pool.ntp.org, 192.0.2.12, ntp.example.com"}, target.Converge(timeSync(), `servers = ["2.debian.pool.ntp.org", "192.0.2.12", "ntp.example.com"]`))

	target.Must("pve1", "systemctl disable --now chrony")
	require.Equal(t, []string{"start chrony, now and at each boot"}, target.Converge(timeSync(), `servers = ["2.debian.pool.ntp.org", "192.0.2.12", "ntp.example.com"]`))

	target.Must("pve1", "apt-get remove -y chrony")
	require.Equal(t, []string{"install chrony"}, target.Converge(timeSync(), ``))
}

func TestLabTimeThatIsOff(t *testing.T) {
	t.Parallel()
	target := labkit.New(t, 1, nil)
	refused := func(args, want string) {
		t.Helper()
		_, err := target.Plan(timeSync(), args)
		var refusal *module.Refusal
		require.ErrorAs(t, err, &refusal)
		require.Contains(t, refusal.Error(), want)
	}
	target.Fault(lab.Fault{Kind: "skew", Target: "pve1", Value: "3s"})
	refused(``, "the clock is -3s off")
	require.Equal(t, []string{"set the clock"}, target.Converge(timeSync(), `step = true`))

	target.Fault(lab.Fault{Kind: "ntp-away", Target: "pve1"})
	refused(``, "the clock is not synchronised: no answer from 2.debian.pool.ntp.org")
	changes, err := target.Plan(timeSync(), "servers = [\"ntp.example.com\"]\nwait = \"5s\"")
	require.NoError(t, err)
	require.ErrorContains(t, target.Apply(changes), "not synchronised")

	target.Must("pve1", "sed -i /sources.d/d /etc/chrony/chrony.conf")
	refused(`servers = ["ntp2.example.com"]`, "does not read /etc/chrony/sources.d")
}

func TestArguments(t *testing.T) {
	for _, tt := range []struct {
		m    module.Module
		src  string
		want string
	}{
		{timeSync(), `servers = ["a b"]`, `"a b" is neither a name nor an address`},
		{timeSync(), `servers = ["a", "a"]`, "twice"},
		{networkCheck(), `warn_rtt = "6ms"`, "more than max_rtt"},
		{networkCheck(), "bond \"b\" {\n mode = \"lacp\"\n}", "mode"},
	} {
		_, problems := testkit.TryArgs(t, tt.m, tt.src)
		require.Contains(t, strings.Join(problems, "\n"), tt.want)
	}
}

func FuzzTime(f *testing.F) {
	f.Add("@@n begin\n@@n tracking\nC0000235,192.0.2.53,3,1.0,-0.1,0,0,0,0,0,0,0,64,Normal\n\n@@n rc 0\n@@n sources\n^,*,192.0.2.53,2,6,377,12,0,0,0\n\n@@n rc 0\n@@n end\n")
	f.Fuzz(func(t *testing.T, out string) {
		s, err := parseTime([]byte(out))
		if err == nil {
			a := timeSyncArgs{Servers: []string{"x"}, MaxOffset: time.Second}
			a.missing(s)
			if r := a.off(s); r != nil && r.Saw == "" {
				t.Error("refused without a reason")
			}
		}
	})
}

func TestUnreachableNodeIsNoRefusal(t *testing.T) {
	t.Parallel()
	target := labkit.New(t, 2, nil)
	target.Conns["pve2"] = testkit.NewConn(t, "pve2").On("", testkit.Reply{Err: &transport.UnreachableError{Host: "pve2"}})
	_, err := target.Plan(networkCheck(), ``)
	var unreachable *transport.UnreachableError
	require.ErrorAs(t, err, &unreachable)
}
