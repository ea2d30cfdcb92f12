package cluster

import (
	"context"
	"fmt"
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

// haManager is the program ha-manager, as far as a cluster without HA resources shows it.
func (n *Node) haManager(ctx context.Context, p *machine.Proc) int {
	if n.w.clock.Sleep(ctx, perlStart) != nil {
		return pvetool.ExitDie
	}
	if p.UID != 0 {
		return pvetool.Die(p, pvetool.ExitDie, "please run as root")
	}
	switch strings.Join(p.Args(), " ") {
	case "status", "status --verbose 1", "status --verbose":
	case "config", "rules config":
		return 0
	default:
		fmt.Fprintln(p.Stderr, "ERROR: unknown command 'ha-manager "+strings.Join(p.Args(), " ")+"'")
		return pvetool.ExitDie
	}
	if n.canWrite() {
		p.Println("quorum OK")
	} else {
		p.Printf("quorum No quorum on node '%s'!\n", n.name)
	}
	if n.Release().Major() >= 9 {
		p.Println("fencing standby (CRM watchdog standby)")
	}
	return 0
}
