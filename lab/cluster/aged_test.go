package cluster_test

import (
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/machine"
)

var addressOfOne = netip.MustParseAddr("10.0.0.1")

func nowhere(netip.Addr, netip.Addr) machine.Path { return machine.Path{} }

// The node with the lowest id times locks, from when its own pmxcfs got to know them.
func TestLockLivesLongerWhenTheNodeThatTimesItComesBack(t *testing.T) {
	inLab(t, 3, func(s *site) {
		formed(s)
		const lock = "/etc/pve/priv/lock/x"
		zero := time.Unix(0, 0)
		require.NoError(t, s.fs(2).Mkdir(lock, 0o755))
		s.sh(1, "systemctl stop pve-cluster")
		time.Sleep(100 * time.Second)
		s.sh(1, "systemctl start pve-cluster")
		time.Sleep(60 * time.Second)
		require.ErrorIs(t, s.fs(3).Chtimes(lock, zero, zero), syscall.EACCES)
		require.ErrorIs(t, s.fs(3).Mkdir(lock, 0o755), syscall.EEXIST, "pve1 has known it for a minute only")
		time.Sleep(65 * time.Second)
		require.ErrorIs(t, s.fs(3).Chtimes(lock, zero, zero), syscall.EACCES)
		require.NoError(t, s.fs(3).Mkdir(lock, 0o755))
	})
}

// A lab that runs fifty times faster shows times of day that do not: files that tell by a time whether a daemon lives must
// age with the lab all the same.
func TestTimestampsOfDaemonsAgeWithTheLab(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const speed = 50
		c := clock.New(speed)
		m := machine.New(machine.Options{
			Name: "pve1", Clock: c, Seed: 1, Interfaces: []machine.Interface{{Name: "vmbr0", Addrs: []netip.Prefix{netip.PrefixFrom(addressOfOne, 24)}}},
		})
		defer func() { m.Close(); c.Close() }()
		w := cluster.NewWorld(cluster.Options{Clock: c, Now: time.Now, Path: nowhere, Find: func(string) *machine.Machine { return nil }})
		release, err := cluster.ReleaseOf("9.1.8")
		require.NoError(t, err)
		n, err := w.Install(t.Context(), cluster.NodeOptions{Machine: m, Release: release, Address: addressOfOne, Domain: "example.com", CPUs: 1, Memory: 1 << 30})
		require.NoError(t, err)

		const name = "/etc/pve/nodes/pve1/lrm_status"
		before := n.Stamp("nodes/pve1/lrm_status")
		require.NoError(t, m.FS.WriteFile(name, []byte(`{"mode":"active","timestamp":946684900}`), 0o640))
		require.NotEqual(t, before, n.Stamp("nodes/pve1/lrm_status"))
		read := func() string {
			text, err := m.FS.ReadFile(name)
			require.NoError(t, err)
			return string(text)
		}
		require.Equal(t, `{"mode":"active","timestamp":946684900}`, read())
		time.Sleep(2 * time.Second) // a hundred of the lab's
		require.Equal(t, `{"mode":"active","timestamp":946684802}`, read())
		require.Equal(t, n.Stamp("nodes/pve1/lrm_status"), n.Stamp("nodes/pve1/lrm_status"))
		require.NoError(t, m.FS.WriteFile("/etc/pve/other", []byte(`{"timestamp":946684900}`), 0o640))
		time.Sleep(time.Second)
		other, err := m.FS.ReadFile("/etc/pve/other")
		require.NoError(t, err)
		require.Equal(t, `{"timestamp":946684900}`, string(other))
		require.Equal(t, cluster.Stamp{}, n.Stamp("ha/manager_status"))
	})
}
