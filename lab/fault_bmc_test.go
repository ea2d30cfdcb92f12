package lab_test

import (
	"testing"

	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/bmc"
	"github.com/stretchr/testify/require"
)

func TestManagementControllers(t *testing.T) {
	l, err := lab.New(lab.Spec{Seed: 1, Speed: 100, Hosts: []lab.HostSpec{
		{Name: "a", Address: "192.0.2.11", BMC: &bmc.Spec{Address: "198.51.100.11", User: "fence", Password: "pw"}, Packages: []string{"ipmitool"}},
		{Name: "b", Address: "192.0.2.12", BMC: &bmc.Spec{Address: "198.51.100.12", User: "fence", Password: "pw"}, Packages: []string{"ipmitool"}},
		{Name: "c", Address: "192.0.2.13", Packages: []string{"ipmitool"}},
	}})
	require.NoError(t, err)
	t.Cleanup(l.Close)
	const remote = "ipmitool -I lanplus -H 198.51.100.12 -U fence -P "

	out, _, code := sh(t, l, "a", "ipmitool lan print")
	require.Zero(t, code)
	require.Contains(t, out, "\nIP Address Source       : Static Address\nIP Address              : 198.51.100.11\nSubnet Mask             : 255.255.255.0\n")
	_, errs, code := sh(t, l, "a", "ipmitool lan print 2")
	require.Equal(t, 1, code)
	require.Equal(t, "Invalid channel: 2\n", errs)
	_, errs, code = sh(t, l, "c", "ipmitool lan print")
	require.Equal(t, 1, code)
	require.Contains(t, errs, "Could not open device at /dev/ipmi0")
	sh(t, l, "b", "rm /dev/ipmi0") // as without its kernel module
	_, _, code = sh(t, l, "b", "ipmitool lan print")
	require.Equal(t, 1, code)

	// A wrong password looks like a controller that is away, unless one asks.
	_, errs, code = sh(t, l, "a", remote+"wrong power status")
	require.Equal(t, 1, code)
	require.Equal(t, "Error: Unable to establish IPMI v2 / RMCP+ session\n", errs)
	_, errs, _ = sh(t, l, "a", remote+"wrong -v power status")
	require.Contains(t, errs, "RAKP 2 HMAC is invalid")
	id := addFault(t, l, lab.Fault{Kind: "bmc-login", Target: "b"})
	_, _, code = sh(t, l, "a", remote+"pw power status")
	require.Equal(t, 1, code)
	require.NoError(t, l.ClearFault(id))

	id = addFault(t, l, lab.Fault{Kind: "bmc-deaf", Target: "b"})
	out, _, code = sh(t, l, "a", remote+"pw power off")
	require.Zero(t, code)
	require.Equal(t, "Chassis Power Control: Down/Off\n", out)
	require.True(t, l.Machine("b").Powered())
	require.NoError(t, l.ClearFault(id))

	// The addresses are mixed up: who means b cuts a.
	addFault(t, l, lab.Fault{Kind: "bmc-swap", Target: "a", Value: "b"})
	out, _, _ = sh(t, l, "a", "ipmitool lan print 1")
	require.Contains(t, out, "IP Address              : 198.51.100.12\n")
	sh(t, l, "c", remote+"pw chassis power off")
	require.True(t, l.Machine("b").Powered())
	require.False(t, l.Machine("a").Powered())
}
