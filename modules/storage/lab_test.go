package storage

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/lab/storage"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// labTarget is a cluster of n nodes with ZFS, a server of files and one of backups. Secrets in arguments are "s3cret-…".
func labTarget(t *testing.T, n int) *labkit.Target {
	t.Helper()
	target := labkit.New(t, n, func(s *lab.Spec) {
		for i := range s.Hosts {
			s.Hosts[i].Pools = []string{"tank/vm"}
		}
		s.Hosts[0].Guests = []guest.Spec{
			{ID: 100, Name: "web", Disks: []guest.Disk{{Storage: "zfs", SizeGiB: 4}}}, {ID: 101, Name: "db", Disks: []guest.Disk{{Storage: "local-lvm", SizeGiB: 4}}},
		}
		s.Hosts = append(s.Hosts, lab.HostSpec{Name: "nas", Address: "192.0.2.9", Exports: []storage.Export{
			{Kind: "nfs", Name: "/export/pve"}, {Kind: "nfs", Name: "/export/old"}, {Kind: "cifs", Name: "backup", Username: "pve", Password: "s3cret-smb"},
			{Kind: "pbs", Name: "store1", Username: "root@pam", Password: "s3cret-pbs"},
		}})
	})
	if n > 1 {
		target.Form()
	}
	return target
}

const nas = "id = \"nas\"\ntype = \"nfs\"\nserver = \"192.0.2.9\"\nexport = \"/export/pve\"\n"

func refuses(t *testing.T, target *labkit.Target, m module.Module, src, saw string) {
	t.Helper()
	_, err := target.Plan(m, src)
	require.ErrorContains(t, err, saw)
	var refusals module.Refusals
	require.ErrorAs(t, err, &refusals)
}

func TestStorages(t *testing.T) {
	t.Parallel()
	target, m := labTarget(t, 2), storageModule()

	require.Equal(t, []string{"add storage nas (nfs 192.0.2.9:/export/pve)"}, target.Converge(m, nas+`content = ["backup", "images"]`))
	for _, node := range []string{"pve1", "pve2"} {
		require.Contains(t, target.Must(node, "cat /proc/mounts"), "192.0.2.9:/export/pve /mnt/pve/nas nfs4", "it was activated on %s", node)
	}
	require.Empty(t, target.Converge(m, nas+`content = ["images", "backup"]`), "lists are sets")

	// Drift of what is named is repaired, the rest stays.
	target.Must("pve2", "pvesm set nas --content iso --prune-backups keep-last=7 --disable 1")
	require.Equal(t, []string{"change content, disable of storage nas"}, target.Converge(m, nas+"content = [\"backup\", \"images\"]\ndisable = false"))
	require.Contains(t, target.Must("pve1", "cat /etc/pve/storage.cfg"), "prune-backups keep-last=7")
	require.Equal(t, []string{"change prune-backups of storage nas"}, target.Converge(m, nas+`remove = ["prune-backups"]`))
	require.Equal(t, []string{"change nodes of storage nas"}, target.Converge(m, nas+`nodes = ["pve1"]`))
	require.Equal(t, []string{"change nodes of storage nas"}, target.Converge(m, nas+`remove = ["nodes"]`))

	out, err := m.Read(t.Context(), target, testkit.Args(t, m, nas))
	require.NoError(t, err)
	got := out.(storageOut)
	require.Equal(t, []string{"nfs", "/mnt/pve/nas"}, []string{got.Type, got.Path})
	require.Equal(t, []string{"pve1", "pve2"}, got.Nodes)

	// What is fixed is refused.
	refuses(t, target, m, strings.Replace(nas, "/export/pve", "/export/old", 1), "export is /export/pve")
	refuses(t, target, m, "id = \"nas\"\ntype = \"dir\"\npath = \"/srv\"", "its type is nfs")
	refuses(t, target, m, nas+`nodes = ["pve9"]`, `"pve9" is no node of the cluster`)

	// It is removed unless somebody needs it.
	target.Must("pve1", "printf 'name: x\\n[snap1]\\nscsi0: nas:102/vm-102-disk-0.raw,size=1G\\n' >/etc/pve/nodes/pve1/qemu-server/102.conf")
	refuses(t, target, m, "id = \"nas\"\nensure = \"absent\"", "used by guest 102 (scsi0 nas:102/vm-102-disk-0.raw)")
	refuses(t, target, m, strings.Replace(nas, "/export/pve", "/export/old", 1), "used by guest 102")
	target.Must("pve1", "rm /etc/pve/nodes/pve1/qemu-server/102.conf; pvesh create /cluster/backup --id nightly --schedule 02:30 --storage nas --all 1")
	refuses(t, target, m, "id = \"nas\"\nensure = \"absent\"", "backup job nightly writes to it")
	target.Must("pve1", "pvesh delete /cluster/backup/nightly")
	require.Equal(t, []string{"remove the entry of storage nas (nfs); what is on it stays"}, target.Converge(m, "id = \"nas\"\nensure = \"absent\""))
	refuses(t, target, m, "id = \"local\"\nensure = \"absent\"", "brings local back")
}

