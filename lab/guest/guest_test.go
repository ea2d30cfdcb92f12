package guest_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab/guest"
)

func TestConfigsComeBackAsTheyWere(t *testing.T) {
	const text = "#a note\nboot:  \ncores: 2\nlock: backup\nmemory: 128\nname: web01\nscsi0: local-lvm:vm-100-disk-0,size=32G\n\n[PENDING]\ndelete: serial0,usb0\nhostpci0: 0000:00:1f.0\n\n[before]\nmemory: 64\nsnaptime: 1732291200\n"
	c := guest.ParseConfig(text)
	require.Equal(t, []string{"serial0", "usb0"}, c.Deleted)
	require.Equal(t, "64", c.Snapshots["before"]["memory"])
	require.Equal(t, strings.Replace(text, "boot:  ", "boot: ", 1), c.String())
}

func TestSpecsAsPeopleWriteThem(t *testing.T) {
	s, err := guest.ParseSpec("100", []string{"name=web", "memory=2048", "cores=2", "disk=local-lvm:32", "running=1", "onboot", "tags=prod;web", "net0=virtio,bridge=vmbr1", "pool=web"})
	require.NoError(t, err)
	require.Equal(t, guest.Spec{
		ID: 100, Name: "web", MemoryMiB: 2048, Cores: 2, Disks: []guest.Disk{{Storage: "local-lvm", SizeGiB: 32}}, Running: true, OnBoot: true,
		Tags: []string{"prod", "web"}, Pool: "web", Options: map[string]string{"net0": "virtio,bridge=vmbr1"},
	}, s)
	for _, words := range [][]string{{"x"}, {"99"}, {"100", "type=jail"}, {"100", "disk=local"}, {"100", "memory=much"}, {"100", "odd"}, {"100", "template", "running"}} {
		_, err := guest.ParseSpec(words[0], words[1:])
		require.Error(t, err, "%q", words)
	}
}

func TestStartAndStop(t *testing.T) {
	inCluster(t, nines(1), func(s *site) {
		s.put(1, guest.Spec{ID: 100})
		s.put(1, guest.Spec{ID: 101, Template: true})
		s.put(1, guest.Spec{ID: 102, Lock: "snapshot"})
		s.put(1, guest.Spec{ID: 201, Type: "lxc", Deaf: true})
		require.Equal(t, result{out: "status: stopped\n"}, s.sh(1, "qm status 100"))
		require.Equal(t, result{}, s.sh(1, "qm start 100"))
		require.Equal(t, result{out: "status: running\n"}, s.sh(1, "qm status 100"))
		require.Equal(t, result{err: "VM 100 already running\n", code: 255}, s.sh(1, "qm start 100"))
		require.Equal(t, result{err: "you can't start a vm if it's a template\n", code: 255}, s.sh(1, "qm start 101"))
		require.Equal(t, result{err: "VM is locked (snapshot)\n", code: 255}, s.sh(1, "qm start 102"))
		require.Equal(t, result{}, s.sh(1, "qm unlock 102 && qm start 102"))
		require.Equal(t, result{}, s.sh(1, "qm shutdown 100 && qm stop 100"))
		require.Empty(t, s.guests.Where(100))
		require.Equal(t, result{err: "CT 201 not running\n", code: 255}, s.sh(1, "pct stop 201"))
		require.Equal(t, result{}, s.sh(1, "pct start 201"))
		require.Equal(t, result{err: "command 'lxc-stop -n 201 --timeout' failed: exit code 1\n", code: 255}, s.sh(1, "pct shutdown 201 --timeout 60"))
		s.must(1, "test -d /sys/fs/cgroup/lxc/201")
		require.Equal(t, result{}, s.sh(1, "pct shutdown 201 --timeout 60 --forceStop 1"))
		s.must(1, "test ! -d /sys/fs/cgroup/lxc/201")
		require.Equal(t, result{err: "Configuration file 'nodes/pve1/qemu-server/999.conf' does not exist\n", code: 2}, s.sh(1, "qm status 999"))
		require.Equal(t, result{err: "400 not enough arguments\nqm start <vmid> [OPTIONS]\n", code: 255}, s.sh(1, "qm start"))
		require.Contains(t, s.must(1, "cat /var/log/pve/tasks/index"), ":qmstart:100:root@pam:")

		s.must(1, "kill -9 $(cat /run/qemu-server/102.pid)")
		s.settle()
		require.Equal(t, "status: stopped\n", s.must(1, "qm status 102"))
		s.must(1, "test -e /run/qemu-server/102.pid") // a killed one leaves it
	})
}

