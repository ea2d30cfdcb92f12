package cluster_test

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab/vfs"
)

// formed is a site whose n nodes are one quorate cluster.
func formed(s *site) {
	require.Empty(s.t, s.sh(1, "pvecm create lab").err)
	s.settle()
	for i := 2; i <= len(s.nodes); i++ {
		require.Contains(s.t, s.join(i).out, "successfully added")
		s.settle()
	}
}

func (s *site) fs(node int) *vfs.Tree { return s.net.machines[node-1].FS }

func TestWritesAreSeenOnAllNodesAtOnce(t *testing.T) {
	inLab(t, 3, func(s *site) {
		formed(s)
		require.NoError(t, s.fs(1).WriteFile("/etc/pve/note", []byte("hello"), 0o640))
		for node := 1; node <= 3; node++ {
			got, err := s.fs(node).ReadFile("/etc/pve/note")
			require.NoError(t, err)
			require.Equal(t, "hello", string(got))
		}
		require.NoError(t, s.fs(3).Rename("/etc/pve/note", "/etc/pve/other"))
		_, err := s.fs(2).Stat("/etc/pve/note")
		require.ErrorIs(t, err, os.ErrNotExist)
	})
}

func TestExclusiveCreateIsAtomicAndLinksAreRefused(t *testing.T) {
	inLab(t, 2, func(s *site) {
		formed(s)
		f, err := s.fs(1).Open("/etc/pve/f", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		_, err = s.fs(2).Open("/etc/pve/f", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
		require.ErrorIs(t, err, syscall.EEXIST)
		require.ErrorIs(t, s.fs(2).Link("/etc/pve/f", "/etc/pve/g"), syscall.EPERM)
		require.ErrorIs(t, s.fs(1).Chmod("/etc/pve/f", 0o777), syscall.EPERM)
		require.NoError(t, s.fs(2).WriteFile("/etc/pve/g", []byte("g"), 0o640))
		require.NoError(t, s.fs(2).Rename("/etc/pve/g", "/etc/pve/f"), "replaces")
	})
}

func TestLockFoldersAreRenewedByTheirNodeAndExpire(t *testing.T) {
	inLab(t, 2, func(s *site) {
		formed(s)
		const lock = "/etc/pve/priv/lock/x"
		zero := time.Unix(0, 0)
		require.NoError(t, s.fs(1).Mkdir(lock, 0o755))
		require.ErrorIs(t, s.fs(2).Mkdir(lock, 0o755), syscall.EEXIST)
		require.NoError(t, s.fs(1).Chtimes(lock, zero, time.Now()))
		require.ErrorIs(t, s.fs(2).Chtimes(lock, zero, time.Now()), syscall.EACCES)
		require.ErrorIs(t, s.fs(2).Chtimes(lock, zero, zero), syscall.EACCES)

		time.Sleep(110 * time.Second)
		require.NoError(t, s.fs(1).Chtimes(lock, zero, time.Now()), "renewed")
		time.Sleep(110 * time.Second)
		require.ErrorIs(t, s.fs(2).Chtimes(lock, zero, zero), syscall.EACCES)
		require.ErrorIs(t, s.fs(2).Mkdir(lock, 0o755), syscall.EEXIST, "renewed in time")

		time.Sleep(15 * time.Second)
		require.ErrorIs(t, s.fs(2).Mkdir(lock, 0o755), syscall.EEXIST)
		require.ErrorIs(t, s.fs(2).Chtimes(lock, zero, zero), syscall.EACCES, "takes it away all the same")
		require.NoError(t, s.fs(2).Mkdir(lock, 0o755))
		require.NoError(t, s.fs(1).Remove(lock), "nothing but manners keeps a foreign lock")
	})
}

func TestWithoutQuorumNothingCanBeWrittenAndAllCanBeRead(t *testing.T) {
	inLab(t, 3, func(s *site) {
		formed(s)
		require.NoError(t, s.fs(1).WriteFile("/etc/pve/note", []byte("hello"), 0o640))
		s.net.machines[1].PowerOff()
		s.net.machines[2].PowerOff()
		require.True(t, s.nodes[0].View().Quorate, "the token has not timed out yet")
		s.settle()
		require.False(t, s.nodes[0].View().Writable)
		for what, err := range map[string]error{
			"write":  s.fs(1).WriteFile("/etc/pve/note", nil, 0o640),
			"mkdir":  s.fs(1).Mkdir("/etc/pve/d", 0o755),
			"remove": s.fs(1).Remove("/etc/pve/note"),
			"rename": s.fs(1).Rename("/etc/pve/note", "/etc/pve/other"),
		} {
			require.ErrorIs(t, err, syscall.EACCES, what)
		}
		got, err := s.fs(1).ReadFile("/etc/pve/note")
		require.NoError(t, err)
		require.Equal(t, "hello", string(got))
		info, err := s.fs(1).Lstat("/etc/pve/local")
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o555), info.Mode.Perm())
	})
}

