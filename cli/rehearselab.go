package cli

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/snapshot"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	labceph "github.com/pxrun/pxrun/lab/ceph"
	"github.com/pxrun/pxrun/lab/disk"
	"github.com/pxrun/pxrun/lab/guest"
	labstorage "github.com/pxrun/pxrun/lab/storage"
)

// copied is a lab that is the copy of a cluster: its machines, and the state that they are brought into. notes say what of the
// cluster is not in it.
type copied struct {
	spec   lab.Spec
	formed lab.Formed
	notes  []string
}

func (c *copied) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(c.notes, text) {
		c.notes = append(c.notes, text)
	}
}

// copyOf makes the lab of a snapshot, with the hosts that the site has besides its nodes.
func copyOf(s *snapshot.Snapshot, site *inventory.Site, speed float64, seed uint64) (*copied, error) {
	c := &copied{spec: lab.Spec{Speed: speed, Seed: seed}, formed: lab.Formed{
		Files: map[string]string{}, HA: map[string]string{}, Guests: map[string][]guest.Spec{}, Lists: map[string]time.Duration{}, Maintenance: s.Maintenance,
	}}
	conf, err := s.Conf()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(s.Nodes, func(n snapshot.Node) bool { return n.Online && n.Version != "" })
	if i < 0 {
		return nil, invalid("the snapshot has no node that was read")
	}
	for _, n := range s.Nodes {
		c.node(n, s.Nodes[i], conf)
	}
	c.files(s)
	c.siteHosts(site)
	if conf != nil && conf.Device != nil {
		c.arbiter(conf.Device.Host)
	}
	c.storages(s)
	for _, g := range s.Guests {
		one := guest.Spec{ID: g.ID, Running: g.Running, Config: g.Config}
		if g.Kind == "ct" {
			one.Type = "lxc"
		}
		c.formed.Guests[g.Node] = append(c.formed.Guests[g.Node], one)
	}
	if s.Ceph != nil {
		c.formed.Ceph = c.ceph(s)
	}
	return c, nil
}

// node makes a machine. Of one that was away not more is known than that it is a node: it is like another one, and off.
func (c *copied) node(n, like snapshot.Node, conf *pve.CorosyncConf) {
	if !n.Online || n.Version == "" {
		c.note("%s could not be read: in the rehearsal it is like %s, and off", n.Name, like.Name)
		c.formed.Off = append(c.formed.Off, n.Name)
		n, like.Interfaces = copyAs(like, n), nil
	}
	h := lab.HostSpec{
		Name: n.Name, Address: n.Address, PVE: release(n.Version), MemoryMiB: int(n.Memory >> 20), CPUs: n.CPUs, CPUModel: n.CPUModel, CPULevel: level(n.CPUFlags),
		Kernel: n.Kernel, Kernels: slices.DeleteFunc(slices.Clone(n.Kernels), func(k string) bool { return k == n.Kernel }), Pin: n.Pin, NextPin: n.NextPin, ESP: n.EFI,
		Sources: n.Sources, Versions: map[string]string{},
	}
	if n.Subscribed {
		h.Subscription = "pve1c-0123456789"
	}
	h.Interfaces = interfaces(n)
	if conf != nil {
		if entry, ok := conf.Node(n.Name); ok {
			for _, link := range entry.LinkNumbers() {
				if _, err := netip.ParseAddr(entry.Links[link]); err == nil {
					h.Links = append(h.Links, entry.Links[link])
				}
			}
		}
		if conf.Device != nil {
			h.Packages = []string{"corosync-qdevice"}
		}
	}
	for _, d := range n.Disks {
		if !d.System {
			h.Disks = append(h.Disks, diskOf(d))
		}
	}
	c.packages(&h, n)
	c.spec.Hosts = append(c.spec.Hosts, h)
}

