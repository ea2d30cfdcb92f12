package hardware_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/hardware"
	"github.com/pxrun/pxrun/lab/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newMachine(t *testing.T, codename string) *machine.Machine {
	t.Helper()
	fast := clock.New(200)
	t.Cleanup(fast.Close)
	m := machine.New(machine.Options{Name: "pve1", Clock: fast, Codename: codename, Release: map[string]string{"trixie": "13", "bookworm": "12"}[codename]})
	t.Cleanup(m.Close)
	return m
}

func sh(t *testing.T, m *machine.Machine, script string) (string, int) {
	t.Helper()
	var out bytes.Buffer
	code := m.Exec(t.Context(), machine.Proc{Argv: []string{"/bin/sh", "-c", script}, Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out})
	return out.String(), code
}

func TestEnterpriseRepositoriesWantASubscription(t *testing.T) {
	for _, codename := range []string{"trixie", "bookworm"} {
		t.Run(codename, func(t *testing.T) {
			m := newMachine(t, codename)
			_, err := hardware.InstallRepositories(m, codename, "")
			require.NoError(t, err)
			out, code := sh(t, m, "apt-get update")
			require.Equal(t, 100, code)
			require.Contains(t, out, "https://enterprise.proxmox.com/debian/pve")
			require.Contains(t, out, "401  Unauthorized")
			out, _ = sh(t, m, "pvesubscription get")
			require.Contains(t, out, "status: notfound")
			_, code = sh(t, m, "pvesubscription set nonsense")
			require.Equal(t, 255, code)
			_, code = sh(t, m, "pvesubscription set pve2b-0123456789 && apt-get update && pvesubscription get | grep -q 'status: active'")
			require.Zero(t, code)
			_, code = sh(t, m, "pvesubscription delete; apt-get update")
			require.Equal(t, 100, code)
		})
	}
}

func TestBondsShowWhatTheKernelShows(t *testing.T) {
	m := newMachine(t, "trixie")
	b, err := hardware.InstallBonds(m, []hardware.Bond{{Name: "bond0", Mode: "active-backup", Members: []string{"eno1", "eno2"}, Speed: 1000}})
	require.NoError(t, err)
	out, _ := sh(t, m, "cat /proc/net/bonding/bond0 /sys/class/net/eno1/speed")
	require.Contains(t, out, "Bonding Mode: fault-tolerance (active-backup)")
	require.Contains(t, out, "Currently Active Slave: eno1")
	require.True(t, strings.HasSuffix(out, "\n1000\n"))
	require.NoError(t, b.SetDown("eno1", true))
	out, _ = sh(t, m, "cat /proc/net/bonding/bond0")
	require.Contains(t, out, "Currently Active Slave: eno2")
	require.Contains(t, out, "Slave Interface: eno1\nMII Status: down\nSpeed: Unknown\nDuplex: Unknown\nLink Failure Count: 1")
	require.Error(t, b.SetDown("eno9", true))
	require.Error(t, hardware.Bond{Name: "b", Mode: "lacp", Members: []string{"e"}}.Validate())
}

func TestChronyReadsItsSources(t *testing.T) {
	m := newMachine(t, "trixie")
	c, err := hardware.InstallChrony(t.Context(), m)
	require.NoError(t, err)
	out, _ := sh(t, m, "chronyc -c tracking; chronyc -c -N sources; chronyc sources")
	require.Contains(t, out, ",Normal\n")
	require.Contains(t, out, "^,*,2.debian.pool.ntp.org,2,6,377,")
	out, _ = sh(t, m, "echo 'server 192.0.2.53 iburst' >/etc/chrony/sources.d/x.sources; chronyc reload sources; chronyc -c -N sources")
	require.Contains(t, out, "200 OK\n^,*,2.debian.pool.ntp.org,2,6,377")
	require.Contains(t, out, "^,+,192.0.2.53,2,6,377")

	undo, err := hardware.Cut(c)
	require.NoError(t, err)
	out, _ = sh(t, m, "chronyc -c tracking; chronyc -c -N sources")
	require.Contains(t, out, ",Not synchronised\n")
	require.Contains(t, out, "^,?,192.0.2.53,0,6,0,")
	require.NoError(t, undo())
	out, code := sh(t, m, "systemctl stop chrony; chronyc -c tracking")
	require.Equal(t, "506 Cannot talk to daemon\n", out)
	require.Equal(t, 1, code)
}