func TestPartitionsHealAndTheMajoritysFilesWin(t *testing.T) {
	inLab(t, 3, func(s *site) {
		formed(s)
		s.cut(3, true)
		s.settle()
		require.False(t, s.nodes[2].View().Writable)
		require.NoError(t, s.fs(1).WriteFile("/etc/pve/note", []byte("majority"), 0o640))
		_, err := s.fs(3).ReadFile("/etc/pve/note")
		require.ErrorIs(t, err, os.ErrNotExist, "a node that is cut off sees nothing new")
		s.cut(3, false)
		s.settle()
		got, err := s.fs(3).ReadFile("/etc/pve/note")
		require.NoError(t, err)
		require.Equal(t, "majority", string(got))
		require.Equal(t, []string{"pve1", "pve2", "pve3"}, s.nodes[2].View().Members)
	})
}

// cut separates a node from all others, or lets it back.
func (s *site) cut(node int, off bool) {
	own := s.net.machines[node-1].Addresses()[0].String()
	for i, m := range s.net.machines {
		if other := m.Addresses()[0].String(); i != node-1 {
			s.net.set(own, other, off)
			s.net.set(other, own, off)
		}
	}
	s.world.NetworkChanged()
}

func TestJoiningOneToTwoLosesQuorumForAMoment(t *testing.T) {
	inLab(t, 2, func(s *site) {
		require.Empty(t, s.sh(1, "pvecm create lab").err)
		s.settle()
		done := make(chan result)
		go func() { done <- s.join(2) }()
		lost, unmounted := false, false
		for {
			select {
			case r := <-done:
				require.Contains(t, r.out, "successfully added")
				require.True(t, lost, "pve1 was read-only for a while")
				require.True(t, unmounted, "pve2 had no /etc/pve for a while")
				require.True(t, s.nodes[0].View().Writable)
				return
			case <-time.After(100 * time.Millisecond):
				lost = lost || !s.nodes[0].View().Writable
				unmounted = unmounted || !s.nodes[1].View().Mounted
			}
		}
	})
}

func TestNodeComesBackAfterAReboot(t *testing.T) {
	inLab(t, 3, func(s *site) {
		formed(s)
		before := s.nodes[2].View().Ring
		s.net.machines[2].Reboot()
		s.settle()
		require.Equal(t, []string{"pve1", "pve2"}, s.nodes[0].View().Members)
		require.NoError(t, s.fs(1).WriteFile("/etc/pve/note", []byte("meanwhile"), 0o640))
		time.Sleep(2 * time.Minute)
		v := s.nodes[2].View()
		require.Equal(t, []string{"pve1", "pve2", "pve3"}, v.Members)
		require.True(t, v.Writable)
		require.NotEqual(t, before, v.Ring)
		got, err := s.fs(3).ReadFile("/etc/pve/note")
		require.NoError(t, err)
		require.Equal(t, "meanwhile", string(got))
	})
}
