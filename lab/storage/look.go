package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// pvesmStatus is `pvesm status`. It asks every storage, whichever is asked for.
func (n *Node) pvesmStatus(ctx context.Context, p *machine.Proc, args []string) int {
	known := map[string]pvetool.Option{"storage": {}, "content": optionOf("content"), "enabled": {Kind: pvetool.Bool}, "target": {}, "format": {Kind: pvetool.Bool}}
	o, code := arguments(p, args, known, 0, "status [OPTIONS]")
	if code >= 0 {
		return code
	}
	states, err := n.index(ctx, p, p.Stderr, o)
	if err != nil {
		return n.die(ctx, p, err)
	}
	n.printStatus(p.Stdout, states)
	return 0
}

// index is the list of storages for pvesm and pvesh.
func (n *Node) index(ctx context.Context, p *machine.Proc, warn io.Writer, o pvetool.Options) ([]state, error) {
	all := n.information(ctx, p.View(), warn, o.Values["content"])
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if id := o.Values["storage"]; id != "" && !slices.ContainsFunc(all, func(s state) bool { return s.ID == id }) {
		return nil, &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"storage: No such storage."}}
	}
	target := o.Values["target"]
	return slices.DeleteFunc(all, func(s state) bool {
		return o.Values["storage"] != "" && s.ID != o.Values["storage"] || o.Is("enabled") && !s.enabled ||
			target != "" && (!allowed(s.Section, target) || disabled(s.Section))
	}), nil
}

func (n *Node) printStatus(out io.Writer, states []state) {
	width := 0
	for _, s := range states {
		width = max(width, len(s.ID))
	}
	width++
	total, used, avail := "Total (KiB)", "Used (KiB)", "Available (KiB)"
	if n.n.Release().Major() < 9 {
		total, used, avail = "Total", "Used", "Available"
	}
	fmt.Fprintf(out, "%-*s %10s %10s %15s %15s %15s %8s\n", width, "Name", "Type", "Status", total, used, avail, "%")
	slices.SortFunc(states, func(a, b state) int { return cmp.Compare(a.ID, b.ID) })
	for _, s := range states {
		word, percent := "inactive", "   0.00%"
		switch {
		case !s.enabled:
			word, percent = "disabled", "     N/A"
		case s.active:
			word = "active"
			if s.total > 0 {
				percent = fmt.Sprintf("%7.2f%%", float64(s.used)*100/float64(s.total))
			}
		}
		fmt.Fprintf(out, "%-*s %10s %10s %15d %15d %15d %s\n", width, s.ID, s.Type, word, s.total/1024, s.used/1024, (s.total-s.used)/1024, percent)
	}
}

// object is a storage's state as the API shows it, with the types that it has there.
func (s state) object() pvetool.Object {
	flag := func(on bool) int {
		if on {
			return 1
		}
		return 0
	}
	o := pvetool.Object{
		"storage": s.ID, "type": s.Type, "content": shuffled(s.Values["content"]), "shared": flag(sharedStorage(s.Section)),
		"enabled": flag(s.enabled), "active": flag(s.active), "total": s.total, "used": s.used, "avail": s.total - s.used,
	}
	if s.total > 0 {
		o["used_fraction"] = float64(s.used) / float64(s.total)
	}
	return o
}

// list is `pvesm list`. It asks its storage only.
func (n *Node) list(ctx context.Context, p *machine.Proc, args []string) int {
	o, code := arguments(p, args, map[string]pvetool.Option{"content": optionOf("content"), "vmid": {Kind: pvetool.Int}}, 1, "list <storage> [OPTIONS]")
	if code >= 0 {
		return code
	}
	items, err := n.contents(ctx, p, o.Positional[0], o.Values["content"], o.Int("vmid"))
	if err != nil {
		return n.die(ctx, p, err)
	}
	width, digits := 0, 1
	for _, i := range items {
		width, digits = max(width, len(i.volid)), max(digits, len(strconv.FormatInt(i.size, 10)))
	}
	fmt.Fprintf(p.Stdout, "%-*s %-7s %-9s %*s %s\n", width, "Volid", "Format", "Type", digits, "Size", "VMID")
	for _, i := range items {
		if i.vmid != 0 {
			fmt.Fprintf(p.Stdout, "%-*s %-7s %-9s %*d %d\n", width, i.volid, i.format, i.content, digits, i.size, i.vmid)
		}
	}
	for _, i := range items {
		if i.vmid == 0 {
			fmt.Fprintf(p.Stdout, "%-*s %-7s %-9s %*d\n", width, i.volid, i.format, i.content, digits, i.size)
		}
	}
	return 0
}