func TestStorageTypes(t *testing.T) {
	t.Parallel()
	target, m := labTarget(t, 1), storageModule()
	for _, src := range []string{
		"id = \"files\"\ntype = \"dir\"\npath = \"/srv/files\"\ncontent = [\"iso\", \"snippets\"]\nshared = true\noptions = { \"create-base-path\" = true }",
		"id = \"zfs\"\ntype = \"zfspool\"\npool = \"tank/vm\"\noptions = { sparse = true }",
		"id = \"thin2\"\ntype = \"lvmthin\"\nvgname = \"pve\"\nthinpool = \"data\"",
		"id = \"vg\"\ntype = \"lvm\"\nvgname = \"pve\"\nshared = false",
		"id = \"smb\"\ntype = \"cifs\"\nserver = \"192.0.2.9\"\nshare = \"backup\"\nusername = \"pve\"\npassword = secret.smb\ncontent = [\"backup\"]",
		"id = \"pbs\"\ntype = \"pbs\"\nserver = \"192.0.2.9\"\ndatastore = \"store1\"\nusername = \"root@pam\"\npassword = secret.pbs",
	} {
		require.Len(t, target.Converge(m, src), 1, src)
		require.Empty(t, target.Converge(m, src), src)
	}
	// The passwords that the cluster keeps are compared, and mended.
	target.Must("pve1", "echo password=other >/etc/pve/priv/storage/smb.pw")
	smb := "id = \"smb\"\ntype = \"cifs\"\nserver = \"192.0.2.9\"\nshare = \"backup\"\nusername = \"pve\"\npassword = secret.smb"
	require.Equal(t, []string{"change password of storage smb"}, target.Converge(m, smb))
	require.Equal(t, "password=s3cret-smb\n", target.Must("pve1", "cat /etc/pve/priv/storage/smb.pw"))

	for _, w := range target.Lab.Writes() {
		require.NotContains(t, w.Program, "s3cret-", "a secret in an argument list")
	}
	target.Must("pve1", "pvesm set vg --disable 1")
	require.Empty(t, target.Converge(m, "id = \"vg\"\ntype = \"lvm\"\nvgname = \"pve\""))
	require.Contains(t, strings.Join(target.Warnings(), "\n"), "storage vg is disabled, so that nobody uses it; disable = false would turn it on")
	for src, want := range map[string]string{
		"id = \"gone\"\ntype = \"zfspool\"\npool = \"other\"":                                                                 "no such pool available (look: zpool list; zfs list other)",
		"id = \"gone\"\ntype = \"nfs\"\nserver = \"192.0.2.9\"\nexport = \"/export/nope\"":                                    "reason given by server: No such file or directory",
		"id = \"gone\"\ntype = \"nfs\"\nserver = \"192.0.2.77\"\nexport = \"/export/nope\"":                                   "storage 'gone' is not online (look: timeout 10 showmount -e 192.0.2.77)",
		"id = \"gone\"\ntype = \"cifs\"\nserver = \"192.0.2.9\"\nshare = \"backup\"\nusername = \"u\"\npassword = secret.bad": "Permission denied",
	} {
		changes, err := target.Plan(m, src)
		require.NoError(t, err)
		require.ErrorContains(t, target.Apply(changes), want)
		require.NotContains(t, target.Must("pve1", "cat /etc/pve/storage.cfg"), "gone", "nothing was written")
	}
}

