package cluster

import (
	"context"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// pveversion is the program of that name.
func (n *Node) pveversion(ctx context.Context, p *machine.Proc) int {
	if n.w.clock.Sleep(ctx, perlStart) != nil {
		return pvetool.ExitDie
	}
	kernel := n.m.Kernel()
	if len(p.Args()) == 0 {
		p.Printf("pve-manager/%s/%s (running kernel: %s)\n", n.Release().Version, n.Release().Hash, kernel)
		return 0
	}
	if arg := strings.TrimLeft(p.Args()[0], "-"); arg != "v" && arg != "verbose" {
		return pvetool.Usage(p, &pvetool.ParamError{Head: "unable to parse option"}, "pveversion  [OPTIONS]")
	}
	for _, pkg := range n.Release().Packages {
		switch pkg.Name {
		case "proxmox-ve":
			p.Printf("proxmox-ve: %s (running kernel: %s)\n", pkg.Version, kernel)
		case "pve-manager":
			p.Printf("pve-manager: %s (running version: %s/%s)\n", pkg.Version, pkg.Version, n.Release().Hash)
		default:
			p.Printf("%s: %s\n", pkg.Name, pkg.Version)
		}
	}
	return 0
}
