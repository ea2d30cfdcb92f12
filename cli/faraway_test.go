package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/cli"
	"github.com/pxrun/pxrun/internal/testkit/distance"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/disk"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"
)

// faraway is a cluster in a lab that is reached over a network in memory. In a bubble of testing/synctest work takes no time,
// so that what a command takes longer over a distance is its round trips and nothing else.
type faraway struct {
	t    *testing.T
	lab  *lab.Lab
	site string
	rtt  time.Duration
	ways conc.WaitGroup
	mu   sync.Mutex
	open []net.Conn
}

// farSize is how large a cluster is.
type farSize struct {
	nodes, osds, guests int
	updates             bool // new packages wait for the first three nodes
}

// newFaraway builds the lab, forms the cluster with pxrun and puts guests in.
func newFaraway(t *testing.T, size farSize) *faraway {
	t.Helper()
	spec := lab.Spec{Seed: 1}
	for i := 1; i <= size.nodes; i++ {
		one := lab.HostSpec{
			Name: fmt.Sprintf("pve%d", i), Address: fmt.Sprintf("192.0.2.%d", 10+i), PVE: "9.1.8",
			Links: []string{fmt.Sprintf("10.0.1.%d", i), fmt.Sprintf("10.0.2.%d", i), fmt.Sprintf("10.0.3.%d", i)},
		}
		if size.updates {
			one.Subscription = "pve1c-0123456789"
		}
		for d := size.osds * (i - 1) / size.nodes; d < size.osds*i/size.nodes; d++ {
			one.Disks = append(one.Disks, disk.Spec{ID: fmt.Sprintf("ata-ACME_SSD_%d", d)})
		}
		spec.Hosts = append(spec.Hosts, one)
	}
	made, err := lab.New(spec)
	require.NoError(t, err)
	t.Cleanup(made.Close)
	f := &faraway{t: t, lab: made, site: t.TempDir()}
	f.write("key", string(made.ClientKey()))
	f.write("site.hcl", f.inventory()+formation)
	code, out, _ := f.pxrun(0, 0, "apply", "--auto-approve", f.path("site.hcl"))
	require.Zero(t, code, out)
	for i := range size.guests {
		g := guest.Spec{ID: 100 + i, Running: i%5 != 0, MemoryMiB: 256, Disks: []guest.Disk{{Storage: "vm", SizeGiB: 8}}}
		if i%4 == 0 {
			g.Type = "lxc"
		}
		require.NoError(t, made.AddGuest(t.Context(), spec.Hosts[i%size.nodes].Name, g))
	}
	if size.updates {
		require.NoError(t, made.AddUpdates([]string{"pve1", "pve2", "pve3"}, "release"))
	}
	return f
}

// formation is the runbook that forms the cluster.
const formation = `
runbook "form" {
  cluster = cluster.far
  task "cluster_create" "create" {}
  task "node_join" "join" { nodes = cluster.far.nodes }
  task "ceph_init" "ceph" {
    network    = "10.0.3.0/24"
    repository = "no-subscription"
    pool "vm" { storage = true }
  }
}
`

// inventory is the site of the lab in HCL.
func (f *faraway) inventory() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster \"far\" {\n  ssh {\n    user          = \"root\"\n    identity_file = %q\n  }\n", f.path("key"))
	for _, h := range f.lab.Spec().Hosts {
		hostKey, err := f.lab.Machine(h.Name).FS.ReadFile("/etc/ssh/ssh_host_ed25519_key.pub")
		require.NoError(f.t, err)
		var osds []string
		for _, d := range h.Disks {
			osds = append(osds, fmt.Sprintf("{ device = %q }", "/dev/disk/by-id/"+d.ID))
		}
		fmt.Fprintf(&b, "  node %q {\n    address  = %q\n    host_key = %q\n    links    = [%q, %q]\n    vars     = { ceph = %q }\n    osds     = [%s]\n  }\n",
			h.Name, h.Address, strings.TrimSpace(string(hostKey)), h.Links[0], h.Links[1], h.Links[2], strings.Join(osds, ", "))
	}
	b.WriteString("}\n")
	return b.String()
}

func (f *faraway) path(name string) string { return filepath.Join(f.site, name) }

func (f *faraway) write(name, text string) {
	f.t.Helper()
	require.NoError(f.t, os.WriteFile(f.path(name), []byte(text), 0o600))
}

// dial connects as TCP does: after one round trip.
func (f *faraway) dial(_ context.Context, _, address string) (net.Conn, error) {
	time.Sleep(f.rtt)
	near, far, ended := distance.Pipe(f.rtt)
	f.ways.Go(ended)
	if err := f.lab.Accept(address, far); err != nil {
		_, _ = near.Close(), far.Close()
		return nil, err
	}
	f.mu.Lock()
	f.open = append(f.open, near)
	f.mu.Unlock()
	return near, nil
}

// pxrun runs a command line over a distance, and interrupts it after a while if that is not 0.
func (f *faraway) pxrun(rtt, interrupt time.Duration, args ...string) (code int, out string, done steps) {
	f.t.Helper()
	f.rtt = rtt
	log := filepath.Join(f.t.TempDir(), "log")
	var both bytes.Buffer
	began := time.Now()
	code = cli.Main(append(args, "--state-dir", f.path("state"), "--log", log), cli.Streams{
		In: strings.NewReader(""), Out: &both, Err: &both, Now: time.Now, Dial: f.dial,
		Signals: func(to chan<- os.Signal) (stop func()) {
			if interrupt == 0 {
				return func() {}
			}
			timer := time.AfterFunc(interrupt, func() { to <- os.Interrupt })
			return func() { timer.Stop() }
		},
	})
	done = steps{{step: "all", took: time.Since(began)}}
	for _, c := range f.open {
		_ = c.Close() // what led to a machine that was restarted meanwhile
	}
	f.ways.Wait()
	f.open = nil
	text, err := os.ReadFile(log)
	require.NoError(f.t, err)
	return code, both.String(), append(done, stepsOf(f.t, string(text))...)
}

// step is what a line of the debug log tells of a host.
type step struct {
	step, host string
	took       time.Duration
}

type steps []step

func stepsOf(t *testing.T, log string) steps {
	t.Helper()
	var list steps
	for line := range strings.Lines(log) {
		var s step
		for _, word := range strings.Fields(line) {
			switch key, value, _ := strings.Cut(word, "="); key {
			case "msg":
				s.step = value
			case "host":
				s.host = value
			case "took":
				var err error
				s.took, err = time.ParseDuration(value)
				require.NoError(t, err)
			}
		}
		if s.host != "" {
			list = append(list, s)
		}
	}
	return list
}

// took are the times that a step of a host took; those of the command as a whole have no host.
func (list steps) took(name, host string) []time.Duration {
	var times []time.Duration
	for _, s := range list {
		if s.step == name && s.host == host {
			times = append(times, s.took)
		}
	}
	return times
}