// A storage that hangs on one node is told with the node and a command, and nobody waits for it.
func TestStorageThatHangs(t *testing.T) {
	t.Parallel()
	target, m := labTarget(t, 2), storageModule()
	target.Converge(m, nas+`nodes = ["pve1"]`)
	target.Fault(lab.Fault{Kind: "storage-hang", Target: "nas", Value: "/export/pve"})
	changes, err := target.Plan(m, nas+"nodes = [\"pve1\", \"pve2\"]")
	require.NoError(t, err)
	err = target.Apply(changes)
	require.ErrorContains(t, err, "storage nas: it gives no answer")
	require.ErrorContains(t, err, "look on pve1: timeout 30 pvesm status; timeout 10 showmount -e 192.0.2.9")

	// Another storage is not held up by it.
	require.Len(t, target.Converge(m, "id = \"files\"\ntype = \"dir\"\npath = \"/srv/files\""), 1)
}

func TestStorageWhoseServerGoesAway(t *testing.T) {
	t.Parallel()
	target, m := labTarget(t, 1), storageModule()
	target.Converge(m, nas)
	target.Fault(lab.Fault{Kind: "power-off", Target: "nas"})
	changes, err := target.Plan(m, nas+`content = ["iso"]`)
	require.NoError(t, err)
	require.ErrorContains(t, target.Apply(changes), "storage nas: it is inactive: storage 'nas' is not online")
	require.Contains(t, strings.Join(target.Warnings(), "\n"), "pve1: storage nas gives no answer here: looking at /mnt/pve/nas took more than 4 s")
}

// A storage that is as wanted in the files and does not work is told of in the plan, which does not wait for it.
func TestThePlanTellsOfAStorageThatDoesNotWork(t *testing.T) {
	t.Parallel()
	target, m := labTarget(t, 2), storageModule()
	target.Converge(m, nas+`nodes = ["pve1"]`)
	files := "id = \"files\"\ntype = \"dir\"\npath = \"/srv/files\""
	target.Converge(m, files)
	require.Empty(t, target.Warnings())
	target.Fault(lab.Fault{Kind: "storage-hang", Target: "nas", Value: "/export/pve"})
	require.Empty(t, target.Converge(m, nas+`nodes = ["pve1"]`))
	told := target.Warnings()
	require.Equal(t, "pve1: storage nas gives no answer here: looking at /mnt/pve/nas took more than 4 s (look: timeout 30 pvesm status; timeout 10 showmount -e 192.0.2.9)", told[0])

	// The node's other storages are held up by it in pvestatd, which is told once it is known.
	target.Eventually("pve1", "! grep -q storage-9.0/pve1/files /etc/pve/.rrd")
	require.Empty(t, target.Converge(m, files))
	require.Equal(t, told, target.Warnings(), "what was just changed is given a moment")
	target.Must("pve1", "touch -d '10 minutes ago' /etc/pve/storage.cfg")
	require.Empty(t, target.Converge(m, files))
	require.Equal(t, "pve1: storage files has not been active here for five minutes (look: timeout 30 pvesm status; systemctl status pvestatd)", target.Warnings()[len(told)])
}

