package cluster

import (
	"fmt"
	"time"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// ErrKilled, returned by Options.Interrupt, ends a program where it is, without a word, as a signal does.
var ErrKilled = pvetool.ErrKilled

// CrashCorosync ends the node's corosync as a crash does: nobody hears a goodbye, and the unit shows it.
func (n *Node) CrashCorosync() {
	n.haltCorosync(false)
	n.m.SetUnitState("corosync.service", "failed", "failed", "signal")
}

// HoldLock takes a lock of the cluster file system for somebody who renews it for ever. release gives it back.
func (n *Node) HoldLock(id string) (release func() error, err error) {
	unlock, err := pveFS{n}.change()
	if err != nil {
		return nil, err
	}
	defer unlock()
	db := n.pmx.db
	db.mkdirAll("/priv/lock", n.name, n.now())
	const forever = 1000 * time.Hour
	db.version++
	db.lookup("/priv/lock").children[id] = &inode{
		children: map[string]*inode{}, mtime: n.now(), writer: n.name, version: db.version, renewed: n.w.clock.Elapsed() + forever,
	}
	return func() error { return pveFS{n}.Remove("/priv/lock/" + id) }, nil
}

// SetRelease changes the version of Proxmox VE that the node shows.
func (n *Node) SetRelease(r Release) error {
	if r.Version == "" {
		return fmt.Errorf("%s: a release needs a version", n.name)
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.release = r
	return nil
}

// Release is the version of Proxmox VE that the node shows.
func (n *Node) Release() Release {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.release
}
