package storage

import (
	"context"
	"slices"

	"github.com/pxrun/pxrun/lab/machine"
)

// zpool is the program of that name, as far as it lists.
func (n *Node) zpool(_ context.Context, p *machine.Proc) int {
	if len(p.Args()) == 0 || p.Args()[0] != "list" {
		return p.Fail(2, "unrecognized command")
	}
	plain := slices.ContainsFunc(p.Args(), func(a string) bool { return a == "-H" || a == "-Hp" || a == "-pH" })
	seen := map[string]bool{}
	for _, dataset := range n.pools {
		seen[poolOf(dataset)] = true
	}
	if len(seen) == 0 && !plain {
		p.Println("no pools available")
		return 0
	}
	if !plain {
		p.Println("NAME    SIZE  ALLOC   FREE  CKPOINT  EXPANDSZ   FRAG    CAP  DEDUP    HEALTH  ALTROOT")
	}
	for _, dataset := range n.pools {
		if name := poolOf(dataset); seen[name] {
			seen[name] = false
			if plain {
				p.Printf("%s\t966367641600\t10737418240\t955630223360\t-\t-\t0\t1\t1.00\tONLINE\t-\n", name)
			} else {
				p.Printf("%-6s  900G    10G   890G        -         -     0%%     1%%  1.00x    ONLINE  -\n", name)
			}
		}
	}
	return 0
}

// zfs is the program of that name, as far as it lists.
func (n *Node) zfs(_ context.Context, p *machine.Proc) int {
	args := p.Args()
	if len(args) == 0 || args[0] != "list" {
		return p.Fail(2, "unrecognized command")
	}
	wanted := ""
	if last := args[len(args)-1]; len(args) > 1 && last[0] != '-' && slices.Contains(n.names(), last) {
		wanted = last
	} else if len(args) > 1 && last[0] != '-' && args[len(args)-2] != "-o" && args[len(args)-2] != "-t" {
		return p.Fail(1, "cannot open '%s': dataset does not exist", last)
	}
	for _, name := range n.names() {
		if wanted == "" || name == wanted {
			p.Printf("%s\t955630223360\t10737418240\n", name)
		}
	}
	return 0
}

// names are the pools and data sets with those above them.
func (n *Node) names() []string {
	var out []string
	for _, dataset := range n.pools {
		for i, c := range dataset {
			if c == '/' {
				out = append(out, dataset[:i])
			}
		}
		out = append(out, dataset)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