// What others change between the plan and the change is not written over.
func TestAStorageThatOthersChangeMeanwhile(t *testing.T) {
	t.Parallel()
	target, m := labTarget(t, 1), storageModule()
	target.Converge(m, nas+`content = ["images"]`)
	wanted := nas + "content = [\"images\", \"iso\"]\nprune_backups = \"keep-last=3\""
	plan := func() []module.Change {
		changes, err := target.Plan(m, wanted)
		require.NoError(t, err)
		require.Equal(t, []string{"change content, prune-backups of storage nas"}, testkit.Summaries(changes))
		return changes
	}
	changes := plan()
	target.Must("pve1", "pvesm set nas --content backup")
	err := target.Apply(changes)
	require.ErrorContains(t, err, "content was images in the plan and is backup now: somebody else has changed it meanwhile")
	require.ErrorAs(t, err, new(module.Refusals))
	require.Contains(t, target.Must("pve1", "cat /etc/pve/storage.cfg"), "content backup")

	// What the plan is not about may change, and what is as wanted by now is not set again.
	target.Must("pve1", "pvesm set nas --content images")
	changes = plan()
	target.Must("pve1", "pvesm set nas --prune-backups keep-last=3 --options vers=4.2; pvesm set local --content iso")
	require.NoError(t, target.Apply(changes))
	require.Contains(t, target.Must("pve1", "cat /etc/pve/storage.cfg"), "options vers=4.2")

	target.Must("pve1", "pvesm set nas --content images --delete prune-backups")
	changes = plan()
	target.Must("pve1", "pvesm remove nas")
	require.ErrorContains(t, target.Apply(changes), "it is not there any more")
}

// What belongs to the cluster is changed from a node that is in the run.
func TestStoragesAreMadeFromANodeInTheRun(t *testing.T) {
	t.Parallel()
	target, m := labTarget(t, 2), storageModule()
	files := "id = \"files\"\ntype = \"dir\"\npath = \"/srv/files\"\n"
	target.Limit = []string{"pve2"}
	changes, err := target.Plan(m, files)
	require.NoError(t, err)
	require.Equal(t, "pve2", changes[0].Host)
	changes, err = target.Plan(backupJob(), "id = \"n1\"\nschedule = \"02:30\"\nstorage = \"local\"\nall = true")
	require.NoError(t, err)
	require.Equal(t, "pve2", changes[0].Host)
	target.Limit = []string{"nas"}
	refuses(t, target, m, files, "pve1, pve2 left out by --limit")
}

// A secret is nowhere but where Proxmox VE keeps it, also when everything is cut off while it is on its way.
func TestSecretsLeaveNoFile(t *testing.T) {
	t.Parallel()
	target, m := labTarget(t, 1), storageModule()
	pbs := testkit.Args(t, m, "id = \"pbs\"\ntype = \"pbs\"\nserver = \"192.0.2.9\"\ndatastore = \"store1\"\nusername = \"root@pam\"\npassword = secret.pbs").(*storageArgs)
	key := `{"data":"s3cret-key"}`
	pbs.EncryptionKey = secret.New(key)
	clean := func(when string) {
		t.Helper()
		require.Empty(t, target.Must("pve1", "ls /run /tmp | grep pxrun || :"), when)
		for _, w := range target.Lab.Writes() {
			require.NotContains(t, w.Program, "s3cret-", when)
		}
	}
	for _, phase := range []string{"storage:add", "storage:set"} {
		target.Fault(lab.Fault{Kind: "die", Target: "pve1", Phase: phase})
		changes, err := m.Plan(t.Context(), target, pbs)
		require.NoError(t, err)
		require.Error(t, target.Apply(changes))
		clean("cut off in " + phase)
		require.NoError(t, target.Lab.ClearFault(0))
		changes, err = m.Plan(t.Context(), target, pbs)
		require.NoError(t, err)
		require.NoError(t, target.Apply(changes))
		changes, err = m.Plan(t.Context(), target, pbs)
		require.NoError(t, err)
		require.Empty(t, changes)
		clean("after " + phase)
		require.Equal(t, key+"\n", target.Must("pve1", "cat /etc/pve/priv/storage/pbs.enc"))
		require.Equal(t, "s3cret-pbs\n", target.Must("pve1", "cat /etc/pve/priv/storage/pbs.pw"))
		target.Must("pve1", "echo other >/etc/pve/priv/storage/pbs.enc; echo other >/etc/pve/priv/storage/pbs.pw")
	}
}

