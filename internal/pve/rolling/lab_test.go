package rolling_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/rolling"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/lab"
	labguest "github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/lab/storage"
	"github.com/stretchr/testify/require"
)

// The HA manager of a simulated cluster, which shares nothing with the proof, is asked to empty a node and to fill it again: its
// services go where the proof said.
func TestTheHAManagerDoesWhatWasForetold(t *testing.T) {
	t.Parallel()
	tgt := labkit.New(t, 4, func(s *lab.Spec) {
		s.Hosts = append(s.Hosts, lab.HostSpec{Name: "nas", Address: "192.0.2.90", Exports: []storage.Export{{Kind: "nfs", Name: "/srv/san"}}})
	})
	tgt.Form()
	tgt.Must("pve1", "pvesm add nfs san --server 192.0.2.90 --export /srv/san --content images,rootdir")
	where := map[int]string{100: "pve2", 101: "pve2", 102: "pve2", 103: "pve2", 104: "pve2", 105: "pve2", 106: "pve2", 110: "pve1", 111: "pve2", 112: "pve4", 113: "pve4"}
	for id := 100; id < 120; id++ {
		if node := where[id]; node != "" {
			require.NoError(t, tgt.Lab.AddGuest(t.Context(), node, labguest.Spec{ID: id, Running: true, MemoryMiB: 512, Disks: []labguest.Disk{{Storage: "san", SizeGiB: 1}}}))
			failback := id != 106
			tgt.Must("pve1", fmt.Sprintf("ha-manager add vm:%d --state started --failback %d", id, map[bool]int{true: 1}[failback]))
		}
	}
	started := func() {
		tgt.Eventually("pve1", fmt.Sprintf("[ $(ha-manager status | grep -c '^service.*, started)') = %d ] && grep -q '/113:' /etc/pve/.rrd && grep -q 'pve4.:.online' /etc/pve/ha/manager_status", len(where)))
	}
	started()
	// Rules that hold already, so that nothing moves for their sake alone.
	for _, rule := range []string{
		"node-affinity first --resources vm:100 --nodes pve2:3,pve4:2,pve1:1 --strict 1",
		"node-affinity alone --resources vm:101 --nodes pve2",
		"resource-affinity together --affinity positive --resources vm:102,vm:111",
		"resource-affinity apart --affinity negative --resources vm:103,vm:110,vm:112",
	} {
		tgt.Must("pve1", "ha-manager rules add "+rule)
	}

	s := situation(t, tgt)
	s.Nodes = []rolling.Node{{Name: "pve2", Work: rolling.Work{Reboot: rolling.No}}}
	proof := rolling.Prove(s)
	require.Empty(t, proof.Blocks)
	step, _ := proof.Step("pve2")
	require.Equal(t, "pve4", step.Guests[0].To, "the affinity of vm:100")
	require.Equal(t, "pve3", step.Guests[3].To, "apart from vm:110 and vm:112")
	require.Equal(t, step.Guests[2].To, step.Guests[7].To, "vm:102 and vm:111 together")

	tgt.Must("pve1", "ha-manager crm-command node-maintenance enable pve2")
	tgt.Eventually("pve1", "! ha-manager status | grep -q '^service.*(pve2,'")
	started()
	for _, p := range step.Guests {
		require.Equal(t, []string{p.To}, tgt.Lab.Guests().Where(p.ID), "%s: %s", p.Guest, p.Why)
	}

	tgt.Must("pve1", "ha-manager crm-command node-maintenance disable pve2")
	stay := map[int]string{}
	for _, p := range step.Home {
		if p.Fate == rolling.Moves {
			tgt.Eventually("pve1", fmt.Sprintf("ha-manager status | grep -q 'vm:%d (pve2, started)'", p.ID))
		} else {
			stay[p.ID] = p.Why
		}
	}
	require.Equal(t, map[int]string{
		102: "the HA manager does not bring it back: those that it must stay together with are there",
		111: "the HA manager does not bring it back: those that it must stay together with are there", 106: "the HA manager does not bring it back: its failback is off",
	}, stay)
	for id := range stay {
		require.NotContains(t, tgt.Lab.Guests().Where(id), "pve2")
	}
}

// situation reads the lab as a module would.
func situation(t *testing.T, tgt *labkit.Target) rolling.Situation {
	t.Helper()
	connect := func(_ context.Context, name string) (transport.Conn, error) { return tgt.Conns[name], nil }
	site, err := guest.Read(t.Context(), "pve1", tgt.Conns["pve1"])
	require.NoError(t, err)
	site.ReadNodes(t.Context(), site.Names(), connect)
	s := rolling.Situation{Site: site}
	for _, name := range site.Names() {
		s.Ballot.Nodes = append(s.Ballot.Nodes, voter(name))
	}
	return s
}

func voter(name string) pve.Voter { return pve.Voter{Name: name, Votes: 1, Online: true} }
