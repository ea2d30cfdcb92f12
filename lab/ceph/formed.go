package ceph

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	workers "github.com/sourcegraph/conc/pool"

	"github.com/pxrun/pxrun/lab/disk"
)

// Formed is a Ceph cluster that has been there for long.
type Formed struct {
	// Conf is the content of /etc/pve/ceph.conf.
	Conf string
	// Packages are the versions of Ceph on nodes that have it, by node.
	Packages      map[string]string
	Mons, Mgrs    []FormedDaemon
	MDS           []FormedDaemon
	OSDs          []FormedOSD // by id
	Buckets       []FormedBucket
	Rules         []FormedRule
	Profiles      map[string]map[string]string
	Pools         []FormedPool
	Filesystems   []FormedFilesystem
	Flags         []string
	NodeFlags     map[string][]string
	ActiveManager string
}

// FormedDaemon is a monitor, a manager or a metadata server.
type FormedDaemon struct{ ID, Node string }

// FormedOSD is an OSD. Device, DB and WAL are paths of the node's disks.
type FormedOSD struct {
	ID              int
	Node, Host      string
	Class           string
	Weight          float64
	Device, DB, WAL string
	Up, In          bool
}

// FormedBucket is a node of the CRUSH map above the OSDs; those above come first.
type FormedBucket struct{ Name, Kind, Parent string }

// FormedRule is a CRUSH rule.
type FormedRule struct {
	ID                        int
	Name, Root, Domain, Class string
	Per                       int
	Erasure                   bool
}

// FormedPool is a pool; Rule is the name of its rule.
type FormedPool struct {
	ID                   int
	Name                 string
	Size, MinSize, PGs   int
	Rule, Profile        string
	Autoscale, Applicant string
	TargetRatio          float64
}

// FormedFilesystem is a CephFS; Metadata and Data are names of pools.
type FormedFilesystem struct{ Name, Metadata, Data string }

// formedIn is the model time after which monitors that do not find each other are given up.
const formedIn = 2 * time.Minute

// Form makes a Ceph cluster as if it had been there for long. The nodes must be in one cluster that can write to /etc/pve.
func (m *Model) Form(ctx context.Context, f Formed) error {
	c := parseConf(f.Conf)
	fsid := c["global"]["fsid"]
	if fsid == "" || len(f.Mons) == 0 {
		return fmt.Errorf("a Ceph cluster needs a fsid and a monitor")
	}
	for _, name := range slices.Sorted(maps.Keys(f.Packages)) {
		n, err := m.node(name)
		if err != nil {
			return err
		}
		for _, p := range n.packages(f.Packages[name]) {
			if err := n.m.Install(ctx, p); err != nil {
				return err
			}
		}
	}
	first, err := m.node(f.Mons[0].Node)
	if err != nil {
		return err
	}
	k, err := first.formMons(ctx, f, c)
	if err != nil {
		return err
	}
	if err := m.formDaemons(ctx, k, f); err != nil {
		return err
	}
	if err := first.with(k, func() error { return k.formMap(f) }); err != nil {
		return err
	}
	if err := m.formOSDs(ctx, k, f); err != nil {
		return err
	}
	if err := first.awaitOSDs(ctx, k); err != nil {
		return err
	}
	if err := first.with(k, func() error { return k.formPools(f) }); err != nil {
		return err
	}
	return m.formStates(ctx, k, f)
}

func (m *Model) node(name string) (*Node, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.nodes[name]; n != nil {
		return n, nil
	}
	return nil, fmt.Errorf("Ceph has a daemon on %q, which is no node of the lab", name) //nolint:staticcheck // a name
}

