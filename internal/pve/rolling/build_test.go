package rolling

import (
	"fmt"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/stretchr/testify/require"
)

const gib = int64(1) << 30

// world is a cluster to prove things on: nodes of 64 GiB with a shared storage "san" and a local one "local-zfs".
type world struct{ s Situation }

func newWorld(nodes ...string) *world {
	site := &guest.Site{
		From: nodes[0], Now: time.Unix(1732292083, 0), Quorate: true, Nodes: map[string]*guest.Node{}, Unread: map[string]string{},
		Mappings: map[string][]string{}, Pools: map[string][]int{},
		Storages: []config.Section{
			{Type: "nfs", ID: "san", Values: map[string]string{"content": "images,rootdir"}},
			{Type: "zfspool", ID: "local-zfs", Values: map[string]string{"content": "images,rootdir"}},
		},
		Members: &pve.Members{NodeName: nodes[0], Cluster: &pve.MemberCluster{Name: "lab", Nodes: len(nodes)}},
		HA:      &ha.State{From: nodes[0], Quorate: true},
	}
	w := &world{s: Situation{Site: site}}
	for i, name := range nodes {
		site.Members.Nodes = append(site.Members.Nodes, pve.Member{Name: name, ID: i + 1, Online: true})
		site.Nodes[name] = &guest.Node{
			Name: name, Running: map[int]guest.Kind{}, Memory: 64 * gib, Vendor: "GenuineIntel", Model: "Xeon", Flags: map[string]bool{"sse4_2": true},
			Interfaces: []string{"eno1", "vmbr0"}, QEMU: "10.0.2-4", Manager: "9.0.11",
		}
		w.s.Ballot.Nodes = append(w.s.Ballot.Nodes, pve.Voter{Name: name, Votes: 1, Online: true})
		w.s.Nodes = append(w.s.Nodes, Node{Name: name, Work: Work{Packages: 20, Reboot: Yes, Why: "a new kernel", QEMU: "10.1.2-1", Manager: "9.1.1"}})
	}
	return w
}

// node gives a node of the run.
func (w *world) node(name string) *Node {
	for i := range w.s.Nodes {
		if w.s.Nodes[i].Name == name {
			return &w.s.Nodes[i]
		}
	}
	panic("no node " + name)
}

// guest adds a guest.
func (w *world) guest(id int, node string, memory int64, change ...func(*guest.Guest)) *world {
	g := guest.Guest{
		ID: id, Kind: guest.VM, Node: node, Name: fmt.Sprintf("g%d", id), Memory: memory, Cores: 2, Bridges: []string{"vmbr0"}, Status: "running",
		Volumes: []guest.Volume{{Key: "scsi0", File: fmt.Sprintf("san:%d/vm-%d-disk-0.raw", id, id), Storage: "san", Size: 32 * gib, Format: "raw", Replicate: true}},
	}
	for _, f := range change {
		f(&g)
	}
	w.s.Site.Guests = append(w.s.Site.Guests, g)
	if g.Status == "running" {
		w.s.Site.Nodes[node].Running[id] = g.Kind
	}
	return w
}

func stopped(g *guest.Guest)  { g.Status = "stopped" }
func template(g *guest.Guest) { g.Status, g.Template = "stopped", true }
func device(g *guest.Guest)   { g.Devices = []string{"hostpci0"} }
func tagged(tags ...string) func(*guest.Guest) {
	return func(g *guest.Guest) { g.Tags = tags }
}

func container(g *guest.Guest) {
	g.Kind = guest.CT
	g.Volumes = []guest.Volume{{Key: "rootfs", File: fmt.Sprintf("san:subvol-%d-disk-0", g.ID), Storage: "san", Size: 8 * gib, Format: "raw"}}
}

func local(g *guest.Guest) {
	g.Volumes = []guest.Volume{{Key: "scsi0", File: fmt.Sprintf("local-zfs:vm-%d-disk-0", g.ID), Storage: "local-zfs", Size: 100 * gib, Format: "raw", Replicate: true}}
}

// managed puts the guest under HA.
func (w *world) managed(id int, change ...func(*ha.Resource)) *world {
	return w.manageAll(map[int]bool{id: true}, change...)
}

func (w *world) manageAll(ids map[int]bool, change ...func(*ha.Resource)) *world {
	state := w.s.Site.HA
	if state.Manager == nil {
		state.Manager = &ha.Manager{Master: w.s.Site.Members.Nodes[0].Name, Nodes: map[string]string{}, Services: map[string]ha.Service{}}
		for _, m := range w.s.Site.Members.Nodes {
			state.Manager.Nodes[m.Name] = "online"
		}
	}
	for i := range w.s.Site.Guests {
		g := &w.s.Site.Guests[i]
		if !ids[g.ID] {
			continue
		}
		r := ha.Resource{SID: g.SID(), State: "started", Failback: true}
		for _, f := range change {
			f(&r)
		}
		state.Resources = append(state.Resources, r)
		g.Managed = guest.Managed{State: r.State, Known: true, Service: ha.Service{Node: g.Node, State: r.State, Running: true}}
		state.Manager.Services[g.SID()] = g.Managed.Service
	}
	return w
}

func (w *world) rule(r ha.Rule) *world {
	w.s.Site.HA.Rules = append(w.s.Site.HA.Rules, r)
	return w
}

func (w *world) prove() Proof { return Prove(w.s) }

// plan finds what happens to a guest in a node's step.
func plan(t *testing.T, p Proof, node string, id int) Plan {
	t.Helper()
	s, ok := p.Step(node)
	require.True(t, ok, "no step for %s", node)
	for _, g := range s.Guests {
		if g.ID == id {
			return g
		}
	}
	require.Fail(t, "no plan", "guest %d is not in the step of %s", id, node)
	return Plan{}
}
