package ha_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/ha"
	"github.com/pxrun/pxrun/lab/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a cluster pve1, pve2, … at 10.0.0.1, 10.0.0.2, … with HA stacks, in a bubble, where time passes by itself.
type site struct {
	t        *testing.T
	clock    clock.Clock
	machines []*machine.Machine
	world    *cluster.World
	ha       *ha.Site
	guests   *fakeGuests

	mu     sync.Mutex
	cut    map[string]bool  // addresses that nobody reaches
	phases map[string]error // what happens at a phase, every time
}

// fakeGuests are guests without any inner life: a running flag, and configs that move.
type fakeGuests struct {
	site *site

	mu      sync.Mutex
	running map[string]string // the node of each that runs
	fail    map[string]bool   // "start vm:100", "start vm:100 pve1", "migrate vm:100"
	took    []string
	moving  int // migrations that go on
	peak    int // the most at once
}

const guestStart, guestStop, guestMove = 2 * time.Second, 3 * time.Second, 10 * time.Second

func (g *fakeGuests) Running(node, sid string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running[sid] == node
}

func (g *fakeGuests) set(sid, node string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.running, sid)
	if node != "" {
		g.running[sid] = node
	}
}

func (g *fakeGuests) note(text, node string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.took = append(g.took, text+" "+node)
	if g.fail[text] || g.fail[text+" "+node] {
		return errors.New(text + ": this was to fail")
	}
	return nil
}

func (g *fakeGuests) did() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.took...)
}

func (g *fakeGuests) failing(what string, on bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fail[what] = on
}

func (g *fakeGuests) Start(ctx context.Context, node, sid string) error {
	if err := g.site.clock.Sleep(ctx, guestStart); err != nil {
		return err
	}
	if err := g.note("start "+sid, node); err != nil {
		return err
	}
	g.set(sid, node)
	return nil
}

func (g *fakeGuests) Shutdown(ctx context.Context, node, sid string, timeout time.Duration) error {
	length := guestStop
	if timeout >= 0 {
		length = min(length, timeout)
	}
	if err := g.site.clock.Sleep(ctx, length); err != nil {
		return err
	}
	if err := g.note("stop "+sid, node); err != nil {
		return err
	}
	g.set(sid, "")
	return nil
}

func (g *fakeGuests) count(by int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.moving += by
	g.peak = max(g.peak, g.moving)
}

func (g *fakeGuests) fails(what string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.fail[what]
}

func (g *fakeGuests) Migrate(ctx context.Context, node, sid, target string, online bool) error {
	g.count(1)
	defer g.count(-1)
	if err := g.site.clock.Sleep(ctx, guestMove); err != nil {
		return err
	}
	if err := g.note(fmt.Sprintf("migrate %s online=%v", sid, online), node+">"+target); err != nil {
		return err
	}
	if g.fails("migrate " + sid) {
		return errors.New("migration aborted")
	}
	runs := g.Running(node, sid)
	if err := g.site.world.Node(node).Machine().FS.Rename(config(node, sid), config(target, sid)); err != nil {
		return err
	}
	g.set(sid, "")
	if runs && online {
		g.set(sid, target)
	}
	return nil
}

func config(node, sid string) string {
	kind, id, _ := strings.Cut(sid, ":")
	return "/etc/pve/nodes/" + node + "/" + map[string]string{"vm": "qemu-server", "ct": "lxc"}[kind] + "/" + id + ".conf"
}

func (s *site) Clock() clock.Clock { return s.clock }

func (s *site) Find(name string) *machine.Machine {
	for _, m := range s.machines {
		a, err := netip.ParseAddr(name)
		if m.Name() == name || err == nil && m.Owns(a) {
			return m
		}
	}
	return nil
}

func (s *site) Path(from, to netip.Addr) machine.Path {
	s.mu.Lock()
	cut := s.cut[from.String()] || s.cut[to.String()]
	s.mu.Unlock()
	up := s.Find(to.String()) == nil || s.Find(to.String()).Up()
	return machine.Path{Reachable: up && !cut, RTT: 200 * time.Microsecond, MTU: 1500}
}

// isolate cuts a node off from all others, or lets it back.
func (s *site) isolate(node int, off bool) {
	s.mu.Lock()
	s.cut[fmt.Sprintf("10.0.0.%d", node)] = off
	s.mu.Unlock()
	s.world.NetworkChanged()
}

// inCluster runs a test on a cluster of nodes of the given versions, all HA stacks idle.
func inCluster(t *testing.T, versions []string, test func(s *site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &site{t: t, clock: clock.New(1), cut: map[string]bool{}, phases: map[string]error{}}
		s.world = cluster.NewWorld(cluster.Options{Clock: s.clock, Now: time.Now, Path: s.Path, Find: s.Find, Interrupt: s.interrupt})
		s.guests = &fakeGuests{site: s, running: map[string]string{}, fail: map[string]bool{}}
		s.ha = ha.New(s.world, s.guests)
		defer func() {
			for _, m := range s.machines {
				m.Close()
			}
			s.clock.Close()
		}()
		for i, version := range versions {
			s.add(i+1, version)
		}
		s.must(1, "pvecm create lab")
		s.pass(15 * time.Second)
		for i := range versions[1:] {
			out := s.feed(i+2, "secret\n", "pvecm add 10.0.0.1 --fingerprint "+s.fingerprint())
			require.Contains(t, out.out, "successfully added")
			s.pass(15 * time.Second)
		}
		const formed = 182 * time.Second // joins do not always take the same time; pve2 is the first to wake after this
		s.pass(formed - s.clock.Elapsed())
		test(s)
	})
}