// formMons writes the files of the cluster and starts its monitors.
func (n *Node) formMons(ctx context.Context, f Formed, c conf) (*Cluster, error) {
	v := n.m.FS.View
	if err := write(v, confPath, c.String()); err != nil {
		return nil, err
	}
	if err := n.adminKey(v); err != nil {
		return nil, err
	}
	if err := write(v, monKeyring, fmt.Sprintf("[mon.]\n\tkey = %s\n\tcaps mon = \"allow *\"\n", n.newKey())); err != nil {
		return nil, err
	}
	if err := n.dir(v, "/etc/pve/ceph"); err != nil {
		return nil, err
	}
	for name := range f.Packages {
		node, err := n.model.node(name)
		if err == nil {
			err = symlinkConf(node.m.FS.View)
		}
		if err != nil {
			return nil, err
		}
	}
	for _, one := range f.Mons {
		node, err := n.model.node(one.Node)
		if err != nil {
			return nil, err
		}
		addr := c["mon."+one.ID]["public_addr"]
		if _, err := netip.ParseAddr(addr); err != nil {
			own := node.address(c["global"]["public_network"])
			if !own.IsValid() {
				return nil, fmt.Errorf("mon.%s: %s has no address in Ceph's public network %s", one.ID, one.Node, c["global"]["public_network"])
			}
			addr = own.String()
		}
		for name, text := range map[string]string{"keyring": "[mon.]\n", "kv_backend": "rocksdb\n", "min_mon_release": "19\n"} {
			if err := write(node.m.FS.View, monDir(one.ID)+"/"+name, text); err != nil {
				return nil, err
			}
		}
		d := node.admitMon(c["global"]["fsid"], c, monRequest{id: one.ID, addrs: []string{addr}})
		if err := node.start(ctx, &d.daemon); err != nil {
			return nil, fmt.Errorf("%s: %w", one.Node, err)
		}
	}
	k, err := n.connect(ctx, v, formedIn)
	if err != nil {
		return nil, fmt.Errorf("Ceph's monitors do not come together: %w", err) //nolint:staticcheck // a name
	}
	_ = n.with(k, func() error { // as it is set for the first monitor
		k.config = append(k.config, setting{"mon", "auth_allow_insecure_global_id_reclaim", "false"})
		return nil
	})
	return k, nil
}

