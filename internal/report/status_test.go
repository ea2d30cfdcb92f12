package report_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/health"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/stretchr/testify/require"
)

func TestStatusView(t *testing.T) {
	up := map[string]bool{"pve-cluster": true, "corosync": true, "pvedaemon": true}
	links := []pve.PeerLink{{NodeID: 2, Connected: true, RTT: 300 * time.Microsecond}, {NodeID: 3, Connected: true, RTT: 410 * time.Microsecond}}
	healthy := pve.Report{
		Cluster: "lab", Formed: true, Quorate: true, Version: 3, Votes: pve.VoteReport{Expected: 3, Total: 3, Quorum: 2, Bearable: 1},
		Nodes: []pve.NodeReport{
			{Name: "pve1", ID: 1, Votes: 1, Phase: pve.PhaseMember, Online: true, Quorate: true, PVE: "9.0.3", Version: 3, Services: up, Links: links},
			{Name: "pve2", ID: 2, Votes: 1, Phase: pve.PhaseMember, Online: true, Quorate: true, PVE: "9.0.3", Version: 3, Services: up, Links: links},
			{Name: "pve3", ID: 3, Votes: 1, Phase: pve.PhaseMember, Online: true, Quorate: true, PVE: "9.0.3", Version: 3, Services: up, Links: links, Guests: 2},
		},
	}
	ill := healthy
	ill.Quorate, ill.Votes = false, pve.VoteReport{Expected: 3, Total: 1, Quorum: 2, Bearable: -1, Device: "192.0.2.50", DeviceVotes: 1}
	ill.Nodes = append([]pve.NodeReport(nil), healthy.Nodes...)
	ill.Nodes[1] = pve.NodeReport{Name: "pve2", ID: 2, Votes: 1, Error: "connection refused"}
	ill.Nodes[2] = pve.NodeReport{Name: "pve3", Phase: pve.PhaseBegun, Services: map[string]bool{"corosync": false, "pve-cluster": true}}
	ill.Findings = []pve.Finding{
		{Severity: pve.Critical, Check: "quorum", Saw: "no node that answered is quorate: /etc/pve is read-only and nothing can be started or moved", Look: "pvecm status", Remedy: "bring absent nodes or their network back; never lower the expected votes while another part of the cluster may live"},
		{Severity: pve.Warning, Node: "pve1", Check: "links", Saw: "link 1 to pve3 is down", Look: "corosync-cfgtool -n"},
		{Severity: pve.Info, Check: "qdevice", Saw: "an even number of nodes"},
	}
	for name, r := range map[string]pve.Report{
		"status-healthy.txt": healthy, "status-ill.txt": ill,
		"status-fresh.txt": {Cluster: "lab", Nodes: []pve.NodeReport{{Name: "pve1", Phase: pve.PhaseFresh, PVE: "9.0.3", Services: map[string]bool{"corosync": false, "pve-cluster": true}}}, Findings: []pve.Finding{{Severity: pve.Info, Saw: "cluster \"lab\" does not exist yet"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, report.Status(&out, health.Report{Report: r}, report.Look{Unicode: true, Width: 80}))
			golden(t, name, out.String())
		})
	}
}

func TestStatusFitsTheScreenAndTellsWhatFollows(t *testing.T) {
	r := health.Report{Report: pve.Report{
		Cluster: "lab", Formed: true, Votes: pve.VoteReport{Expected: 2, Quorum: 2, Bearable: -1},
		Nodes: []pve.NodeReport{{
			Name: "a-node-with-a-name", ID: 1, Votes: 1, Phase: pve.PhaseOffline, PVE: "9.1.8", Version: 12, Guests: 3,
			Services: map[string]bool{"corosync": true}, Links: []pve.PeerLink{{NodeID: 2, Connected: true, RTT: time.Millisecond}},
		}},
		Findings: []pve.Finding{{
			Severity: pve.Critical, Check: "quorum", Saw: "no node is quorate", Look: "pvecm status", Remedy: "bring nodes back",
			Consequences: []string{"the HA master has not written for 4m2s", "what is shown of HA, storages and guests is what a-node-with-a-name remembers from before"},
		}},
	}, Stale: "a-node-with-a-name", HA: &health.HA{Master: "b", Resources: 2, States: map[string]int{"started": 2}, Age: 242 * time.Second}, Guests: health.Guests{Total: 3, Running: 1},
		Loads: []health.Load{{Node: "a-node-with-a-name", CPUs: 4, Load: 0.5, MemoryTotal: 100, MemoryFree: 50}}}
	for width, missing := range map[int][]string{200: nil, 80: {"config", "id", "votes"}, 0: nil} {
		var out bytes.Buffer
		require.NoError(t, report.Status(&out, r, report.Look{Width: width}))
		head := strings.Fields(strings.Split(out.String(), "\n")[5])
		for _, title := range []string{"node", "id", "config", "votes", "state", "guests"} {
			require.Equal(t, !slices.Contains(missing, title), slices.Contains(head, title), "%s at %d columns:\n%s", title, width, out.String())
		}
		require.Contains(t, out.String(), "HA: not known, as a-node-with-a-name remembers it from 4m2s ago: 2 guests, master b, 2 started\n")
		require.Contains(t, out.String(), "Guests: 3, not known how many run\n")
		require.Contains(t, out.String(), "\n    so:     the HA master has not written for 4m2s\n            what is shown of HA,")
	}
}