// copyAs gives a node that could not be read what another one has, but for what is its own.
func copyAs(like, n snapshot.Node) snapshot.Node {
	out := like
	out.Name, out.Address, out.Interfaces, out.Disks, out.Storages = n.Name, n.Address, nil, nil, nil
	return out
}

var releaseForm = regexp.MustCompile(`^\d+\.\d+\.\d+`)

// release is a version of pve-manager without what a preliminary one has at its end.
func release(version string) string {
	if found := releaseForm.FindString(version); found != "" {
		return found
	}
	return version
}

// level is the x86-64 level that processors with these flags have.
func level(flags []string) int {
	for level, mark := range []string{"", "", "sse4_2", "avx2", "avx512f"} {
		if level > 1 && !slices.Contains(flags, mark) {
			return level - 1
		}
	}
	return 4
}

// interfaces are those of a node, with the main address before others of its interface. A node whose address is on none of them
// gets those that the lab makes.
func interfaces(n snapshot.Node) []lab.Interface {
	var out []lab.Interface
	found := false
	for _, i := range n.Interfaces {
		one := lab.Interface{Name: i.Name, MTU: i.MTU, Addresses: slices.Clone(i.Addresses)}
		slices.SortStableFunc(one.Addresses, func(a, b string) int { return own(b, n.Address) - own(a, n.Address) })
		found = found || slices.ContainsFunc(one.Addresses, func(a string) bool { return own(a, n.Address) == 1 })
		out = append(out, one)
	}
	if !found {
		return nil
	}
	return out
}

// own is 1 if a prefix is of an address, else 0.
func own(prefix, address string) int {
	if a, _, _ := strings.Cut(prefix, "/"); a == address {
		return 1
	}
	return 0
}

func diskOf(d snapshot.Disk) disk.Spec {
	out := disk.Spec{Size: d.Size, Model: d.Model, Serial: d.Serial, Rotational: d.Spins}
	if len(d.Names) > 0 {
		out.ID = d.Names[0][strings.LastIndexByte(d.Names[0], '/')+1:]
	}
	if d.Device != "sda" { // which is the lab's own
		out.Device = d.Device
	}
	return out
}

// packages says which versions are installed and what apt finds. Only packages that replace an installed one can be shown, and
// the images of kernels, which come with the package that asks for them.
func (c *copied) packages(h *lab.HostSpec, n snapshot.Node) {
	for name, version := range n.Packages {
		if !strings.HasPrefix(name, "ceph") {
			h.Versions[name] = version
		}
	}
	if n.Unknown != "" {
		c.note("%s: apt says not what it would do (%s): the rehearsal finds no updates there", n.Name, n.Unknown)
	}
	image := regexp.MustCompile(`^proxmox-kernel-.*-pve(-signed)?$`)
	for _, u := range n.Updates {
		switch {
		case u.To == "":
			c.note("%s: the upgrade removes %s, which the rehearsal does not", n.Name, u.Name)
		case u.From == "" && !image.MatchString(u.Name):
			c.note("%s: the upgrade brings the new package %s, which the rehearsal does not", n.Name, u.Name)
		case u.From != "":
			h.Updates = append(h.Updates, u.Name+"="+u.To)
		}
	}
	c.formed.Lists[n.Name] = time.Duration(n.Lists) * time.Second
	const long = 2 * 24 * time.Hour
	if n.Lists == snapshot.NoLists || c.formed.Lists[n.Name] > long {
		c.note("the package lists of %s are old: what has come since is not known, and not in the rehearsal (renew them: apt-get update, then take the snapshot again; or make something up with --updates)", n.Name)
	}
}

// files gives the cluster its files in /etc/pve. Those of Ceph and of the storages have a place of their own.
func (c *copied) files(s *snapshot.Snapshot) {
	c.formed.Corosync = s.Files["corosync.conf"]
	for name, text := range s.Files {
		switch rest, high := strings.CutPrefix(name, "ha/"); {
		case high:
			c.formed.HA[rest] = text
		case name == "user.cfg":
			c.formed.Files[name] = "user:root@pam:1:0:::::\n\n" + text
		case name != "corosync.conf" && name != "ceph.conf" && name != "storage.cfg":
			c.formed.Files[name] = text
		}
	}
}

