package ceph

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/pxrun/pxrun/lab/vfs"
)

// Why a client does not get at the cluster.
var (
	errNoConf    = errors.New("no configuration")
	errNoKeyring = errors.New("no keyring")
	errNoMonHost = errors.New("no monitor is named")
	errTimedOut  = errors.New("timed out")
)

// connect finds the cluster of a ceph.conf through one of the monitors that the file names. Without a quorum that can be
// reached it waits until the limit is over, as every client does.
func (n *Node) connect(ctx context.Context, v *vfs.View, limit time.Duration) (*Cluster, error) {
	const roundTrips = 250 * time.Millisecond
	if err := n.m.Sleep(ctx, roundTrips); err != nil {
		return nil, err
	}
	if !exists(v, confLink) {
		return nil, errNoConf
	}
	c := readConf(v, confLink)
	if c["global"]["auth_client_required"] != "none" && !exists(v, adminKeyring) {
		return nil, errNoKeyring
	}
	hosts := c.monHosts()
	if len(hosts) == 0 {
		return nil, errNoMonHost
	}
	m := n.model
	end := m.now() + limit
	for {
		m.mu.Lock()
		k := m.clusters[c["global"]["fsid"]]
		if k != nil {
			k.settle()
			if n.hears(k, hosts) {
				m.mu.Unlock()
				return k, nil
			}
		}
		m.mu.Unlock()
		const again = 500 * time.Millisecond
		if m.now()+again > end {
			return nil, errTimedOut
		}
		if err := n.m.Sleep(ctx, again); err != nil {
			return nil, err
		}
	}
}

// hears reports whether the node reaches a monitor of the quorum at one of the addresses. The model's lock is held.
func (n *Node) hears(c *Cluster, hosts []string) bool {
	if n.deaf {
		return false
	}
	for _, host := range hosts {
		a, err := netip.ParseAddr(host)
		if err != nil {
			continue
		}
		for _, mon := range c.quorum {
			if mon.addr == a && mon.on && n.reachesFrom(a) {
				return true
			}
		}
	}
	return false
}

// connectLimit is how long Ceph's clients wait by default.
const connectLimit = 300 * time.Second

// rados is a connection of Proxmox's own, which gives up soon.
func (n *Node) rados5(ctx context.Context, v *vfs.View) (*Cluster, error) {
	const patience = 5 * time.Second
	c, err := n.connect(ctx, v, patience)
	switch {
	case err == nil:
		return c, nil
	case ctx.Err() != nil:
		return nil, err
	case errors.Is(err, errTimedOut):
		return nil, errors.New("got timeout")
	}
	return nil, &dieError{code: 2, text: "rados_connect failed - No such file or directory"}
}

// with calls f with the model's lock held and everything up to now done.
func (n *Node) with(c *Cluster, f func() error) error {
	n.model.mu.Lock()
	defer n.model.mu.Unlock()
	c.settle()
	err := f()
	c.settle()
	return err
}
