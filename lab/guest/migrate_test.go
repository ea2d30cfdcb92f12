package guest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/lab/pvetool"
)

func TestLiveMigrationPrintsWhatRealProgramsPrint(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.put(1, guest.Spec{ID: 100, Name: "web01", MemoryMiB: 128, Running: true})
		require.Equal(t, result{err: "can't migrate running VM without --online\n", code: 25}, s.sh(1, "qm migrate 100 pve2"))
		require.Equal(t, result{err: "no such cluster node 'nosuch'\n", code: 2}, s.sh(1, "qm migrate 100 nosuch --online"))
		require.Equal(t, result{err: "400 Parameter verification failed.\ntarget: target is local node.\nqm migrate <vmid> <target> [OPTIONS]\n", code: 2}, s.sh(1, "qm migrate 100 pve1 --online"))
		require.Equal(t, result{err: "Configuration file 'nodes/pve2/qemu-server/100.conf' does not exist\n", code: 2}, s.sh(2, "qm migrate 100 pve1 --online"))
		require.Equal(t, result{err: "unable to find configuration file for VM 100 on node 'pve2'\n", code: 255}, s.sh(2, "qm stop 100"))

		r := s.sh(1, "qm migrate 100 pve2 --online")
		require.Zero(t, r.code, r.out+r.err)
		require.Equal(t, []string{
			"conntrack state migration not supported or disabled, active connections might get dropped",
			"starting migration of VM 100 to node 'pve2' (10.0.0.2)",
			"starting VM 100 on remote node 'pve2'",
			"start remote tunnel",
			"ssh tunnel ver 1",
			"starting online/live migration on unix:/run/qemu-server/100.migrate",
			"set migration capabilities",
			"migration downtime limit: 100 ms",
			"migration cachesize: 16.0 MiB",
			"set migration parameters",
			"start migrate command to unix:/run/qemu-server/100.migrate",
			"average migration speed: 128.0 MiB/s - downtime 54 ms",
			"migration completed, transferred 128.0 MiB VM-state",
			"migration status: completed",
			"migration finished successfully (duration 00:00:00)",
		}, log(r.out))
		require.Equal(t, "pve2", s.where(100))
		require.Equal(t, []string{"pve2"}, s.guests.Where(100))
		require.NotContains(t, s.must(2, "qm config 100"), "lock")
		require.Contains(t, s.must(2, "qm list"), "web01                running    128")
		require.Empty(t, s.must(1, "qm list"), "without guests it prints nothing")
		s.must(2, "kill -0 $(cat /run/qemu-server/100.pid) && test -d /proc/$(cat /run/qemu-server/100.pid) && test -d /sys/fs/cgroup/qemu.slice/100.scope")
		s.must(1, "test ! -e /run/qemu-server/100.pid && test ! -d /sys/fs/cgroup/qemu.slice/100.scope")
	})
}

func TestOfflineMigration(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.put(1, guest.Spec{ID: 100})
		r := s.sh(1, "qm migrate 100 pve2")
		require.Equal(t, []string{"starting migration of VM 100 to node 'pve2' (10.0.0.2)", "migration finished successfully (duration 00:00:00)"}, log(r.out))
		require.Equal(t, "pve2", s.where(100))
		s.put(2, guest.Spec{ID: 101, Disks: []guest.Disk{{Storage: "local-lvm", SizeGiB: 1}}})
		r = s.sh(2, "qm migrate 101 pve1 --online")
		require.Equal(t, "VM isn't running. Doing offline migration instead.", strings.SplitN(r.out, "\n", 2)[0])
		require.Contains(t, r.out, "copying local disk images\n")
		require.Equal(t, "pve1", s.where(101))
	})
}