// Whatever dies while a storage is made, the next run finishes it; a lock that somebody holds for a while is waited for.
func TestStorageThatWasCutOff(t *testing.T) {
	t.Parallel()
	target, m := labTarget(t, 1), storageModule()
	for _, f := range []lab.Fault{
		{Kind: "die", Target: "pve1", Phase: "storage:add"}, {Kind: "die", Target: "pve1", Match: "pvesm status"},
		{Kind: "lie", Target: "pve1", Match: "pvesm add", Value: "warning"},
	} {
		target.Fault(f)
		changes, err := target.Plan(m, nas+"active_within = \"10s\"")
		require.NoError(t, err)
		if f.Match == "pvesm status" {
			require.NoError(t, target.Apply(changes), "the question is asked again")
		} else {
			require.Error(t, target.Apply(changes))
		}
		target.Converge(m, nas)
		require.NoError(t, target.Lab.ClearFault(0))
		target.Converge(m, "id = \"nas\"\nensure = \"absent\"")
	}
	target.Fault(lab.Fault{Kind: "cfs-lock", Target: "pve1", Value: "file-storage_cfg"})
	changes, err := target.Plan(m, nas)
	require.NoError(t, err)
	require.ErrorContains(t, target.Apply(changes), "got lock request timeout")
}

func TestReplication(t *testing.T) {
	t.Parallel()
	target, m := labTarget(t, 3), replication()
	job := "guest = 100\ntarget = \"pve2\"\n"
	refuses(t, target, m, job, "zfs, which is not there")
	target.Earlier = []module.Planned{{Module: "storage", Change: module.Change{ID: "storage/zfs", Action: module.Create}}}
	changes, err := target.Plan(m, job)
	require.NoError(t, err)
	require.Equal(t, "storage zfs is made in an earlier task", changes[0].Predicted)
	target.Earlier = nil
	target.Converge(storageModule(), "id = \"zfs\"\ntype = \"zfspool\"\npool = \"tank/vm\"")
	refuses(t, target, m, "guest = 999\ntarget = \"pve2\"", "there is no guest 999")
	refuses(t, target, m, "guest = 100\ntarget = \"pve1\"", "guest 100 lives on pve1 itself")
	refuses(t, target, m, "guest = 101\ntarget = \"pve2\"", "is on storage local-lvm of type lvmthin")

	require.Equal(t, []string{"replicate guest 100 from pve1 to pve2 (job 100-0)"}, target.Converge(m, job+"schedule = \"*/5\"\nrate = 50"))
	out, err := m.Read(t.Context(), target, testkit.Args(t, m, job))
	require.NoError(t, err)
	require.Positive(t, out.(replicationOut).LastSync, "the first copy was made")
	require.Equal(t, []string{"replicate guest 100 from pve1 to pve3 (job 100-1)"}, target.Converge(m, "guest = 100\ntarget = \"pve3\""))
	refuses(t, target, m, job+"number = 5", "job 100-0 replicates guest 100 to pve2 already")

	target.Must("pve3", "pvesr update 100-0 --schedule hourly --comment mine")
	require.Equal(t, []string{"change schedule of replication job 100-0"}, target.Converge(m, job+"schedule = \"*/5\""))
	require.Equal(t, []string{"change rate of replication job 100-0"}, target.Converge(m, job+`remove = ["rate"]`))
	require.Contains(t, target.Must("pve1", "cat /etc/pve/replication.cfg"), "comment mine")
	changes, err = target.Plan(m, job+"schedule = \"*/10\"")
	require.NoError(t, err)
	target.Must("pve3", "pvesr update 100-0 --schedule daily")
	require.ErrorContains(t, target.Apply(changes), "schedule was */5 in the plan and is daily now: somebody else has changed it meanwhile")
	target.Must("pve3", "pvesr update 100-0 --schedule '*/5'")

	// The guest moves to its copy: the job has turned round, which is as wanted.
	target.Must("pve1", "qm migrate 100 pve2")
	require.Empty(t, target.Converge(m, job))
	out, err = m.Read(t.Context(), target, testkit.Args(t, m, job))
	require.NoError(t, err)
	require.Equal(t, "pve2 pve1", out.(replicationOut).Source+" "+out.(replicationOut).Target)

	require.Equal(t, []string{"remove replication job 100-1 and the copy of guest 100 on pve3"}, target.Converge(m, "guest = 100\ntarget = \"pve3\"\nensure = \"absent\""))
	target.Fault(lab.Fault{Kind: "power-off", Target: "pve1"})
	target.Eventually("pve2", `[ "$(grep -c '"online": 1' /etc/pve/.members)" = 2 ]`)
	delete(target.Conns, "pve1")
	refuses(t, target, m, job+"ensure = \"absent\"", "pve1 is not there")
}

