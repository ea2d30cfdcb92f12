package ceph

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	labdisk "github.com/pxrun/pxrun/lab/disk"
	"github.com/stretchr/testify/require"
)

// labOf forms a cluster of n nodes with two disks and one for databases each.
func labOf(t *testing.T, n int, change func(*lab.Spec)) *labkit.Target {
	t.Helper()
	tgt := labkit.New(t, n, func(s *lab.Spec) {
		for i := range s.Hosts {
			name := s.Hosts[i].Name
			s.Hosts[i].Disks = []labdisk.Spec{{ID: "ata-ACME_" + name + "-A"}, {ID: "ata-ACME_" + name + "-B"}, {ID: "nvme-ACME_" + name + "-N"}}
		}
		s.Speed = 40 // programs have limits on the lab's clock: a busy machine must keep up
		if change != nil {
			change(s)
		}
	})
	tgt.Form()
	return tgt
}

const labWhole = `
network    = "10.0.2.0/24"
repository = "no-subscription"
pool "vm" {
  size     = 3
  min_size = 2
  storage  = true
}
fs "cephfs" {
  storage = true
}
`

func labDisks(t *labkit.Target) {
	for _, h := range t.All {
		osdsOf(t.Target, h.Name,
			inventory.OSD{Device: "/dev/disk/by-id/ata-ACME_" + h.Name + "-A", DBDevice: "/dev/disk/by-id/nvme-ACME_" + h.Name + "-N"},
			inventory.OSD{Device: "/dev/disk/by-id/ata-ACME_" + h.Name + "-B", DBDevice: "/dev/disk/by-id/nvme-ACME_" + h.Name + "-N"})
	}
}

func TestLabFromNothingToHealth(t *testing.T) {
	t.Parallel()
	tgt := labOf(t, 3, nil)
	labDisks(tgt)
	changes := tgt.Converge(cephInit(), labWhole)
	require.Len(t, changes, 21)
	out, err := cephInit().Read(t.Context(), tgt, testkit.Args(t, cephInit(), labWhole))
	require.NoError(t, err)
	got := out.(cephOut)
	require.Equal(t, 6, got.OSDsUp)
	require.Len(t, got.Mons, 3)
	require.True(t, got.Clean)
	require.Equal(t, "HEALTH_OK", got.Health, fmt.Sprint(got.Checks))
}

// labSmall is a whole cluster on the lab with one OSD on each node and the pool vm.
func labSmall(t *testing.T, change func(*lab.Spec)) *labkit.Target {
	t.Helper()
	tgt := labOf(t, 3, change)
	for _, h := range tgt.All {
		osdsOf(tgt.Target, h.Name, inventory.OSD{Device: "/dev/disk/by-id/ata-ACME_" + h.Name + "-A"})
	}
	tgt.Converge(cephInit(), labBase)
	return tgt
}

const labBase = `
network    = "10.0.2.0/24"
repository = "no-subscription"
pool "vm" {
  size     = 3
  min_size = 2
  storage  = true
}
`

// heal takes all faults away.
func heal(t *testing.T, tgt *labkit.Target) {
	t.Helper()
	for _, f := range tgt.Lab.Faults() {
		require.NoError(t, tgt.Lab.ClearFault(f.ID))
	}
}

func on(node, letter string, more ...string) string {
	text := fmt.Sprintf("disk {\n  node = %q\n  device = \"/dev/disk/by-id/ata-ACME_%s-%s\"\n", node, node, letter)
	for _, m := range more {
		text += "  " + m + "\n"
	}
	return text + "}\n"
}

// Every run makes one change and ends, as if it were killed: the last one finds everything as wanted.
func TestLabRunsThatEndAfterEachChange(t *testing.T) {
	t.Parallel()
	tgt := labOf(t, 3, nil)
	labDisks(tgt)
	var made []string
	for range 40 {
		changes, err := tgt.Plan(cephInit(), labWhole)
		require.NoError(t, err, "after %v", made)
		if len(changes) == 0 {
			break
		}
		made = append(made, changes[0].Summary)
		require.NoError(t, tgt.Apply(changes[:1]))
	}
	require.Len(t, made, 21)
	require.Contains(t, tgt.Must("pve1", "ceph -s -f json"), `"num_up_osds":6`)
}

