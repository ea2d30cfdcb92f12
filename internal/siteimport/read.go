// Package siteimport writes the files of a cluster that lives: what pxrun would have been told to make it. It reads, decides
// on values and writes HCL; planning what it wrote finds nothing to change.
package siteimport

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

// Found is what was read of a cluster.
type Found struct {
	// First is the node that was asked first, Nodes all of them in the order of their ids.
	First   string
	Conf    *pve.CorosyncConf // nil for a node that is in no cluster
	Members *pve.Members
	Nodes   []pve.NodeState
	HA      *ha.State
	Storage *storage.Site
	Options []byte        // datacenter.cfg
	Ceph    *ceph.Cluster // nil without Ceph
	// CephNodes are what each node says of its disks, by name; only with Ceph.
	CephNodes map[string]*ceph.Node
}

// Connect dials a node by its name and the address that the cluster knows it by.
type Connect func(ctx context.Context, name, address string) (transport.Conn, error)

// Read reads a cluster: the given node, then the others that it names. A node that cannot be reached is left out of what is
// read per node, and told in notes.
func Read(ctx context.Context, host string, conn transport.Conn, connect Connect) (f *Found, notes []string, err error) {
	s := pve.ReadNode(ctx, host, conn, pve.Options{})
	switch {
	case s.Err != nil:
		return nil, nil, s.Err
	case !s.IsPVE():
		return nil, nil, fmt.Errorf("%s is no Proxmox VE node (look: pveversion)", host)
	case !s.Mounted:
		return nil, nil, fmt.Errorf("%s has no /etc/pve now (look: systemctl status pve-cluster)", host)
	}
	f = &Found{First: s.Hostname, Conf: s.Conf, Members: s.Members, Nodes: []pve.NodeState{s}}
	if err := f.shared(ctx, s.Hostname, conn); err != nil {
		return nil, nil, err
	}
	if f.Conf == nil {
		return f, nil, nil
	}
	notes = f.others(ctx, s, connect)
	if f.Ceph != nil {
		notes = append(notes, f.disks(ctx, conn, connect)...)
	}
	return f, notes, nil
}

// shared reads what every node has alike.
func (f *Found) shared(ctx context.Context, node string, conn transport.Conn) error {
	var err error
	if f.HA, err = ha.Read(ctx, node, conn); err != nil {
		return err
	}
	if f.Storage, err = storage.Read(ctx, node, conn); err != nil {
		return err
	}
	// A file without what could not be read would look whole.
	for _, name := range []string{"resources", "groups", "rules"} {
		if why, bad := f.HA.Unread[name]; bad {
			return fmt.Errorf("%s: the read of HA's %s failed: %s (look: ls -l /etc/pve/ha; systemctl status pve-cluster)", node, name, why)
		}
	}
	if why := f.Storage.Missing("storages", "replication", "jobs"); why != "" {
		return fmt.Errorf("%s: %s (look: ls -l /etc/pve; systemctl status pve-cluster)", node, why)
	}
	options := transport.Command{Argv: []string{"timeout", "10", "cat", "/etc/pve/datacenter.cfg"}, Timeout: 30 * time.Second}
	r, err := conn.Run(ctx, options)
	if err != nil {
		return err
	}
	switch {
	case r.Exit == 0:
		f.Options = r.Stdout
	case !strings.Contains(string(r.Stderr), "No such file or directory"):
		return fmt.Errorf("%s: read the options of the datacenter: %w", node, r.Err(options))
	}
	cluster, err := ceph.ReadCluster(ctx, node, conn)
	if err != nil {
		return err
	}
	if cluster.Conf.Inited() {
		if !cluster.Answers {
			return errors.New("Ceph is set up and does not answer, so that its pools cannot be written down: " + cluster.Silence) //nolint:staticcheck // a name
		}
		f.Ceph = cluster
	}
	return nil
}

// others reads the other members at once.
func (f *Found) others(ctx context.Context, first pve.NodeState, connect Connect) (notes []string) {
	states := make([]pve.NodeState, len(f.Conf.Nodes))
	p := pool.New().WithMaxGoroutines(32)
	for i, n := range f.Conf.Nodes {
		if n.Name == first.Hostname {
			states[i] = first
			continue
		}
		p.Go(func() {
			conn, err := connect(ctx, n.Name, f.address(n.Name))
			if err != nil {
				states[i] = pve.NodeState{Host: n.Name, Hostname: n.Name, Err: err}
				return
			}
			states[i] = pve.ReadNode(ctx, n.Name, conn, pve.Options{})
		})
	}
	p.Wait()
	for _, s := range states {
		if s.Err != nil {
			notes = append(notes, fmt.Sprintf("%s could not be read, so nothing but its place in the cluster is known of it: %v", s.Host, s.Err))
		}
	}
	f.Nodes = states
	return notes
}

// disks reads on which disks OSDs lie.
func (f *Found) disks(ctx context.Context, first transport.Conn, connect Connect) (notes []string) {
	f.CephNodes = map[string]*ceph.Node{}
	for _, n := range f.Conf.Nodes {
		conn, err := first, error(nil)
		if n.Name != f.First {
			conn, err = connect(ctx, n.Name, f.address(n.Name))
		}
		if err != nil {
			continue // told already
		}
		node := ceph.ReadNode(ctx, n.Name, conn)
		if node.Err != nil {
			notes = append(notes, fmt.Sprintf("the disks of %s could not be read: %v", n.Name, node.Err))
			continue
		}
		f.CephNodes[n.Name] = node
	}
	return notes
}

// address is what the cluster knows a node by: what its name stands for, else its first link.
func (f *Found) address(name string) string {
	if m, ok := f.Members.Member(name); ok && m.IP != "" {
		return m.IP
	}
	if n, ok := f.Conf.Node(name); ok {
		return n.Links[0]
	}
	return name
}
