package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network joins the machines of a test; pairs of addresses in cut do not reach each other.
type network struct {
	clock    clock.Clock
	machines []*machine.Machine
	path     machine.Path

	mu  sync.Mutex
	cut map[[2]string]bool
}

func (n *network) set(from, to string, off bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{from, to}] = off
}

func (n *network) Clock() clock.Clock { return n.clock }

func (n *network) Find(name string) *machine.Machine {
	for _, m := range n.machines {
		a, err := netip.ParseAddr(name)
		if m.Name() == name || err == nil && m.Owns(a) {
			return m
		}
	}
	return nil
}

func (n *network) Path(from, to netip.Addr) machine.Path {
	p := n.path
	n.mu.Lock()
	defer n.mu.Unlock()
	p.Reachable = !n.cut[[2]string{from.String(), to.String()}]
	return p
}

// site is a set of fresh Proxmox hosts pve1, pve2, … at 10.0.0.1, 10.0.0.2, ….
type site struct {
	t     *testing.T
	net   *network
	world *cluster.World
	nodes []*cluster.Node
}

const clientKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKiHdsar+KHrLcue627WkWYPtest pxrun"

// inLab runs a test on n fresh hosts in a bubble, where time passes by itself.
func inLab(t *testing.T, n int, test func(s *site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, n, "9.1.8")
		defer s.close()
		test(s)
	})
}

func newSite(t *testing.T, n int, version string) *site {
	t.Helper()
	s := &site{t: t, net: &network{
		clock: clock.New(1), cut: map[[2]string]bool{}, path: machine.Path{Reachable: true, RTT: 200 * time.Microsecond, MTU: 1500},
	}}
	s.world = cluster.NewWorld(cluster.Options{Clock: s.net.clock, Now: time.Now, Path: s.net.Path, Find: s.net.Find})
	for i := range n {
		s.add(fmt.Sprintf("pve%d", i+1), i+1, version)
	}
	return s
}

func (s *site) add(name string, number int, version string) *machine.Machine {
	s.t.Helper()
	addr := netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", number))
	m := machine.New(machine.Options{
		Name: name, Network: s.net, RootPassword: "secret", Seed: 1,
		Interfaces: []machine.Interface{{Name: "vmbr0", MTU: 1500, Addrs: []netip.Prefix{netip.PrefixFrom(addr, 24)}}},
	})
	s.net.machines = append(s.net.machines, m)
	if version == "" {
		return m
	}
	release, err := cluster.ReleaseOf(version)
	require.NoError(s.t, err)
	node, err := s.world.Install(s.t.Context(), cluster.NodeOptions{
		Machine: m, Release: release, Address: addr, Domain: "example.com", CPUs: 4, Memory: 16 << 30,
		AuthorizedKeys: []string{clientKey},
	})
	require.NoError(s.t, err)
	s.nodes = append(s.nodes, node)
	return m
}

func (s *site) close() {
	for _, m := range s.net.machines {
		m.Close()
	}
	s.net.clock.Close()
}

// result is what a command printed and returned.
type result struct {
	out, err string
	code     int
}

// sh runs a shell script on a node.
func (s *site) sh(node int, script string) result {
	return s.feed(context.Background(), node, "", script)
}

func (s *site) feed(ctx context.Context, node int, stdin, script string) result {
	return s.run(ctx, node, stdin, "/bin/sh", "-c", script)
}

func (s *site) shell(shell string, node int, script string) result {
	return s.run(context.Background(), node, "", shell, "-c", script)
}

func (s *site) run(ctx context.Context, node int, stdin string, argv ...string) result {
	var out, errs bytes.Buffer
	code := s.net.machines[node-1].Exec(ctx, machine.Proc{
		Argv: argv, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs,
	})
	return result{out: out.String(), err: errs.String(), code: code}
}

// join joins a node by the API path.
func (s *site) join(node int) result {
	fp := s.fingerprint()
	return s.feed(context.Background(), node, "secret\n", "pvecm add 10.0.0.1 --fingerprint "+fp)
}

func (s *site) settle() {
	require.NoError(s.t, s.net.clock.Sleep(context.Background(), 15*time.Second))
}

func TestCreateAndJoin(t *testing.T) {
	inLab(t, 3, func(s *site) {
		r := s.sh(1, "pvecm create lab")
		require.Equal(t, result{out: "Corosync Cluster Engine Authentication key generator.\nGathering 2048 bits for key from /dev/urandom.\n" +
			"Writing corosync key to /etc/corosync/authkey.\nWriting corosync config to /etc/pve/corosync.conf\nRestart corosync and cluster filesystem\n"}, r)
		s.settle()
		require.Equal(t, 0, s.join(2).code)
		s.settle()
		require.Contains(t, s.join(3).out, "successfully added node 'pve3' to cluster.\n")
		s.settle()
		for i, n := range s.nodes {
			v := n.View()
			require.Equal(t, []string{"pve1", "pve2", "pve3"}, v.Members)
			require.True(t, v.Quorate && v.Writable)
			require.Equal(t, "1.d", v.Ring)
			require.Equal(t, 3, v.ConfigVersion)
			require.Equal(t, i+1, v.NodeID)
		}
	})
}