func TestLabKeepsACluster(t *testing.T) {
	t.Parallel()
	tgt := labSmall(t, nil)
	t.Run("drift", func(t *testing.T) { driftIsMended(t, tgt) })
	t.Run("flags", func(t *testing.T) { flagsAreSet(t, tgt) })
	t.Run("lost", func(t *testing.T) { confIsLost(t, tgt) })
	t.Run("hang", func(t *testing.T) { aCephThatHangs(t, tgt) })
}

func driftIsMended(t *testing.T, tgt *labkit.Target) {
	t.Helper()
	for name, one := range map[string]struct{ drift, want string }{
		"mon":     {"systemctl stop ceph-mon@pve2", "start ceph-mon@pve2 on pve2"},
		"mgr":     {"systemctl stop ceph-mgr@pve2", "start ceph-mgr@pve2 on pve2"},
		"size":    {"pveceph pool set vm --size 2", "change pool vm"},
		"storage": {"pvesm remove vm", "register storage vm"},
	} {
		tgt.Must("pve2", one.drift)
		tgt.Eventually("pve2", "sleep 2")
		require.Equal(t, []string{one.want}, tgt.Converge(cephInit(), labBase), name)
	}
	// What a person has stopped stays so until the runbook says otherwise.
	tgt.Must("pve2", "systemctl stop ceph-osd@$(ls /var/lib/ceph/osd | sed s/ceph-//)")
	tgt.Eventually("pve2", "sleep 2")
	require.Empty(t, tgt.Converge(cephInit(), labBase))
	warnings := tgt.Warnings()
	require.Contains(t, strings.Join(warnings, "\n"), "is down and left so: ceph-osd@1 was stopped, it did not fail")
	require.Equal(t, []string{"start ceph-osd@1 on pve2"}, tgt.Converge(cephInit(), labBase+"start_stopped = true\n"))
	tgt.Must("pve3", "pveceph mgr destroy pve3")
	require.Equal(t, []string{"make a manager on pve3"}, tgt.Converge(cephInit(), labBase))
	require.Equal(t, []string{"give osd.0 the device class nvme"}, tgt.Converge(cephOSD(), on("pve1", "A", `class = "nvme"`)))
}

// permit gives the arguments of a node's second disk with the permission that the plan prints.
func permit(t *testing.T, tgt *labkit.Target, node string) string {
	t.Helper()
	_, err := tgt.Plan(cephOSD(), on(node, "B"))
	if err == nil {
		return on(node, "B")
	}
	m := printed.FindStringSubmatch(err.Error())
	require.NotNil(t, m, err.Error())
	return on(node, "B", fmt.Sprintf("wipe = %q", m[1]))
}

// A cluster whose ceph.conf is lost is not made anew over its monitors and OSDs.
func confIsLost(t *testing.T, tgt *labkit.Target) {
	t.Helper()
	tgt.Must("pve1", "mv /etc/pve/ceph.conf /root/ceph.conf")
	_, err := tgt.Plan(cephInit(), labBase)
	require.ErrorContains(t, err, "there are remains of one: /var/lib/ceph/mon/ceph-pve1 on pve1")
	tgt.Must("pve1", "cp /root/ceph.conf /etc/pve/ceph.conf")
	require.Empty(t, tgt.Converge(cephInit(), labBase))
}

