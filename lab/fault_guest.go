package lab

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/guest"
)

// migratePhases are the points of guests' starts, stops, migrations and disk moves at which a fault can strike. Those of
// migrations are also reached as "migrate:transfer:100", for the one guest.
var migratePhases = []string{
	"guest:start", "guest:stop", "migrate:start", "migrate:locked", "migrate:copying", "migrate:connected", "migrate:transfer", "migrate:moved", "move-disk:copying",
}

// phaseOf is a phase without the guest or the package that it is for.
func phaseOf(phase string) string {
	for _, of := range []string{"migrate:", "apt:"} {
		if at := strings.LastIndexByte(phase, ':'); strings.HasPrefix(phase, of) && at >= len(of) {
			return phase[:at]
		}
	}
	return phase
}

// guestsOf are the guests of a fault's target.
func guestsOf(l *Lab, h *host) (*guest.Host, error) {
	if g := l.guests.Host(h.spec.Name); g != nil {
		return g, nil
	}
	return nil, fmt.Errorf("%s is no Proxmox node", h.spec.Name)
}

// addGuests puts guests on a node: "100,101", or one with its properties, "100 memory=2048 running=1".
func addGuests(ctx context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	value := f.Value
	if value == "" {
		value = "100"
	}
	var specs []guest.Spec
	if strings.Contains(value, "=") {
		s, err := guestWords(value)
		if err != nil {
			return nil, err
		}
		specs = append(specs, s)
	} else {
		for part := range strings.SplitSeq(value, ",") {
			s, err := guest.ParseSpec(strings.TrimSpace(part), nil)
			if err != nil {
				return nil, err
			}
			specs = append(specs, s)
		}
	}
	undo := func() error {
		var failed error
		for _, s := range specs {
			failed = errors.Join(failed, l.RemoveGuest(h.spec.Name, s.ID))
		}
		return failed
	}
	for _, s := range specs {
		if err := l.AddGuest(ctx, h.spec.Name, s); err != nil {
			return undo, err
		}
	}
	return undo, nil
}

// lockGuest writes a lock into a guest's config: "100" or "100:snapshot".
func lockGuest(ctx context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	g, err := guestsOf(l, h)
	if err != nil {
		return nil, err
	}
	number, lock, ok := strings.Cut(f.Value, ":")
	if !ok {
		lock = "backup"
	}
	id, err := strconv.Atoi(number)
	if err != nil {
		return nil, fmt.Errorf("%q is not the id of a guest", number)
	}
	return func() error { return g.SetLock(context.WithoutCancel(ctx), id, "") }, g.SetLock(ctx, id, lock)
}

// guestFault makes a fault of something that is set on and off for a guest anywhere.
func guestFault(set func(w *guest.World, id int, on bool)) func(context.Context, *Lab, *host, Fault) (func() error, error) {
	return func(_ context.Context, l *Lab, _ *host, f Fault) (func() error, error) {
		id, err := strconv.Atoi(f.Value)
		if err != nil {
			return nil, fmt.Errorf("%q is not the id of a guest", f.Value)
		}
		set(l.guests, id, true)
		return func() error { set(l.guests, id, false); return nil }, nil
	}
}

// crashGuest ends a guest's process.
func crashGuest(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	g, err := guestsOf(l, h)
	if err != nil {
		return nil, err
	}
	id, err := strconv.Atoi(f.Value)
	if err != nil {
		return nil, fmt.Errorf("%q is not the id of a guest", f.Value)
	}
	return nil, g.Crash(id)
}

// loseBridge gives a bridge another name, so that no guest can use it; its addresses stay.
func loseBridge(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	before := h.machine.Interfaces()
	after := h.machine.Interfaces()
	found := false
	for i := range after {
		if after[i].Name == f.Value {
			after[i].Name, found = "eno"+strconv.Itoa(i+1), true
		}
	}
	if !found {
		return nil, fmt.Errorf("%s has no bridge %q", h.spec.Name, f.Value)
	}
	h.machine.SetInterfaces(after)
	return func() error { h.machine.SetInterfaces(before); return nil }, nil
}

// otherCPU puts other processors into a node: "AMD EPYC" or "AMD EPYC:2", the number being the x86-64 level.
func otherCPU(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	_, level := h.machine.CPU()
	model, number, ok := strings.Cut(f.Value, ":")
	if ok {
		n, err := strconv.Atoi(number)
		if err != nil || n < 1 || n > 4 {
			return nil, fmt.Errorf("%q is not an x86-64 level: 1 to 4", number)
		}
		level = n
	}
	oldModel, oldLevel := h.machine.SetCPU(model, level)
	return func() error { h.machine.SetCPU(oldModel, oldLevel); return nil }, nil
}
