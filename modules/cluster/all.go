// Package cluster holds the modules that make and check a cluster: its nodes, its links and its QDevice. They read
// through internal/pve, decide on values, and act by Proxmox's own tools.
package cluster

import (
	"time"

	"github.com/pxrun/pxrun/engine/module"
)

// All returns the modules of this family.
func All() []module.Module {
	return []module.Module{
		preflight(time.Now),
		clusterCreate(),
		nodeJoin(),
		healthModule(),
		qdevice(),
		nodeRemove(),
		corosyncLink(),
		datacenter(),
	}
}
