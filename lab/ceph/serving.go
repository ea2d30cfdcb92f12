package ceph

// Inactive counts the placement groups of all clusters that serve nothing: those that only agree on who holds what, for a
// second after each change, are not among them.
func (m *Model) Inactive() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for _, c := range m.clusters {
		c.advance(m.now())
		for _, p := range c.pools {
			for i := range p.pgs {
				if v := p.view(&p.pgs[i], c.alive, m.now()); !v.active && v.state != "peering" && m.now()-p.created > creates {
					n++
				}
			}
		}
	}
	return n
}

// Flags gives the nodes for which flags are set, by flag. noout for the whole cluster is for the node "".
func (m *Model) Flags() map[string][]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := map[string][]string{}
	for _, c := range m.clusters {
		for flag, on := range c.flags {
			if on && flag == "noout" {
				out[flag] = append(out[flag], "")
			}
		}
		for host, flags := range c.nodeFlags {
			for flag, on := range flags {
				if on {
					out[flag] = append(out[flag], host)
				}
			}
		}
	}
	return out
}
