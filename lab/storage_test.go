package lab_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/storage"
	"github.com/stretchr/testify/require"
)

// storageLab is a node with a server of everything.
func storageLab(t *testing.T, change func(*lab.Spec)) *lab.Lab {
	t.Helper()
	spec := lab.Spec{Seed: 1, Speed: 200, Hosts: []lab.HostSpec{
		{Name: "pve1", Address: "192.0.2.11", PVE: "9.1.8", Pools: []string{"tank/vm"}, Guests: []guest.Spec{{ID: 100, Name: "guest100"}}},
		{Name: "nas", Address: "192.0.2.9", Exports: []storage.Export{
			{Kind: "nfs", Name: "/export/pve"}, {Kind: "nfs", Name: "/export/old"}, {Kind: "cifs", Name: "backup", Username: "pve", Password: "s3cret"},
			{Kind: "pbs", Name: "store1", Username: "root@pam", Password: "s3cret"}, {Kind: "iscsi", Name: "iqn.2024-01.com.example:t1"},
		}},
	}}
	if change != nil {
		change(&spec)
	}
	l, err := lab.New(spec)
	require.NoError(t, err)
	t.Cleanup(l.Close)
	return l
}

type outcome struct {
	out, err string
	code     int
}

// onNode runs a line on a machine and gives all that came of it.
func onNode(t *testing.T, l *lab.Lab, host, line string) outcome {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := l.Machine(host).Exec(ctx, machine.Proc{Argv: []string{"/bin/sh", "-c", line}, Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr})
	return outcome{stdout.String(), stderr.String(), code}
}

