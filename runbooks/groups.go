package runbooks

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
)

func (l *loader) evalGroup(g *groupDecl) cty.Value {
	g.group = inventory.Group{Name: g.name, Range: g.block.DefRange}
	a := l.attributes(g.content, scope{})
	a.object("vars", &g.group.Vars)
	if v, _, ok := a.value("hosts"); ok {
		// Groups of groups are written with references, so that circles among them are found.
		names := &inventory.Site{Hosts: bareHosts(l.skeleton.hosts), Clusters: bareClusters(l.skeleton.clusters)}
		hosts, diags := selectHosts(names, v, placesIn(g.content.Attributes["hosts"].Expr))
		l.report(diags)
		g.group.Hosts = hosts
	}
	return groupObject(g.group, func(name string) cty.Value { return l.get(ref{"host", name}, g.block.DefRange) })
}

// bareHosts are hosts of which only what Select looks at is filled in.
func bareHosts(hosts []*hostDecl) []inventory.Host {
	list := make([]inventory.Host, len(hosts))
	for i, h := range hosts {
		list[i].Name = h.name
	}
	return list
}

func bareClusters(clusters []*clusterDecl) []*inventory.Cluster {
	list := make([]*inventory.Cluster, len(clusters))
	for i, c := range clusters {
		list[i] = &inventory.Cluster{Name: c.name, Nodes: c.nodeNames()}
	}
	return list
}

func groupObject(g inventory.Group, host func(name string) cty.Value) cty.Value {
	hosts := make([]cty.Value, len(g.Hosts))
	for i, name := range g.Hosts {
		hosts[i] = host(name)
	}
	return cty.ObjectVal(map[string]cty.Value{
		"name": cty.StringVal(g.Name), "hosts": cty.TupleVal(hosts), "vars": cty.ObjectVal(g.Vars),
	})
}

// placesOf are the places of a list and of its elements, as far as it is written out.
type placesOf struct {
	whole    hcl.Range
	elements []hcl.Range
}

func placesIn(expr hcl.Expression) placesOf {
	p := placesOf{whole: expr.Range()}
	if list, diags := hcl.ExprList(expr); !diags.HasErrors() {
		p.elements = valuesOf(list, hcl.Expression.Range)
	}
	return p
}

// selectHosts reads the value of a hosts attribute: a host, a cluster, a group, a pattern, or a list of these. Hosts
// come in the order in which they are written, each once.
func selectHosts(site *inventory.Site, v cty.Value, places placesOf) ([]string, diag.List) {
	var (
		at    = places.whole
		names []string
		diags diag.List
	)
	add := func(more ...string) {
		for _, name := range more {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	var collect func(v cty.Value)
	collect = func(v cty.Value) {
		v, _ = v.Unmark()
		switch t := v.Type(); {
		case v.IsNull():
			diags = append(diags, wrongType("hosts", "hosts", v, at)...)
		case !v.IsKnown():
			return // reported where it comes from, or deferred by the caller
		case t.IsTupleType(), t.IsListType(), t.IsSetType():
			outer := at == places.whole && len(places.elements) == v.LengthInt()
			for i, item := range v.AsValueSlice() {
				if outer {
					at = places.elements[i]
				}
				collect(item)
			}
		case t == cty.String:
			found, err := inventory.Select(site, v.AsString())
			if err != nil {
				diags = append(diags, diag.Error("No such host", sentence(err.Error()), at)...)
			}
			add(found...)
		case t.IsObjectType() && t.HasAttribute("nodes"):
			collect(v.GetAttr("nodes"))
		case t.IsObjectType() && t.HasAttribute("hosts"):
			collect(v.GetAttr("hosts"))
		case t.IsObjectType() && t.HasAttribute("name") && t.AttributeType("name") == cty.String:
			collect(v.GetAttr("name"))
		default:
			diags = append(diags, diag.Error("Wrong type", fmt.Sprintf("hosts wanted hosts such as cluster.lab.nodes, host.web or \"pve*\", got %s.", describe(v)), at)...)
		}
	}
	collect(v)
	return names, diags
}

// sentence begins with a capital and ends with a full stop.
func sentence(text string) string {
	if text == "" {
		return text
	}
	if first := text[0]; first >= 'a' && first <= 'z' {
		text = string(first-'a'+'A') + text[1:]
	}
	if last := text[len(text)-1]; last != '.' && last != '?' && last != '!' {
		text += "."
	}
	return text
}