// siteHosts adds the hosts of the inventory that are no nodes, and gives nodes the users that the inventory logs in as.
func (c *copied) siteHosts(site *inventory.Site) {
	if site == nil {
		return
	}
	for _, one := range labSpec(site, "", 0, 0).Hosts {
		i := slices.IndexFunc(c.spec.Hosts, func(h lab.HostSpec) bool { return h.Name == one.Name })
		switch {
		case i >= 0:
			c.spec.Hosts[i].Users, c.spec.Hosts[i].BMC = one.Users, one.BMC
		case c.at(one.Address) == nil:
			c.spec.Hosts = append(c.spec.Hosts, lab.HostSpec{Name: one.Name, Address: one.Address, Users: one.Users, BMC: one.BMC})
		}
	}
}

// at finds the machine of an address or name.
func (c *copied) at(address string) *lab.HostSpec {
	for i := range c.spec.Hosts {
		h := &c.spec.Hosts[i]
		if h.Name == address || h.Address == address || slices.Contains(h.Links, address) ||
			slices.ContainsFunc(h.Interfaces, func(n lab.Interface) bool {
				return slices.ContainsFunc(n.Addresses, func(a string) bool { return own(a, address) == 1 })
			}) {
			return h
		}
	}
	return nil
}

// server finds the machine of an address or name, or adds a plain one.
func (c *copied) server(address, name string) *lab.HostSpec {
	if h := c.at(address); h != nil {
		return h
	}
	h := lab.HostSpec{Name: name, Address: address}
	if _, err := netip.ParseAddr(address); err != nil {
		h.Name, h.Address = address, fmt.Sprintf("198.18.200.%d", 1+len(c.spec.Hosts)%250)
	}
	for n := 2; c.at(h.Name) != nil; n++ {
		h.Name = fmt.Sprintf("%s-%d", name, n)
	}
	c.spec.Hosts = append(c.spec.Hosts, h)
	return &c.spec.Hosts[len(c.spec.Hosts)-1]
}

func (c *copied) arbiter(address string) {
	h := c.server(address, "arbiter")
	h.Packages = append(h.Packages, "corosync-qnetd")
}

// storages writes storage.cfg and puts what it names where it is looked for.
func (c *copied) storages(s *snapshot.Snapshot) {
	sections, _ := config.ParseSections([]byte(s.Files["storage.cfg"]))
	var kept []config.Section
	for _, one := range sections {
		if c.storage(s, &one) {
			kept = append(kept, one)
		}
	}
	c.formed.Files["storage.cfg"] = config.FormatSections(kept)
}

func (c *copied) storage(s *snapshot.Snapshot, one *config.Section) bool {
	v := one.Values
	switch one.Type {
	case "dir":
		if v["is_mountpoint"] != "" {
			delete(v, "is_mountpoint")
			c.note("storage %s: whether its folder is mounted is not looked at", one.ID)
		}
	case "cephfs", "rbd":
		if v["monhost"] != "" {
			c.note("storage %s lies in a Ceph cluster of its own, which is not part of the rehearsal: it is not active there", one.ID)
		}
	case "nfs":
		c.export(s, one.ID, v["server"], labstorage.Export{Kind: "nfs", Name: v["export"]})
	case "cifs":
		c.export(s, one.ID, v["server"], labstorage.Export{Kind: "cifs", Name: v["share"]})
	case "pbs":
		c.export(s, one.ID, v["server"], labstorage.Export{Kind: "pbs", Name: v["datastore"]})
	case "iscsi":
		address := v["portal"]
		if host, _, err := net.SplitHostPort(address); err == nil {
			address = host
		}
		c.export(s, one.ID, address, labstorage.Export{Kind: "iscsi", Name: v["target"]})
	case "zfspool":
		c.onNodes(v["nodes"], func(h *lab.HostSpec) { h.Pools = added(h.Pools, v["pool"]) })
	case "lvm":
		c.onNodes(v["nodes"], func(h *lab.HostSpec) { h.Groups = added(h.Groups, v["vgname"]) })
	case "lvmthin":
		c.onNodes(v["nodes"], func(h *lab.HostSpec) {
			h.Groups = added(added(h.Groups, v["vgname"]), v["vgname"]+"/"+v["thinpool"])
		})
	default:
		c.note("storage %s is of the type %s, which cannot be simulated: it is not there in the rehearsal", one.ID, one.Type)
		return false
	}
	return true
}

