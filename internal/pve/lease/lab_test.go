package lease

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/stretchr/testify/require"
)

// labConn runs commands on a simulated machine.
type labConn struct {
	*testkit.Local
	m *machine.Machine
}

func (c labConn) Run(ctx context.Context, cmd transport.Command) (transport.Result, error) {
	var stdout, stderr bytes.Buffer
	argv := append([]string{"/bin/sh", "-c", cmd.Script, "sh"}, cmd.Argv...)
	code := c.m.Exec(ctx, machine.Proc{Argv: argv, Stdin: bytes.NewReader(cmd.Stdin), Stdout: &stdout, Stderr: &stderr})
	return transport.Result{Stdout: stdout.Bytes(), Stderr: stderr.Bytes(), Exit: code}, nil
}

// The lease of a run that forms a cluster keeps others out before, between and after, whichever node they enter by.
func TestLeaseOverTheFormingOfACluster(t *testing.T) {
	l, err := lab.New(lab.Spec{Seed: 1, Speed: 50, Hosts: []lab.HostSpec{
		{Name: "pve1", Address: "192.0.2.11", PVE: "9.1.8", RootPassword: "pw"}, {Name: "pve2", Address: "192.0.2.12", PVE: "9.1.8"}, {Name: "pve3", Address: "192.0.2.13", PVE: "9.1.8"},
	}})
	require.NoError(t, err)
	defer l.Close()
	connect := func(_ context.Context, host string) (transport.Conn, error) { return labConn{m: l.Machine(host)}, nil }
	c := make(ticks)
	locker := New(Config{Sleep: c.sleep})
	acquire := func(run string, names ...string) (engine.Lease, error) {
		hosts := make([]inventory.Host, len(names))
		for i, n := range names {
			hosts[i].Name = n
		}
		return locker.Acquire(t.Context(), engine.Owner{Run: run}, nil, hosts, connect)
	}
	refused := func(node string) {
		t.Helper()
		_, err := acquire("run2", node)
		require.Equal(t, "run1", locked(t, err).Owner.Run)
	}
	sh := func(host, script string, argv ...string) string {
		t.Helper()
		r, err := labConn{m: l.Machine(host)}.Run(t.Context(), transport.Command{Script: script, Argv: argv})
		require.NoError(t, err)
		return string(r.Stdout)
	}
	writable := func(host string) {
		t.Helper()
		for sh(host, "stat -c %a /etc/pve/local") != "755\n" {
			require.NoError(t, l.Clock().Sleep(t.Context(), time.Second))
		}
	}

	first, err := acquire("run1", "pve1", "pve2")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- first.Keep(ctx) }()
	refused("pve2")

	sh("pve1", "cd / && pvecm create lab")
	refused("pve1")
	writable("pve1")
	c <- struct{}{} // renewed: from here on the cluster has the lease
	c <- struct{}{}
	_, fingerprint, _ := strings.Cut(sh("pve1", "openssl x509 -noout -fingerprint -sha256 -in /etc/pve/local/pve-ssl.pem"), "=")
	for _, node := range []string{"pve2", "pve3"} {
		out := sh(node, `cd / && echo pw | pvecm add 192.0.2.11 --fingerprint "$1"`, strings.TrimSpace(fingerprint))
		require.Contains(t, out, "successfully added node '"+node+"' to cluster.")
		writable(node)
		refused(node) // pve3 is not among the hosts of the run
	}
	cancel()
	require.NoError(t, <-done)
	require.NoError(t, first.Release(t.Context()))
	second, err := acquire("run2", "pve3")
	require.NoError(t, err)
	refusedBy := func(run, node string) {
		t.Helper()
		_, err := acquire("run3", node)
		require.Equal(t, run, locked(t, err).Owner.Run)
	}
	refusedBy("run2", "pve1")
	require.NoError(t, second.Release(t.Context()))
	require.Empty(t, sh("pve1", "ls /etc/pve/priv/pxrun-lease.json /etc/pve/priv/lock/pxrun 2>/dev/null"))
}
