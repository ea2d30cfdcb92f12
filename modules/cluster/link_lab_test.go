package cluster

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	"github.com/stretchr/testify/require"
)

// newLinkLab starts three nodes with three addresses each, of which the first are link 0 of a cluster.
func newLinkLab(t *testing.T) *labTarget {
	t.Helper()
	target := newLab(t, 3, func(s *lab.Spec) {
		for i := range s.Hosts {
			s.Hosts[i].Links = append(s.Hosts[i].Links, netip.AddrFrom4([4]byte{10, 0, 3, byte(1 + i)}).String())
		}
	})
	target.wantLinks(1)
	return target.grown()
}

// wantLinks makes the inventory want links in these networks: 10.0.n.0/24.
func (t *labTarget) wantLinks(networks ...byte) {
	for i := range t.Whole.Hosts {
		if n := t.Whole.Hosts[i].Node; n != nil {
			n.Links = nil
			for _, network := range networks {
				n.Links = append(n.Links, inventory.Link{Address: netip.AddrFrom4([4]byte{10, 0, network, byte(1 + i)})})
			}
		}
	}
	t.All = t.Whole.Hosts
}

func TestLabLinksFollowTheInventory(t *testing.T) {
	t.Parallel()
	target := newLinkLab(t)
	require.Empty(t, target.converge(corosyncLink(), ``))

	target.wantLinks(1, 2)
	for i := range target.Whole.Hosts {
		target.Whole.Hosts[i].Node.Links[1].Priority = 5
	}
	require.Equal(t, []string{"add link 1 to corosync"}, target.converge(corosyncLink(), ``))
	for i := range target.Whole.Hosts {
		target.Whole.Hosts[i].Node.Links[0].Priority, target.Whole.Hosts[i].Node.Links[1].Priority = 20, 0
	}
	require.Equal(t, []string{"set the priority of corosync's link 0", "set the priority of corosync's link 1"}, target.converge(corosyncLink(), ``))

	target.wantLinks(3, 2)
	require.Empty(t, target.converge(corosyncLink(), `links = [1]`), "its priority is as wanted")
	require.Equal(t, []string{"change the addresses of corosync's link 0"}, target.converge(corosyncLink(), ``))
	out, err := corosyncLink().Read(t.Context(), target, testkit.Args(t, corosyncLink(), ``))
	require.NoError(t, err)
	require.Equal(t, []string{"link 0: 10.0.3.1 10.0.3.2 10.0.3.3", "link 1: 10.0.2.1 10.0.2.2 10.0.2.3"}, out.(corosyncLinkOut).Links)

	target.wantLinks(3)
	require.Empty(t, target.converge(corosyncLink(), ``))
	require.Contains(t, strings.Join(target.Warnings(), "\n"), "link 1 is in the cluster and not in the inventory; remove = true removes it")
	require.Equal(t, []string{"remove link 1 from corosync"}, target.converge(corosyncLink(), `remove = true`))
	require.Empty(t, target.converge(preflight(time.Now), `for = "running"`))
	require.Contains(t, target.on("pve1", "ls /var/backups/pxrun"), "corosync.conf.3")
	require.Equal(t, "0", target.on("pve1", "ls /etc/pve/priv/lock | grep -c corosync || :"))
}

func TestLabLinksAreNotTouchedWhenAnythingIsWrong(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*labTarget)
		want  string
	}{
		{"a node offline", func(l *labTarget) { l.fault(lab.Fault{Kind: "corosync-down", Target: "pve3"}); l.unseen("pve3") }, "does not see pve3 online"},
		{"the other link down", func(l *labTarget) {
			l.wantLinks(1, 2)
			l.converge(corosyncLink(), ``)
			l.fault(lab.Fault{Kind: "link-down", Target: "pve2", Value: "10.0.2.2"})
			l.wantLinks(3, 2)
		}, "link 1 to pve2 is not connected"},
		{"the address missing", func(l *labTarget) { l.fault(lab.Fault{Kind: "link-missing", Target: "pve3", Value: "10.0.2.3"}) }, "no interface has 10.0.2.3 of link 1"},
		{"small packets", func(l *labTarget) { l.fault(lab.Fault{Kind: "mtu", Target: "10.0.2.3", Value: "1400"}) }, "packets of 1500 bytes"},
		{"far away", func(l *labTarget) { l.fault(lab.Fault{Kind: "rtt", Target: "10.0.2.3", Value: "9ms"}) }, "away"},
		{"the only link", func(l *labTarget) { l.wantLinks(2) }, "link 0 is the only one"},
		{"an address that is taken", func(l *labTarget) { l.wantLinks(1, 1) }, "is already that of pve1 on link 0"},
		{"a foreign member", func(l *labTarget) { l.In.Nodes = l.In.Nodes[:2] }, "pve3 is a member that the inventory does not have"},
		{"fewer links on one node", func(l *labTarget) { l.Whole.Hosts[2].Node.Links = l.Whole.Hosts[2].Node.Links[:1] }, "1 links in the inventory, and 2 on pve1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target := newLinkLab(t)
			target.wantLinks(1, 2)
			before := ""
			if tt.name != "the other link down" {
				before = target.on("pve1", "cat /etc/pve/corosync.conf")
			}
			tt.spoil(target)
			if before == "" {
				before = target.on("pve1", "cat /etc/pve/corosync.conf")
			}
			target.refused(corosyncLink(), ``, tt.want)
			require.Equal(t, before, target.on("pve1", "cat /etc/pve/corosync.conf"))
		})
	}
}

func TestLabLinkThatGoesWrongStopsWithTheWayBack(t *testing.T) {
	t.Parallel()
	target := newLinkLab(t)
	target.wantLinks(1, 2)
	changes, err := target.plan(corosyncLink(), `quorum_timeout = "15s"`)
	require.NoError(t, err)

	// Somebody else edits the file between the plan and the change.
	target.on("pve1", "cp /etc/pve/corosync.conf /etc/pve/corosync.conf.new")
	require.ErrorContains(t, target.apply(changes), "corosync.conf.new is there: somebody else is changing it, or a change was cut off and it is to be removed; the old configuration is in place")
	target.on("pve1", "rm /etc/pve/corosync.conf.new")

	// The new link's cable is pulled while the file is written.
	run := target.OnDetach
	target.OnDetach = func(host string, j module.Job) (transport.Result, error) {
		target.fault(lab.Fault{Kind: "link-down", Target: "pve3", Value: "10.0.2.3"})
		return run(host, j)
	}
	err = target.apply(changes)
	require.ErrorContains(t, err, "link 1 to pve3 is not connected")
	require.ErrorContains(t, err, "to go back: copy it to /etc/pve/corosync.conf.new, set config_version to 5 there")
}

func TestLabWithoutAClusterThereAreNoLinksToChange(t *testing.T) {
	t.Parallel()
	require.Empty(t, newLab(t, 2, nil).converge(corosyncLink(), ``))
}
