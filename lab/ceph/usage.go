package ceph

import (
	"errors"
	"fmt"
	"slices"
)

// PoolUsage is the space of a pool in bytes as a node's client sees it. The error is what that client says.
func (m *Model) PoolUsage(node, name string) (total, used int64, err error) {
	return m.usageOf(node, func(c *Cluster) (*pool, error) {
		p := c.pool(name)
		if p == nil {
			return nil, fmt.Errorf("error opening pool '%s': No such file or directory", name)
		}
		return p, nil
	})
}

// FilesystemUsage is the space of a CephFS in bytes as a node's client sees it; "" is the first there is. A file system
// without a metadata server cannot be mounted.
func (m *Model) FilesystemUsage(node, name string) (total, used int64, err error) {
	return m.usageOf(node, func(c *Cluster) (*pool, error) {
		at := slices.IndexFunc(c.fs, func(f *filesystem) bool { return name == "" || f.name == name })
		if at < 0 {
			return nil, errors.New("mount error 2 = No such file or directory")
		}
		if d := c.holder(c.fs[at]); d == nil || !d.on {
			return nil, errors.New("mount error: no mds (Metadata Server) is up. The cluster might be laggy, or you may not be authorized")
		}
		return c.poolByID(c.fs[at].data), nil
	})
}

func (m *Model) usageOf(node string, find func(*Cluster) (*pool, error)) (total, used int64, err error) {
	m.mu.Lock()
	n := m.nodes[node]
	m.mu.Unlock()
	if n == nil {
		return 0, 0, errors.New("rados_connect failed - No such file or directory")
	}
	conf := readConf(n.m.FS.View, confPath) // storages need no link below /etc/ceph, which only nodes with daemons have
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.clusters[conf["global"]["fsid"]]
	if c == nil {
		return 0, 0, errors.New("rados_connect failed - No such file or directory")
	}
	c.settle()
	if !n.hears(c, conf.monHosts()) {
		return 0, 0, errors.New("rados_connect failed - Connection timed out")
	}
	p, err := find(c)
	if err != nil || p == nil {
		return 0, 0, err
	}
	taken, all := c.space()
	free := (all - taken) * int64(p.k) / int64(max(1, p.size))
	return free + p.stored(), p.stored(), nil
}