func TestPvesm(t *testing.T) {
	t.Parallel()
	l := storageLab(t, nil)
	tests := []struct {
		line string
		code int
		err  string
	}{
		{"pvesm add nfs nas --server 192.0.2.9 --export /export/pve --content backup,iso", 0, ""},
		{"pvesm add nfs nas --server 192.0.2.9 --export /export/pve", 255, "create storage failed: storage ID 'nas' already defined"},
		{"pvesm add nfs x --server 192.0.2.9 --export /export/pve", 255, "storage: invalid format - storage ID 'x' cannot be shorter than 2 characters"},
		{"pvesm add nfs nope --server 192.0.2.9 --export /export/nope", 255, "create storage failed: mount error: mount.nfs: mounting 192.0.2.9:/export/nope failed, reason given by server: No such file or directory"},
		{"pvesm add nfs away --server 192.0.2.77 --export /export/pve", 255, "create storage failed: storage 'away' is not online"},
		{"pvesm add nfs half --server 192.0.2.9", 255, "missing value for required option 'export'"},
		{"pvesm add dir d1 --path /srv/d1 --vgname x", 255, "unexpected property 'vgname'"},
		{"pvesm add dir d1 --path /srv/d1 --content images,foo", 255, "content: invalid format - invalid content type 'foo'"},
		{"pvesm add lvmthin thin1 --vgname pve --thinpool data --content images,backup", 0, "storage does not support content type 'backup'"},
		{"pvesm add lvm lvm1 --vgname none", 255, "create storage failed: no such volume group 'none'"},
		{"pvesm add zfspool zfs1 --pool tank/vm", 0, ""},
		{"pvesm add zfspool zfs2 --pool other", 255, "zfs error: cannot import 'other': no such pool available"},
		{"pvesm add iscsi san --portal 192.0.2.9 --target iqn.2024-01.com.example:t1 --content none", 0, ""},
		{"pvesm add lvm onsan --vgname pve --base san:0.0.0.scsi-1 --shared 1", 0, ""},
		{"pvesm remove san", 255, "can't remove storage - storage is used as base of another storage"},
		{"pvesm set nas --server 192.0.2.8", 255, "400 unable to parse option"},
		{"pvesm set zfs1 --pool tank", 255, "can't change value of fixed parameter 'pool'"},
		{"pvesm set nas --delete export", 255, "unable to delete required option 'export'"},
		{"pvesm set nas --delete bogus", 255, "no such option 'bogus'"},
		{"pvesm set nas --content backup --nodes pve1 --disable 1", 0, ""},
		{"pvesm list nas", 255, "storage 'nas' is disabled"},
		{"pvesm set nas --disable 0 --nodes pve9", 0, ""},
		{"pvesm list nas", 255, "storage 'nas' is not available on node 'pve1'"},
		{"pvesm set nas --delete nodes", 0, ""},
		{"pvesm set gone --content iso", 255, "storage 'gone' does not exist"},
		{"printf 's3cret\\n' | pvesm add cifs smb --server 192.0.2.9 --share backup --username pve --content backup --password", 0, ""},
		{"printf 'wrong\\n' | pvesm add cifs smb2 --server 192.0.2.9 --share backup --username pve --password", 255, "mount error(13): Permission denied"},
		{"pvesm add cifs smb3 --server 192.0.2.9 --share backup --username pve --password </dev/null", 255, "EOF while reading password"},
		{"printf 's3cret\\n' | pvesm add pbs pbs1 --server 192.0.2.9 --datastore store1 --username root@pam --password", 0, ""},
		{"printf 'wrong\\n' | pvesm add pbs pbs2 --server 192.0.2.9 --datastore store1 --username root@pam --password", 255, "401 Unauthorized"},
		{"pvesm bogus", 255, "ERROR: unknown command 'pvesm bogus'"},
	}
	for _, tt := range tests {
		got := onNode(t, l, "pve1", tt.line)
		require.Equal(t, tt.code, got.code, "%s: %s", tt.line, got.err)
		require.Contains(t, got.err, tt.err, tt.line)
		require.Empty(t, got.out, tt.line)
	}
	require.Equal(t, "password=s3cret\n", onNode(t, l, "pve1", "cat /etc/pve/priv/storage/smb.pw").out)
	require.Equal(t, "s3cret\n", onNode(t, l, "pve1", "cat /etc/pve/priv/storage/pbs1.pw").out)
	require.NotZero(t, onNode(t, l, "pve1", "cat /etc/pve/priv/storage/smb2.pw").code, "a storage that was not added leaves nothing")

	status := onNode(t, l, "pve1", "pvesm status")
	require.Zero(t, status.code)
	require.Regexp(t, `(?m)^Name +Type +Status +Total \(KiB\) +Used \(KiB\) Available \(KiB\) +%$`, status.out)
	for _, row := range []string{`nas +nfs +active +1073741824`, `smb +cifs +active`, `pbs1 +pbs +active`, `thin1 +lvmthin +active`, `zfs1 +zfspool +active`, `local-lvm +lvmthin +active`} {
		require.Regexp(t, `(?m)^`+row, status.out)
	}
	require.Contains(t, onNode(t, l, "pve1", "cat /proc/mounts").out, "192.0.2.9:/export/pve /mnt/pve/nas nfs4 ")
	require.Contains(t, onNode(t, l, "pve1", "pvesm scan nfs 192.0.2.9").out, "/export/old *")
	require.Contains(t, onNode(t, l, "pve1", "pvesh get /nodes/pve1/storage --output-format json").out, `"storage":"nas"`)
	require.Regexp(t, `"digest":"[0-9a-f]{40}"`, onNode(t, l, "pve1", "pvesh get /storage --output-format json").out)

	// The shapes of a recorded node.
	shape := func(path, recorded string) {
		t.Helper()
		var got []map[string]any
		var want map[string]any
		require.NoError(t, json.Unmarshal([]byte(onNode(t, l, "pve1", "pvesh get "+path+" --output-format json").out), &got))
		require.NoError(t, json.Unmarshal([]byte(recorded), &want))
		require.Equal(t, slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got[0])), path)
		for key, value := range want {
			require.IsType(t, value, got[0][key], "%s of %s", key, path)
		}
	}
	shape("/nodes/pve1/storage", `{"active":1,"avail":70312886272,"content":"backup,images,rootdir,iso,vztmpl,snippets","enabled":1,"shared":0,"storage":"local","total":270553174016,"type":"dir","used":27480408064,"used_fraction":0.101571190816541}`)
	require.Zero(t, onNode(t, l, "pve1", "cp /etc/pve/storage.cfg /root/; : >/etc/pve/storage.cfg").code)
	shape("/storage", `{"content":"rootdir,snippets,images,backup,vztmpl,iso","digest":"da39a3ee5e6b4b0d3255bfef95601890afd80709","path":"/var/lib/vz","priority":0,"prune-backups":"keep-all=1","storage":"local","type":"dir"}`)
	require.Zero(t, onNode(t, l, "pve1", "cp /root/storage.cfg /etc/pve/").code)

	// What one node writes lies on the server.
	require.Zero(t, onNode(t, l, "pve1", "echo hello >/mnt/pve/nas/dump/a").code)
	require.Equal(t, "hello\n", onNode(t, l, "nas", "cat /export/pve/dump/a").out)
	require.Zero(t, onNode(t, l, "pve1", "pvesm remove smb").code)
	require.NotZero(t, onNode(t, l, "pve1", "cat /etc/pve/priv/storage/smb.pw").code)
}

