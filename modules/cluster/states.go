package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

var errNoCluster = errors.New(`the runbook names no cluster: write "cluster = cluster.<name>" in it`)

// probes lists the one read of each of the cluster's nodes that the modules of this family share.
func probes(t module.Target) []module.Probe {
	if t.Cluster() == nil {
		return nil
	}
	var list []module.Probe
	for _, name := range t.Cluster().Nodes {
		list = append(list, module.Probe{Host: name, Command: pve.ProbeNode(pve.Options{})})
	}
	return list
}

// readAll reads nodes at once. A node that cannot be reached makes it fail: it may hide anything.
func readAll(ctx context.Context, t module.Target, names []string) ([]pve.NodeState, error) {
	states := pve.ReadCluster(ctx, names, pve.Options{}, t.Conn)
	var errs []error
	for _, s := range states {
		if s.Err != nil {
			errs = append(errs, s.Err)
		}
	}
	return states, errors.Join(errs...)
}

// readBrief reads what changes while a cluster forms. It always asks the nodes.
func readBrief(ctx context.Context, t module.Target, names []string) []pve.NodeState {
	return pve.ReadCluster(ctx, names, pve.Options{Brief: true}, t.Conn)
}

func stateOf(states []pve.NodeState, host string) (pve.NodeState, bool) {
	i := slices.IndexFunc(states, func(s pve.NodeState) bool { return s.Host == host })
	if i < 0 {
		return pve.NodeState{}, false
	}
	return states[i], true
}

func hostsOf(states []pve.NodeState) []string {
	names := make([]string, len(states))
	for i, s := range states {
		names[i] = s.Host
	}
	return names
}

// clusterAddr is the address by which other nodes of the cluster reach a node: what its name stands for.
func clusterAddr(s pve.NodeState, h inventory.Host) (string, error) {
	// It becomes an argument of pvecm and ssh on another node, so only an address will do, whatever the file says.
	if m, ok := s.Members.Member(s.Hostname); ok {
		if a, err := netip.ParseAddr(m.IP); err == nil {
			return a.String(), nil
		}
	}
	if a, ok := s.HostnameAddr(); ok {
		return a.String(), nil
	}
	if a, err := netip.ParseAddr(h.Address); err == nil {
		return a.String(), nil
	}
	return "", fmt.Errorf("%s: its name %q stands for no address (look: getent ahosts %s)", s.Host, s.Hostname, s.Hostname)
}

// detached is a job that runs a Proxmox tool from a working directory outside of /etc/pve, which may be unmounted
// under it.
func detached(name string, argv ...string) module.Job {
	return module.Job{Name: name, Command: transport.Command{Script: "cd / && exec \"$@\"", Argv: argv, Mutates: true}}
}

func unmet(missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	return errors.New(strings.Join(missing, "; "))
}

// oneHost is the host that an argument names, or else.
func oneHost[R ~[]string](r R, otherwise string) string {
	if len(r) > 0 {
		return r[0]
	}
	return otherwise
}
