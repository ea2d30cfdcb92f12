package ha

import (
	"context"
	"time"
)

// Guests is what the HA manager does with virtual guests. A sid is "vm:100" or "ct:201", a node its name. Where a guest's
// config lies is read from /etc/pve, which this interface does not repeat; to recover a guest from a dead node the HA
// manager moves the config and takes the stale lock out itself.
//
// The calls block for as long as the work takes on the lab's clock and end early when ctx does, because the node lost its
// power or the lab is closed. An error's text is what the task died of. Each of them runs in the name of the node's HA
// manager: it must not turn a start or a migration into an HA command again.
type Guests interface {
	// Running reports whether a guest runs on a node.
	Running(node, sid string) bool
	// Start starts a guest whose config lies on the node. It returns when it runs; one that runs already is no error.
	Start(ctx context.Context, node, sid string) error
	// Shutdown stops a guest in order and by force when timeout is over. A timeout of 0 is a hard stop, a negative one
	// stands for the guest's own. One that does not run is no error.
	Shutdown(ctx context.Context, node, sid string, timeout time.Duration) error
	// Migrate moves a guest with its local disks. A running virtual machine moves live if online is set; a running container
	// is shut down (60 s), moved and started on the target. Afterwards the config lies on the target.
	Migrate(ctx context.Context, node, sid, target string, online bool) error
}