// formDaemons makes managers, the active one first, and metadata servers.
func (m *Model) formDaemons(ctx context.Context, k *Cluster, f Formed) error {
	mgrs := slices.Clone(f.Mgrs)
	slices.SortStableFunc(mgrs, func(a, b FormedDaemon) int {
		return cmp.Compare(b2i(a.ID != f.ActiveManager), b2i(b.ID != f.ActiveManager))
	})
	for _, one := range mgrs {
		n, err := m.node(one.Node)
		if err == nil {
			err = n.makeMgr(ctx, n.m.FS.View, io.Discard, one.ID)
		}
		if err != nil {
			return fmt.Errorf("mgr.%s: %w", one.ID, err)
		}
	}
	for _, one := range f.MDS {
		n, err := m.node(one.Node)
		if err != nil {
			return err
		}
		if err := write(n.m.FS.View, mdsDir(one.ID)+"/keyring", fmt.Sprintf("[mds.%s]\n\tkey = %s\n", one.ID, n.newKey())); err != nil {
			return err
		}
		d := &mds{daemon: daemon{kind: "mds", id: one.ID}, rank: -1}
		_ = n.with(k, func() error { // nothing fails
			d.gid = 4100 + 13*len(k.mds)
			k.mds = append(k.mds, d)
			k.fsEpoch++
			return nil
		})
		n.addUnit(k, &d.daemon, mdsDir(one.ID))
		if err := n.start(ctx, &d.daemon); err != nil {
			return fmt.Errorf("mds.%s: %w", one.ID, err)
		}
	}
	return nil
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// formMap makes the CRUSH map without its OSDs. The model's lock is held.
func (c *Cluster) formMap(f Formed) error {
	for _, b := range f.Buckets {
		parent := c.crush.find(b.Parent)
		if b.Parent != "" && parent == nil {
			return fmt.Errorf("the CRUSH bucket %q hangs below %q, which is not there", b.Name, b.Parent)
		}
		if c.crush.find(b.Name) == nil {
			c.crush.add(b.Name, b.Kind, parent)
		}
	}
	for _, r := range f.Rules {
		if c.crush.rule(r.Name) != nil {
			continue // replicated_rule
		}
		made := c.crush.addRule(rule{name: r.Name, root: cmp.Or(r.Root, "default"), domain: r.Domain, per: r.Per, class: r.Class, erasure: r.Erasure})
		made.id = r.ID
		c.crush.lastRul = max(c.crush.lastRul, r.ID+1)
	}
	for name, p := range f.Profiles {
		c.profiles[name] = p
	}
	return nil
}

// formOSDs makes the OSDs, those of different nodes side by side.
func (m *Model) formOSDs(ctx context.Context, k *Cluster, f Formed) error {
	byNode := map[string][]*osd{}
	specs := map[*osd]FormedOSD{}
	for _, o := range f.OSDs {
		n, err := m.node(o.Node)
		if err != nil {
			return err
		}
		_ = n.with(k, func() error { // nothing fails
			one := k.addOSD(o.ID, n.newUUID(), o.Class)
			byNode[o.Node], specs[one] = append(byNode[o.Node], one), o
			return nil
		})
	}
	work := workers.New().WithErrors()
	for name, list := range byNode {
		work.Go(func() error {
			n, err := m.node(name)
			for _, one := range list {
				if err == nil {
					err = n.formOSD(ctx, k, one, specs[one])
				}
			}
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	return work.Wait()
}

// awaitOSDs waits until all OSDs are up: what is created before them would have to be copied to them.
func (n *Node) awaitOSDs(ctx context.Context, k *Cluster) error {
	clock := n.model.world.Clock()
	for end := clock.Elapsed() + formedIn; ; {
		down := 0
		_ = n.with(k, func() error { // nothing fails
			for _, o := range k.osds {
				if !o.up {
					down++
				}
			}
			return nil
		})
		switch {
		case down == 0:
			return nil
		case clock.Elapsed() > end:
			return fmt.Errorf("%d OSDs do not come up", down)
		}
		if err := clock.Sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
	}
}

// formOSD makes one OSD with the places of its database and log.
func (n *Node) formOSD(ctx context.Context, k *Cluster, one *osd, o FormedOSD) error {
	v := n.m.FS.View
	if !exists(v, bootstrapOSD) {
		if err := write(v, bootstrapOSD, fmt.Sprintf("[client.bootstrap-osd]\n\tkey = %s\n", n.newKey())); err != nil {
			return err
		}
	}
	data, ok := n.disks.Find(n.disks.Resolve(v, o.Device))
	if !ok {
		return fmt.Errorf("osd.%d: there is no disk %s", o.ID, o.Device)
	}
	sides := map[string]disk.Volume{}
	for kind, path := range map[string]string{"db": o.DB, "wal": o.WAL} {
		if path == "" {
			continue
		}
		side, err := n.makeSide(osdPart{kind: kind + "_dev", path: path, name: n.disks.Resolve(v, path)}, kind, data.Size/map[string]int64{"db": 10, "wal": 100}[kind])
		if err != nil {
			return fmt.Errorf("osd.%d: %w", o.ID, err)
		}
		sides[kind] = side
	}
	if err := n.fillOSD(ctx, io.Discard, k, one, data, o.Class, 0, sides, false); err != nil {
		return fmt.Errorf("osd.%d: %w", o.ID, err)
	}
	return n.with(k, func() error {
		if o.Weight > 0 {
			one.weight = o.Weight
		}
		if b := k.crush.find(o.Host); b != nil && k.crush.hostOf(o.ID) != b {
			k.crush.dropOSD(o.ID)
			b.osds = append(b.osds, o.ID)
			slices.Sort(b.osds)
		}
		k.osdChanged(n.model.now())
		return nil
	})
}

// formPools makes the pools, when all OSDs are there: nothing has to be copied. The model's lock is held.
func (c *Cluster) formPools(f Formed) error {
	c.pools = nil // what the manager made for itself is among those that are wanted
	for _, p := range f.Pools {
		profile := p.Profile
		if c.profiles[profile] == nil || strings.HasPrefix(p.Name, ".") {
			profile = ""
		}
		made, err := c.createPool(p.Name, max(1, p.PGs), profile, p.Rule)
		if err != nil {
			return fmt.Errorf("pool %s: %w", p.Name, err)
		}
		made.id, made.size, made.minSize = p.ID, p.Size, p.MinSize
		made.autoscale, made.app, made.targetRatio = cmp.Or(p.Autoscale, "on"), p.Applicant, p.TargetRatio
		made.scaleAt = 0 // the autoscaler has seen them
		c.poolSeq = max(c.poolSeq, p.ID)
	}
	for i, fs := range f.Filesystems {
		metadata, data := c.pool(fs.Metadata), c.pool(fs.Data)
		if metadata == nil || data == nil {
			return fmt.Errorf("the pools of the file system %s are not there", fs.Name)
		}
		c.fsEpoch++
		c.fs = append(c.fs, &filesystem{id: i + 1, name: fs.Name, metadata: metadata.id, data: data.id, created: c.model.now()})
	}
	for _, name := range f.Flags {
		c.flags[name] = true
	}
	for host, flags := range f.NodeFlags {
		for _, name := range flags {
			if c.nodeFlags[host] == nil {
				c.nodeFlags[host] = map[string]bool{}
			}
			c.nodeFlags[host][name] = true
		}
	}
	c.osdChanged(c.model.now())
	return nil
}

// formStates takes OSDs down and out that are so, when the placement groups are clean.
func (m *Model) formStates(ctx context.Context, k *Cluster, f Formed) error {
	const settled = 20 * time.Second // OSDs come up, placement groups peer
	if err := m.world.Clock().Sleep(ctx, settled); err != nil {
		return err
	}
	for _, o := range f.OSDs {
		n, err := m.node(o.Node)
		if err != nil {
			return err
		}
		if !o.Up {
			if err := n.m.StopUnit(ctx, "ceph-osd@"+fmt.Sprint(o.ID)+".service"); err != nil {
				return err
			}
		}
		if !o.In {
			_ = n.with(k, func() error { // nothing fails
				k.osds[o.ID].in = 0
				k.osdChanged(m.now())
				return nil
			})
		}
	}
	return nil
}
