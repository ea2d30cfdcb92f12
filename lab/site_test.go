package lab_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab"
)

func TestTwoNodesAndAnArbiter(t *testing.T) {
	l := start(t, lab.Spec{Speed: 100, Hosts: []lab.HostSpec{
		{Name: "pve1", Address: "192.0.2.11", PVE: "8.4.1", Packages: []string{"corosync-qdevice"}, RootPassword: "secret"},
		{Name: "pve2", Address: "192.0.2.12", PVE: "8.4.1", Packages: []string{"corosync-qdevice"}},
		{Name: "arbiter", Address: "192.0.2.50", Packages: []string{"corosync-qnetd"}},
	}})
	_, errs, _ := sh(t, l, "pve1", "pvecm create old")
	require.Empty(t, errs)
	eventually(t, l, "pve1 is writable", writable(l, "pve1"))
	conf, _, _ := sh(t, l, "pve1", "cat /etc/pve/corosync.conf")
	require.NotContains(t, conf, "token_coefficient", "PVE 8 does not write it")
	out, _, _ := sh(t, l, "pve2", joinScript(t, l, ""))
	require.Contains(t, out, "successfully added")
	eventually(t, l, "pve1 sees both", func() bool { v, _ := l.Node("pve1"); return len(v.Members) == 2 && v.Writable })

	_, errs, code := sh(t, l, "pve1", "pvecm qdevice setup 192.0.2.50")
	require.NotEqual(t, 0, code)
	require.Contains(t, errs, "unable to copy ssh ID", "no trust yet")
	key, _, _ := sh(t, l, "pve1", "cat /root/.ssh/id_rsa.pub")
	host, _, _ := sh(t, l, "arbiter", "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub")
	sh(t, l, "arbiter", "echo '"+strings.TrimSpace(key)+"' >>/root/.ssh/authorized_keys")
	sh(t, l, "pve1", "echo '192.0.2.50 "+strings.TrimSpace(host)+"' >>/root/.ssh/known_hosts")
	_, errs, code = sh(t, l, "pve1", "pvecm qdevice setup 192.0.2.50")
	require.Equal(t, 0, code, errs)
	eventually(t, l, "the device votes", func() bool { v, _ := l.Node("pve2"); return v.Total == 3 })

	l.Machine("pve2").PowerOff()
	eventually(t, l, "pve2 is gone", func() bool { v, _ := l.Node("pve1"); return len(v.Members) == 1 })
	v, _ := l.Node("pve1")
	require.True(t, v.Quorate, "with the arbiter's vote")
	_, errs, _ = sh(t, l, "pve1", "pvecm qdevice remove")
	require.Equal(t, "All nodes must be online! Node pve2 is offline, aborting.\n", errs)
}

func TestPortsThatPreflightAsksFor(t *testing.T) {
	l := start(t, threeNodes())
	for script, want := range map[string]int{
		"nc -z -w 2 192.0.2.12 8006":                               0,
		"nc -z -w 2 192.0.2.12 22":                                 0,
		"nc -z -w 2 192.0.2.12 5403":                               1,
		"systemctl stop pveproxy; nc -z -w 2 192.0.2.11 8006":      1,
		"ping -n -q -c 1 -W 1 10.0.1.3 >/dev/null":                 0,
		"ping -n -q -c 1 -W 1 -M do -s 8972 10.0.1.3 >/dev/null":   1,
		"ping -n -q -c 1 -W 1 -M do -s 1472 10.0.1.3 >/dev/null":   0,
		"getent ahostsv4 pve1 | grep -q '^192.0.2.11 '":            0,
		"dpkg-query -W -f '${Version}' pve-manager | grep -q '^9'": 0,
		"chronyc -c tracking >/dev/null":                           0,
	} {
		_, errs, code := sh(t, l, "pve1", script)
		require.Equal(t, want, code, "%s: %s", script, errs)
	}
}

func TestOpenSSHLooksAround(t *testing.T) {
	program, err := exec.LookPath("ssh")
	if err != nil {
		t.Skip("no ssh here")
	}
	l := start(t, threeNodes())
	a, err := l.Access(t.TempDir())
	require.NoError(t, err)
	out, err := exec.CommandContext(t.Context(), program, "-F", a.SSHConfig, "pve2", "hostname; pvecm status").CombinedOutput()
	require.Error(t, err)
	require.Equal(t, "pve2\nError: Corosync config '/etc/pve/corosync.conf' does not exist - is this node part of a cluster?\n", string(out))
}