// Every row of the reference's table of refusals is reached by what causes it.
func TestRefusals(t *testing.T) {
	disk := func(storage string) []guest.Disk { return []guest.Disk{{Storage: storage, SizeGiB: 4}} }
	type refusal struct {
		name    string
		guest   guest.Spec
		setup   string
		options string
		want    string // in stdout or stderr
		inTask  bool
	}
	refusals := []refusal{
		{"lock", guest.Spec{Lock: "backup"}, "", "", "VM is locked (backup)", false},
		{"container's lock", guest.Spec{Type: "lxc", Lock: "backup"}, "", "", "CT is locked (backup)", false},
		{"replicated elsewhere", guest.Spec{Running: true}, `printf 'local: 100-0\n\ttarget pve3\n' >/etc/pve/replication.cfg`, "--online", "Cannot live-migrate replicated VM to node 'pve2' - not a replication target. Use 'force' to override.", false},
		{"storage of other nodes", guest.Spec{Options: map[string]string{"scsi0": "only1:vm-100-disk-0,size=1G"}}, `printf '\nlvm: only1\n\tvgname x\n\tnodes pve1\n' >>/etc/pve/storage.cfg`, "", "storage 'only1' is not available on node 'pve2'", false},
		{"storage off", guest.Spec{Disks: disk("off")}, "", "", "storage 'off' is disabled", false},
		{"storage absent", guest.Spec{Disks: disk("nowhere")}, "", "", "storage 'nowhere' does not exist", false},
		{"content", guest.Spec{Running: true, Disks: disk("local-lvm")}, "", "--online --with-local-disks --targetstorage isos", "content type 'images' is not available on storage 'isos'", false},
		{"running container", guest.Spec{Type: "lxc", Running: true}, "", "", "can't migrate running container without --online or --restart", false},
		{"live container", guest.Spec{Type: "lxc", Running: true}, "", "--online", "lxc live migration is currently not implemented", true},

		{"local devices", guest.Spec{Options: map[string]string{"hostpci0": "0000:01:00.0", "usb1": "host=1-2"}}, "", "", "can't migrate VM which uses local devices: hostpci0, usb1", true},
		{"local devices of a running machine, forced", guest.Spec{Running: true, Options: map[string]string{"serial0": "/dev/ttyS0"}}, "", "--online --force", "can't migrate VM which uses local devices: serial0", true},
		{"unmapped device", guest.Spec{Options: map[string]string{"hostpci0": "mapping=gpu1"}}, "", "", "can't migrate to 'pve2': missing mapped devices hostpci0", true},
		{"mapped device, live", guest.Spec{Running: true, Options: map[string]string{"hostpci0": "mapping=gpu1"}}, `printf 'gpu1\n\tmap id=10de:2204,node=pve2,path=0000:01:00\n' >/etc/pve/mapping/pci.cfg`, "--online", "can't live migrate running VM which uses following mapped devices: hostpci0", true},
		{"marked for removal", guest.Spec{}, `printf 'local: 100-0\n\ttarget pve2\n\tremove_job full\n' >/etc/pve/replication.cfg`, "", "refusing to migrate replicated VM whose replication job is marked for removal", true},
		{"no trust", guest.Spec{}, "mv /root/.ssh/id_rsa /root/id_rsa", "", "Can't connect to destination address using public key", true},
		{"no trust on the migration network", guest.Spec{}, "mv /root/.ssh/id_rsa /root/id_rsa", "--migration_network 10.0.9.0/24", "Can't connect to destination address (10.0.9.2) using public key authentication", true},
		{"local disks, live", guest.Spec{Running: true, Disks: disk("local-lvm")}, "", "--online", "can't migrate local disk 'local-lvm:vm-100-disk-0': can't live migrate attached local disks without with-local-disks option", true},
		{"local cdrom image", guest.Spec{Options: map[string]string{"ide2": "local:iso/debian.iso,media=cdrom"}}, "", "", "can't migrate local disk 'local:iso/debian.iso': local cdrom image", true},
		{"local cdrom drive", guest.Spec{Options: map[string]string{"ide2": "cdrom,media=cdrom"}}, "", "", "can't migrate local cdrom drive", true},
		{"snapshot", guest.Spec{Disks: disk("local-lvm"), Snapshots: []string{"before"}}, "", "", "non-migratable snapshot exists", true},
		{"snapshot, live", guest.Spec{Running: true, Disks: disk("tank"), Snapshots: []string{"before"}}, "", "--online --with-local-disks", "online storage migration not possible if non-replicated snapshot exists", true},
		{"linked clones", guest.Spec{Template: true, Disks: disk("local-lvm")}, "printf 'scsi0: local-lvm:base-100-disk-0/vm-101-disk-0,size=4G\n' >/etc/pve/nodes/pve1/qemu-server/101.conf", "", "can't migrate local disk 'local-lvm:base-100-disk-0': referenced by linked clone(s)", true},
		{"other's volume", guest.Spec{Options: map[string]string{"scsi0": "local-lvm:vm-105-disk-0,size=1G"}}, "", "", "owned by other VM (owner = VM 105)", true},
		{"device", guest.Spec{Options: map[string]string{"scsi0": "/dev/sdb"}}, "", "", "can't migrate local disk '/dev/sdb': local file/device", true},
		{"kind of storage", guest.Spec{Options: map[string]string{"scsi0": "weird:vm-100-disk-0,size=1G"}}, `printf '\nesxi: weird\n\tcontent images\n' >>/etc/pve/storage.cfg`, "", "can't migrate 'weird:vm-100-disk-0' - storage type 'esxi' not supported", true},
		{"bind mount", guest.Spec{Type: "lxc", Options: map[string]string{"mp0": "/srv/data,mp=/data"}}, "", "", "cannot migrate local bind mount point 'mp0'", true},
		{"device mount", guest.Spec{Type: "lxc", Options: map[string]string{"mp0": "/dev/sdb1,mp=/data"}}, "", "", "cannot migrate local device mount point 'mp0'", true},
		{"network without the target", guest.Spec{}, "", "--migration_network 10.99.0.0/24", "failed to get ip for node 'pve2' in network '10.99.0.0/24'", false},
	}
	check := func(s *site, tt refusal) {
		tt.guest.ID = 100
		s.put(1, tt.guest)
		if tt.setup != "" {
			s.must(1, tt.setup)
		}
		tool := "qm"
		if tt.guest.Type == "lxc" {
			tool = "pct"
		}
		r := s.sh(1, tool+" migrate 100 pve2 "+tt.options)
		require.Equal(t, 255, r.code, "%s: %s", tt.name, r.out+r.err)
		if tt.inTask {
			require.Equal(t, "migration aborted\n", r.err, tt.name)
			require.Contains(t, r.out, tt.want)
			require.Contains(t, log(r.out)[len(log(r.out))-1], "ERROR: migration aborted (duration 00:00:00): ")
		} else {
			require.Contains(t, r.err, tt.want)
		}
		require.Equal(t, "pve1", s.where(100), tt.name)
		require.Equal(t, tt.guest.Lock, strings.TrimSpace(s.sh(1, tool+" config 100 | sed -n 's/^lock: //p'").out), "%s: no lock is left", tt.name)
		if tt.guest.Running {
			require.Equal(t, []string{"pve1"}, s.guests.Where(100), tt.name)
		}
		require.NoError(t, s.hosts["pve1"].Remove(100))
	}
	inCluster(t, nines(3), func(s *site) {
		for _, tt := range refusals {
			check(s, tt)
			s.must(1, "rm -f /etc/pve/replication.cfg /etc/pve/mapping/pci.cfg /etc/pve/qemu-server/101.conf; test -e /root/.ssh/id_rsa || cp -p /root/id_rsa /root/.ssh/id_rsa")
			require.NoError(t, s.machines[0].FS.WriteFile("/etc/pve/storage.cfg", []byte(storageConfig), 0o640))
		}
	})
	inCluster(t, slicesRepeat("8.4.1", 2), func(s *site) {
		check(s, refusal{name: "clipboard", guest: guest.Spec{Running: true, Options: map[string]string{"vga": "std,clipboard=vnc"}}, options: "--online", want: "clipboard", inTask: true})
	})
}

