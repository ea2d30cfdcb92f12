// Package lua runs scripts of admins: gates and hooks, in time modules and runbooks. A script is compiled once and run in
// a fresh interpreter each time, with a small library, a set of functions that the caller declares, and limits on its
// time, steps, nesting, memory and output. The interpreter has no such limits of its own: what a script may do without
// bound is rewritten before it is compiled (rewrite.go) or replaced (strings.go, tables.go), so that everything is
// charged to the call's meter. The limits stop accidents, not attackers. The package knows nothing of Proxmox, SSH or HCL.
package lua