func TestLabDisksThatAreNotWhatTheyShouldBe(t *testing.T) {
	t.Parallel()
	tgt := labSmall(t, nil)
	used := func(value string) { tgt.Fault(lab.Fault{Kind: "disk-used", Target: "pve1", Value: value}) }
	refuse := func(args, want string) {
		t.Helper()
		_, err := tgt.Plan(cephOSD(), args)
		require.ErrorContains(t, err, want)
	}
	used("ata-ACME_pve1-B=xfs")
	refuse(on("pve1", "B"), "xfs on ")
	used("nvme-ACME_pve1-N=mounted")
	wipe := permit(t, tgt, "pve1")
	refuse(strings.Replace(wipe, "wipe =", "db_device = \"/dev/disk/by-id/nvme-ACME_pve1-N\"\n  wipe =", 1), "for the OSD's database")
	require.Equal(t, []string{"WIPE ata-ACME_pve1-B on pve1 and make an OSD of it"}, tgt.Converge(cephOSD(), wipe))
	require.Empty(t, tgt.Converge(cephOSD(), wipe), "an OSD of the cluster is not wiped")

	before := ""
	for _, content := range []string{"partitions", "lvm", "osd"} {
		heal(t, tgt)
		tgt.Fault(lab.Fault{Kind: "disk-used", Target: "pve2", Value: "ata-ACME_pve2-B=" + content})
		now := permit(t, tgt, "pve2")
		require.NotEqual(t, before, now, "a permission is for what lay there")
		if before != "" {
			refuse(before, "was written for something else than what lies there now")
		}
		before = now
	}
	refuse(on("pve2", "B"), "osd.0 of another Ceph cluster")
	// Between plan and act something else comes to lie there.
	changes, err := tgt.Plan(cephOSD(), before)
	require.NoError(t, err)
	heal(t, tgt)
	tgt.Fault(lab.Fault{Kind: "disk-used", Target: "pve2", Value: "ata-ACME_pve2-B=ext4"})
	require.ErrorContains(t, tgt.Apply(changes), "the disk as it was planned")
	require.Contains(t, tgt.Must("pve2", "lsblk -no FSTYPE /dev/disk/by-id/ata-ACME_pve2-B"), "ext4", "it was left alone")
	tgt.Converge(cephOSD(), permit(t, tgt, "pve2"))
	for _, content := range []string{"zfs", "raid", "mounted"} {
		heal(t, tgt)
		tgt.Fault(lab.Fault{Kind: "disk-used", Target: "pve3", Value: "ata-ACME_pve3-B=" + content})
		_, err := tgt.Plan(cephOSD(), on("pve3", "B", `wipe = "zfs-00000000"`))
		require.ErrorContains(t, err, "take it out of use first", content)
	}

	// A disk dies and another one is put into its place.
	tgt.Fault(lab.Fault{Kind: "disk-swap", Target: "pve1", Value: "ata-ACME_pve1-A=ata-ACME_pve1-Z"})
	refuse(on("pve1", "A"), "the node has no /dev/disk/by-id/ata-ACME_pve1-A; osd.")
	refuse(on("pve1", "A"), "was on it and is")
	refuse(on("pve1", "A"), "/dev/disk/by-id/ata-ACME_pve1-Z")
}

// What is busy only shows when the OSD is made: pveceph refuses, and says why.
func aDiskThatSomethingHolds(t *testing.T, tgt *labkit.Target) {
	t.Helper()
	defer heal(t, tgt)
	tgt.Fault(lab.Fault{Kind: "disk-busy", Target: "pve1", Value: "ata-ACME_pve1-B"})
	changes, err := tgt.Plan(cephOSD(), on("pve1", "B"))
	require.NoError(t, err)
	require.ErrorContains(t, tgt.Apply(changes), "is already in use")
}

func TestLabCreationsThatFail(t *testing.T) {
	t.Parallel()
	tgt := labSmall(t, nil)
	t.Run("busy", func(t *testing.T) { aDiskThatSomethingHolds(t, tgt) })
	for i, phase := range []string{"ceph:osd-wiped", "ceph:osd-new", "ceph:osd-mkfs"} {
		node := fmt.Sprintf("pve%d", i+1)
		tgt.Fault(lab.Fault{Kind: "fail", Target: node, Phase: phase, Value: "Input/output error"})
		changes, err := tgt.Plan(cephOSD(), on(node, "B"))
		require.NoError(t, err, phase)
		err = tgt.Apply(changes)
		require.Error(t, err, phase)
		require.Contains(t, err.Error(), "pveceph osd create", phase)
		again, err := tgt.Plan(cephOSD(), permit(t, tgt, node))
		require.NoError(t, err, phase)
		require.Len(t, again, 1, phase)
		require.NoError(t, tgt.Apply(again), phase)
		require.Empty(t, tgt.Converge(cephOSD(), on(node, "B")), phase)
	}
	// Ids that were allocated in vain are told of, and taken away when the runbook names them.
	warnings := tgt.Warnings()
	require.Contains(t, warnings[len(warnings)-1], "osd.6 is allocated and belongs to no host")
	require.Equal(t, []string{"purge osd.4, which belongs to no host", "purge osd.6, which belongs to no host"}, tgt.Converge(cephOSD(), "ensure = \"absent\"\nids = [4, 6]"))
	require.Empty(t, tgt.Converge(cephInit(), labBase))
}