func TestLocalDisksTravelAndGetTheirNewStorage(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.put(1, guest.Spec{ID: 100, Running: true, Disks: []guest.Disk{{Storage: "local-lvm", SizeGiB: 2}, {Storage: "shared", SizeGiB: 8}}})
		r := s.sh(1, "qm migrate 100 pve2 --online --with-local-disks 1 --targetstorage local-lvm:tank")
		require.Zero(t, r.code, r.out+r.err)
		for _, line := range []string{
			"found local disk 'local-lvm:vm-100-disk-0' (attached)", "starting storage migration", "volume 'local-lvm:vm-100-disk-0' is 'tank:vm-100-disk-0' on the target",
			"scsi0: start migration to nbd:unix:/run/qemu-server/100_nbd.migrate:exportname=drive-scsi0", "switching mirror jobs to actively synced mode", "stopping NBD storage migration server on target.",
		} {
			require.Contains(t, log(r.out), line)
		}
		config := s.must(2, "qm config 100")
		require.Contains(t, config, "scsi0: tank:vm-100-disk-0,size=2G\n")
		require.Contains(t, config, "scsi1: shared:100/vm-100-disk-0.raw,size=8G\n")
	})
}

func TestContainersMoveByRestart(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.put(1, guest.Spec{ID: 201, Type: "lxc", Name: "box", Running: true, Disks: []guest.Disk{{Storage: "shared", SizeGiB: 2}}})
		r := s.sh(1, "pct migrate 201 pve2 --restart 1")
		require.Zero(t, r.code, r.out+r.err)
		require.Equal(t, []string{
			"shutdown CT 201", "starting migration of CT 201 to node 'pve2' (10.0.0.2)", "volume 'shared:201/vm-201-disk-0.raw' is on shared storage 'shared'",
			"start final cleanup", "start container on target node", "migration finished successfully (duration 00:00:00)",
		}, log(r.out))
		require.Equal(t, []string{"pve2"}, s.guests.Where(201))
		require.Contains(t, s.must(2, "pct list"), "201        running                 box")

		s.phases["migrate:copying"] = func(context.Context) error { return errors.New("no space left on device") }
		s.put(2, guest.Spec{ID: 202, Type: "lxc", Running: true, Disks: []guest.Disk{{Storage: "local-lvm", SizeGiB: 2}}})
		r = s.sh(2, "pct migrate 202 pve1 --restart 1")
		require.Equal(t, 255, r.code)
		require.Contains(t, r.out, "start container on source node")
		require.Equal(t, []string{"pve2"}, s.guests.Where(202))
	})
}

