// Package storage holds the modules for storages, replication and backup jobs. They read the files of /etc/pve, decide on
// values, and act by pvesm, pvesr and pvesh.
package storage

import "github.com/pxrun/pxrun/engine/module"

// All returns the modules of this family.
func All() []module.Module {
	return []module.Module{
		storageModule(),
		replication(),
		backupJob(),
	}
}