func TestStoragesInTrouble(t *testing.T) {
	t.Parallel()
	l := storageLab(t, nil)
	require.Zero(t, onNode(t, l, "pve1", "pvesm add nfs nas --server 192.0.2.9 --export /export/pve --content backup").code)
	fault := func(f lab.Fault) (clear func()) {
		t.Helper()
		id, err := l.AddFault(f)
		require.NoError(t, err)
		return func() { require.NoError(t, l.ClearFault(id)) }
	}

	clear := fault(lab.Fault{Kind: "storage-hang", Target: "nas", Value: "/export/pve"})
	require.Equal(t, 124, onNode(t, l, "pve1", "timeout 1 ls /mnt/pve/nas").code)
	require.Equal(t, 124, onNode(t, l, "pve1", "timeout 1 pvesm status --storage local").code, "one that hangs makes the status of all hang")
	require.Zero(t, onNode(t, l, "pve1", "timeout 5 pvesm list local --content none").code, "a list asks its own storage only")
	clear()
	require.Zero(t, onNode(t, l, "pve1", "ls /mnt/pve/nas").code)

	clear = fault(lab.Fault{Kind: "power-off", Target: "nas"})
	got := onNode(t, l, "pve1", "pvesm status")
	require.Zero(t, got.code)
	require.Contains(t, got.err, "storage 'nas' is not online")
	require.Regexp(t, `(?m)^nas +nfs +inactive +0 +0 +0 +0\.00%$`, got.out)
	require.Equal(t, 124, onNode(t, l, "pve1", "timeout 1 ls /mnt/pve/nas").code, "a hard mount waits for its server")
	clear()
	eventually(t, l, "it comes", func() bool { return onNode(t, l, "pve1", "pvesm list nas").code == 0 })

	clear = fault(lab.Fault{Kind: "storage-full", Target: "nas", Value: "/export/pve"})
	require.Contains(t, onNode(t, l, "pve1", "echo x >/mnt/pve/nas/dump/x").err, "No space left on device")
	require.Contains(t, onNode(t, l, "pve1", "vzdump 100 --storage nas").out, "ERROR: Backup of VM 100 failed")
	clear()
	clear = fault(lab.Fault{Kind: "storage-read-only", Target: "nas", Value: "/export/pve"})
	require.Contains(t, onNode(t, l, "pve1", "echo x >/mnt/pve/nas/dump/x").err, "Read-only file system")
	clear()
	require.Error(t, func() error {
		_, err := l.AddFault(lab.Fault{Kind: "storage-hang", Target: "nas", Value: "/nope"})
		return err
	}())
}

