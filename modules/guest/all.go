// Package guest holds the modules that move virtual machines and containers: from node to node, and their disks from storage
// to storage. What is decided is decided on values of internal/pve/guest; what is done is proved by where the guest is then,
// since the exit statuses of migrations mislead (reference §6).
package guest

import "github.com/pxrun/pxrun/engine/module"

// All returns the modules of this family.
func All() []module.Module {
	return []module.Module{migrate(), moveDisk()}
}
