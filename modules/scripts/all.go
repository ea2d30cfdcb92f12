// Package scripts holds the modules that run an admin's own Lua: see package lua for what a script may do and take.
package scripts

import "github.com/pxrun/pxrun/engine/module"

// All returns the modules of this family.
func All() []module.Module { return []module.Module{newGate()} }
