package ipmi_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pxrun/pxrun/internal/pve/ipmi"
	"github.com/stretchr/testify/require"
)

const channel = `Set in Progress         : Set Complete
Auth Type Support       : MD5 
Auth Type Enable        : Callback : MD5 
                        : User     : MD5 
IP Address Source       : Static Address
IP Address              : %s
Subnet Mask             : 255.255.255.0
MAC Address             : 02:00:5e:10:00:01
Default Gateway IP      : 198.51.100.1
Backup Gateway IP       : 0.0.0.0
`

func TestAddressesOfAController(t *testing.T) {
	at := func(addresses ...string) []byte {
		var text []byte
		for _, a := range addresses {
			text = fmt.Appendf(text, channel, a)
		}
		return text
	}
	for name, c := range map[string]struct {
		out  []byte
		want []netip.Addr
	}{
		"one channel":                {at("198.51.100.13"), []netip.Addr{netip.MustParseAddr("198.51.100.13")}},
		"the same channel twice":     {at("198.51.100.13", "198.51.100.13"), []netip.Addr{netip.MustParseAddr("198.51.100.13")}},
		"the second has the address": {at("0.0.0.0", "198.51.100.13"), []netip.Addr{netip.MustParseAddr("198.51.100.13")}},
		"no address":                 {at("0.0.0.0"), nil},
		"something else":             {[]byte("Invalid channel: 2\n"), nil},
		"nothing":                    {nil, nil},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, c.want, ipmi.ParseLAN(c.out)) })
	}
}

func FuzzParseLAN(f *testing.F) {
	f.Add(fmt.Appendf(nil, channel, "198.51.100.13"))
	f.Add([]byte("IP Address : ::1\nIP Address:"))
	f.Fuzz(func(t *testing.T, out []byte) {
		for _, a := range ipmi.ParseLAN(out) {
			require.True(t, a.IsValid())
			require.False(t, a.IsUnspecified())
		}
	})
}