func TestGuestsOfTheBootAndTheShutdown(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.put(1, guest.Spec{ID: 100, Running: true, OnBoot: true})
		s.put(1, guest.Spec{ID: 101, Running: true, Deaf: true})
		s.put(1, guest.Spec{ID: 201, Type: "lxc", Running: true, OnBoot: true})
		s.machines[0].PowerOff()
		require.Empty(t, s.guests.Where(100))
		s.machines[0].PowerOn()
		require.NoError(t, s.clock.Sleep(s.t.Context(), 2*time.Minute))
		require.Equal(t, []string{"pve1"}, s.guests.Where(100))
		require.Equal(t, []string{"pve1"}, s.guests.Where(201))
		require.Empty(t, s.guests.Where(101))

		s.must(1, "qm start 101")
		boot, before := s.machines[0].BootID(), s.clock.Elapsed()
		s.machines[0].Reboot()
		for s.machines[0].BootID() == boot {
			require.NoError(t, s.clock.Sleep(s.t.Context(), time.Second))
		}
		require.Greater(t, s.clock.Elapsed()-before, 180*time.Second, "a deaf guest is waited for")
		require.NoError(t, s.clock.Sleep(s.t.Context(), time.Minute))
		require.Equal(t, []string{"pve1"}, s.guests.Where(100))
		require.Empty(t, s.guests.Where(101))
	})
}

func TestStatusOfAllGuestsIsInRRDAndResources(t *testing.T) {
	inCluster(t, []string{"9.1.8", "8.4.1"}, func(s *site) {
		s.put(1, guest.Spec{ID: 100, Name: "web01", MemoryMiB: 1024, Cores: 2, Running: true, Tags: []string{"prod"}, Pool: "web"})
		s.put(2, guest.Spec{ID: 201, Type: "lxc", Lock: "backup", Disks: []guest.Disk{{Storage: "local-lvm", SizeGiB: 8}}})
		rrd := s.must(1, "cat /etc/pve/.rrd")
		require.Regexp(t, `(?m)^pve-vm-9\.0/100:\d+:web01:running:0:\d+:2:0\.0125:1073741824:536870912:0:0:0:0:0:0:536870912:0:0:0:0:0:0$`, rrd)
		require.Regexp(t, `(?m)^pve2\.3-vm/201:0:guest201:stopped:0:\d+:1:0:536870912:0:8589934592:0:0:0:0:0$`, rrd)

		var rows []map[string]any
		require.NoError(t, json.Unmarshal([]byte(s.must(1, "pvesh get /cluster/resources --type vm --output-format json")), &rows))
		require.Len(t, rows, 2)
		require.Equal(t, "qemu/100 prod web running", strings.Join([]string{rows[0]["id"].(string), rows[0]["tags"].(string), rows[0]["pool"].(string), rows[0]["status"].(string)}, " "))
		require.Equal(t, "lxc/201 backup pve2", strings.Join([]string{rows[1]["id"].(string), rows[1]["lock"].(string), rows[1]["node"].(string)}, " "))
		all := s.must(1, "pvesh get /cluster/resources --output-format json")
		require.Contains(t, all, `"id":"node/pve2"`)
		require.Contains(t, all, `"id":"storage/pve1/local-lvm"`)

		s.must(1, "qm migrate 100 pve2 --online >/dev/null; true")
		s.settle()
		require.Len(t, regexp.MustCompile(`(?m)/100:`).FindAllString(s.must(1, "cat /etc/pve/.rrd"), -1), 1, "one row for each guest")
	})
}