func added(list []string, name string) []string {
	if name == "" || name == "pve" || name == "pve/data" || slices.Contains(list, name) { // every node of a lab has those
		return list
	}
	return append(list, name)
}

func (c *copied) onNodes(list string, change func(*lab.HostSpec)) {
	nodes := config.SplitList(list)
	for i := range c.spec.Hosts {
		if h := &c.spec.Hosts[i]; h.PVE != "" && (len(nodes) == 0 || slices.Contains(nodes, h.Name)) {
			change(h)
		}
	}
}

// export lets the server of a storage offer what the storage mounts, as large as the nodes see it.
func (c *copied) export(s *snapshot.Snapshot, id, server string, e labstorage.Export) {
	for _, n := range s.Nodes {
		e.SizeGiB = max(e.SizeGiB, int(n.Storages[id].Total>>30))
	}
	if server == "" || e.Validate() != nil {
		c.note("storage %s: its server cannot be simulated", id)
		return
	}
	h := c.server(server, "storage")
	if !slices.ContainsFunc(h.Exports, func(o labstorage.Export) bool { return o.Kind == e.Kind && o.Name == e.Name }) {
		h.Exports = append(h.Exports, e)
	}
}

// ceph is the Ceph cluster as the lab takes it.
func (c *copied) ceph(s *snapshot.Snapshot) *labceph.Formed {
	in := s.Ceph
	out := &labceph.Formed{Conf: s.Files["ceph.conf"], Packages: maps.Clone(in.Packages), ActiveManager: in.Active, Flags: in.Flags, NodeFlags: in.NodeFlags, Profiles: map[string]map[string]string{}}
	daemons := func(list []snapshot.Daemon) (to []labceph.FormedDaemon) {
		for _, d := range list {
			to = append(to, labceph.FormedDaemon(d))
		}
		return to
	}
	out.Mons, out.Mgrs, out.MDS = daemons(in.Mons), daemons(in.Mgrs), daemons(in.MDS)
	for _, o := range in.OSDs {
		if o.Device == "" {
			c.note("osd.%d is not in the rehearsal: on which disk it lies is not known", o.ID)
			continue
		}
		out.OSDs = append(out.OSDs, labceph.FormedOSD(o))
	}
	for _, b := range in.Buckets {
		out.Buckets = append(out.Buckets, labceph.FormedBucket(b))
	}
	for _, r := range in.Rules {
		out.Rules = append(out.Rules, labceph.FormedRule{ID: r.ID, Name: r.Name, Root: r.Root, Domain: cmp.Or(r.Domain, "host"), Class: r.Class, Per: r.Per, Erasure: r.Erasure})
	}
	for name, p := range in.Profiles {
		out.Profiles[name] = p
	}
	for _, p := range in.Pools {
		out.Pools = append(out.Pools, labceph.FormedPool{
			ID: p.ID, Name: p.Name, Size: p.Size, MinSize: p.MinSize, PGs: p.PGs, Rule: p.Rule, Profile: p.Profile, Autoscale: p.Autoscale, Applicant: p.Application, TargetRatio: p.TargetRatio,
		})
	}
	for _, f := range in.Filesystems {
		out.Filesystems = append(out.Filesystems, labceph.FormedFilesystem(f))
	}
	return out
}
