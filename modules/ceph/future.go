package ceph

import (
	"strings"

	"github.com/pxrun/pxrun/engine/module"
)

// The kinds of changes, as they stand in their ids: "<host>/<kind>" or "<host>/<kind>/<name>". A later task, or a later
// step of the same one, reads from them what will be there.
const (
	kindInstall = "ceph-install"
	kindInit    = "ceph-init"
	kindMon     = "ceph-mon"
	kindMgr     = "ceph-mgr"
	kindMDS     = "ceph-mds"
	kindOSD     = "ceph-osd"
	kindRule    = "ceph-rule"
	kindCrush   = "ceph-crush"
	kindPool    = "ceph-pool"
	kindFS      = "ceph-fs"
	kindStorage = "ceph-storage"
	kindFlag    = "ceph-flag"
)

// future is what will be there when the changes planned so far are made.
type future struct {
	members, installed, mons, mgrs, mds map[string]bool
	inited                              bool
	firstMon                            string
	osds                                map[string]int // by node
	placed                              bool           // hosts are moved in the CRUSH map
	rules, pools, filesystems, storages map[string]bool
}

func newFuture() future {
	set := func() map[string]bool { return map[string]bool{} }
	return future{
		members: set(), installed: set(), mons: set(), mgrs: set(), mds: set(), osds: map[string]int{},
		rules: set(), pools: set(), filesystems: set(), storages: set(),
	}
}

// planned reads the changes of earlier tasks.
func planned(earlier []module.Planned) future {
	f := newFuture()
	for _, p := range earlier {
		if p.Module == "cluster_create" || p.Module == "node_join" {
			f.members[p.Host] = true
			continue
		}
		f.add(p.Change)
	}
	return f
}

// add notes what a change is going to make. Changes that mend or remove make nothing new.
func (f *future) add(c module.Change) {
	parts := strings.SplitN(c.ID, "/", 3)
	if len(parts) < 2 {
		return
	}
	f.placed = f.placed || parts[1] == kindCrush
	if c.Action != module.Create {
		return
	}
	name := ""
	if len(parts) == 3 {
		name = parts[2]
	}
	switch parts[1] {
	case kindInstall:
		f.installed[c.Host] = true
	case kindInit:
		f.inited = true
	case kindMon:
		if !f.anyMon() {
			f.firstMon = c.Host
		}
		f.mons[c.Host] = true
	case kindMgr:
		f.mgrs[c.Host] = true
	case kindMDS:
		f.mds[c.Host] = true
	case kindOSD:
		f.osds[c.Host]++
	case kindRule:
		f.rules[name] = true
	case kindPool:
		f.pools[name] = true
	case kindFS:
		f.filesystems[name] = true
	case kindStorage:
		f.storages[name] = true
	}
}

func (f *future) anyMon() bool { return len(f.mons) > 0 }

// plan notes changes of this plan and returns them.
func (w *world) plan(changes []module.Change) []module.Change {
	for _, c := range changes {
		w.will.add(c)
	}
	return changes
}
