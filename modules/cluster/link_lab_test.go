package cluster

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
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
	require.Empty(t, target.Converge(corosyncLink(), ``))

	target.wantLinks(1, 2)
	for i := range target.Whole.Hosts {
		target.Whole.Hosts[i].Node.Links[1].Priority = 5
	}
	require.Equal(t, []string{"add link 1 to corosync"}, target.Converge(corosyncLink(), ``))
	for i := range target.Whole.Hosts {
		target.Whole.Hosts[i].Node.Links[0].Priority, target.Whole.Hosts[i].Node.Links[1].Priority = 20, 0
	}
	require.Equal(t, []string{"set the priority of corosync's link 0", "set the priority of corosync's link 1"}, target.Converge(corosyncLink(), ``))

	target.wantLinks(3, 2)
	require.Empty(t, target.Converge(corosyncLink(), `links = [1]`), "its priority is as wanted")
	require.Equal(t, []string{"change the addresses of corosync's link 0"}, target.Converge(corosyncLink(), ``))
	out, err := corosyncLink().Read(t.Context(), target, testkit.Args(t, corosyncLink(), ``))
	require.NoError(t, err)
	require.Equal(t, []string{"link 0: 10.0.3.1 10.0.3.2 10.0.3.3", "link 1: 10.0.2.1 10.0.2.2 10.0.2.3"}, out.(corosyncLinkOut).Links)

	target.wantLinks(3)
	require.Empty(t, target.Converge(corosyncLink(), ``))
	require.Contains(t, strings.Join(target.Warnings(), "\n"), "link 1 is in the cluster and not in the inventory; remove = true removes it")
	require.Equal(t, []string{"remove link 1 from corosync"}, target.Converge(corosyncLink(), `remove = true`))
	require.Empty(t, target.Converge(preflight(time.Now), `for = "running"`))
	require.Contains(t, target.on("pve1", "ls /var/backups/pxrun"), "corosync.conf.3")
	require.Equal(t, "0", target.on("pve1", "ls /etc/pve/priv/lock | grep -c corosync || :"))
}

func TestLabLinksAreNotTouchedWhenAnythingIsWrong(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*labTarget)
		want  string
	}{
		{"a node offline", func(l *labTarget) { l.Fault(lab.Fault{Kind: "corosync-down", Target: "pve3"}); l.unseen("pve3") }, "does not see pve3 online"},
		{"the other link down", func(l *labTarget) {
			l.wantLinks(1, 2)
			l.Converge(corosyncLink(), ``)
			l.Fault(lab.Fault{Kind: "link-down", Target: "pve2", Value: "10.0.2.2"})
			l.wantLinks(3, 2)
		}, "link 1 to pve2 is not connected"},
		{"the address missing", func(l *labTarget) { l.Fault(lab.Fault{Kind: "link-missing", Target: "pve3", Value: "10.0.2.3"}) }, "no interface has 10.0.2.3 of link 1"},
		{"small packets", func(l *labTarget) { l.Fault(lab.Fault{Kind: "mtu", Target: "10.0.2.3", Value: "1400"}) }, "packets of 1500 bytes"},
		{"far away", func(l *labTarget) { l.Fault(lab.Fault{Kind: "rtt", Target: "10.0.2.3", Value: "9ms"}) }, "away"},
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
	changes, err := target.Plan(corosyncLink(), `quorum_timeout = "15s"`)
	require.NoError(t, err)

	// Somebody else edits the file between the plan and the change.
	target.on("pve1", "sed 's/10.0.1.1/10.0.1.77/' /etc/pve/corosync.conf >/etc/pve/corosync.conf.new")
	err = target.Apply(changes)
	require.ErrorContains(t, err, "corosync.conf.new is there and is not of an earlier run: somebody else is changing the configuration; the old configuration is in place")
	require.ErrorContains(t, err, "+    ring0_addr: 10.0.1.77")
	target.refused(corosyncLink(), ``, "+    ring0_addr: 10.0.1.77")
	require.Equal(t, "1", target.on("pve1", "grep -c 10.0.1.77 /etc/pve/corosync.conf.new"), "it is left alone")
	target.on("pve1", "rm /etc/pve/corosync.conf.new")

	// The new link's cable is pulled while the file is written.
	run := target.OnDetach
	target.OnDetach = func(host string, j module.Job) (transport.Result, error) {
		target.Fault(lab.Fault{Kind: "link-down", Target: "pve3", Value: "10.0.2.3"})
		return run(host, j)
	}
	err = target.Apply(changes)
	require.ErrorContains(t, err, "link 1 to pve3 is not connected")
	require.ErrorContains(t, err, "to go back: copy it to /etc/pve/corosync.conf.new, set config_version to 5 there")
}

