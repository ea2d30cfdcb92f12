package ceph

import "github.com/pxrun/pxrun/lab/machine"

// PackagesOf makes the packages of a version of Ceph for a node: what its repositories can offer.
func (m *Model) PackagesOf(node string) func(version string) []machine.Package {
	return func(version string) []machine.Package {
		m.mu.Lock()
		n := m.nodes[node]
		m.mu.Unlock()
		if n == nil {
			return nil
		}
		return n.packages(version)
	}
}
