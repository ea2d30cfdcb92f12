// Package system holds the general modules, which know Debian rather than Proxmox: commands, files, packages, services,
// and the flow of a runbook. Where Proxmox forbids something that they could do, they refuse.
package system

import "github.com/pxrun/pxrun/engine/module"

// All returns the modules of this family.
func All() []module.Module {
	return []module.Module{
		newAssert(), newCommand(), newFile(), newPackage(), newPause(), newRepository(), newScript(), newService(), newTemplate(), newWaitFor(),
	}
}
