package lab_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/lab/storage"
)

// BenchmarkForm makes labs and brings them into the state of a cluster, as rehearsals do, at their speed.
func BenchmarkForm(b *testing.B) {
	for _, size := range []struct{ nodes, guests, ha int }{{3, 9, 3}, {32, 0, 0}, {32, 1000, 100}} {
		b.Run(fmt.Sprintf("nodes=%d/guests=%d", size.nodes, size.guests), func(b *testing.B) {
			begin := processorTime(b)
			for b.Loop() {
				l, err := lab.New(manyNodes(size.nodes))
				require.NoError(b, err)
				require.NoError(b, l.Form(b.Context(), manyFormed(size.nodes, size.guests, size.ha)))
				l.Close()
			}
			b.ReportMetric(float64((processorTime(b)-begin).Milliseconds())/float64(b.N), "cpu-ms/op")
		})
	}
}

// processorTime is what the process has used so far, in user and system mode: on a machine that has other work, the time
// of day tells little.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var use syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &use))
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// manyNodes are nodes with a server for their guests' disks.
func manyNodes(nodes int) lab.Spec {
	s := lab.Spec{Seed: 1, Speed: 60}
	for i := 1; i <= nodes; i++ {
		s.Hosts = append(s.Hosts, lab.HostSpec{
			Name: fmt.Sprintf("pve%d", i), Address: fmt.Sprintf("192.0.2.%d", 10+i), PVE: "9.1.8", MemoryMiB: 256 << 10,
			Links: []string{fmt.Sprintf("10.0.1.%d", i), fmt.Sprintf("10.0.2.%d", i)}, Updates: []string{"release"},
		})
	}
	s.Hosts = append(s.Hosts, lab.HostSpec{Name: "nas", Address: "192.0.2.90", Exports: []storage.Export{{Kind: "nfs", Name: "/srv/san"}}})
	return s
}

// manyFormed is a cluster of such nodes, with guests on all of them, the first of which are in HA.
func manyFormed(nodes, guests, ha int) lab.Formed {
	var conf strings.Builder
	conf.WriteString("nodelist {\n")
	f := lab.Formed{
		Files:  map[string]string{"storage.cfg": "dir: local\n\tpath /var/lib/vz\n\tcontent iso,vztmpl,backup\n\nnfs: san\n\texport /srv/san\n\tpath /mnt/pve/san\n\tserver 192.0.2.90\n\tcontent images,rootdir\n\n"},
		Guests: map[string][]guest.Spec{}, HA: map[string]string{}, Lists: map[string]time.Duration{},
	}
	for i := 1; i <= nodes; i++ {
		fmt.Fprintf(&conf, "  node {\n    name: pve%d\n    nodeid: %d\n    quorum_votes: 1\n    ring0_addr: 10.0.1.%d\n    ring1_addr: 10.0.2.%d\n  }\n", i, i, i, i)
		f.Lists[fmt.Sprintf("pve%d", i)] = time.Hour
	}
	conf.WriteString("}\n\nquorum {\n  provider: corosync_votequorum\n}\n\ntotem {\n  cluster_name: many\n  config_version: 4\n  interface {\n    linknumber: 0\n  }\n  interface {\n    linknumber: 1\n  }\n" +
		"  ip_version: ipv4-6\n  link_mode: passive\n  secauth: on\n  version: 2\n}\n")
	f.Corosync = conf.String()
	for i := range guests {
		node := fmt.Sprintf("pve%d", 1+i%nodes)
		f.Guests[node] = append(f.Guests[node], guest.Spec{ID: 100 + i, Running: i%10 != 3, MemoryMiB: 1024, Disks: []guest.Disk{{Storage: "san", SizeGiB: 8}}})
		if i < ha {
			f.HA["resources.cfg"] += fmt.Sprintf("vm: %d\n\tstate started\n\n", 100+i)
		}
	}
	return f
}
