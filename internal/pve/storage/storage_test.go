package storage

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

const storageCfg = `dir: local
	path /var/lib/vz
	content iso,vztmpl,backup

nfs: nas
	export /export/pve
	path /mnt/pve/nas
	server 192.0.2.9
	content backup,iso
	nodes pve2,pve1
	prune-backups keep-daily=7,keep-last=3

zfspool: tank
	pool tank/vm
	content rootdir,images
	sparse 1
`

func TestCompareStorages(t *testing.T) {
	nas, _ := config.FindSection(ParseStorages([]byte(storageCfg)), "nas")
	tank, _ := config.FindSection(ParseStorages([]byte(storageCfg)), "tank")
	tests := []struct {
		name   string
		have   config.Section
		want   map[string]string
		remove []string
		diff   []Difference
	}{
		{"as it is, in another order", nas, map[string]string{"content": "iso,backup", "nodes": "pve1,pve2", "prune-backups": "keep-last=3,keep-daily=7", "disable": "0"}, nil, nil},
		{"what is not named stays", nas, map[string]string{"server": "192.0.2.9"}, nil, nil},
		{"changed", nas, map[string]string{"content": "backup", "nodes": "pve1", "options": "vers=4.2"}, nil, []Difference{
			{"content", "backup,iso", "backup", false}, {"nodes", "pve2,pve1", "pve1", false}, {"options", "", "vers=4.2", false},
		}},
		{"fixed", nas, map[string]string{"export": "/export/new"}, nil, []Difference{{"export", "/export/pve", "/export/new", true}}},
		{"taken away", nas, nil, []string{"nodes", "options"}, []Difference{{"nodes", "pve2,pve1", "", false}}},
		{"a flag in another spelling", tank, map[string]string{"sparse": "true"}, nil, nil},
		{"a flag off", tank, map[string]string{"sparse": "0"}, nil, []Difference{{"sparse", "1", "0", false}}},
		{"on by nature", tank, map[string]string{"create-base-path": "1", "mkdir": "0"}, nil, []Difference{{"mkdir", "", "0", false}}},
		{"what Proxmox takes by itself", config.Section{Type: "cifs", ID: "smb", Values: map[string]string{}}, map[string]string{"path": "/mnt/pve/smb", "content": "images"}, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.diff, Compare(tt.have, tt.want, tt.remove)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestStorages(t *testing.T) {
	all := ParseStorages([]byte("NFS: nas\n\tserver 192.0.2.9\n"))
	require.Equal(t, "local", all[0].ID, "it is there even if the file does not have it")
	require.Equal(t, []string{"images"}, Content(all[1]), "that of its type")
	require.True(t, Shared(all[1]))
	nas, _ := config.FindSection(ParseStorages([]byte(storageCfg)), "nas")
	require.Equal(t, []string{"pve1", "pve2"}, NodesOf(nas, []string{"pve1", "pve2", "pve3"}))
	for id, want := range map[string]string{"a": "shorter", "9x": "a letter first", "a b": "a letter first", "n-": "a letter first", "nas-1": ""} {
		if err := CheckID(id); want == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, want)
		}
	}
	path, content, ok := SecretFile("cifs", "password", "smb", "x")
	require.True(t, ok)
	require.Equal(t, "/etc/pve/priv/storage/smb.pw password=x\n", path+" "+content)
	_, _, ok = SecretFile("nfs", "password", "nas", "x")
	require.False(t, ok)
}

const drives = `/etc/pve/nodes/pve1/qemu-server/100.conf:scsi0: tank:vm-100-disk-0,size=32G
/etc/pve/nodes/pve1/qemu-server/100.conf:ide2: nas:iso/debian.iso,media=cdrom,size=600M
/etc/pve/nodes/pve1/qemu-server/100.conf:scsi1: tank:vm-100-disk-1,replicate=0,size=8G
/etc/pve/nodes/pve2/qemu-server/101.conf:scsi0: file=local-lvm:vm-101-disk-0,size=32G
/etc/pve/nodes/pve2/lxc/200.conf:rootfs: volume=tank:subvol-200-disk-0,size=8G
/etc/pve/nodes/pve2/lxc/200.conf:mp0: /srv/data,mp=/data
/etc/pve/nodes/pve2/qemu-server/102.conf:unused0: nas:102/vm-102-disk-0.raw
/etc/pve/nodes/pve2/qemu-server/102.conf:ide2: none,media=cdrom
`

func TestReferences(t *testing.T) {
	all := ParseReferences([]byte(drives))
	require.Len(t, all, 6, "neither devices, folders nor empty drives")
	require.Equal(t, []Reference{
		{100, "pve1", "scsi0", "tank:vm-100-disk-0", true, false}, {200, "pve2", "rootfs", "tank:subvol-200-disk-0", true, false},
	}, References(all, "tank"))
	require.Equal(t, "guest 102 (unused0 nas:102/vm-102-disk-0.raw)", References(all, "nas")[1].String())
	storages := ParseStorages([]byte(storageCfg + "\nlvmthin: local-lvm\n\tvgname pve\n\tthinpool data\n"))
	ids, why := Replicatable(100, all, storages)
	require.Equal(t, []string{"tank"}, ids)
	require.Empty(t, why)
	_, why = Replicatable(101, all, storages)
	require.Equal(t, "local-lvm:vm-101-disk-0 is on storage local-lvm of type lvmthin", why)
	_, why = Replicatable(102, all, storages)
	require.Equal(t, "it has no disk that replication would copy", why)
}

func TestRows(t *testing.T) {
	rows := ParseRows([]byte("pve-node-9.0/pve1:1:2\npve2-storage/pve1/nas:100:10:1\npve-storage-9.0/pve1/nas:200:1000:20\npve-storage-9.0/pve2/nas:U:U:U\n\x00"))
	require.Equal(t, Row{200, 1000, 20}, rows["pve1"]["nas"])
	require.Equal(t, Row{}, rows["pve2"]["nas"])
}

func TestStatus(t *testing.T) {
	got := ParseStatus([]byte(`Name           Type     Status     Total (KiB)      Used (KiB) Available (KiB)        %
ceph-vm         rbd     active       936751104        12345678       924405426    1.32%
off             dir   disabled               0               0               0      N/A
old             nfs   inactive               0               0               0    0.00%
`))
	require.Equal(t, []State{{"ceph-vm", "rbd", "active", 936751104, 12345678}, {"off", "dir", "disabled", 0, 0}, {"old", "nfs", "inactive", 0, 0}}, got)
}

func TestReplicationJobs(t *testing.T) {
	jobs := ParseJobs([]byte("local: 100-0\n\tcomment a%20b\n\tdisable\n\ttarget pve2\n\trate 50\n\tsource pve1\n\nlocal: 100-2\n\ttarget pve3\n\tschedule hourly\n\tremove_job full\n\nother: 1\n"))
	require.Equal(t, []Job{
		{ID: "100-0", Guest: 100, Source: "pve1", Target: "pve2", Schedule: "*/15", Rate: "50", Comment: "a b", Disabled: true},
		{ID: "100-2", Guest: 100, Target: "pve3", Schedule: "hourly", Removing: "full"},
	}, jobs)
	require.Equal(t, 1, FreeNumber(jobs, 100))
	require.Equal(t, 0, FreeNumber(jobs, 101))
	syncs, err := ParseSyncs([]byte(`{"100":{"local/pve2":{"last_sync":1732291200,"last_try":1732291300,"fail_count":2,"error":"no route","duration":5.2,"pid":77}}}`))
	require.NoError(t, err)
	require.Equal(t, Sync{LastSync: 1732291200, LastTry: 1732291300, Duration: 5.2, Failures: 2, Error: "no route", Running: true}, syncs[100]["pve2"])
	_, err = ParseSyncs([]byte("{"))
	require.ErrorContains(t, err, "pve-replication-state.json")
}

func TestBackupJobs(t *testing.T) {
	sections, _ := config.ParseSections([]byte("vzdump: nightly\n\tschedule 02:30\n\tenabled 1\n\tfleecing enabled=1,storage=local-lvm\n\tmode snapshot\n\tprune-backups keep-last=3\n\tstorage nas\n\tvmid 101,100\n"))
	job := sections[0]
	require.Empty(t, CompareBackup(job, map[string]string{
		"vmid": "100,101", "enabled": "true", "fleecing": "storage=local-lvm,enabled=1", "compress": "0", "all": "0", "protected": "0", "mode": "snapshot",
	}, []string{"pool"}))
	require.Equal(t, []Difference{{"schedule", "02:30", "03:00", false}, {"storage", "nas", "pbs", false}, {"vmid", "101,100", "", false}},
		CompareBackup(job, map[string]string{"schedule": "03:00", "storage": "pbs"}, []string{"vmid"}))

	guests := []pve.Guest{{ID: "100", Node: "pve1"}, {ID: "101", Node: "pve2"}, {ID: "900", Node: "pve1"}}
	cover := func(values map[string]string) []int {
		return Covered(config.Section{Values: values}, guests, map[string][]int{"prod": {101}})
	}
	require.Equal(t, []int{100}, cover(map[string]string{"vmid": "100,555"}))
	require.Equal(t, []int{100, 101}, cover(map[string]string{"all": "1", "exclude": "900"}))
	require.Equal(t, []int{101}, cover(map[string]string{"pool": "prod"}))
	require.Equal(t, []int{100, 900}, cover(map[string]string{"all": "1", "node": "pve1"}))

	backups, err := ParseBackups([]byte(`[{"volid":"nas:backup/a","ctime":1000,"vmid":100,"content":"backup"},{"volid":"nas:backup/b","ctime":2000,"vmid":"100"},{"volid":"nas:backup/c","ctime":3000}]`))
	require.NoError(t, err)
	newest := Newest(backups)
	require.Equal(t, "nas:backup/b", newest[100].Volume)
	require.Equal(t, []int{101}, Stale([]int{100, 101}, newest, time.Unix(2500, 0), 10*time.Minute))
	require.Equal(t, []int{100, 101}, Stale([]int{100, 101}, newest, time.Unix(3500, 0), 10*time.Minute))
}

func snapshot(parts ...string) []byte {
	out := "@@n begin\n"
	for i := 0; i+1 < len(parts); i += 2 {
		out += "@@n " + parts[i] + "\n" + parts[i+1] + "\n@@n rc 0\n"
	}
	return []byte(out + "@@n end\n")
}

func TestParseSite(t *testing.T) {
	s, err := Parse("pve1", snapshot("time", "1732291300", "storages", storageCfg, "users", "user:root@pam:1:\npool:prod:x:100,101:nas:\npool:empty::::\n", "drives", drives,
		"guests", `{"version":1,"ids":{"100":{"node":"pve1","type":"qemu","version":1}}}`))
	require.NoError(t, err)
	require.Len(t, s.Storages, 3)
	require.Equal(t, map[string][]int{"prod": {100, 101}, "empty": {}}, s.Pools)
	require.Equal(t, int64(1732291300), s.Now.Unix())
	require.Empty(t, s.Missing("storages", "guests"))
	s, err = Parse("pve1", []byte("@@n begin\n@@n storages\n\n@@n rc 124\n@@n jobs\ncat: /etc/pve/jobs.cfg: No such file or directory\n@@n rc 1\n@@n end\n"))
	require.NoError(t, err)
	require.Equal(t, "the read of storages failed: no answer within its time limit", s.Missing("jobs", "storages"))
	_, err = Parse("pve1", []byte("sh: not found\n"))
	require.ErrorContains(t, err, "read storages from pve1")

	l, err := ParseLocal("pve1", snapshot("syncs", "", "jobs", "#/var/lib/pve-manager/jobs/vzdump-nightly.json\n{\"state\":\"created\",\"time\":1000}\n#/var/lib/pve-manager/jobs/vzdump-weekly.json\n{\"state\":\"stopped\",\"time\":1000,\"updated\":2000}\n#/var/lib/pve-manager/jobs/vzdump-old.json\n{\"state\":\"stopped\",\"upid\":\"x\"}\n"))
	require.NoError(t, err)
	require.Equal(t, map[string]time.Time{"nightly": time.Unix(1000, 0), "weekly": time.Unix(2000, 0)}, l.JobsSince)
}

func FuzzSite(f *testing.F) {
	f.Add(snapshot("time", "1732291300", "storages", storageCfg, "drives", drives, "users", "pool:prod:x:100:nas:\n", "rrd", "pve-storage-9.0/pve1/nas:200:1000:20\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if s, err := Parse("pve1", text); err == nil {
			for _, one := range s.Storages {
				Compare(one, map[string]string{"content": "iso", "nodes": "pve1"}, []string{"disable"})
			}
			for _, r := range s.Drives {
				if r.Storage() == "" || r.Guest <= 0 {
					t.Fatalf("reference %+v", r)
				}
			}
		}
		_, _ = ParseLocal("pve1", text)
		for _, r := range ParseReferences(text) {
			if r.Node == "" {
				t.Fatalf("reference %+v", r)
			}
		}
		ParseStatus(text)
		ParseRows(text)
		ParseJobs(text)
		_, _ = ParseSyncs(text)
		_, _ = ParseBackups(text)
	})
}

