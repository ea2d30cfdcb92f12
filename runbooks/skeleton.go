package runbooks

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
)

var (
	sshBlock = hcl.BlockHeaderSchema{Type: "ssh"}

	clusterSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{sshBlock, {Type: "node", LabelNames: []string{"name"}}}}
	hostSchema    = &hcl.BodySchema{
		Attributes: []hcl.AttributeSchema{{Name: "address", Required: true}, {Name: "vars"}, {Name: "host_key"}},
		Blocks:     []hcl.BlockHeaderSchema{sshBlock},
	}
	nodeSchema = &hcl.BodySchema{
		Attributes: append([]hcl.AttributeSchema{{Name: "links"}, {Name: "id"}, {Name: "votes"}, {Name: "osds"}}, hostSchema.Attributes...),
		Blocks:     hostSchema.Blocks,
	}
	groupSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "hosts", Required: true}, {Name: "vars"}}}
)

// clusterDecl is a cluster block, taken apart but not evaluated.
type clusterDecl struct {
	name    string
	block   *hcl.Block
	content *hcl.BodyContent
	nodes   []*hostDecl
}

func (c *clusterDecl) node(name string) (*hostDecl, bool) {
	for _, n := range c.nodes {
		if n.name == name {
			return n, true
		}
	}
	return nil, false
}

// hostDecl is a host or node block and, later, what it was evaluated to.
type hostDecl struct {
	name    string
	cluster *clusterDecl // nil for a host
	block   *hcl.Block
	content *hcl.BodyContent
	// Filled by the evaluation.
	host       inventory.Host
	linkRanges []hcl.Range
	object     cty.Value
}

func (h *hostDecl) kind() string {
	if h.cluster == nil {
		return "host"
	}
	return "node"
}

// groupDecl is a group block.
type groupDecl struct {
	name    string
	block   *hcl.Block
	content *hcl.BodyContent
	group   inventory.Group
}

// skeleton is what exists, by name, before anything is evaluated: references are checked against it.
type skeleton struct {
	clusters []*clusterDecl
	hosts    []*hostDecl // nodes included
	groups   []*groupDecl

	clusterBy map[string]*clusterDecl
	hostBy    map[string]*hostDecl
	groupBy   map[string]*groupDecl
}

func newSkeleton(d *declarations) (*skeleton, diag.List) {
	s := &skeleton{clusterBy: map[string]*clusterDecl{}, hostBy: map[string]*hostDecl{}, groupBy: map[string]*groupDecl{}}
	var diags diag.List
	for _, b := range d.machines {
		if b.Type == "host" {
			diags = append(diags, s.addHost(b, nil)...)
		} else {
			diags = append(diags, s.addCluster(b)...)
		}
	}
	for _, name := range d.groups.order {
		b := d.groups.byName[name]
		content, more := contentOf(b, groupSchema)
		diags = append(diags, more...)
		g := &groupDecl{name: name, block: b, content: content}
		s.groups, s.groupBy[name] = append(s.groups, g), g
		for kind, taken := range map[string]bool{"host": s.hostBy[name] != nil, "cluster": s.clusterBy[name] != nil} {
			if taken {
				diags = append(diags, diag.Error("Duplicate name", fmt.Sprintf("The group %q has the name of a %s. --limit %s could mean either.", name, kind, name), b.LabelRanges[0])...)
			}
		}
	}
	return s, diags
}

func (s *skeleton) addCluster(b *hcl.Block) diag.List {
	c := &clusterDecl{name: b.Labels[0], block: b}
	diags := checkName("cluster", c.name, b.LabelRanges[0])
	content, more := contentOf(b, clusterSchema)
	c.content = content
	diags = append(diags, more...)
	s.clusters, s.clusterBy[c.name] = append(s.clusters, c), c
	for _, n := range content.Blocks.OfType("node") {
		diags = append(diags, s.addHost(n, c)...)
	}
	switch n := len(c.nodes); {
	case n == 0 && !more.HasErrors():
		diags = append(diags, diag.Error("Cluster without nodes", fmt.Sprintf("The cluster %q has no node. Add a node block for each of its machines.", c.name), b.DefRange)...)
	case n > 32:
		diags = append(diags, diag.Warning("Large cluster", fmt.Sprintf("The cluster %q has %d nodes. Corosync is rarely run with more than 32: "+
			"each node adds to the time that the totem ring needs.", c.name, n), b.DefRange)...)
	}
	return diags
}

func (s *skeleton) addHost(b *hcl.Block, c *clusterDecl) diag.List {
	h := &hostDecl{name: b.Labels[0], cluster: c, block: b}
	diags := checkName(h.kind(), h.name, b.LabelRanges[0])
	schema := hostSchema
	if c != nil {
		schema = nodeSchema
	}
	content, more := contentOf(b, schema)
	h.content = content
	diags = append(diags, more...)
	if first, twice := s.hostBy[h.name]; twice {
		return append(diags, diag.Error("Duplicate "+h.kind(), fmt.Sprintf("The name %q is already that of the %s at %s. Names of nodes and hosts are unique over all files.",
			h.name, first.kind(), place(first.block.DefRange)), b.LabelRanges[0])...)
	}
	if other, taken := s.clusterBy[h.name]; taken {
		diags = append(diags, diag.Error("Duplicate name", fmt.Sprintf("The %s %q has the name of the cluster at %s. --limit %s could mean either.",
			h.kind(), h.name, place(other.block.DefRange), h.name), b.LabelRanges[0])...)
	}
	s.hosts, s.hostBy[h.name] = append(s.hosts, h), h
	if c != nil {
		c.nodes = append(c.nodes, h)
	}
	return diags
}

func (s *skeleton) clusterNames() []string {
	return valuesOf(s.clusters, func(c *clusterDecl) string { return c.name })
}
func (s *skeleton) hostNames() []string {
	return valuesOf(s.hosts, func(h *hostDecl) string { return h.name })
}
func (s *skeleton) groupNames() []string {
	return valuesOf(s.groups, func(g *groupDecl) string { return g.name })
}
func (c *clusterDecl) nodeNames() []string {
	return valuesOf(c.nodes, func(h *hostDecl) string { return h.name })
}