func TestMigrationsThatBreak(t *testing.T) {
	vm := guest.Spec{ID: 100, MemoryMiB: 8 << 10, Running: true}
	for _, tt := range []struct {
		name   string
		guest  guest.Spec
		phase  string
		do     func(s *site, ctx context.Context) error
		code   int
		err    string
		node   string // where the config is
		runs   []string
		locked bool
	}{
		{"in the middle", vm, "migrate:transfer", func(*site, context.Context) error { return errors.New("the channel broke") }, 255, "migration problems\n", "pve1", []string{"pve1"}, false},
		{"after it has moved", vm, "migrate:moved:100", func(*site, context.Context) error { return errors.New("tunnel closed") }, 255, "migration problems\n", "pve2", []string{"pve2"}, false},
		{"before it began", vm, "migrate:locked", func(*site, context.Context) error { return errors.New("disk full") }, 255, "migration aborted\n", "pve1", []string{"pve1"}, false},
		{"killed", vm, "migrate:transfer", func(*site, context.Context) error { return pvetool.ErrKilled }, 137, "", "pve1", []string{"pve1"}, true},
		{"target dies", vm, "migrate:transfer", func(s *site, _ context.Context) error { s.machines[1].PowerOff(); return nil }, 255, "migration problems\n", "pve1", []string{"pve1"}, false},
		{"source dies", vm, "migrate:transfer", func(s *site, _ context.Context) error { s.machines[0].PowerOff(); return nil }, 137, "", "pve1", nil, true},
		{"target has no such bridge", guest.Spec{ID: 100, Running: true, Options: map[string]string{"net0": "virtio=BC:24:11:00:00:01,bridge=vmbr1"}}, "migrate:locked", func(s *site, _ context.Context) error {
			s.machines[1].SetInterfaces(s.machines[1].Interfaces()[:1])
			return nil
		}, 255, "migration problems\n", "pve1", []string{"pve1"}, false},
		{"target is full", vm, "migrate:locked", func(s *site, _ context.Context) error {
			s.put(2, guest.Spec{ID: 300, MemoryMiB: 15 << 10, Running: true})
			return nil
		}, 255, "migration problems\n", "pve1", []string{"pve1"}, false},
		{"a processor's level is not there", guest.Spec{ID: 100, Running: true, Options: map[string]string{"cpu": "x86-64-v3"}}, "migrate:locked", func(s *site, _ context.Context) error { s.machines[1].SetCPU("Lab CPU", 2); return nil }, 255, "migration problems\n", "pve1", []string{"pve1"}, false},
		{"processors differ", guest.Spec{ID: 100, Running: true, Options: map[string]string{"cpu": "host"}}, "migrate:locked", func(s *site, _ context.Context) error { s.machines[1].SetCPU("Another CPU", 3); return nil }, 255, "migration problems\n", "pve1", []string{"pve1"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inCluster(t, nines(3), func(s *site) {
				s.put(1, tt.guest)
				s.phases[tt.phase] = func(ctx context.Context) error { return tt.do(s, ctx) }
				r := s.sh(1, "qm migrate 100 pve2 --online")
				require.Equal(t, tt.code, r.code, r.out+r.err)
				require.Equal(t, tt.err, r.err, r.out)
				text, err := s.machines[2].FS.ReadFile("/etc/pve/nodes/" + tt.node + "/qemu-server/100.conf")
				require.NoError(t, err)
				require.Equal(t, tt.locked, strings.Contains(string(text), "lock: migrate"))
				require.Equal(t, tt.runs, s.guests.Where(100))
			})
		})
	}
}

