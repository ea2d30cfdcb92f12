package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// bootPhases are the points of a node's start at which a fault can strike: after firmware and boot loader, before the first unit.
var bootPhases = []string{"boot:start"}

// boot decides how a host comes up.
func (h *host) boot(ctx context.Context) (machine.Boot, error) {
	var way machine.Boot
	if h.loader != nil {
		way = h.loader.Boot()
	}
	if way.Stuck {
		return way, nil
	}
	return way, h.lab.interrupt(ctx, h.spec.Name, "boot:start")
}

// bootFaults are those of a node's start.
func bootFaults(add func(name, summary, value string, target bool, strike func(context.Context, *Lab, *host, Fault) (func() error, error))) {
	add("old-kernel", "the boot loader was not updated: the node starts the kernel that it ran before", "", true, oldKernel)
	add("kernel-hang", "a kernel hangs when it is started: only switching the power off and on helps, and starts what the boot loader takes then", "the kernel, and :late if it hangs after the first units have run; any but the one that runs now without", true, hangKernel)
	add("unit-fails", "a unit of the node does not start", "the unit", true, failUnit)
	add("nic-renamed", "a network card has another name than before: it is down, and has no address", "its name or address, and the new name: vmbr1=enp5s0; the last one without", true, renameNIC)
}

func (h *host) needLoader() error {
	if h.loader == nil {
		return fmt.Errorf("%s is no Proxmox node", h.spec.Name)
	}
	return nil
}

func oldKernel(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	if err := h.needLoader(); err != nil {
		return nil, err
	}
	h.loader.SetStale(true)
	return func() error { h.loader.SetStale(false); return nil }, nil
}

func hangKernel(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	if err := h.needLoader(); err != nil {
		return nil, err
	}
	kernel, late := strings.CutSuffix(f.Value, "late")
	if kernel = strings.TrimSuffix(kernel, ":"); kernel == "" {
		kernel = "*"
	}
	h.loader.SetHang(kernel, late)
	return func() error { h.loader.SetHang("", false); return nil }, nil
}

func failUnit(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	if f.Value == "" {
		return nil, fmt.Errorf("unit-fails needs the name of a unit")
	}
	h.machine.BreakUnit(f.Value, "main process exited, code=exited, status=1/FAILURE")
	return func() error { h.machine.BreakUnit(f.Value, ""); return nil }, nil
}

func renameNIC(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	which, name, _ := strings.Cut(f.Value, "=")
	before := h.machine.Interfaces()
	at := slices.IndexFunc(before, func(i machine.Interface) bool { return i.Name == which })
	if at < 0 {
		var err error
		if _, at, err = interfaceOf(h.machine, which); err != nil {
			return nil, err
		}
	}
	if name == "" {
		name = "enp99s0"
	}
	after := slices.Clone(before)
	after[at] = machine.Interface{Name: name, MTU: before[at].MTU, Down: true}
	set := func(list []machine.Interface) {
		h.machine.SetInterfaces(list)
		l.world.NetworkChanged()
	}
	set(after)
	return func() error { set(before); return nil }, nil
}
