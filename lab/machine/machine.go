package machine

import "github.com/pxrun/pxrun/lab/vfs"

// Machine is one simulated host.
type Machine struct {
	FS *vfs.Tree
}