func TestLabInADeepFolder(t *testing.T) {
	l := start(t, threeNodes())
	dir := filepath.Join(t.TempDir(), strings.Repeat("deep/", 30))
	a, err := l.Access(dir)
	require.NoError(t, err)
	_, err = a.Status(t.Context())
	require.NoError(t, err)
	l.Close()
	_, err = os.Stat(filepath.Dir(a.Control))
	require.ErrorIs(t, err, os.ErrNotExist, "nothing is left behind")
}

func TestSpecsThatMakeNoSenseAreRefused(t *testing.T) {
	for want, hosts := range map[string][]lab.HostSpec{
		"no hosts":          nil,
		"is not usable":     {{Name: "", Address: "192.0.2.1"}},
		"two hosts":         {{Name: "a", Address: "192.0.2.1"}, {Name: "a", Address: "192.0.2.2"}},
		"both have":         {{Name: "a", Address: "192.0.2.1"}, {Name: "b", Address: "192.0.2.2", Links: []string{"192.0.2.1"}}},
		"is not an IP":      {{Name: "a", Address: "example"}},
		"neither 8 nor 9":   {{Name: "a", Address: "192.0.2.1", PVE: "7.4.1"}},
		"is not like 9.1.4": {{Name: "a", Address: "192.0.2.1", PVE: "nine"}},
		"is none of none":   {{Name: "a", Address: "192.0.2.1", Users: []lab.UserSpec{{Name: "u", Sudo: "maybe"}}}},
	} {
		_, err := lab.New(lab.Spec{Hosts: hosts})
		require.ErrorContains(t, err, want)
	}
}

func TestRTTAndPartitionFaultsReachCorosync(t *testing.T) {
	l := start(t, threeNodes())
	create(t, l)
	for _, node := range []string{"2", "3"} {
		out, _, _ := sh(t, l, "pve"+node, joinScript(t, l, "--link0 10.0.1."+node+" --link1 10.0.2."+node))
		require.Contains(t, out, "successfully added")
	}
	addFault(t, l, lab.Fault{Kind: "rtt", Target: "pve2", Value: "7ms"})
	out, _, _ := sh(t, l, "pve1", "corosync-cmapctl -m stats stats.knet.node2.link0.latency_ave")
	require.Equal(t, "stats.knet.node2.link0.latency_ave (u32) = 7000\n", out)
	addFault(t, l, lab.Fault{Kind: "mtu", Target: "pve2", Value: "1400"})
	out, _, _ = sh(t, l, "pve1", "corosync-cfgtool -n")
	require.Contains(t, out, "mtu: 1297")

	id := addFault(t, l, lab.Fault{Kind: "partition", Value: "pve1,pve2|pve3"})
	eventually(t, l, "pve3 is alone", func() bool { v, _ := l.Node("pve3"); return !v.Writable && len(v.Members) == 1 })
	v, _ := l.Node("pve1")
	require.True(t, v.Writable)
	require.NoError(t, l.ClearFault(id))
	eventually(t, l, "pve3 is back", func() bool { v, _ := l.Node("pve3"); return v.Writable && len(v.Members) == 3 })

	addFault(t, l, lab.Fault{Kind: "corosync-down", Target: "pve3"})
	eventually(t, l, "pve3 is missed", func() bool { v, _ := l.Node("pve1"); return len(v.Members) == 2 })
	out, _, _ = sh(t, l, "pve3", "systemctl is-active corosync")
	require.Equal(t, "failed\n", out)
	require.NoError(t, l.ClearFault(0))
	eventually(t, l, "pve3 is back", func() bool { v, _ := l.Node("pve1"); return len(v.Members) == 3 })
}

func TestRebootFault(t *testing.T) {
	l := start(t, threeNodes())
	boot := l.Machine("pve1").BootID()
	addFault(t, l, lab.Fault{Kind: "reboot", Target: "pve1"})
	eventually(t, l, "pve1 has booted", func() bool { return l.Machine("pve1").Up() && l.Machine("pve1").BootID() != boot })
	eventually(t, l, "/etc/pve is there", writable(l, "pve1"))
	require.NoError(t, l.Clock().Sleep(t.Context(), time.Second))
}