func TestBackups(t *testing.T) {
	t.Parallel()
	l := storageLab(t, nil)
	require.Zero(t, onNode(t, l, "pve1", "pvesm add nfs nas --server 192.0.2.9 --export /export/pve --content backup --prune-backups keep-last=2").code)
	for _, old := range []string{"2020_01_01-00_00_00", "2020_01_02-00_00_00"} {
		require.Zero(t, onNode(t, l, "pve1", "echo old >/mnt/pve/nas/dump/vzdump-qemu-100-"+old+".vma.zst").code)
	}
	got := onNode(t, l, "pve1", "vzdump 100 --storage nas --mode snapshot --compress zstd --notes-template '{{guestname}}'")
	require.Zero(t, got.code, got.err)
	require.Contains(t, got.out, "INFO: Backup job finished successfully")
	listed := onNode(t, l, "pve1", "pvesm list nas --content backup")
	require.Equal(t, 2, strings.Count(listed.out, "nas:backup/vzdump-qemu-100-"), "the oldest is pruned")
	require.NotContains(t, listed.out, "2020_01_01")
	content := onNode(t, l, "pve1", "pvesh get /nodes/pve1/storage/nas/content --content backup --output-format json")
	require.Regexp(t, `"ctime":\d{10},"format":"vma.zst","notes":"guest100"`, content.out)
	require.Equal(t, 255, onNode(t, l, "pve1", "vzdump 999 --storage nas").code)
	require.Contains(t, onNode(t, l, "pve1", "vzdump 100 --storage local-lvm").err, "can't use storage type 'lvmthin' for backup")

	require.NotZero(t, onNode(t, l, "pve1", "pvesh create /cluster/backup --id nightly --schedule 02:30 --storage nas").code, "no guests")
	require.Zero(t, onNode(t, l, "pve1", "pvesh create /cluster/backup --id nightly --schedule '*/1' --storage nas --vmid 100 --mode snapshot").code)
	require.Contains(t, onNode(t, l, "pve1", "pvesh create /cluster/backup --id nightly --schedule 02:30 --storage nas --all 1").err, "Job 'nightly' already exists")
	require.Contains(t, onNode(t, l, "pve1", "cat /etc/pve/jobs.cfg").out, "vzdump: nightly\n\tschedule */1\n\tenabled 1\n\tmode snapshot\n\tstorage nas\n\tvmid 100\n")
	require.Contains(t, onNode(t, l, "pve1", "cat /var/lib/pve-manager/jobs/vzdump-nightly.json").out, `"state":"created"`)
	require.Contains(t, onNode(t, l, "pve1", "pvesh set /cluster/backup/nope --mode stop").err, "id: No such job 'nope'")
	eventually(t, l, "the scheduler runs it", func() bool {
		return strings.Contains(onNode(t, l, "pve1", "cat /var/lib/pve-manager/jobs/vzdump-nightly.json").out, `"msg":"OK"`)
	})
	require.Zero(t, onNode(t, l, "pve1", "pvesh set /cluster/backup/nightly --all 1 --exclude 900").code)
	require.NotContains(t, onNode(t, l, "pve1", "cat /etc/pve/jobs.cfg").out, "vmid")
	require.Zero(t, onNode(t, l, "pve1", "pvesh delete /cluster/backup/nightly").code)
	require.Equal(t, "[]\n", onNode(t, l, "pve1", "pvesh get /cluster/backup --output-format json").out)
}

