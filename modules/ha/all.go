// Package ha holds the modules of high availability: which guests it looks after, where they may run, and what happens
// when a node fails.
package ha

import "github.com/pxrun/pxrun/engine/module"

// All returns the modules of this family.
func All() []module.Module {
	turns := newTurns()
	return []module.Module{haGroup(), haRule(), haResource(), watchdog(), fenceDevice(turns), failoverDrill(turns)}
}