func TestReplicationThatFails(t *testing.T) {
	t.Parallel()
	target, m := labTarget(t, 3), replication()
	target.Converge(storageModule(), "id = \"zfs\"\ntype = \"zfspool\"\npool = \"tank/vm\"")
	target.Fault(lab.Fault{Kind: "fail", Target: "pve1", Phase: "replication:sync", Value: "cannot receive: out of space"})
	changes, err := target.Plan(m, "guest = 100\ntarget = \"pve2\"")
	require.NoError(t, err)
	require.ErrorContains(t, target.Apply(changes), "replication job 100-0 failed: cannot receive: out of space")
	require.Empty(t, target.Converge(m, "guest = 100\ntarget = \"pve2\""), "it is there, and Proxmox goes on trying")
	require.Contains(t, strings.Join(target.Warnings(), "\n"), "replication job 100-0 has failed 1 times: cannot receive: out of space")
}

func TestBackupJobs(t *testing.T) {
	t.Parallel()
	target, m := labTarget(t, 1), backupJob()
	job := "id = \"nightly\"\nschedule = \"02:30\"\nstorage = \"nas\"\n"
	refuses(t, target, m, job+"all = true", "there is no storage nas")
	refuses(t, target, m, "id = \"nightly\"\nschedule = \"02:30\"\nstorage = \"local-lvm\"\nall = true", "storage local-lvm holds images, rootdir")
	target.Converge(storageModule(), nas+`content = ["backup"]`)
	require.Equal(t, []string{"add backup job nightly: guests 100,101,555 to nas at 02:30"},
		target.Converge(m, job+"guests = [100, 101, 555]\nfleecing = { enabled = true, storage = \"local-lvm\" }\nprune_backups = \"keep-daily=7,keep-last=2\""))
	require.Contains(t, strings.Join(target.Warnings(), "\n"), "names guest 555, which is not there")

	// Another way to choose guests takes the place of the first; what is not named stays.
	require.Equal(t, []string{"change all, exclude, vmid of backup job nightly"}, target.Converge(m, job+"all = true\nexclude = [101]"))
	cfg := target.Must("pve1", "cat /etc/pve/jobs.cfg")
	require.Contains(t, cfg, "fleecing enabled=1,storage=local-lvm")
	require.NotContains(t, cfg, "vmid")
	target.Must("pve1", "pvesh set /cluster/backup/nightly --schedule sat --mode stop")
	require.Equal(t, []string{"change mode, schedule of backup job nightly"}, target.Converge(m, job+"all = true\nexclude = [101]\nmode = \"snapshot\""))

	// What others change after the plan is not written over.
	changes, err := target.Plan(m, job+"all = true\nexclude = [101]\nmode = \"suspend\"")
	require.NoError(t, err)
	target.Must("pve1", "pvesh set /cluster/backup/nightly --schedule sun")
	require.ErrorContains(t, target.Apply(changes), "schedule has become sun since the plan: somebody else has changed it meanwhile")
	target.Must("pve1", "pvesh set /cluster/backup/nightly --schedule 02:30")

	// A young job is given its time; then every guest needs a backup.
	aged := job + "all = true\nexclude = [101]\nnewest_within = \"26h\"\n"
	require.Empty(t, target.Converge(m, aged))
	target.Must("pve1", `printf '{"state":"stopped","upid":"x"}' >/var/lib/pve-manager/jobs/vzdump-nightly.json`)
	refuses(t, target, m, aged, "guest 100 has none")
	target.Must("pve1", "echo old >/mnt/pve/nas/dump/vzdump-qemu-100-2020_01_01-00_00_00.vma.zst")
	refuses(t, target, m, aged, "the newest of guest 100 is")
	require.Empty(t, target.Converge(m, aged+`on_stale = "warn"`))
	require.Contains(t, strings.Join(target.Warnings(), "\n"), "the newest of guest 100 is")
	out, err := m.Read(t.Context(), target, testkit.Args(t, m, aged))
	require.NoError(t, err)
	require.Equal(t, []int{100}, out.(backupJobOut).Stale)
	target.Must("pve1", "vzdump 100 --storage nas")
	require.Empty(t, target.Converge(m, aged))
	out, err = m.Read(t.Context(), target, testkit.Args(t, m, aged))
	require.NoError(t, err)
	require.Empty(t, out.(backupJobOut).Stale)
	require.Positive(t, out.(backupJobOut).Newest["100"])

	// Backups that cannot be listed count as none.
	target.Fault(lab.Fault{Kind: "storage-hang", Target: "nas", Value: "/export/pve"})
	refuses(t, target, m, aged, "storage nas gives no answer")
	require.NoError(t, target.Lab.ClearFault(0))
	require.Equal(t, []string{"remove backup job nightly; its backups stay"}, target.Converge(m, "id = \"nightly\"\nensure = \"absent\""))
}

