package cli

import (
	"net/netip"
	"testing"

	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
)

func TestLabHostsHaveTheAddressesThatTheirVariablesName(t *testing.T) {
	host := func(name, address, link string, vars map[string]string) inventory.Host {
		h := inventory.Host{Name: name, Address: address, Vars: map[string]cty.Value{"rack": cty.NumberIntVal(3), "none": cty.NullVal(cty.String)}}
		if link != "" {
			h.Node = &inventory.Node{Links: []inventory.Link{{Address: netip.MustParseAddr(link)}}}
		}
		for k, v := range vars {
			h.Vars[k] = cty.StringVal(v)
		}
		return h
	}
	site := &inventory.Site{Hosts: []inventory.Host{
		host("a", "192.0.2.1", "10.0.1.1", map[string]string{"ceph": "10.0.3.1", "gateway": "192.0.2.254", "peer": "10.0.1.2", "role": "storage", "net": "10.0.3.0/24"}),
		host("b", "192.0.2.2", "10.0.1.2", map[string]string{"ceph": "10.0.3.2", "gateway": "192.0.2.254", "first": "192.0.2.1"}),
	}}
	require.Equal(t, []string{"10.0.3.1"}, labAddresses(site, site.Hosts[0]))
	require.Equal(t, []string{"10.0.3.2"}, labAddresses(site, site.Hosts[1]))
	require.NoError(t, labSpec(site, defaultRelease, 1, 1).Validate())
}
