package pve

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/pxrun/pxrun/inventory"
)

// Wanted is a cluster as the inventory wants it.
type Wanted struct {
	Cluster string
	Nodes   []WantedNode
}

// WantedNode is one node of it. No links means that Proxmox takes the address that the node's name stands for.
type WantedNode struct {
	Name       string
	Links      []netip.Addr
	Priorities []int // by link, 0 for none
	ID         int   // 0: the lowest free one
	Votes      int
}

// WantedCluster takes what concerns corosync from an inventory.
func WantedCluster(c *inventory.Cluster, site *inventory.Site) Wanted {
	w := Wanted{Cluster: c.Name}
	for _, name := range c.Nodes {
		if h, ok := site.Host(name); ok {
			w.Nodes = append(w.Nodes, WantedFrom(h))
		}
	}
	return w
}

// WantedFrom takes what concerns corosync from a host. A node without links has one on its address, if that is an
// address and not a name.
func WantedFrom(h inventory.Host) WantedNode {
	n := WantedNode{Name: h.Name, Votes: 1}
	if h.Node != nil {
		n.ID, n.Votes = h.Node.ID, h.Node.Votes
		for _, l := range h.Node.Links {
			n.Links = append(n.Links, l.Address.Unmap())
			n.Priorities = append(n.Priorities, l.Priority)
		}
	}
	if len(n.Links) == 0 {
		if a, err := netip.ParseAddr(h.Address); err == nil {
			n.Links, n.Priorities = []netip.Addr{a.Unmap()}, []int{0}
		}
	}
	return n
}

// Node returns a wanted node.
func (w Wanted) Node(name string) (WantedNode, bool) {
	i := slices.IndexFunc(w.Nodes, func(n WantedNode) bool { return n.Name == name })
	if i < 0 {
		return WantedNode{}, false
	}
	return w.Nodes[i], true
}

// Difference is one setting of a node that is not as wanted.
type Difference struct {
	Node string `json:"node"`
	What string `json:"what"` // "link 1", "votes", "node id", "priority of link 0"
	Want string `json:"want"`
	Have string `json:"have"`
}

func (d Difference) String() string {
	return fmt.Sprintf("%s of %s is %s, wanted %s", d.What, d.Node, orNone(d.Have), orNone(d.Want))
}

func orNone(s string) string {
	if s == "" {
		return "not set"
	}
	return s
}

// Drift is how a cluster differs from what is wanted.
type Drift struct {
	Missing     []string     `json:"missing,omitempty"` // wanted and not in the cluster
	Foreign     []string     `json:"foreign,omitempty"` // in the cluster and not wanted
	Differences []Difference `json:"differences,omitempty"`
}

// Empty reports whether all is as wanted.
func (d Drift) Empty() bool {
	return len(d.Missing) == 0 && len(d.Foreign) == 0 && len(d.Differences) == 0
}

// CompareMembership compares a cluster's corosync.conf with what is wanted.
func CompareMembership(w Wanted, conf *CorosyncConf) Drift {
	var d Drift
	for _, want := range w.Nodes {
		have, ok := conf.Node(want.Name)
		if !ok {
			d.Missing = append(d.Missing, want.Name)
			continue
		}
		d.Differences = append(d.Differences, compareNode(want, have)...)
	}
	for _, name := range conf.Names() {
		if _, ok := w.Node(name); !ok {
			d.Foreign = append(d.Foreign, name)
		}
	}
	d.Differences = append(d.Differences, comparePriorities(w, conf)...)
	return d
}

func compareNode(want WantedNode, have ConfNode) []Difference {
	var out []Difference
	differ := func(what, wanted, got string) {
		if wanted != got {
			out = append(out, Difference{Node: want.Name, What: what, Want: wanted, Have: got})
		}
	}
	if len(want.Links) > 0 {
		numbers := have.LinkNumbers()
		for i, addr := range want.Links {
			got := have.Links[i]
			if a, err := netip.ParseAddr(got); err == nil {
				got = a.Unmap().String()
			}
			differ("link "+strconv.Itoa(i), addr.String(), got)
		}
		for _, n := range numbers {
			if n >= len(want.Links) {
				differ("link "+strconv.Itoa(n), "", have.Links[n])
			}
		}
	}
	differ("votes", strconv.Itoa(want.Votes), strconv.Itoa(have.Votes))
	if want.ID != 0 {
		differ("node id", strconv.Itoa(want.ID), strconv.Itoa(have.ID))
	}
	return out
}

// comparePriorities looks at the first wanted node: a priority is one value per link of the whole cluster.
func comparePriorities(w Wanted, conf *CorosyncConf) []Difference {
	if len(w.Nodes) == 0 {
		return nil
	}
	var out []Difference
	for i, want := range w.Nodes[0].Priorities {
		if have := conf.LinkPriorities[i]; have != want {
			out = append(out, Difference{
				Node: w.Nodes[0].Name, What: fmt.Sprintf("priority of link %d", i),
				Want: strconv.Itoa(want), Have: strconv.Itoa(have),
			})
		}
	}
	return out
}