func nines(n int) []string { return repeat("9.1.8", n) }

func repeat(text string, n int) []string {
	var out []string
	for range n {
		out = append(out, text)
	}
	return out
}

func (s *site) interrupt(_ context.Context, node, phase string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phases[node+" "+phase]
}

func (s *site) at(node, phase string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phases[node+" "+phase] = err
}

func (s *site) add(number int, version string) {
	s.t.Helper()
	name, addr := fmt.Sprintf("pve%d", number), netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", number))
	m := machine.New(machine.Options{
		Name: name, Network: s, RootPassword: "secret", Seed: 1, Memory: 16 << 30,
		Interfaces: []machine.Interface{{Name: "vmbr0", MTU: 1500, Addrs: []netip.Prefix{netip.PrefixFrom(addr, 24)}}},
	})
	s.machines = append(s.machines, m)
	release, err := cluster.ReleaseOf(version)
	require.NoError(s.t, err)
	node, err := s.world.Install(s.t.Context(), cluster.NodeOptions{
		Machine: m, Release: release, Address: addr, Domain: "example.com", CPUs: 4, Memory: 16 << 30,
	})
	require.NoError(s.t, err)
	_, err = s.ha.Install(node)
	require.NoError(s.t, err)
	m.OnPower(func(up bool) {
		s.world.NetworkChanged()
		if up {
			return
		}
		s.guests.mu.Lock()
		defer s.guests.mu.Unlock()
		for sid, on := range s.guests.running {
			if on == name {
				delete(s.guests.running, sid)
			}
		}
	})
}

var certificate = regexp.MustCompile(`(?s)-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----`)

func (s *site) fingerprint() string {
	text, err := s.machines[0].FS.ReadFile("/etc/pve/local/pve-ssl.pem")
	require.NoError(s.t, err)
	block, _ := pem.Decode(certificate.Find(text))
	sum := sha256.Sum256(block.Bytes)
	return strings.ReplaceAll(strings.ToUpper(fmt.Sprintf("% x", sum)), " ", ":")
}

type result struct {
	out, err string
	code     int
}

// sh runs a command line on a node.
func (s *site) sh(node int, line string) result { return s.feed(node, "", line) }

func (s *site) feed(node int, stdin, line string) result {
	s.t.Helper()
	var out, errs bytes.Buffer
	code := s.machines[node-1].Exec(s.t.Context(), machine.Proc{
		Argv: []string{"/bin/sh", "-c", line}, Env: map[string]string{"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, Dir: "/root",
		Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs,
	})
	return result{out: out.String(), err: errs.String(), code: code}
}

// must runs a command line that has to succeed.
func (s *site) must(node int, line string) string {
	s.t.Helper()
	got := s.sh(node, line)
	require.Zero(s.t, got.code, "%s\n%s%s", line, got.out, got.err)
	return got.out
}

// pass lets model time pass.
func (s *site) pass(d time.Duration) {
	s.t.Helper()
	require.NoError(s.t, s.clock.Sleep(s.t.Context(), d))
}

// guest puts a guest on a node.
func (s *site) guest(node int, sid string, running bool) {
	s.t.Helper()
	name := fmt.Sprintf("pve%d", node)
	require.NoError(s.t, s.machines[node-1].FS.WriteFile(config(name, sid), []byte("memory: 512\nname: g\n"), 0o640))
	if running {
		s.guests.set(sid, name)
	}
}

// line is the line of `ha-manager status` that begins like this.
func (s *site) line(node int, prefix string) string {
	s.t.Helper()
	for line := range strings.Lines(s.must(node, "ha-manager status")) {
		if strings.HasPrefix(line, prefix) {
			return strings.TrimSuffix(line, "\n")
		}
	}
	return ""
}

// wait waits until a service's line of the status is like this, and returns how long that took.
func (s *site) wait(node int, sid, state string, limit time.Duration) time.Duration {
	s.t.Helper()
	began := s.clock.Elapsed()
	want := fmt.Sprintf("service %s (%s)", sid, state)
	last := ""
	for s.clock.Elapsed()-began < limit {
		if last = s.line(node, "service "+sid+" "); last == want {
			return s.clock.Elapsed() - began
		}
		s.pass(time.Second)
	}
	require.Failf(s.t, "timed out", "want %q\nlast %q\n%s", want, last, s.log(node))
	return 0
}

// log is what the HA stacks of all nodes wrote.
func (s *site) log(int) string {
	var b strings.Builder
	for _, m := range s.machines {
		for _, e := range m.Journal() {
			if strings.HasPrefix(e.Ident, "pve-ha") || strings.HasPrefix(e.Ident, "watchdog") {
				fmt.Fprintf(&b, "%s %s %s: %s\n", e.Time.Format("15:04:05"), m.Name(), e.Ident, e.Text)
			}
		}
	}
	return b.String()
}

// upgrade has a node show another version, and restarts its HA daemons as the package's scripts do.
func (s *site) upgrade(node int, version string) {
	s.t.Helper()
	release, err := cluster.ReleaseOf(version)
	require.NoError(s.t, err)
	require.NoError(s.t, s.world.Node(s.machines[node-1].Name()).SetRelease(release))
	s.must(node, "systemctl restart pve-ha-lrm && systemctl restart pve-ha-crm")
}
