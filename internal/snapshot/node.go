package snapshot

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/packages"
	"github.com/pxrun/pxrun/internal/transport"
)

// efiCommand says whether proxmox-boot-tool keeps EFI system partitions (reference §7.4).
var efiCommand = transport.Command{Script: "if [ -s /etc/kernel/proxmox-boot-uuids ]; then echo efi; fi", Timeout: 30 * time.Second}

// readNode reads what a node alone knows. What could not be read is told.
func readNode(ctx context.Context, name, address string, conn transport.Conn) (n Node, running map[int]guest.Kind, disks *ceph.Node, notes []string) {
	n = Node{Name: name, Address: address}
	s := pve.ReadNode(ctx, name, conn, pve.Options{})
	if s.Err != nil {
		return n, nil, nil, []string{s.Err.Error()}
	}
	n.Online, n.Kernel, n.CPUs, n.Memory = true, s.Kernel, s.CPUs, s.MemoryTotal
	if n.Address == "" && len(s.HostnameAddrs) > 0 {
		n.Address = s.HostnameAddrs[0].String()
	}
	n.Version = s.Version()
	n.Interfaces = interfacesOf(s.Interfaces)
	g := guest.ReadNode(ctx, name, conn)
	if g.Err != nil {
		notes = append(notes, g.Err.Error())
	} else {
		running = g.Running
	}
	n.CPUVendor, n.CPUModel, n.CPUFlags = g.Vendor, g.Model, slices.Sorted(maps.Keys(g.Flags))
	if disks = ceph.ReadNode(ctx, name, conn); disks.Err != nil {
		notes = append(notes, disks.Err.Error())
		disks = nil
	} else {
		n.Disks = disksOf(disks)
	}
	if r, err := conn.Run(ctx, efiCommand); err == nil {
		n.EFI = strings.TrimSpace(r.Out()) == "efi"
	}
	r, err := conn.Run(ctx, packages.Probe())
	if err != nil {
		return n, running, disks, append(notes, fmt.Sprintf("the packages of %s could not be read: %v", name, err))
	}
	p, err := packages.Read(r.Stdout)
	if err != nil {
		notes = append(notes, fmt.Sprintf("the packages of %s could not be read: %v", name, err))
	}
	n.packages(p)
	return n, running, disks, notes
}

// packages takes the state of the packages.
func (n *Node) packages(p packages.State) {
	n.Packages = map[string]string{}
	maps.Copy(n.Packages, p.Installed)
	for _, c := range slices.Concat(p.Upgrade.Installs, p.Upgrade.Removes) {
		n.Updates = append(n.Updates, Update{Name: c.Name, From: c.From, To: c.To, Origin: c.Origin})
		if c.From != "" {
			n.Packages[c.Name] = c.From
		}
	}
	n.Lists, n.Unknown = int64(p.ListAge/time.Second), p.Unknown
	const ever = 10 * 365 * 24 * time.Hour
	if p.ListAge > ever { // they are from before the last change of the sources
		n.Lists = NoLists
	}
	n.Kernels, n.Pin, n.NextPin, n.Subscribed = p.Boot.Kernels, p.Boot.Pin, p.Boot.OneShotPin, p.Subscribed
	n.Sources = map[string]string{}
	for path, text := range p.Files {
		if kept := keepSource(text); strings.TrimSpace(kept) != "" {
			n.Sources[path] = kept
		}
	}
}

// made are interfaces that guests and firewalls make.
var made = regexp.MustCompile(`^(lo|tap\d+i\d+|veth\d+i\d+|fwbr\d+i\d+|fwpr\d+p\d+|fwln\d+[io]\d+)(@.*)?$`)

func interfacesOf(list []pve.Interface) []Interface {
	var out []Interface
	for _, i := range list {
		if made.MatchString(i.Name) {
			continue
		}
		one := Interface{Name: i.Name, MTU: i.MTU}
		for _, a := range i.Addrs {
			if !a.Addr().IsLinkLocalUnicast() {
				one.Addresses = append(one.Addresses, a.String())
			}
		}
		out = append(out, one)
	}
	return out
}
