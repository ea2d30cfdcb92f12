// Package ceph holds the modules that make and keep a Ceph cluster on Proxmox VE. ceph_init is the whole story, the others are
// its parts; each part is planned by one function, which both use. They read through internal/pve/ceph, decide on values, and
// act by pveceph and ceph; what happened is read from the cluster, never from an exit status.
package ceph

import "github.com/pxrun/pxrun/engine/module"

// All returns the modules of this family.
func All() []module.Module {
	return []module.Module{
		cephInit(),
		cephInstall(),
		cephMon(),
		cephMgr(),
		cephOSD(),
		cephCrush(),
		cephMDS(),
		cephPool(),
		cephFS(),
		cephFlag(),
	}
}
