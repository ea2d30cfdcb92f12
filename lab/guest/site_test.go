package guest_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/lab/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a cluster pve1, pve2, … at 10.0.0.1, 10.0.0.2, … in a bubble, where time passes by itself.
type site struct {
	t        *testing.T
	clock    clock.Clock
	machines []*machine.Machine
	world    *cluster.World
	guests   *guest.World
	hosts    map[string]*guest.Host
	cut      map[string]bool // addresses that nobody reaches
	// phases holds what happens when a program reaches a phase, once each.
	phases map[string]func(ctx context.Context) error
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
	up := s.Find(to.String()) == nil || s.Find(to.String()).Up()
	return machine.Path{Reachable: up && !s.cut[from.String()] && !s.cut[to.String()], RTT: 200 * time.Microsecond, MTU: 1500}
}

const storageConfig = `dir: local
	path /var/lib/vz
	content iso,vztmpl,backup,images,rootdir

lvmthin: local-lvm
	thinpool data
	vgname pve
	content rootdir,images

zfspool: tank
	pool tank
	content rootdir,images
	nodes pve1,pve2

nfs: shared
	export /export
	path /mnt/pve/shared
	server 192.0.2.60
	content images,rootdir,iso

lvm: san
	vgname san
	content images

dir: off
	path /mnt/off
	content images
	disable

nfs: isos
	export /iso
	path /mnt/pve/isos
	server 192.0.2.60
	content iso

iscsidirect: odd
	portal 192.0.2.61
	target iqn.2024-11.com.example:t
	shared 0
	content images
`

// inCluster runs a test on a cluster of nodes of the given versions.
func inCluster(t *testing.T, versions []string, test func(s *site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &site{t: t, clock: clock.New(1), hosts: map[string]*guest.Host{}, cut: map[string]bool{}, phases: map[string]func(context.Context) error{}}
		s.world = cluster.NewWorld(cluster.Options{Clock: s.clock, Now: time.Now, Path: s.Path, Find: s.Find, Interrupt: s.interrupt})
		s.guests = guest.New(s.world, guest.Options{})
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
		s.settle()
		for i := range versions[1:] {
			out := s.feed(i+2, "secret\n", "pvecm add 10.0.0.1 --fingerprint "+s.fingerprint())
			require.Contains(t, out.out, "successfully added")
			s.settle()
		}
		require.NoError(t, s.machines[0].FS.WriteFile("/etc/pve/storage.cfg", []byte(storageConfig), 0o640))
		test(s)
	})
}

func nines(n int) []string { return slicesRepeat("9.1.8", n) }

func slicesRepeat(text string, n int) []string {
	var out []string
	for range n {
		out = append(out, text)
	}
	return out
}

func (s *site) interrupt(ctx context.Context, node, phase string) error {
	if f := s.phases[phase]; f != nil {
		delete(s.phases, phase)
		return f(ctx)
	}
	return nil
}

func (s *site) add(number int, version string) {
	s.t.Helper()
	name, addr := fmt.Sprintf("pve%d", number), netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", number))
	m := machine.New(machine.Options{
		Name: name, Network: s, RootPassword: "secret", Seed: 1, Memory: 16 << 30,
		Interfaces: []machine.Interface{
			{Name: "vmbr0", MTU: 1500, Addrs: []netip.Prefix{netip.PrefixFrom(addr, 24)}},
			{Name: "vmbr1", MTU: 1500, Addrs: []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr(fmt.Sprintf("10.0.9.%d", number)), 24)}},
		},
	})
	s.machines = append(s.machines, m)
	m.OnPower(func(bool) { s.world.NetworkChanged() })
	release, err := cluster.ReleaseOf(version)
	require.NoError(s.t, err)
	node, err := s.world.Install(s.t.Context(), cluster.NodeOptions{Machine: m, Release: release, Address: addr, Domain: "example.com", CPUs: 4, Memory: 16 << 30})
	require.NoError(s.t, err)
	host, err := s.guests.Install(node)
	require.NoError(s.t, err)
	s.hosts[name] = host
}

func (s *site) fingerprint() string {
	data, err := s.machines[0].FS.ReadFile("/etc/pve/nodes/pve1/pve-ssl.pem")
	require.NoError(s.t, err)
	block, _ := pem.Decode(data)
	sum := sha256.Sum256(block.Bytes)
	return strings.ToUpper(strings.ReplaceAll(fmt.Sprintf("% x", sum), " ", ":"))
}

// result is what a command printed and returned.
type result struct {
	out, err string
	code     int
}

func (s *site) sh(node int, script string) result { return s.feed(node, "", script) }

func (s *site) feed(node int, stdin, script string) result {
	var out, errs bytes.Buffer
	code := s.machines[node-1].Exec(context.Background(), machine.Proc{
		Argv: []string{"/bin/sh", "-c", script}, Stdin: strings.NewReader(stdin), Stdout: &out, Stderr: &errs,
	})
	return result{out: out.String(), err: errs.String(), code: code}
}

// must runs a script that has to succeed.
func (s *site) must(node int, script string) string {
	s.t.Helper()
	r := s.sh(node, script)
	require.Zero(s.t, r.code, "%s: %s%s", script, r.out, r.err)
	return r.out
}

// put adds a guest to a node.
func (s *site) put(node int, spec guest.Spec) {
	s.t.Helper()
	require.NoError(s.t, s.hosts[fmt.Sprintf("pve%d", node)].Add(s.t.Context(), spec))
}

func (s *site) settle() { require.NoError(s.t, s.clock.Sleep(context.Background(), 15*time.Second)) }

// where is the node of a guest as .vmlist has it, seen from pve1.
func (s *site) where(id int) string {
	m := regexp.MustCompile(fmt.Sprintf(`"%d": \{ "node": "(\w+)"`, id)).FindStringSubmatch(s.must(1, "cat /etc/pve/.vmlist"))
	if m == nil {
		return ""
	}
	return m[1]
}

var stamp = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d `)

// log is a migration's output without the times, and with the duration as 00:00:00.
func log(text string) []string {
	text = stamp.ReplaceAllString(text, "")
	text = regexp.MustCompile(`duration \d\d:\d\d:\d\d`).ReplaceAllString(text, "duration 00:00:00")
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