// The plan of a site from nothing is made of forecasts.
func TestPlanBeforeTheClusterIsFormed(t *testing.T) {
	t.Parallel()
	target := labkit.New(t, 2, nil)
	refuses(t, target, storageModule(), nas, `no node is a member of a cluster "lab"`)
	target.Earlier = []module.Planned{
		{Module: "cluster_create", Change: module.Change{ID: "pve1/create", Host: "pve1"}}, {Module: "node_join", Change: module.Change{ID: "pve2/join", Host: "pve2"}},
	}
	changes, err := target.Plan(storageModule(), nas+`nodes = ["pve1", "pve2"]`)
	require.NoError(t, err)
	require.Equal(t, []string{"add storage nas (nfs 192.0.2.9:/export/pve)"}, testkit.Summaries(changes))
	require.Equal(t, "pve2 becomes a member in an earlier task", changes[0].Predicted)
	target.Earlier = append(target.Earlier, module.Planned{Module: "storage", Change: changes[0]})
	changes, err = target.Plan(backupJob(), "id = \"nightly\"\nschedule = \"02:30\"\nstorage = \"nas\"\nall = true")
	require.NoError(t, err)
	require.NotEmpty(t, changes[0].Predicted)
}

// A cluster whose making was cut off has no quorum until an earlier task finishes it.
func TestPlanWhileTheClusterIsToBeFinished(t *testing.T) {
	t.Parallel()
	target := labTarget(t, 2)
	target.Must("pve2", "systemctl stop corosync")
	target.Must("pve1", "systemctl stop corosync")
	target.Eventually("pve1", "[ \"$(stat -c %a /etc/pve/local)\" = 555 ]")
	target.Eventually("pve2", "[ \"$(stat -c %a /etc/pve/local)\" = 555 ]")
	refuses(t, target, storageModule(), nas, "no member that answers is quorate")
	target.Earlier = []module.Planned{{Module: "cluster_create", Change: module.Change{ID: "pve1/create", Host: "pve1"}}}
	changes, err := target.Plan(storageModule(), nas)
	require.NoError(t, err)
	require.Equal(t, []string{"add storage nas (nfs 192.0.2.9:/export/pve)"}, testkit.Summaries(changes))
	require.Equal(t, "the cluster is finished by an earlier task", changes[0].Predicted)
}
