package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

// Connect gives the connection to a host, dialling it when there is none yet. The caller does not close it.
type Connect func(ctx context.Context, host string) (transport.Conn, error)

// Owner says who holds a lease.
type Owner struct {
	Run        string    `json:"run"`
	Controller string    `json:"controller"` // user@host of the machine that pxrun runs on
	PID        int       `json:"pid"`
	Runbook    string    `json:"runbook"`
	Since      time.Time `json:"since"`
}

// Locker keeps two runs off the same hosts. Only runs that change something take it.
type Locker interface {
	// Acquire takes the lease on all the hosts or none. It returns a *LockedError when somebody else holds it.
	// A lease that an earlier process of the same run holds is taken over.
	Acquire(ctx context.Context, o Owner, cluster *inventory.Cluster, hosts []inventory.Host, c Connect) (Lease, error)
}

// Lease is held.
type Lease interface {
	// Keep renews the lease until ctx ends (then it returns nil) or the lease is lost (then it returns a *LostLeaseError). The engine runs
	// it beside the work and stops starting changes when it returns an error.
	Keep(ctx context.Context) error
	// Confirm proves, right before a change is begun on a host, that nobody else may have been at work since the lease was taken. An
	// error means that the change must not be begun; a *LostLeaseError, that none may be any more. It asks the host only if the last
	// proof is not fresh.
	Confirm(ctx context.Context, host string) error
	// Release gives the lease back. It is called with a context of its own, also after an interrupt.
	Release(ctx context.Context) error
}

// LostLeaseError is a lease that somebody else has, or may have had, since it was taken.
type LostLeaseError struct{ Cause error }

func (e *LostLeaseError) Error() string {
	return "the lease was lost, so no further change is begun: " + e.Cause.Error()
}

// Unwrap gives the cause.
func (e *LostLeaseError) Unwrap() error { return e.Cause }

// LockedError is a lease that somebody else holds.
type LockedError struct {
	Host    string // where the lease was seen
	Owner   Owner
	Expires time.Time
	Look    string // the command to look for oneself
}

func (e *LockedError) Error() string {
	return fmt.Sprintf("%s is locked by run %s of %s (%s) until %s\nWait for it to end. A run that died gives way at that time, or at once to: pxrun resume %s", e.Host, e.Owner.Run,
		e.Owner.Controller, e.Owner.Runbook, e.Expires.Format(time.RFC3339), e.Owner.Run)
}
