// Package machine simulates one Debian host as seen through a shell: a file system, users, processes, systemd units,
// packages, network addresses, and the ordinary programs. What Proxmox adds (pvecm, pmxcfs, …) is put on it by package
// lab/pve, which registers programs, mounts trees and hooks units.
package machine

import (
	"context"
	"io"
	"io/fs"
	"net/netip"
	"time"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/vfs"
)

// Program is an executable of the simulated machine. It returns the exit status. It runs until it is done or ctx ends.
type Program func(ctx context.Context, p *Proc) int

// Proc is one running program.
type Proc struct {
	Machine        *Machine
	Argv           []string // Argv[0] is the name it was called by
	Env            map[string]string
	Dir            string
	UID            int // 0 is root
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	// Tag travels to every child: the lab marks with it what an SSH client asked for.
	Tag any

	pid   int
	ctx   context.Context //nolint:containedctx // a Proc lives as long as its context
	view  *vfs.View
	files descriptors
	extra descriptors // of the parent: the child inherits those from 3 on
	umask *fs.FileMode
}

// Unit is a systemd unit. Hooks run with no lock of the machine held.
type Unit struct {
	Name        string // "corosync.service"
	Description string
	Enabled     bool
	// OnStart and OnStop are called by systemctl; an error makes the unit failed. nil means it just starts and stops.
	OnStart, OnStop func(ctx context.Context) error
	// OnReload is called by systemctl reload; nil is a unit that cannot reload.
	OnReload func(ctx context.Context) error
	// Condition is asked before a start, as ConditionPathExists= is: false leaves the unit inactive without an error.
	Condition func() bool
	// Oneshot units have no process: they are "active (exited)" after their start.
	Oneshot bool
	// Static units cannot be enabled or disabled.
	Static bool
	// Command is the daemon's command line in ps; "" makes one from the name.
	Command string
	// Ports are the TCP ports that are open while the unit is active.
	Ports []int
	// After holds names of units that are started first when this one is, as Requires= and After= together do.
	After []string
}

// Interface is a network interface with its addresses and MTU.
type Interface struct {
	Name  string
	MTU   int
	Addrs []netip.Prefix
	Down  bool
}

// Path is what the network does between two addresses.
type Path struct {
	Reachable bool
	RTT       time.Duration
	MTU       int
	Loss      float64
}

// Network joins machines. It is implemented by package lab.
type Network interface {
	// Find returns the machine that owns an address or is called name, and nil if there is none.
	Find(addressOrName string) *Machine
	// Path says what happens between two addresses.
	Path(from, to netip.Addr) Path
	Clock() clock.Clock
}