func TestLabInstallationThatIsCutOff(t *testing.T) {
	t.Parallel()
	tgt := labOf(t, 3, nil)
	tgt.Fault(lab.Fault{Kind: "die", Target: "pve2", Phase: "ceph:install"})
	const args = `repository = "no-subscription"`
	changes, err := tgt.Plan(cephInstall(), args)
	require.NoError(t, err)
	require.Error(t, tgt.Apply(changes))
	got := tgt.Converge(cephInstall(), args)
	require.Contains(t, got, "finish the installation of Ceph squid on pve2")
}

func TestLabInstallationFromARepositoryThatRefuses(t *testing.T) {
	t.Parallel()
	tgt := labOf(t, 1, nil)
	changes, err := tgt.Plan(cephInstall(), `repository = "enterprise"`)
	require.NoError(t, err)
	require.ErrorContains(t, tgt.Apply(changes), `set repository = "no-subscription"`)
	require.NotEmpty(t, tgt.Warnings())
}

func TestLabPoolsAndTheirDisks(t *testing.T) {
	t.Parallel()
	tgt := labSmall(t, nil)
	t.Run("failing", func(t *testing.T) { poolsThatFailWithExitStatusZero(t, tgt) })
	t.Run("removal", func(t *testing.T) { osdsAndDaemonsAreTakenAway(t, tgt) })
	t.Run("kinds", func(t *testing.T) { poolsOfEveryKind(t, tgt) })
}

func poolsThatFailWithExitStatusZero(t *testing.T, tgt *labkit.Target) {
	t.Helper()
	tgt.Fault(lab.Fault{Kind: "fail", Target: "pve1", Phase: "ceph:pool", Value: "mon_command failed"})
	changes, err := tgt.Plan(cephPool(), `name = "new"`)
	require.NoError(t, err)
	require.ErrorContains(t, tgt.Apply(changes), "there is no pool new afterwards")
	tgt.Converge(cephPool(), `name = "new"`)
	tgt.Converge(cephMDS(), `nodes = ["pve1", "pve2"]`)
	tgt.Fault(lab.Fault{Kind: "fail", Target: "pve1", Phase: "ceph:fs", Value: "mon_command failed"})
	changes, err = tgt.Plan(cephFS(), `name = "cephfs"`)
	require.NoError(t, err)
	require.ErrorContains(t, tgt.Apply(changes), "there is no CephFS cephfs afterwards")
}

func poolsOfEveryKind(t *testing.T, tgt *labkit.Target) {
	t.Helper()
	tgt.Converge(cephOSD(), on("pve1", "B", `class = "nvme"`)+on("pve2", "B", `class = "nvme"`)+on("pve3", "B", `class = "nvme"`))
	got := tgt.Converge(cephPool(), "name = \"fast\"\ncrush_rule = \"nvme_only\"\ndevice_class = \"nvme\"\ntarget_size_ratio = 0.2\nstorage = true")
	require.Equal(t, []string{"make CRUSH rule nvme_only", "make pool fast", "register storage fast"}, got)
	tgt.Converge(cephPool(), "name = \"ec\"\nstorage = true\nerasure_coding {\n  k = 2\n  m = 1\n}")
	require.Contains(t, tgt.Must("pve2", "cat /etc/pve/storage.cfg"), "data-pool ec-data")
	require.Equal(t, []string{"change pool fast"}, tgt.Converge(cephPool(), "name = \"fast\"\ntarget_size = \"1T\"\npg_num_min = 16\nautoscale = \"warn\""))
	tgt.Converge(cephPool(), "name = \"temp\"")
	tgt.Converge(cephPool(), "name = \"temp\"\nensure = \"absent\"\ndestroy = \"temp\"")
	_, err := tgt.Plan(cephPool(), "name = \"fast\"\nensure = \"absent\"\ndestroy = \"fast\"")
	require.ErrorContains(t, err, "storage fast uses it")
}

func osdsAndDaemonsAreTakenAway(t *testing.T, tgt *labkit.Target) {
	t.Helper()
	tgt.Converge(cephOSD(), on("pve1", "B"))
	got := tgt.Converge(cephOSD(), "ensure = \"absent\"\nids = [3]\ncleanup = true")
	require.Equal(t, []string{"remove osd.3 from pve1, when its data is elsewhere"}, got)
	require.Equal(t, []string{"make an OSD of ata-ACME_pve1-B on pve1"}, tgt.Converge(cephOSD(), on("pve1", "B")), "the disk is clean")
	_, err := tgt.Plan(cephOSD(), "ensure = \"absent\"\nids = [1]")
	require.ErrorContains(t, err, "would find 2 places")
	tgt.Converge(cephMgr(), "ensure = \"absent\"\nnodes = [\"pve1\", \"pve2\"]")
	_, err = tgt.Plan(cephMon(), "ensure = \"absent\"\nnodes = [\"pve1\"]")
	require.ErrorContains(t, err, "2 monitors would be left")
}