// path is `pvesm path`.
func (n *Node) path(ctx context.Context, p *machine.Proc, args []string) int {
	o, code := arguments(p, args, nil, 1, "path <volume>")
	if code >= 0 {
		return code
	}
	id, name, ok := strings.Cut(o.Positional[0], ":")
	if !ok {
		return n.die(ctx, p, fmt.Errorf("unable to parse volume ID '%s'", o.Positional[0]))
	}
	s, there := readConfig(p.View()).find(id)
	if !there {
		return n.die(ctx, p, fmt.Errorf("storage '%s' does not exist", id))
	}
	path, err := volumePath(s, name)
	if err != nil {
		return n.die(ctx, p, err)
	}
	p.Println(path)
	return 0
}

func volumePath(s pvetool.Section, name string) (string, error) {
	switch {
	case s.Values["path"] != "":
		content, file, _ := strings.Cut(name, "/")
		if _, err := strconv.Atoi(content); err == nil {
			return subdir(s, "images") + "/" + name, nil
		}
		if subdirs[content] == "" || file == "" {
			return "", fmt.Errorf("unable to parse directory volume name '%s'", name)
		}
		return subdir(s, content) + "/" + file, nil
	case s.Type == "zfspool":
		return "/dev/zvol/" + s.Values["pool"] + "/" + name, nil
	case s.Type == "lvm" || s.Type == "lvmthin":
		return "/dev/" + s.Values["vgname"] + "/" + name, nil
	case s.Type == "rbd":
		return "rbd:" + cmp.Or(s.Values["pool"], "rbd") + "/" + name + ":conf=/etc/pve/ceph.conf:id=admin:keyring=/etc/pve/priv/ceph/" + s.ID + ".keyring", nil
	}
	return "", fmt.Errorf("unable to parse volume name '%s'", name)
}

// scan is `pvesm scan`.
func (n *Node) scan(ctx context.Context, p *machine.Proc, args []string) int {
	o, code := arguments(p, args, map[string]pvetool.Option{"username": {}, "password": {}, "domain": {}, "fingerprint": {}, "port": {Kind: pvetool.Int}}, -1, "scan <type> [<server>] [OPTIONS]")
	if code >= 0 {
		return code
	}
	what := append(o.Positional, "", "")
	var err error
	switch what[0] {
	case "nfs", "cifs", "iscsi", "pbs":
		err = n.scanServer(ctx, p, what[0], what[1])
	case "lvm":
		for _, g := range n.groups {
			if !strings.Contains(g, "/") {
				p.Println(g)
			}
		}
	case "lvmthin":
		for _, g := range n.groups {
			if group, thin, ok := strings.Cut(g, "/"); ok && group == what[1] {
				p.Println(thin)
			}
		}
	case "zfs":
		for _, pool := range n.pools {
			p.Println(pool)
		}
	default:
		return pvetool.Die(p, pvetool.ExitDie, "ERROR: unknown command 'pvesm scan %s'", what[0])
	}
	if err != nil {
		return n.die(ctx, p, err)
	}
	return 0
}

func (n *Node) scanServer(ctx context.Context, p *machine.Proc, kind, server string) error {
	if n.w.cluster.Find(server) == nil {
		if _, err := netip.ParseAddr(server); err != nil {
			return fmt.Errorf("unable to resolve address for server '%s'", server)
		}
	}
	if !n.reaches(kind, server) {
		if err := n.w.cluster.Clock().Sleep(ctx, probeTimeout); err != nil {
			return err
		}
		if kind == "nfs" {
			return errors.New("command '/sbin/showmount --no-headers --exports " + server + "' failed: exit code 1")
		}
		return fmt.Errorf("%s: no answer from %s", kind, server)
	}
	for _, e := range n.w.exported(kind, server) {
		switch kind {
		case "nfs":
			p.Println(e.Name + " *")
		case "iscsi":
			p.Println(e.Name + " " + server + ":3260")
		default:
			p.Println(e.Name)
		}
	}
	return nil
}

// showmount is the program of that name, as Proxmox and people call it.
func (n *Node) showmount(ctx context.Context, p *machine.Proc) int {
	server := ""
	heading := true
	for _, a := range p.Args() {
		switch a {
		case "--no-headers":
			heading = false
		case "-e", "--exports":
		default:
			server = a
		}
	}
	if !n.reaches("nfs", server) {
		_ = n.w.cluster.Clock().Sleep(ctx, probeTimeout) // as long as the caller waits
		return p.Fail(1, "clnt_create: RPC: Unable to receive")
	}
	if heading {
		p.Println("Export list for " + server + ":")
	}
	for _, e := range n.w.exported("nfs", server) {
		p.Println(e.Name + " *")
	}
	return 0
}
