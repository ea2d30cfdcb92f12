package lab

import (
	"context"
	"errors"
	"fmt"

	"github.com/pxrun/pxrun/lab/ha"
)

// haStack is the HA stack of a fault's target.
func haStack(l *Lab, h *host) (*ha.Stack, error) {
	if s := l.ha.Stack(h.spec.Name); s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("%s is no Proxmox node", h.spec.Name)
}

// ignoreCommands has the HA master lose commands: those that contain the value, or all.
func ignoreCommands(_ context.Context, l *Lab, _ *host, f Fault) (func() error, error) {
	undo := l.ha.IgnoreCommands(f.Value)
	return func() error { undo(); return nil }, nil
}

// haUnit is the daemon that a value names.
func haUnit(value string) (string, error) {
	switch value {
	case "", "lrm":
		return "pve-ha-lrm", nil
	case "crm":
		return "pve-ha-crm", nil
	}
	return "", fmt.Errorf("%q is neither lrm nor crm", value)
}

// killHA ends a daemon of the HA stack as a crash does. Its watchdog stays open.
func killHA(ctx context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	unit, err := haUnit(f.Value)
	if err != nil {
		return nil, err
	}
	if _, err := haStack(l, h); err != nil {
		return nil, err
	}
	h.machine.FailUnit(unit)
	return func() error { return h.machine.StartUnit(ctx, unit) }, nil
}

// hangHA makes a daemon of the HA stack do nothing more.
func hangHA(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	unit, err := haUnit(f.Value)
	if err != nil {
		return nil, err
	}
	stack, err := haStack(l, h)
	if err != nil {
		return nil, err
	}
	stack.Hang(unit, true)
	return func() error { stack.Hang(unit, false); return nil }, nil
}

// killWatchdog ends watchdog-mux. With active services on the node its device is not fed any more.
func killWatchdog(ctx context.Context, l *Lab, h *host, _ Fault) (func() error, error) {
	if l.ha.Stack(h.spec.Name) == nil {
		return nil, errors.New(h.spec.Name + " is no Proxmox node")
	}
	h.machine.FailUnit("watchdog-mux")
	return func() error { return h.machine.StartUnit(ctx, "watchdog-mux") }, nil
}
