// Package modules lists the built-in modules. There is no registration by import: what is not in All does not exist.
package modules

import (
	"slices"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/modules/ceph"
	"github.com/pxrun/pxrun/modules/cluster"
	"github.com/pxrun/pxrun/modules/guest"
	"github.com/pxrun/pxrun/modules/ha"
	"github.com/pxrun/pxrun/modules/network"
	"github.com/pxrun/pxrun/modules/scripts"
	"github.com/pxrun/pxrun/modules/storage"
	"github.com/pxrun/pxrun/modules/system"
	"github.com/pxrun/pxrun/modules/upgrade"
)

// All returns every built-in module.
func All() []module.Module {
	return slices.Concat(ceph.All(), cluster.All(), guest.All(), ha.All(), network.All(), scripts.All(), storage.All(), system.All(), upgrade.All())
}
