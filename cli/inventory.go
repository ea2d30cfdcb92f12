package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/inventory"
	"github.com/spf13/cobra"
)

// inventoryOptions are the flags of inventory.
type inventoryOptions struct {
	site  siteOptions
	graph bool
}

func newInventoryCommand(a *app) *cobra.Command {
	var o inventoryOptions
	cmd := &cobra.Command{
		Use: "inventory [PATH...]", Short: "Show the hosts, clusters and groups of a site", GroupID: groupLook,
		Long: long(`Shows what the files say exists, without connecting to anything: all hosts as a table, or with "graph" as a tree. A PATH is a file
or a folder; without one, those of -i are read. With --json it writes one object for each host, cluster and group.`, exitOK),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.site.paths = args
			return runInventory(cmd.Context(), a, o)
		},
	}
	list := &cobra.Command{
		Use: "list [PATH...]", Short: "Show the hosts of a site as a table",
		Long: long("Shows the hosts of a site as a table, the same as inventory alone.", exitOK),
		RunE: cmd.RunE,
	}
	graph := &cobra.Command{
		Use: "graph [PATH...]", Short: "Show a site as a tree",
		Long: long("Shows the clusters with their nodes and links, other hosts, and groups as a tree.", exitOK),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.site.paths, o.graph = args, true
			return runInventory(cmd.Context(), a, o)
		},
	}
	o.site.flags(cmd.PersistentFlags())
	cmd.AddCommand(list, graph)
	return cmd
}

// hostObject is a host in the JSON form.
type hostObject struct {
	Type    string   `json:"type"`
	Name    string   `json:"name"`
	Address string   `json:"address"`
	Cluster string   `json:"cluster,omitempty"`
	Groups  []string `json:"groups"`
	User    string   `json:"user,omitempty"`
	Port    int      `json:"port,omitempty"`
	Links   []string `json:"links,omitempty"`
	Votes   int      `json:"votes,omitempty"`
}

// groupObject is a group or cluster in the JSON form.
type groupObject struct {
	Type  string   `json:"type"`
	Name  string   `json:"name"`
	Hosts []string `json:"hosts"`
}

func links(h inventory.Host) []string {
	if h.Node == nil {
		return nil
	}
	texts := make([]string, len(h.Node.Links))
	for i, l := range h.Node.Links {
		texts[i] = l.Address.String()
	}
	return texts
}

func runInventory(ctx context.Context, a *app, o inventoryOptions) error {
	doc, err := a.load(ctx, o.site, false)
	if err != nil {
		return err
	}
	switch site := doc.Site; {
	case a.global.json:
		return inventoryJSON(a.Out, site)
	case o.graph:
		_, err := io.WriteString(a.Out, siteTree(site, a.look()))
		return err
	default:
		return inventoryTable(a.Out, site, a.look())
	}
}

func inventoryJSON(w io.Writer, site *inventory.Site) error {
	for _, h := range site.Hosts {
		o := hostObject{Type: "host", Name: h.Name, Address: h.Address, Cluster: h.Cluster, Groups: append([]string{}, h.Groups...), User: h.SSH.User, Port: h.SSH.Port, Links: links(h)}
		if h.Node != nil {
			o.Votes = h.Node.Votes
		}
		if err := report.WriteObject(w, o); err != nil {
			return err
		}
	}
	for _, c := range site.Clusters {
		if err := report.WriteObject(w, groupObject{"cluster", c.Name, c.Nodes}); err != nil {
			return err
		}
	}
	for _, g := range site.Groups {
		if err := report.WriteObject(w, groupObject{"group", g.Name, g.Hosts}); err != nil {
			return err
		}
	}
	return nil
}

func inventoryTable(w io.Writer, site *inventory.Site, l report.Look) error {
	var rows [][]string
	for _, h := range site.Hosts {
		login := h.Address
		if h.SSH.User != "" {
			login = h.SSH.User + "@" + login
		}
		if h.SSH.Port != 0 && h.SSH.Port != 22 {
			login += fmt.Sprintf(":%d", h.SSH.Port)
		}
		rows = append(rows, []string{h.Name, login, h.Cluster, strings.Join(h.Groups, ", "), strings.Join(links(h), ", ")})
	}
	return report.Table(w, []string{"host", "address", "cluster", "groups", "links"}, rows, l)
}

// siteTree draws clusters, hosts outside of them, and groups.
func siteTree(site *inventory.Site, l report.Look) string {
	var top []branch
	for _, c := range site.Clusters {
		b := branch{text: "cluster " + c.Name}
		for _, name := range c.Nodes {
			h, _ := site.Host(name)
			text := name + "  " + h.Address
			if all := links(h); len(all) > 0 {
				text += "  links " + strings.Join(all, ", ")
			}
			b.below = append(b.below, branch{text: text})
		}
		top = append(top, b)
	}
	for _, h := range site.Hosts {
		if h.Cluster == "" {
			top = append(top, branch{text: "host " + h.Name + "  " + h.Address})
		}
	}
	for _, g := range site.Groups {
		b := branch{text: "group " + g.Name}
		for _, name := range g.Hosts {
			b.below = append(b.below, branch{text: name})
		}
		top = append(top, b)
	}
	var out strings.Builder
	for _, b := range top {
		b.draw(&out, "", "", l.Unicode)
	}
	return out.String()
}

// branch is a line of a tree with what hangs below it.
type branch struct {
	text  string
	below []branch
}

func (b branch) draw(out *strings.Builder, first, rest string, unicode bool) {
	out.WriteString(first + b.text + "\n")
	fork, corner, line := "├─ ", "└─ ", "│  "
	if !unicode {
		fork, corner, line = "|- ", "`- ", "|  "
	}
	for i, child := range b.below {
		if i == len(b.below)-1 {
			child.draw(out, rest+corner, rest+"   ", unicode)
		} else {
			child.draw(out, rest+fork, rest+line, unicode)
		}
	}
}