// What a run that was cut off has left in corosync.conf.new is no obstacle to the next one.
func TestLabLinksAfterARunThatWasCutOff(t *testing.T) {
	tests := map[string]string{
		"all of it was written":           "cp /tmp/wanted /etc/pve/corosync.conf.new",
		"half of it was written":          "head -c 200 /tmp/wanted >/etc/pve/corosync.conf.new",
		"nothing of it was written":       ": >/etc/pve/corosync.conf.new",
		"something else was wanted then":  "mkdir -p /var/backups/pxrun; sed 's/10.0.2.1/10.0.2.99/' /tmp/wanted >/var/backups/pxrun/corosync.conf.new; head -c 600 /var/backups/pxrun/corosync.conf.new >/etc/pve/corosync.conf.new",
		"a copy that nobody touched":      "cp /etc/pve/corosync.conf /etc/pve/corosync.conf.new; touch -d '20 minutes ago' /etc/pve/corosync.conf.new",
		"an older one that nobody wanted": "sed 's/config_version: .*/config_version: 1/' /etc/pve/corosync.conf >/etc/pve/corosync.conf.new; touch -d '20 minutes ago' /etc/pve/corosync.conf.new",
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := newLinkLab(t)
			target.wantLinks(1, 2)
			conf := pve.NewestConf(target.states())
			next, err := conf.WithLink(pve.LinkEdit{Link: 1, Addrs: map[string]string{"pve1": "10.0.2.1", "pve2": "10.0.2.2", "pve3": "10.0.2.3"}})
			require.NoError(t, err)
			target.on("pve1", "printf '%s' '"+next.Text()+"' >/tmp/wanted")
			target.on("pve1", spoil)
			require.Equal(t, []string{"add link 1 to corosync"}, target.Converge(corosyncLink(), ``))
			require.Equal(t, "0", target.on("pve1", "ls /etc/pve | grep -c 'corosync.conf.new' || :"))
			require.Equal(t, "corosync.conf.3\ncorosync.conf.new.found", target.on("pve1", "ls /var/backups/pxrun"))
		})
	}
	t.Run("somebody's copy of a moment ago", func(t *testing.T) {
		t.Parallel()
		target := newLinkLab(t)
		target.wantLinks(1, 2)
		target.on("pve1", "cp /etc/pve/corosync.conf /etc/pve/corosync.conf.new")
		target.refused(corosyncLink(), ``, "somebody else is changing the configuration")
	})
	t.Run("cut off in the middle", func(t *testing.T) {
		t.Parallel()
		target := newLinkLab(t)
		target.wantLinks(1, 2)
		target.Fault(lab.Fault{Kind: "die", Target: "pve1", Match: "mv /etc/pve/corosync.conf.new"})
		changes, err := target.Plan(corosyncLink(), ``)
		require.NoError(t, err)
		require.Error(t, target.Apply(changes))
		require.NoError(t, target.Lab.ClearFault(0))
		require.Equal(t, []string{"add link 1 to corosync"}, target.Converge(corosyncLink(), ``))
	})
}

func TestLabWithoutAClusterThereAreNoLinksToChange(t *testing.T) {
	t.Parallel()
	require.Empty(t, newLab(t, 2, nil).Converge(corosyncLink(), ``))
}
