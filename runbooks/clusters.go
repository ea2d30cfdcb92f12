package runbooks

import (
	"fmt"
	"net/netip"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/inventory"
)

// checkNodes checks what the nodes of a cluster have to agree on.
func (l *loader) checkNodes(c *clusterDecl) {
	l.checkLinkCounts(c)
	l.checkLinkAddresses(c)
	l.checkPriorities(c)
	l.checkIDs(c)
	votes := 0
	for _, n := range c.nodes {
		if n.host.Node == nil {
			return
		}
		votes += n.host.Node.Votes
	}
	if votes == 0 && len(c.nodes) > 0 {
		l.report(diag.Error("No votes", fmt.Sprintf("No node of the cluster %q has a vote, so it could never have quorum.", c.name), c.block.DefRange))
	}
}

func (n *hostDecl) links() []inventory.Link {
	if n.host.Node == nil {
		return nil
	}
	return n.host.Node.Links
}

// linkCount counts the links of a node. One that names none has one link, on its address.
func (n *hostDecl) linkCount() int { return max(1, len(n.links())) }

// checkLinkCounts: pvecm refuses a node whose links are not those of the others.
func (l *loader) checkLinkCounts(c *clusterDecl) {
	for _, n := range c.nodes {
		first := c.nodes[0]
		if n.linkCount() == first.linkCount() {
			continue
		}
		at := n.block.DefRange
		if attr, ok := n.content.Attributes["links"]; ok {
			at = attr.Expr.Range()
		}
		l.report(diag.Error("Differing number of links", fmt.Sprintf("%s has %s and %s has %s. All nodes of a cluster need an address on each of its links.",
			n.name, links(n.linkCount()), first.name, links(first.linkCount())), at))
	}
}

func links(n int) string {
	if n == 1 {
		return "1 link"
	}
	return fmt.Sprintf("%d links", n)
}

func (l *loader) checkLinkAddresses(c *clusterDecl) {
	type owner struct {
		node *hostDecl
		link int
	}
	seen := map[netip.Addr]owner{}
	for _, n := range c.nodes {
		for i, link := range n.links() {
			if !link.Address.IsValid() {
				continue
			}
			if first, twice := seen[link.Address]; twice {
				l.report(diag.Error("Duplicate link address", fmt.Sprintf("%s is already the address of %s on link %d.", link.Address, first.node.name, first.link), n.linkRanges[i]))
				continue
			}
			seen[link.Address] = owner{n, i}
		}
	}
}

// checkPriorities: a priority is one value for the whole link, so nodes that give one must agree; those that give none
// take it over.
func (l *loader) checkPriorities(c *clusterDecl) {
	for i := range maxLinks {
		priority, by := 0, ""
		for _, n := range c.nodes {
			if i >= len(n.links()) || n.links()[i].Priority == 0 {
				continue
			}
			switch p := n.links()[i].Priority; {
			case priority == 0:
				priority, by = p, n.name
			case p != priority:
				l.report(diag.Error("Differing link priority", fmt.Sprintf("The priority belongs to the link, and %s gives %d for link %d where %s gives %d.", n.name, p, i, by, priority), n.linkRanges[i]))
			}
		}
		for _, n := range c.nodes {
			if i < len(n.links()) {
				n.host.Node.Links[i].Priority = priority
			}
		}
	}
}

func (l *loader) checkIDs(c *clusterDecl) {
	seen := map[int]*hostDecl{}
	for _, n := range c.nodes {
		if n.host.Node == nil || n.host.Node.ID == 0 {
			continue
		}
		if first, twice := seen[n.host.Node.ID]; twice {
			l.report(diag.Error("Duplicate node id", fmt.Sprintf("%s has the id %d of %s.", n.name, n.host.Node.ID, first.name), attributeRange(n.content, "id", n.block.DefRange)))
			continue
		}
		seen[n.host.Node.ID] = n
	}
}

func attributeRange(c *hcl.BodyContent, name string, otherwise hcl.Range) hcl.Range {
	if a, ok := c.Attributes[name]; ok {
		return a.Expr.Range()
	}
	return otherwise
}