func TestActive(t *testing.T) {
	table := func(status string) string {
		return "Name Type Status Total Used Available %\nnas nfs " + status + " 100 10 90 10.00%\n"
	}
	require.NoError(t, judge("nas", transport.Result{Stdout: []byte(table("active"))}))
	require.EqualError(t, judge("nas", transport.Result{Stdout: []byte(table("inactive")), Stderr: []byte("storage 'nas' is not online\n")}), "it is inactive: storage 'nas' is not online")
	require.EqualError(t, judge("nas", transport.Result{Stdout: []byte(table("disabled"))}), "it is disabled")
	require.EqualError(t, judge("other", transport.Result{Stdout: []byte(table("active"))}), "pvesm status does not show it")
	require.ErrorIs(t, judge("nas", transport.Result{Exit: 124}), ErrHangs)
	require.NoError(t, judge("nas", transport.Result{Exit: 124, Stdout: []byte("@@answers\n")}), "another storage hangs")
	require.ErrorContains(t, judge("nas", transport.Result{Exit: 255, Stderr: []byte("please run as root\n")}), "exit 255: please run as root")
}

func TestEveryTypeTakesWhatItNeeds(t *testing.T) {
	for _, name := range KindNames() {
		k, _ := KindOf(name)
		for _, option := range append(k.Required, "nodes", "content", "disable") {
			require.True(t, k.Takes(option), "%s of %s", option, name)
		}
		for _, c := range k.Normal {
			require.True(t, k.Holds(c))
		}
		require.False(t, k.Takes("bogus"))
	}
}
