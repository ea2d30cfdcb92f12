// Package network holds the modules about what a cluster's nodes are joined by: their links, and their time. They read
// through internal/pve and decide on values.
package network

import "github.com/pxrun/pxrun/engine/module"

// All returns the modules of this family.
func All() []module.Module { return []module.Module{networkCheck(), timeSync()} }
