package pve

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/zclconf/go-cty/cty"
)

// Facts reads what expressions see as self.facts. It works on every Debian-like host; pve and cluster are null where
// there is none.
func Facts(ctx context.Context, conn transport.Conn) (cty.Value, error) {
	command := FactsProbe()
	result, err := conn.Run(ctx, command)
	if err != nil {
		return cty.NilVal, fmt.Errorf("gather facts: %w", err)
	}
	s := ParseNode("", result.Stdout)
	if s.Err != nil {
		return cty.NilVal, fmt.Errorf("gather facts: %w", s.Err)
	}
	return s.facts(), nil
}

// FactsType is the type of what Facts gives: it is the same for every host.
func FactsType() cty.Type { return NodeState{}.facts().Type() }

func (s NodeState) facts() cty.Value {
	pve, cluster := cty.NullVal(cty.Object(map[string]cty.Type{"version": cty.String, "major": cty.Number})), cty.NullVal(cty.String)
	if v := s.Version(); v != "" {
		pve = cty.ObjectVal(map[string]cty.Value{"version": cty.StringVal(v), "major": cty.NumberIntVal(int64(Major(v)))})
	}
	if name := s.ClusterName(); name != "" {
		cluster = cty.StringVal(name)
	}
	return cty.ObjectVal(map[string]cty.Value{
		"hostname": cty.StringVal(s.Hostname),
		"fqdn":     cty.StringVal(s.FQDN),
		"os": cty.ObjectVal(map[string]cty.Value{
			"id":       cty.StringVal(s.OS.ID),
			"version":  cty.StringVal(s.OS.Version),
			"codename": cty.StringVal(s.OS.Codename),
			"name":     cty.StringVal(s.OS.Name),
		}),
		"kernel":     cty.StringVal(s.Kernel),
		"arch":       cty.StringVal(s.Arch),
		"boot_id":    cty.StringVal(s.BootID),
		"machine_id": cty.StringVal(s.MachineID),
		"cpus":       cty.NumberIntVal(int64(s.CPUs)),
		"memory_mib": cty.NumberIntVal(s.MemoryTotal >> 20),
		"addresses":  addressList(s.Addresses()),
		"pve":        pve,
		"cluster":    cluster,
	})
}

func addressList(addrs []netip.Addr) cty.Value {
	if len(addrs) == 0 {
		return cty.ListValEmpty(cty.String)
	}
	values := make([]cty.Value, len(addrs))
	for i, a := range addrs {
		values[i] = cty.StringVal(a.String())
	}
	return cty.ListVal(values)
}

// Addresses are the node's own addresses in the order of its interfaces, without loopback and link-local ones.
func (s NodeState) Addresses() []netip.Addr {
	var addrs []netip.Addr
	for _, i := range s.Interfaces {
		for _, p := range i.Addrs {
			if a := p.Addr(); !a.IsLoopback() && !a.IsLinkLocalUnicast() {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}
