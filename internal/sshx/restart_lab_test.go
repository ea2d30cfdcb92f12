package sshx_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/sshx"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	"github.com/stretchr/testify/require"
)

// made counts the goroutines of connections by what made them, on this side and on that of the servers.
func made(t *testing.T) map[string]int {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, pprof.Lookup("goroutine").WriteTo(&text, 2))
	n := map[string]int{}
	for stack := range strings.SplitSeq(text.String(), "\n\n") {
		if _, by, ok := strings.Cut(stack, "created by "); ok && (strings.Contains(stack, "/ssh") || strings.Contains(stack, "/sshd")) {
			by, _, _ = strings.Cut(by, " in goroutine")
			n[by]++
		}
	}
	return n
}

// A connection that is used over many restarts of its host, in order and by loss of power, holds no more than at the first.
func TestARestartOfAHostLeavesNothingBehind(t *testing.T) {
	l, err := lab.New(lab.Spec{Seed: 1, Speed: 200, Hosts: []lab.HostSpec{{Name: "pve1", Address: "192.0.2.11", PVE: "9.1.8"}}})
	require.NoError(t, err)
	defer l.Close()
	require.NoError(t, l.Start(t.Context()))
	key := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(key, l.ClientKey(), 0o600))
	d := sshx.New(sshx.Config{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return l.Dial(ctx, network, address)
		},
		ExtraIdentities: []string{key}, Home: t.TempDir(),
	})
	defer d.Close()
	c, err := d.Dial(t.Context(), inventory.Host{Name: "pve1", Address: "192.0.2.11", SSH: inventory.SSH{HostKeys: inventory.HostKeysAcceptNew}})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	pause := func(d time.Duration) { require.NoError(t, l.Clock().Sleep(t.Context(), d)) }
	boot := func() string {
		ctx, done := context.WithTimeout(t.Context(), 3*time.Second)
		defer done()
		r, err := c.Run(ctx, transport.Command{Script: "cat /proc/sys/kernel/random/boot_id"})
		if err != nil {
			return ""
		}
		return r.Out()
	}
	var first map[string]int
	for i := range 5 {
		was := boot()
		require.NotEmpty(t, was)
		if i%2 == 0 {
			_, _ = c.Run(t.Context(), transport.Command{Script: "systemd-run --quiet --collect --unit=r --on-active=1 systemctl reboot", Mutates: true})
		} else {
			id, err := l.AddFault(lab.Fault{Kind: "power-off", Target: "pve1"})
			require.NoError(t, err)
			require.Empty(t, boot())
			require.NoError(t, l.ClearFault(id))
		}
		for now := boot(); now == "" || now == was; now = boot() {
			pause(time.Second)
		}
		if i == 0 {
			require.Eventually(t, func() bool { first = made(t); return len(first) > 0 }, time.Second, time.Millisecond)
		}
	}
	require.Eventually(t, func() bool {
		for by, n := range made(t) {
			if n > first[by] {
				return false
			}
		}
		return true
	}, 20*time.Second, 20*time.Millisecond, "%v, at first %v", made(t), first)
}
