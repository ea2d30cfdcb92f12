package cluster

import (
	"context"
	"io"

	"github.com/pxrun/pxrun/lab/vfs"
)

// Locked runs code under a lock of the cluster file system ("file-storage_cfg"), in the name of v. What is told of waiting
// for it goes to messages. The error is that of code, or one of the lock.
func (n *Node) Locked(ctx context.Context, v *vfs.View, messages io.Writer, id string, code func() error) error {
	return n.locked(ctx, v, messages, id, code)
}

// ReplaceFile writes a file of /etc/pve beside its place and renames it, as Proxmox does with its configs, in the name of v.
func ReplaceFile(v *vfs.View, name string, data []byte) error {
	return replace(v, name, data, 0o640)
}