func TestReplication(t *testing.T) {
	t.Parallel()
	l := storageLab(t, func(s *lab.Spec) {
		s.Hosts = append(s.Hosts, lab.HostSpec{Name: "pve2", Address: "192.0.2.12", PVE: "9.1.8", Pools: []string{"tank/vm"}})
		s.Hosts[0].Guests = nil
	})
	formTwo(t, l)
	require.Zero(t, onNode(t, l, "pve1", "pvesm add zfspool zfs1 --pool tank/vm").code)
	require.Zero(t, onNode(t, l, "pve1", `printf 'name: web\nscsi0: zfs1:vm-100-disk-0,size=4G\n' >/etc/pve/nodes/pve1/qemu-server/100.conf`).code)
	require.Zero(t, onNode(t, l, "pve1", `printf 'name: db\nscsi0: local-lvm:vm-101-disk-0,size=4G\n' >/etc/pve/nodes/pve1/qemu-server/101.conf`).code)
	require.Zero(t, onNode(t, l, "pve1", `printf 'name: none\n' >/etc/pve/nodes/pve1/qemu-server/102.conf`).code)
	for line, want := range map[string]string{
		"pvesr create-local-job 999-0 pve2":                   "Guest '999' does not exist.",
		"pvesr create-local-job 100-0 pve9":                   "Target 'pve9' does not exist.",
		"pvesr create-local-job 100-0 pve1":                   "Source and target must not be identical",
		"pvesr create-local-job 101-0 pve2":                   "missing replicate feature on volume 'local-lvm:vm-101-disk-0'",
		"pvesr create-local-job 102-0 pve2":                   "No replicatable volumes found",
		"pvesr create-local-job 100-0 pve2 --rate 0.5":        "rate: value must have a minimum value of 1",
		"pvesr create-local-job 100-0 pve2 --schedule potato": "schedule: invalid format - unable to parse calendar event 'potato'",
		"pvesr update 100-7 --comment x":                      "no such job '100-7'",
		"pvesr read 100-7":                                    "no such replication job '100-7'",
	} {
		got := onNode(t, l, "pve1", line)
		require.NotZero(t, got.code, line)
		require.Contains(t, got.err, want, line)
	}
	require.Zero(t, onNode(t, l, "pve1", "pvesr create-local-job 100-0 pve2 --schedule '*/5' --rate 50 --comment copy").code)
	require.Contains(t, onNode(t, l, "pve1", "pvesr create-local-job 100-0 pve2").err, "replication job '100-0' already exists")
	require.Contains(t, onNode(t, l, "pve1", "pvesr create-local-job 100-1 pve2").err, "replication job for guest '100' to target 'local/pve2' already exists")
	require.Equal(t, "local: 100-0\n\tcomment copy\n\ttarget pve2\n\trate 50\n\tschedule */5\n\tsource pve1\n\n", onNode(t, l, "pve1", "cat /etc/pve/replication.cfg").out)
	synced := func(state string) func() bool {
		return func() bool { return strings.Contains(onNode(t, l, "pve1", "pvesr status").out, state) }
	}
	eventually(t, l, "the first sync", func() bool {
		return strings.Contains(onNode(t, l, "pve1", "cat /var/lib/pve-manager/pve-replication-state.json").out, `"last_sync":1`)
	})
	eventually(t, l, "its end", synced(" 0 OK"))
	require.Contains(t, onNode(t, l, "pve2", "pvesm list zfs1").out, "zfs1:vm-100-disk-0")

	id, err := l.AddFault(lab.Fault{Kind: "power-off", Target: "pve2"})
	require.NoError(t, err)
	// A lone node of two has no quorum: nothing can be created, but what is there goes on failing.
	eventually(t, l, "it comes", func() bool { return onNode(t, l, "pve1", "pvesr run --id 100-0").code != 0 })
	require.Regexp(t, `100-0 +Yes +local/pve2 .* [1-9]\d* command '/usr/bin/ssh`, onNode(t, l, "pve1", "pvesr status").out)
	require.NoError(t, l.ClearFault(id))
	eventually(t, l, "it comes", func() bool { return onNode(t, l, "pve1", "pvesr run --id 100-0").code == 0 })

	eventually(t, l, "pve2 is back", writable(l, "pve2"))

	// The guest moves, and its job turns round.
	require.Zero(t, onNode(t, l, "pve1", "mv /etc/pve/nodes/pve1/qemu-server/100.conf /etc/pve/nodes/pve2/qemu-server/100.conf").code)
	l.Storage().GuestMoved(100, "pve1", "pve2")
	require.Contains(t, onNode(t, l, "pve2", "cat /etc/pve/replication.cfg").out, "target pve1\n\trate 50\n\tschedule */5\n\tsource pve2")
	require.Contains(t, onNode(t, l, "pve2", "pvesr status").out, "local/pve1")
	deleted := onNode(t, l, "pve1", "pvesr delete 100-0")
	require.Zero(t, deleted.code)
	require.Contains(t, deleted.err, "background task")
	eventually(t, l, "it comes", func() bool {
		return !strings.Contains(onNode(t, l, "pve1", "cat /etc/pve/replication.cfg").out, "100-0")
	})
}

