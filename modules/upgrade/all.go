// Package upgrade has the modules of a rolling upgrade: fetch and install packages, clear a node, restart it, prove it well and
// give it back. Each is usable alone.
package upgrade

import (
	"os"

	"github.com/pxrun/pxrun/engine/module"
)

// All returns the modules of this package.
func All() []module.Module {
	return []module.Module{drain(ownBootID(os.ReadFile), ownMachine(os.ReadFile)), nodeHealthy(), packagesDownload(), release(), upgradePackages(), reboot(ownBootID(os.ReadFile))}
}