func TestNewerMachinesDoNotGoBack(t *testing.T) {
	inCluster(t, []string{"9.1.8", "8.4.1"}, func(s *site) {
		s.put(1, guest.Spec{ID: 100, Running: true})
		s.put(2, guest.Spec{ID: 101, Running: true})
		r := s.sh(1, "qm migrate 100 pve2 --online")
		require.Equal(t, 255, r.code)
		require.Contains(t, r.out, "[pve2] Installed QEMU version '9.2' is too old to run machine type 'pc-i440fx-10.1+pve0', please upgrade node 'pve2'\n")
		require.Contains(t, r.out, "online migrate failure - remote command failed with exit code 255")
		s.must(2, "qm migrate 101 pve1 --online")
	})
}

func TestMigrationThatNeverConverges(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.put(1, guest.Spec{ID: 100, Running: true, Dirty: true})
		done := make(chan result, 1)
		go func() { done <- s.sh(1, "qm migrate 100 pve2 --online") }()
		require.NoError(t, s.clock.Sleep(s.t.Context(), time.Hour))
		require.Contains(t, s.must(1, "cat /etc/pve/qemu-server/100.conf"), "lock: migrate")
		require.Equal(t, []string{"pve1"}, s.guests.Where(100))
		s.guests.SetDirty(100, false)
		r := <-done
		require.Zero(t, r.code)
		require.Contains(t, r.out, "auto-increased downtime to continue migration: 200 ms")
		require.Equal(t, []string{"pve2"}, s.guests.Where(100))
	})
}

// A pending device of a running machine does not stop it, and is there after the next start.
func TestPendingChanges(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.put(1, guest.Spec{ID: 100, Running: true})
		s.must(1, "qm set 100 --hostpci0 0000:00:1f.0")
		require.Contains(t, s.must(1, "cat /etc/pve/qemu-server/100.conf"), "\n[PENDING]\nhostpci0: 0000:00:1f.0\n")
		require.Contains(t, s.must(1, "qm pending 100"), "new hostpci0: 0000:00:1f.0\n")
		require.Contains(t, s.must(1, "pvesh get /nodes/pve1/qemu/100/migrate --output-format json"), `"local_resources":[],`)
		s.must(1, "qm migrate 100 pve2 --online")
		s.must(2, "qm stop 100 && qm start 100")
		require.Contains(t, s.sh(2, "qm migrate 100 pve1 --online").out, "local devices: hostpci0")
		s.must(2, "qm stop 100; qm set 100 --delete hostpci0")
		require.NotContains(t, s.must(2, "qm config 100"), "hostpci0")
	})
}

func TestReplicatedGuestsTurnTheirJobRound(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.put(1, guest.Spec{ID: 100, Running: true, Disks: []guest.Disk{{Storage: "tank", SizeGiB: 100}}})
		s.must(1, `printf 'local: 100-0\n\ttarget pve2\n\tschedule */15\n\tsource pve1\n' >/etc/pve/replication.cfg`)
		before := s.clock.Elapsed()
		s.must(1, "qm migrate 100 pve2 --online --with-local-disks")
		require.Less(t, s.clock.Elapsed()-before, 30*time.Second, "only what changed is sent")
		require.Equal(t, "local: 100-0\n\ttarget pve1\n\tschedule */15\n\tsource pve2", strings.TrimSpace(s.must(1, "cat /etc/pve/replication.cfg")))
	})
}
