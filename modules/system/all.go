package system

import "github.com/pxrun/pxrun/engine/module"

// All returns the modules of this family.
func All() []module.Module { return nil }
