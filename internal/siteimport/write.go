package siteimport

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/zclconf/go-cty/cty"
)

// Login is how the nodes are reached, as far as it is not the default.
type Login struct {
	User         string
	IdentityFile string
	HostKeys     string
}

// writer makes the files.
type writer struct {
	*Found
	cluster string
	root    *hclwrite.Body
	book    *hclwrite.Body // the runbook
	notes   []string
	tasks   map[string]int // labels that are taken
}

// Write makes one HCL file of what was found, and notes about what could not be written down.
func Write(f *Found, l Login) (text []byte, notes []string) {
	file := hclwrite.NewEmptyFile()
	w := &writer{Found: f, cluster: "cluster", root: file.Body(), tasks: map[string]int{}}
	if f.Conf != nil {
		w.cluster = f.Conf.ClusterName
	}
	w.comment(w.root, "Written by pxrun import. Planning it changes nothing; from here on it is yours.")
	w.inventory(l)
	w.arbiter()
	w.root.AppendNewline()
	book := w.root.AppendNewBlock("runbook", []string{"site"})
	w.book = book.Body()
	w.book.SetAttributeTraversal("cluster", traversal("cluster", w.cluster))
	w.forming()
	w.datacenter()
	w.ceph()
	w.storages()
	w.highAvailability()
	w.replication()
	w.backups()
	return hclwrite.Format(file.Bytes()), w.notes
}

func (w *writer) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// comment writes a line of comment.
func (w *writer) comment(b *hclwrite.Body, text string) {
	b.AppendUnstructuredTokens(hclwrite.Tokens{{Type: hclsyntax.TokenComment, Bytes: []byte("# " + strings.ReplaceAll(text, "\n", " ") + "\n")}})
}

func traversal(names ...string) hcl.Traversal {
	t := hcl.Traversal{hcl.TraverseRoot{Name: names[0]}}
	for _, name := range names[1:] {
		t = append(t, hcl.TraverseAttr{Name: name})
	}
	return t
}

// task begins a task. Its name is unique in the runbook.
func (w *writer) task(module, name string) *hclwrite.Body {
	name = word(name)
	w.tasks[name]++
	if n := w.tasks[name]; n > 1 {
		name = fmt.Sprintf("%s_%d", name, n)
	}
	w.book.AppendNewline()
	return w.book.AppendNewBlock("task", []string{module, name}).Body()
}

// word makes a name of a task: letters, digits and underscores.
func word(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, name)
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "t_" + name
	}
	return name
}

func set(b *hclwrite.Body, name, value string) { b.SetAttributeValue(name, cty.StringVal(value)) }

func setList(b *hclwrite.Body, name string, values []string) {
	list := make([]cty.Value, len(values))
	for i, v := range values {
		list[i] = cty.StringVal(v)
	}
	b.SetAttributeValue(name, cty.TupleVal(list))
}

func setBool(b *hclwrite.Body, name string, v bool) { b.SetAttributeValue(name, cty.BoolVal(v)) }

func setInt(b *hclwrite.Body, name string, v int) {
	b.SetAttributeValue(name, cty.NumberIntVal(int64(v)))
}

// inventory writes the cluster with its nodes.
func (w *writer) inventory(l Login) {
	w.root.AppendNewline()
	cluster := w.root.AppendNewBlock("cluster", []string{w.cluster}).Body()
	ssh := cluster.AppendNewBlock("ssh", nil).Body()
	set(ssh, "user", l.User)
	if l.IdentityFile != "" {
		set(ssh, "identity_file", l.IdentityFile)
	}
	if l.HostKeys != "" {
		set(ssh, "host_keys", l.HostKeys)
	}
	if w.Conf == nil {
		cluster.AppendNewline()
		node := cluster.AppendNewBlock("node", []string{w.First}).Body()
		if a, ok := w.Nodes[0].HostnameAddr(); ok {
			set(node, "address", a.String())
		}
		return
	}
	for _, n := range w.Conf.Nodes {
		cluster.AppendNewline()
		node := cluster.AppendNewBlock("node", []string{n.Name}).Body()
		set(node, "address", w.address(n.Name))
		w.links(node, n.Links)
		setInt(node, "id", n.ID)
		if n.Votes != 1 {
			setInt(node, "votes", n.Votes)
		}
		w.osds(node, n.Name)
	}
}

// links writes a node's addresses on the cluster's links in their order, with priorities where there are any.
func (w *writer) links(node *hclwrite.Body, links map[int]string) {
	numbers := w.Conf.LinkNumbers()
	var list []cty.Value
	for _, n := range numbers {
		address := links[n]
		if _, err := netip.ParseAddr(address); err != nil {
			w.note("link %d of a node is %q, a name: the inventory takes addresses only", n, address)
			return
		}
		if p := w.Conf.LinkPriorities[n]; p != 0 {
			list = append(list, cty.ObjectVal(map[string]cty.Value{"address": cty.StringVal(address), "priority": cty.NumberIntVal(int64(p))}))
			continue
		}
		list = append(list, cty.StringVal(address))
	}
	if len(numbers) > 0 && numbers[len(numbers)-1] != len(numbers)-1 {
		w.note("the cluster's links are not numbered from 0 on: the inventory counts them so")
	}
	node.SetAttributeValue("links", cty.TupleVal(list))
}

// arbiter writes the host of a QDevice.
func (w *writer) arbiter() {
	if w.Conf == nil || w.Conf.Device == nil {
		return
	}
	w.root.AppendNewline()
	host := w.root.AppendNewBlock("host", []string{"arbiter"}).Body()
	set(host, "address", w.Conf.Device.Host)
}

// forming writes what made the cluster.
func (w *writer) forming() {
	if w.Conf == nil {
		w.note("the node is in no cluster: there is an inventory and a runbook that checks it")
		set(w.task("preflight", "ready"), "for", "forming")
		return
	}
	set(w.task("preflight", "ready"), "for", "running")
	set(w.task("cluster_create", "form"), "name", w.Conf.ClusterName)
	w.task("node_join", "members").SetAttributeTraversal("nodes", traversal("cluster", w.cluster, "nodes"))
	if w.Conf.Device != nil {
		w.task("qdevice", "arbiter_votes").SetAttributeTraversal("arbiter", traversal("host", "arbiter"))
	}
}

// sorted lists the options of a section but for some.
func sorted(s config.Section, without ...string) []string {
	var keys []string
	for key := range s.Values {
		if !slices.Contains(without, key) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