func TestPreconditions(t *testing.T) {
	inCluster(t, []string{"9.1.8", "9.1.8", "8.4.1"}, func(s *site) {
		s.put(1, guest.Spec{ID: 100, Running: true})
		require.Equal(t, `{"allowed_nodes":["pve2","pve3"],"has-dbus-vmstate":1,"local_disks":[],"local_resources":[],"mapped-resource-info":{},"mapped-resources":[],"not_allowed_nodes":{"pve2":{},"pve3":{}},"running":1}`+"\n",
			s.must(1, "pvesh get /nodes/pve1/qemu/100/migrate --output-format json"))
		s.put(1, guest.Spec{ID: 101, Disks: []guest.Disk{{Storage: "tank", SizeGiB: 1}}, Options: map[string]string{"hostpci0": "0000:01:00"}})
		require.Equal(t, `{"allowed_nodes":["pve2"],"has-dbus-vmstate":1,"local_disks":[{"cdrom":0,"drivename":"scsi0","is_attached":1,"is_cloudinit":0,"is_tpmstate":0,"is_unused":0,"is_vmstate":0,"replicate":1,"shared":0,"size":1073741824,"volid":"tank:vm-101-disk-0"}],"local_resources":["hostpci0"],"mapped-resource-info":{},"mapped-resources":[],"not_allowed_nodes":{"pve2":{},"pve3":{"unavailable_storages":["tank"]}},"running":0}`+"\n",
			s.must(1, "pvesh get /nodes/pve1/qemu/101/migrate --target pve2 --output-format json"))
		s.put(1, guest.Spec{ID: 102, Lock: "backup"})
		require.Equal(t, result{err: "VM is locked (backup)\n", code: 255}, s.sh(1, "pvesh get /nodes/pve1/qemu/102/migrate --output-format json"))
		s.put(1, guest.Spec{ID: 201, Type: "lxc", Options: map[string]string{"mp0": "/srv,mp=/srv"}})
		require.Equal(t, `{"allowed-nodes":["pve2","pve3"],"not-allowed-nodes":{},"running":0}`+"\n", s.must(1, "pvesh get /nodes/pve1/lxc/201/migrate --output-format json"))
		s.put(3, guest.Spec{ID: 202, Type: "lxc"})
		require.Equal(t, result{err: "No 'get' handler defined for '/nodes/pve3/lxc/202/migrate'\n", code: 1}, s.sh(3, "pvesh get /nodes/pve3/lxc/202/migrate"))
		require.Contains(t, s.must(2, "pvesh get /nodes/pve1/qemu --output-format json"), `"vmid":100`, "another node's path is asked there")
		r := s.sh(1, "pvesh create /nodes/pve1/qemu/100/migrate --target pve2 --online 1")
		require.Zero(t, r.code)
		require.Regexp(t, `"UPID:pve1:[0-9A-F:]+:qmigrate:100:root@pam:"\n$`, r.out)
	})
}

func TestMovingDisks(t *testing.T) {
	inCluster(t, nines(1), func(s *site) {
		s.put(1, guest.Spec{ID: 100, Running: true, Disks: []guest.Disk{{Storage: "local-lvm", SizeGiB: 4}}, Options: map[string]string{"ide2": "local:iso/x.iso,media=cdrom"}})
		for command, want := range map[string]string{
			"qm move-disk 100 scsi9 shared":                    "disk 'scsi9' does not exist",
			"qm move-disk 100 scsi0 nowhere":                   "storage 'nowhere' does not exist",
			"qm move-disk 100 scsi0 isos":                      "storage 'isos' does not support content-type 'images'",
			"qm move-disk 100 scsi0 local-lvm":                 "you can't move to the same storage with same format",
			"qm disk move 100 ide2 shared":                     "you can't move a cdrom",
			"qm move_disk 100 scsi0 --storage off --delete 1 ": "storage 'off' is disabled",
		} {
			require.Equal(t, result{err: want + "\n", code: 255}, s.sh(1, command))
		}
		out := s.must(1, "qm move-disk 100 scsi0 shared --format qcow2")
		require.Contains(t, out, "create full clone of drive scsi0 (local-lvm:vm-100-disk-0)\ndrive mirror is starting for drive-scsi0\n")
		config := s.must(1, "qm config 100")
		require.Contains(t, config, "scsi0: shared:100/vm-100-disk-0.qcow2,size=4G\n")
		require.Contains(t, config, "unused0: local-lvm:vm-100-disk-0\n")
		s.must(1, "qm move-disk 100 scsi0 local-lvm --delete 1")
		config = s.must(1, "qm config 100")
		require.Contains(t, config, "scsi0: local-lvm:vm-100-disk-1,size=4G\n")
		require.NotContains(t, config, "qcow2")

		s.put(1, guest.Spec{ID: 201, Type: "lxc", Running: true, Disks: []guest.Disk{{Storage: "local-lvm", SizeGiB: 1}}})
		require.Equal(t, "cannot move volumes of a running container\n", s.sh(1, "pct move-volume 201 rootfs shared").err)
		s.must(1, "pct shutdown 201 && pct move-volume 201 rootfs shared --delete 1")
		require.Contains(t, s.must(1, "pct config 201"), "rootfs: shared:201/vm-201-disk-0.raw,size=1G\n")
	})
}

