package lab_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// threeNodes are fresh hosts with two links each.
func threeNodes() lab.Spec {
	return lab.Spec{Seed: 1, Speed: 100, Hosts: []lab.HostSpec{
		{Name: "pve1", Address: "192.0.2.11", Links: []string{"10.0.1.1", "10.0.2.1"}, PVE: "9.1.8", RootPassword: "secret"},
		{Name: "pve2", Address: "192.0.2.12", Links: []string{"10.0.1.2", "10.0.2.2"}, PVE: "9.1.8"},
		{Name: "pve3", Address: "192.0.2.13", Links: []string{"10.0.1.3", "10.0.2.3"}, PVE: "9.1.8"},
	}}
}

// start builds and starts a lab for one test, which runs beside the others: labs mostly wait.
func start(t *testing.T, spec lab.Spec) *lab.Lab {
	t.Helper()
	t.Parallel()
	l, err := lab.New(spec)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	require.NoError(t, l.Start(t.Context()))
	return l
}

// sh runs a shell script on a machine, beside its SSH server.
func sh(t *testing.T, l *lab.Lab, host, script string) (out, errs string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = l.Machine(host).Exec(t.Context(), machine.Proc{Argv: []string{"/bin/sh", "-c", script}, Stdout: &stdout, Stderr: &stderr})
	return stdout.String(), stderr.String(), code
}

// eventually waits on the lab's clock until something holds.
func eventually(t *testing.T, l *lab.Lab, what string, holds func() bool) {
	t.Helper()
	for range 600 {
		if holds() {
			return
		}
		require.NoError(t, l.Clock().Sleep(t.Context(), 500*time.Millisecond))
	}
	t.Fatalf("never came: %s", what)
}

func writable(l *lab.Lab, host string) func() bool {
	return func() bool { v, _ := l.Node(host); return v.Writable }
}

func TestFreshHostsAreStandalone(t *testing.T) {
	l := start(t, threeNodes())
	for _, v := range l.Nodes() {
		require.True(t, v.Mounted && v.Writable, v.Name)
		require.False(t, v.CorosyncRunning, v.Name)
		require.Empty(t, v.Cluster)
	}
	out, errs, code := sh(t, l, "pve1", "pvecm status")
	require.Equal(t, 2, code)
	require.Empty(t, out)
	require.Equal(t, "Error: Corosync config '/etc/pve/corosync.conf' does not exist - is this node part of a cluster?\n", errs)
}

func TestCreateOverTwoLinks(t *testing.T) {
	l := start(t, threeNodes())
	out, errs, code := sh(t, l, "pve1", "pvecm create lab --link0 10.0.1.1,priority=20 --link1 10.0.2.1")
	require.Equal(t, 0, code)
	require.Empty(t, errs)
	require.True(t, strings.HasSuffix(out, "Restart corosync and cluster filesystem\n"))
	eventually(t, l, "pve1 is writable", writable(l, "pve1"))
	v, _ := l.Node("pve1")
	require.Equal(t, "lab", v.Cluster)
	require.True(t, v.Quorate)
}