func flagsAreSet(t *testing.T, tgt *labkit.Target) {
	t.Helper()
	changes, err := tgt.Plan(cephFlag(), "node = \"pve2\"\ntemporary = true")
	require.NoError(t, err)
	require.NoError(t, tgt.Apply(changes))
	require.Contains(t, tgt.Must("pve1", "ceph osd dump -f json"), `"pve2":["noout"]`)
	undo := changes[0].Undo
	r, err := tgt.Conns[undo.Host].Run(t.Context(), undo.Command)
	require.NoError(t, err)
	require.Zero(t, r.Exit, "%s", r.Stderr)
	require.NotContains(t, tgt.Must("pve1", "ceph osd dump -f json"), `"pve2":["noout"]`)
	tgt.Converge(cephFlag(), `flag = "norebalance"`)
	tgt.Converge(cephFlag(), "flag = \"norebalance\"\nensure = \"absent\"")
	tgt.Converge(cephFlag(), `flag = "pause"`)
	tgt.Converge(cephFlag(), "flag = \"pause\"\nensure = \"absent\"")
}

// A Ceph that hangs is a closed gate, not a wait for ever; one node that hangs is passed by.
func aCephThatHangs(t *testing.T, tgt *labkit.Target) {
	t.Helper()
	tgt.Fault(lab.Fault{Kind: "ceph-hang", Target: "pve1"})
	require.Empty(t, tgt.Converge(cephPool(), `name = "vm"`), "another monitor's node answers")
	tgt.Fault(lab.Fault{Kind: "ceph-hang", Target: "pve2"})
	tgt.Fault(lab.Fault{Kind: "ceph-hang", Target: "pve3"})
	_, err := tgt.Plan(cephInit(), labBase)
	require.ErrorContains(t, err, "did not answer")
	require.ErrorContains(t, err, "timeout 15 ceph")
}

func TestLabMonitorsThatAreMadeAtTheSameTime(t *testing.T) {
	t.Parallel()
	tgt := labOf(t, 3, nil)
	tgt.Converge(cephInit(), "network = \"10.0.2.0/24\"\nrepository = \"no-subscription\"\nmons = [\"pve1\"]\nmgrs = [\"pve1\"]")
	changes, err := tgt.Plan(cephMon(), `nodes = ["pve1", "pve2", "pve3"]`)
	require.NoError(t, err)
	require.Len(t, changes, 2)
	other := make(chan string, 1)
	go func() { other <- tgt.Must("pve3", "pveceph mon create; true") }()
	require.NoError(t, tgt.Apply(changes))
	<-other
	require.Empty(t, tgt.Converge(cephMon(), `nodes = ["pve1", "pve2", "pve3"]`))
}

func TestLabNodeThatGoesDownWhileItsOSDIsMade(t *testing.T) {
	t.Parallel()
	tgt := labSmall(t, nil)
	tgt.Fault(lab.Fault{Kind: "power-off", Target: "pve2", Match: "pveceph osd create"})
	args := on("pve2", "B")
	changes, err := tgt.Plan(cephOSD(), args)
	require.NoError(t, err)
	require.Error(t, tgt.Apply(changes))
	heal(t, tgt)
	tgt.Eventually("pve2", "[ $(stat -c %a /etc/pve/local) = 755 ]")
	tgt.Eventually("pve1", `ceph -s -f json | grep -q '"num_up_osds":3'`)
	got := tgt.Converge(cephOSD(), args)
	require.Len(t, got, 1)
}

func TestLabOnProxmox8(t *testing.T) {
	t.Parallel()
	tgt := labSmall(t, func(s *lab.Spec) {
		for i := range s.Hosts {
			s.Hosts[i].PVE = "8.4.1"
		}
	})
	require.Contains(t, tgt.Must("pve1", "cat /etc/apt/sources.list.d/ceph.list"), "ceph-squid")
}