func TestHAGuestsAreOnlyRequested(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.put(1, guest.Spec{ID: 100, Running: true})
		s.put(1, guest.Spec{ID: 101, Running: true})
		s.must(1, `printf 'vm: 100\n\tstate started\n\nvm: 101\n\tstate ignored\n' >/etc/pve/ha/resources.cfg`)
		// What ha-manager is asked is what counts here.
		s.must(1, `printf '#!/bin/sh\necho "$@" >>/tmp/asked\n' >/usr/sbin/ha-manager; chmod 755 /usr/sbin/ha-manager`)
		require.Equal(t, result{out: "Requesting HA migration for VM 100 to node pve2\n"}, s.sh(1, "qm migrate 100 pve2 --online"))
		require.Equal(t, result{out: "Requesting HA stop for VM 100\n"}, s.sh(1, "qm stop 100"))
		require.Equal(t, result{out: "Requesting HA start for VM 100\n"}, s.sh(1, "qm start 100"))
		require.Equal(t, result{out: "Requesting HA stop for VM 100\n"}, s.sh(1, "qm shutdown 100 --timeout 90"))
		require.Equal(t, "migrate vm:100 pve2\ncrm-command stop vm:100 0\nset vm:100 --state started\ncrm-command stop vm:100 90\n", s.must(1, "cat /tmp/asked"))
		require.Equal(t, []string{"pve1"}, s.guests.Where(100))
		require.Contains(t, s.must(1, "qm migrate 101 pve2 --online"), "finished successfully", "ignored guests are their own masters")

		require.NoError(t, s.guests.Migrate(s.t.Context(), "pve1", "vm:100", "pve2", true))
		require.True(t, s.guests.Running("pve2", "vm:100"))
		require.NoError(t, s.guests.Shutdown(s.t.Context(), "pve2", "vm:100", -1))
		require.False(t, s.guests.Running("pve2", "vm:100"))
		require.NoError(t, s.guests.Start(s.t.Context(), "pve2", "vm:100"))
		require.Equal(t, []string{"pve2"}, s.guests.Where(100))
	})
}

func TestBulkMigration(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.put(1, guest.Spec{ID: 100, Running: true})
		s.put(1, guest.Spec{ID: 101, Lock: "backup"})
		s.put(1, guest.Spec{ID: 102, Running: true, Options: map[string]string{"serial0": "/dev/ttyS0"}})
		require.Equal(t, "either 'max-workers' parameter or max_workers in datacenter.cfg must be set!\n", s.sh(1, "pvesh create /nodes/pve1/migrateall --target pve2").err)
		r := s.sh(1, "pvesh create /nodes/pve1/migrateall --target pve2 --max-workers 2")
		require.Zero(t, r.code, "although one failed")
		require.Contains(t, r.out, "skip VM 101 - precondition check failed: VM is locked (backup)\n")
		require.Contains(t, r.out, "Migrating VM 102 failed: migration aborted\n")
		require.Contains(t, s.must(1, "cat /var/log/pve/tasks/index"), ":migrateall::root@pam: ")
		require.Equal(t, []string{"pve2"}, s.guests.Where(100))
		require.Equal(t, []string{"pve1"}, s.guests.Where(102))
	})
}

func TestWithoutQuorum(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.put(1, guest.Spec{ID: 100})
		s.machines[1].PowerOff()
		s.settle()
		require.Equal(t, result{err: "cluster not ready - no quorum?\n", code: 255}, s.sh(1, "qm migrate 100 pve2"))
		require.Contains(t, s.sh(1, "qm set 100 --name x").err, "Permission denied")
		s.must(1, "systemctl stop pve-cluster")
		require.Contains(t, s.sh(1, "qm list").err, "ipcc_send_rec[1] failed: Connection refused\n")
	})
}