// formTwo makes a cluster of pve1 and pve2.
func formTwo(t *testing.T, l *lab.Lab) {
	t.Helper()
	require.Zero(t, onNode(t, l, "pve1", "pvecm create lab").code)
	eventually(t, l, "it comes", func() bool { return onNode(t, l, "pve1", "test $(stat -c %a /etc/pve/local) = 755").code == 0 })
	require.Zero(t, onNode(t, l, "pve2", "cat /root/.ssh/id_rsa.pub").code)
	key := onNode(t, l, "pve2", "cat /root/.ssh/id_rsa.pub").out
	require.Zero(t, onNode(t, l, "pve1", "printf '%s' '"+key+"' >>/root/.ssh/authorized_keys").code)
	require.Zero(t, onNode(t, l, "pve2", "ssh-keyscan 192.0.2.11 >>/root/.ssh/known_hosts 2>/dev/null").code)
	joined := onNode(t, l, "pve2", "cd / && pvecm add 192.0.2.11 --use_ssh 1")
	require.Contains(t, joined.out, "successfully added node 'pve2' to cluster.", joined.err)
	eventually(t, l, "both nodes are members", func() bool {
		one, _ := l.Node("pve1")
		two, _ := l.Node("pve2")
		return len(one.Members) == 2 && two.Writable
	})
}

func TestDatacenterOptions(t *testing.T) {
	t.Parallel()
	l := storageLab(t, nil)
	for line, want := range map[string]string{
		"pvesh set /cluster/options --bogus 1":                      "400 unable to parse option",
		"pvesh set /cluster/options --keyboard klingon":             "keyboard: value 'klingon' does not have a value in the enumeration",
		"pvesh set /cluster/options --migration network=10.0.0.0/8": "migration: invalid format - format error",
		"pvesh set /cluster/options --delete bogus":                 "no such option 'bogus'",
		"pvesh set /cluster/options":                                "no options specified",
	} {
		got := onNode(t, l, "pve1", line)
		require.NotZero(t, got.code, line)
		require.Contains(t, got.err, want, line)
	}
	require.Zero(t, onNode(t, l, "pve1", "pvesh set /cluster/options --migration type=secure,network=10.9.0.0/24 --ha shutdown_policy=migrate").code)
	require.Equal(t, "ha: shutdown_policy=migrate\nkeyboard: en-us\nmigration: type=secure,network=10.9.0.0/24\n", onNode(t, l, "pve1", "cat /etc/pve/datacenter.cfg").out)
	require.Zero(t, onNode(t, l, "pve1", "pvesh set /cluster/options --max_workers 3 --delete keyboard").code)
	require.Equal(t, "ha: shutdown_policy=migrate\nmax_workers: 3\nmigration: secure,network=10.9.0.0/24\n", onNode(t, l, "pve1", "cat /etc/pve/datacenter.cfg").out, "what is not changed is written in Proxmox's own form")
	require.Contains(t, onNode(t, l, "pve1", "pvesh get /cluster/options --output-format json").out, `"migration":{"network":"10.9.0.0/24","type":"secure"}`)
}
