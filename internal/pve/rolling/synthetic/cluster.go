// Package synthetic makes clusters of any size up, for benchmarks and tests of proofs.
package synthetic

import (
	"fmt"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/pve/rolling"
)

const gib = int64(1) << 30

// Cluster is one on which a rolling upgrade fits: nodes of 1 TiB that all need an upgrade and a reboot, guests of 1 to 16 GiB
// on a shared storage. A tenth of the guests do not run, a tenth are containers that may be restarted, and about every eighth
// is under HA.
func Cluster(nodes, guests int) rolling.Situation {
	names := make([]string, nodes)
	for i := range names {
		names[i] = fmt.Sprintf("pve%d", i+1)
	}
	s := rolling.Situation{Site: &guest.Site{
		From: names[0], Now: time.Unix(1732292083, 0), Quorate: true, Nodes: map[string]*guest.Node{}, Unread: map[string]string{},
		Storages: []config.Section{{Type: "nfs", ID: "san", Values: map[string]string{"content": "images,rootdir"}}},
		Members:  &pve.Members{NodeName: names[0], Cluster: &pve.MemberCluster{Name: "synthetic", Nodes: nodes}},
		HA: &ha.State{From: names[0], Quorate: true, Manager: &ha.Manager{
			Master: names[0], Nodes: map[string]string{}, Services: map[string]ha.Service{},
		}},
	}, Policies: rolling.Policies{Containers: rolling.RestartContainer}}
	for i, name := range names {
		s.Site.Members.Nodes = append(s.Site.Members.Nodes, pve.Member{Name: name, ID: i + 1, Online: true})
		s.Site.HA.Manager.Nodes[name] = "online"
		s.Site.Nodes[name] = &guest.Node{
			Name: name, Running: map[int]guest.Kind{}, Memory: 1024 * gib, Vendor: "GenuineIntel", Model: "Xeon", Flags: map[string]bool{"sse4_2": true},
			Interfaces: []string{"eno1", "vmbr0"}, QEMU: "10.0.2-4", Manager: "9.0.11",
		}
		s.Ballot.Nodes = append(s.Ballot.Nodes, pve.Voter{Name: name, Votes: 1, Online: true})
		s.Nodes = append(s.Nodes, rolling.Node{Name: name, Work: rolling.Work{Packages: 20, Reboot: rolling.Yes, Why: "a new kernel", QEMU: "10.1.2-1", Manager: "9.1.1"}})
	}
	for i := range guests {
		addGuest(&s, 100+i, names[i%nodes], i*2654435761>>7+i)
	}
	return s
}

// addGuest adds a guest whose kind is drawn by a number, so that the kinds do not line up with the nodes.
func addGuest(s *rolling.Situation, id int, node string, drawn int) {
	g := guest.Guest{
		ID: id, Kind: guest.VM, Node: node, Name: fmt.Sprintf("g%d", id), Memory: gib << (drawn / 10 % 5), Cores: 2, Bridges: []string{"vmbr0"}, Status: "running",
		Volumes: []guest.Volume{{Key: "scsi0", File: fmt.Sprintf("san:%d/vm-%d-disk-0.raw", id, id), Storage: "san", Size: 32 * gib, Format: "raw", Replicate: true}},
	}
	switch drawn % 10 {
	case 3:
		g.Status = "stopped"
	case 7:
		g.Kind = guest.CT
		g.Volumes[0].Key, g.Volumes[0].File = "rootfs", fmt.Sprintf("san:%d/vm-%d-disk-0.raw", id, id)
	}
	if g.Status == "running" {
		s.Site.Nodes[node].Running[id] = g.Kind
		if id/3%8 == 0 {
			service := ha.Service{Node: node, State: "started", Running: true}
			g.Managed = guest.Managed{State: "started", Service: service, Known: true}
			s.Site.HA.Resources = append(s.Site.HA.Resources, ha.Resource{SID: g.SID(), State: "started", Failback: true})
			s.Site.HA.Manager.Services[g.SID()] = service
		}
	}
	s.Site.Guests = append(s.Site.Guests, g)
}
