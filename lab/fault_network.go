package lab

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
)

// interfaceOf finds the interface that has an address; without one, the last.
func interfaceOf(m *machine.Machine, addr string) (list []machine.Interface, at int, err error) {
	list = m.Interfaces()
	if addr == "" {
		return list, len(list) - 1, nil
	}
	for i, one := range list {
		for _, p := range one.Addrs {
			if p.Addr().String() == addr {
				return list, i, nil
			}
		}
	}
	return nil, 0, fmt.Errorf("no interface of %s has the address %s", m.Name(), addr)
}

func linkMissing(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	before, at, err := interfaceOf(h.machine, f.Value)
	if err != nil {
		return nil, err
	}
	after := slices.Clone(before)
	after[at].Addrs = nil
	h.machine.SetInterfaces(after)
	l.world.NetworkChanged()
	return func() error { h.machine.SetInterfaces(before); l.world.NetworkChanged(); return nil }, nil
}

func linkDown(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	list, at, err := interfaceOf(h.machine, f.Value)
	if err != nil {
		return nil, err
	}
	set := func(down bool) error {
		h.machine.SetInterfaceDown(list[at].Name, down)
		l.world.NetworkChanged()
		return nil
	}
	return func() error { return set(false) }, set(true)
}

func muteCorosync(_ context.Context, l *Lab, h *host, _ Fault) (func() error, error) {
	set := func(on bool) error {
		l.net.change(func(n *network) { n.mute[h.spec.Name] = on })
		l.world.NetworkChanged()
		return nil
	}
	return func() error { return set(false) }, set(true)
}

func partition(_ context.Context, l *Lab, _ *host, f Fault) (func() error, error) {
	parts := map[string]int{}
	for i, group := range strings.Split(f.Value, "|") {
		for name := range strings.SplitSeq(group, ",") {
			h := l.net.host(strings.TrimSpace(name))
			if h == nil {
				return nil, fmt.Errorf("no host %q in the lab", name)
			}
			parts[h.spec.Name] = i + 1
		}
	}
	set := func(parts map[string]int) error {
		l.net.change(func(n *network) { n.parts = parts })
		l.world.NetworkChanged()
		return nil
	}
	return func() error { return set(map[string]int{}) }, set(parts)
}

func slowPath(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	d, err := time.ParseDuration(f.Value)
	if err != nil {
		return nil, err
	}
	l.net.change(func(n *network) { n.rtt[h.spec.Name] = d })
	l.world.NetworkChanged()
	return func() error {
		l.net.change(func(n *network) { delete(n.rtt, h.spec.Name) })
		l.world.NetworkChanged()
		return nil
	}, nil
}

func smallPath(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	bytes, err := strconv.Atoi(f.Value)
	if err != nil {
		return nil, err
	}
	before := h.machine.Interfaces()
	after := slices.Clone(before)
	for i := range after {
		after[i].MTU = bytes
	}
	h.machine.SetInterfaces(after)
	l.net.change(func(n *network) { n.mtu[h.spec.Name] = bytes })
	l.world.NetworkChanged()
	return func() error {
		h.machine.SetInterfaces(before)
		l.net.change(func(n *network) { delete(n.mtu, h.spec.Name) })
		l.world.NetworkChanged()
		return nil
	}, nil
}
