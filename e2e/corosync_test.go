//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/stretchr/testify/require"
)

// corosyncConf is a configuration as pvecm writes it, without encryption, for which every node would need the key.
func corosyncConf(hosts []*host, first, second string) string {
	var b strings.Builder
	b.WriteString("logging {\n  debug: off\n  to_syslog: no\n  to_stderr: yes\n}\n\nnodelist {\n")
	for i, h := range hosts {
		fmt.Fprintf(&b, "  node {\n    name: %s\n    nodeid: %d\n    quorum_votes: 1\n    ring0_addr: %s\n    ring1_addr: %s\n  }\n", h.name, i+1, h.on[first], h.on[second])
	}
	b.WriteString(`}

quorum {
  provider: corosync_votequorum
}

totem {
  cluster_name: lab
  config_version: 3
  interface {
    linknumber: 0
  }
  interface {
    linknumber: 1
  }
  ip_version: ipv4-6
  link_mode: passive
  secauth: off
  version: 2
}
`)
	return b.String()
}

// TestCorosyncIsReadAsItSpeaks holds the readers of quorum and links against the living programs: three nodes with two
// links, one of which fails, then two nodes that stop.
func TestCorosyncIsReadAsItSpeaks(t *testing.T) {
	t.Parallel()
	first, second := newNetwork(t), newNetwork(t)
	var hosts []*host
	for _, name := range []string{"pve1", "pve2", "pve3"} {
		hosts = append(hosts, newHost(t, hostSpec{name: name, networks: []string{front, first, second}}))
	}
	conf := corosyncConf(hosts, first, second)
	parsed, err := pve.ParseCorosyncConf([]byte(conf))
	require.NoError(t, err)
	require.Equal(t, []string{"pve1", "pve2", "pve3"}, parsed.Names())
	for _, h := range hosts {
		h.sh("mkdir -p /etc/corosync /var/lib/corosync /var/log/corosync")
		h.write("/etc/corosync/corosync.conf", conf)
		h.sh("systemd-run --quiet --unit=corosync-e2e -p StandardOutput=file:/var/log/corosync.log -p StandardError=file:/var/log/corosync.log /usr/sbin/corosync -f")
	}
	defer func() {
		if t.Failed() {
			t.Log(hosts[0].sh("cat /var/log/corosync.log"))
		}
	}()
	a := newAdmin(t, hosts...)
	a.site(hosts, "")

	// ask runs a program on the first node over SSH, and past it; both must agree on the exit status.
	quorum := func(options string) (*pve.QuorumStatus, int) {
		out, exit := hosts[0].try("corosync-quorumtool " + options)
		q, err := pve.ParseQuorum([]byte(out))
		if err != nil {
			return &pve.QuorumStatus{}, exit
		}
		return q, exit
	}
	require.Eventually(t, func() bool { q, _ := quorum("-siH"); return q.Nodes == 3 && q.Quorate }, waitLimit, poll, "the nodes do not find each other")

	for _, options := range []string{"-s", "-siH"} {
		q, exit := quorum(options)
		require.Zero(t, exit)
		require.Equal(t, []int{3, 1, 3, 3, 3, 2}, []int{q.Nodes, q.NodeID, q.Expected, q.Highest, q.Total, q.Quorum})
		require.True(t, q.Quorate)
		require.False(t, q.Blocked)
		require.Equal(t, []string{"Quorate"}, q.Flags)
		require.Nil(t, q.Device)
		require.NotEmpty(t, q.RingID)
		require.Len(t, q.Members, 3)
		for i, m := range q.Members {
			name := hosts[i].on[first]
			if options == "-s" {
				name = hosts[i].name
			}
			require.Equal(t, pve.QuorumMember{ID: i + 1, Votes: 1, Name: name, Local: i == 0}, m)
		}
	}

	links := func() []pve.PeerLink { return pve.ParseLinks([]byte(hosts[0].sh("corosync-cfgtool -n"))) }
	require.Eventually(t, func() bool { return connected(links()) == 4 }, waitLimit, poll, "not all links come up")
	for i, l := range links() {
		network, peer := []string{first, second}[i%2], hosts[1+i/2]
		require.Equal(t, []any{2 + i/2, i % 2, hosts[0].on[network], peer.on[network], true, true}, []any{l.NodeID, l.Link, l.Local, l.Remote, l.Enabled, l.Connected})
	}
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(links(), func(l pve.PeerLink) bool { return l.MTU <= 1000 })
	}, 2*waitLimit, poll, "corosync does not find out how large packets may be")
	stats := func() []byte { return []byte(hosts[0].sh("corosync-cmapctl -m stats")) }
	require.Eventually(t, func() bool {
		for _, l := range pve.AddKnetStats(links(), stats(), 1) {
			if l.RTT <= 0 || l.RTTMax < l.RTT {
				return false
			}
		}
		return true
	}, waitLimit, poll, "no round trips were measured")

	// A link that fails.
	hosts[1].sh("ip link set eth2 down")
	require.Eventually(t, func() bool { return connected(links()) == 3 }, waitLimit, poll, "the broken link is not seen")
	for _, l := range pve.AddKnetStats(links(), stats(), 1) {
		broken := l.NodeID == 2 && l.Link == 1
		require.Equal(t, broken, !l.Connected, "%+v", l)
		if broken {
			require.Positive(t, l.Downs)
		}
	}

	// Two nodes of three are away: the output is whole, and the exit status is 2.
	hosts[1].sh("systemctl kill --signal=KILL corosync-e2e")
	hosts[2].sh("systemctl kill --signal=KILL corosync-e2e")
	require.Eventually(t, func() bool { q, _ := quorum("-siH"); return q.Total == 1 }, waitLimit, poll, "the loss is not seen")
	for _, options := range []string{"-s", "-siH"} {
		q, exit := quorum(options)
		require.Equal(t, 2, exit)
		require.Equal(t, []any{1, 3, 1, 2, false, true}, []any{q.Nodes, q.Expected, q.Total, q.Quorum, q.Quorate, q.Blocked})
		require.Empty(t, q.Flags)
	}
	a.exec("pve1", "corosync-quorumtool -siH").exits(1).says("exit 2", "Activity blocked")

	// No corosync at all: an error, and nothing that could be taken for votes.
	hosts[0].sh("systemctl stop corosync-e2e")
	out, exit := hosts[0].try("corosync-quorumtool -siH")
	require.Equal(t, 1, exit)
	_, err = pve.ParseQuorum([]byte(out))
	require.Error(t, err)
}

func connected(links []pve.PeerLink) int {
	n := 0
	for _, l := range links {
		if l.Connected {
			n++
		}
	}
	return n
}
