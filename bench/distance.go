package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
)

// distance is a network namespace behind a link that delays: servers in it are as far away as wanted.
type distance struct{ name string }

// namespace is the name of the benchmark's own namespace; link is its end on this side.
const (
	namespace = "pxrun-bench"
	link      = "pxrun-bench0"
)

// distant makes the namespace with n addresses and half of the round trip's time on each side. It needs root.
func distant(ctx context.Context, n int, rtt string) (d *distance, first netip.Addr, err error) {
	d = &distance{name: namespace}
	first = netip.MustParseAddr("198.18.77.2") // of the range for benchmarks, RFC 2544
	commands := [][]string{
		{"ip", "netns", "add", namespace},
		{"ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace},
		{"ip", "addr", "add", "198.18.77.1/24", "dev", link},
		{"ip", "link", "set", link, "up"},
		{"ip", "-n", namespace, "link", "set", "eth0", "up"},
		{"ip", "-n", namespace, "link", "set", "lo", "up"},
		{"tc", "qdisc", "add", "dev", link, "root", "netem", "delay", rtt, "limit", "100000"},
	}
	for address, i := first, 0; i < n; address, i = address.Next(), i+1 {
		commands = append(commands, []string{"ip", "-n", namespace, "addr", "add", address.String() + "/24", "dev", "eth0"})
	}
	for _, argv := range commands {
		if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil { //nolint:gosec // fixed words
			d.remove()
			return nil, first, fmt.Errorf("%v: %w: %s", argv, err, out)
		}
	}
	return d, first, nil
}

// prefix starts a program inside.
func (d *distance) prefix() []string { return []string{"ip", "netns", "exec", d.name} }

func (d *distance) remove() {
	// What does not exist need not be removed; the link goes with the namespace.
	_ = exec.CommandContext(context.Background(), "ip", "link", "del", link).Run()
	_ = exec.CommandContext(context.Background(), "ip", "netns", "del", d.name).Run() //nolint:gosec // a fixed word
}
