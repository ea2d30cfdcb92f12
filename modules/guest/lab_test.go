package guest_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/lab"
	labguest "github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/modules/guest"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// formed is a cluster of three nodes with guests on the first.
func formed(t *testing.T, guests ...labguest.Spec) *labkit.Target {
	t.Helper()
	target := labkit.New(t, 3, func(s *lab.Spec) {
		for i := range s.Hosts {
			s.Hosts[i].MemoryMiB, s.Hosts[i].Groups = 32<<10, []string{"fast", "fast/fast"}
		}
		s.Hosts[0].Bridges = []string{"vmbr7"}
		s.Hosts = append(s.Hosts, lab.HostSpec{Name: "nas", Address: "192.0.2.60"})
	})
	target.Form()
	target.Must("pve1", `printf '\nlvmthin: fast\n\tthinpool fast\n\tvgname fast\n\tcontent images,rootdir\n\nnfs: isos\n\tserver 192.0.2.60\n\texport /iso\n\tpath /mnt/pve/isos\n\tcontent iso\n' >>/etc/pve/storage.cfg`)
	for _, g := range guests {
		require.NoError(t, target.Lab.AddGuest(t.Context(), "pve1", g))
	}
	return target
}

func vm(id int, disks ...labguest.Disk) labguest.Spec {
	return labguest.Spec{ID: id, Name: "web", MemoryMiB: 1024, Running: true, Disks: disks}
}

func shown(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

func modules(t *testing.T) (migrate, moveDisk module.Module) {
	t.Helper()
	return labkit.Only(t, guest.All(), "migrate"), labkit.Only(t, guest.All(), "move_disk")
}

// runs is where a guest runs.
func runs(target *labkit.Target, id int) string {
	return strings.Join(target.Lab.Guests().Where(id), " ")
}

func TestLabGuestsMove(t *testing.T) {
	t.Parallel()
	local := labguest.Disk{Storage: "local-lvm", SizeGiB: 4}
	stopped := labguest.Spec{ID: 103, Name: "spare", Disks: []labguest.Disk{local}, Tags: []string{"prod"}}
	target := formed(t, vm(100), vm(101, local), stopped, labguest.Spec{ID: 201, Type: "lxc", Name: "box", Running: true, Tags: []string{"prod"}, Pool: "web", Disks: []labguest.Disk{local}},
		labguest.Spec{ID: 104, Template: true, Tags: []string{"prod"}})
	migrate, _ := modules(t)
	changes, err := target.Plan(migrate, "guests = [101]\ntarget = \"pve2\"\nwith_local_disks = true\ntarget_storages = { \"local-lvm\" = \"fast\" }")
	require.NoError(t, err)
	require.Equal(t, []string{"move vm 101 (web) from pve1 to pve2, live"}, testkit.Summaries(changes))
	require.Equal(t, `{"node":"pve2","how":"live, 1 GiB of memory and 4 GiB of disks","takes":"about 55s at 110 MiB/s"}`, shown(t, changes[0].After))
	require.NoError(t, target.Apply(changes))
	require.Equal(t, "pve2", runs(target, 101))
	require.Contains(t, target.Must("pve2", "qm config 101"), "scsi0: fast:vm-101-disk-0,size=4G")

	// Tags name guests wherever they are; templates stay, and what is there already is no change.
	require.Equal(t, []string{"move vm 103 (spare) from pve1 to pve2, offline", "move ct 201 (box) from pve1 to pve2, restart"},
		target.Converge(migrate, "with_tags = [\"prod\"]\ntarget = \"pve2\"\nrestart = true"))
	require.Equal(t, "pve2", runs(target, 201))
	require.Empty(t, runs(target, 103))
	require.Contains(t, target.Warnings()[0], "vm 104 (guest104) is a template and stays")
	require.Equal(t, []string{"move ct 201 (box) from pve2 to pve3, restart"}, target.Converge(migrate, "pool = \"web\"\ntarget = \"pve3\"\nrestart = true"))
	require.Equal(t, []string{"move vm 100 (web) from pve1 to pve2, live"}, target.Converge(migrate, "guests = [100, 101]\ntargets = { \"100\" = \"pve2\" }\ntarget = \"pve2\""))

	// A node is emptied; what is on it later is moved again.
	require.Len(t, target.Converge(migrate, "from = \"pve2\"\ntarget = \"pve3\"\nwith_local_disks = true\nparallel = 2"), 3)
	require.NotContains(t, target.Must("pve1", "cat /etc/pve/.vmlist"), `"node": "pve2"`)
	target.Must("pve3", "qm migrate 100 pve2 --online")
	require.Len(t, target.Converge(migrate, "from = \"pve2\"\ntarget = \"pve3\""), 1)
}

// A guest on a node that --limit leaves out is not touched, and none is brought to such a node.
func TestLabGuestsOfNodesThatAreLeftOut(t *testing.T) {
	t.Parallel()
	target := formed(t, vm(100, labguest.Disk{Storage: "local-lvm", SizeGiB: 4}), vm(101))
	target.Must("pve1", "qm migrate 101 pve2 --online")
	migrate, moveDisk := modules(t)
	target.Limit = []string{"pve1", "pve3"}
	require.Equal(t, []string{"move vm 100 (web) from pve1 to pve3, live"}, target.Converge(migrate, "guests = [100, 101]\ntarget = \"pve3\"\nwith_local_disks = true"))
	require.Equal(t, "pve2", runs(target, 101))
	require.Contains(t, target.Warnings(), "pve2: vm 101 (web) stays as it is: pve2 is left out by --limit")
	require.Empty(t, target.Converge(migrate, "guests = [100]\ntarget = \"pve2\"\nwith_local_disks = true"))
	require.Contains(t, target.Warnings(), "pve3: vm 100 (web) stays as it is: pve2 is left out by --limit")
	target.Limit = []string{"pve1", "pve2"}
	require.Empty(t, target.Converge(moveDisk, "guest = 100\ndisk = \"scsi0\"\nstorage = \"fast\""))
	require.Contains(t, target.Warnings(), "pve3: vm 100 (web) stays as it is: pve3 is left out by --limit")
}

func TestLabGuestsThatCannotMoveAreRefusedInThePlan(t *testing.T) {
	t.Parallel()
	local := labguest.Disk{Storage: "local-lvm", SizeGiB: 4}
	with := func(id int, options map[string]string) labguest.Spec {
		g := vm(id)
		g.Options = options
		return g
	}
	locked, big, template := vm(102), vm(107), vm(108)
	locked.Lock, big.MemoryMiB = "backup", 20<<10
	template.Running, template.Template = false, true
	target := formed(t, vm(100), vm(101, local), locked, with(103, map[string]string{"hostpci0": "0000:01:00"}), with(104, map[string]string{"ide2": "local:iso/x.iso,media=cdrom"}),
		with(105, map[string]string{"net0": "virtio,bridge=vmbr7"}), with(106, map[string]string{"cpu": "host"}), big, template, labguest.Spec{ID: 201, Type: "lxc", Running: true})
	target.Fault(lab.Fault{Kind: "cpu", Target: "pve2", Value: "Other CPU"})
	require.NoError(t, target.Lab.AddGuest(t.Context(), "pve2", labguest.Spec{ID: 300, MemoryMiB: 16 << 10, Running: true}))
	migrate, _ := modules(t)
	for id, want := range map[string]string{
		"101": "local-lvm:vm-101-disk-0 (4 GiB) is on the local storage local-lvm",
		"102": "it is locked (backup): a backup (vzdump) is running, or one was cut off",
		"103": "it uses devices of its node: hostpci0",
		"104": "ide2 holds local:iso/x.iso, which only pve1 has",
		"105": "pve2 has no bridge vmbr7",
		"106": `pve2 has "Other CPU" where pve1 has "Lab CPU"`,
		"107": "pve2 has 16 GiB of 32 GiB left beside the guests that it runs, 4 GiB short",
		"108": "it is a template",
		"201": "it is a running container: containers cannot move live",
		"999": "guest 999 does not exist",
	} {
		_, err := target.Plan(migrate, "guests = ["+id+"]\ntarget = \"pve2\"")
		require.ErrorContains(t, err, want)
		var refusal *module.Refusal
		require.ErrorAs(t, err, &refusal)
		require.NotEmpty(t, refusal.Override)
	}
	_, err := target.Plan(migrate, "from = \"pve1\"\ntarget = \"pve2\"")
	var all module.Refusals
	require.ErrorAs(t, err, &all)
	require.Len(t, all, 8, "all of them at once, the template left out")

	// Newer to older is refused, a node that is away too.
	target.Fault(lab.Fault{Kind: "version", Target: "pve3", Value: "8.4.1"})
	_, err = target.Plan(migrate, "guests = [100]\ntarget = \"pve3\"")
	require.ErrorContains(t, err, "pve3 runs an older version than pve1")
	target.Fault(lab.Fault{Kind: "power-off", Target: "pve3"})
	target.Eventually("pve1", `grep -q '"pve3": { "id": 3, "online": 0' /etc/pve/.members`)
	_, err = target.Plan(migrate, "guests = [100]\ntarget = \"pve3\"")
	require.ErrorContains(t, err, "pve3 is offline")
}

// What a task says of itself is not believed: where the guest is counts.
func TestLabMigrationsThatMislead(t *testing.T) {
	t.Parallel()
	migrate, _ := modules(t)
	const src = "guests = [100]\ntarget = \"pve2\"\nmove_timeout = \"1m\""
	for _, tt := range []struct {
		name    string
		fault   lab.Fault
		want    []string // in the error; none means that it succeeds
		warning string
		runs    string
	}{
		{"fails in the middle", lab.Fault{Kind: "fail", Phase: "migrate:transfer", Value: "the channel broke"}, []string{"qm migrate: exit 255: online migrate failure - the channel broke", "vm 100 (web) runs on pve1 as before"}, "", "pve1"},
		{"moves though its task fails", lab.Fault{Kind: "fail", Phase: "migrate:moved", Value: "tunnel closed"}, nil, "has moved to pve2 and runs as before, although its task failed: qm migrate: exit 255: tunnel closed", "pve2"},
		{"ends well and moves nothing", lab.Fault{Kind: "lie", Match: "qm migrate"}, []string{"the task ended well, and yet:", "vm 100 (web) runs on pve1 as before"}, "", "pve1"},
		{"is killed", lab.Fault{Kind: "die", Phase: "migrate:transfer"}, []string{"on pve1 and locked (migrate)", "qm unlock 100 on pve1"}, "", "pve1"},
		{"loses its target", lab.Fault{Kind: "power-off", Target: "pve2", After: 15 * time.Second}, []string{"online migrate failure - aborting", "vm 100 (web) runs on pve1 as before"}, "", "pve1"},
		{"never ends", lab.Fault{Kind: "guest-dirty", Value: "100"}, []string{"vm 100 (web)", "Now "}, "", "pve1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target := formed(t, vm(100))
			if tt.name == "never ends" {
				detach := target.OnDetach
				target.OnDetach = func(host string, j module.Job) (r0 transport.Result, err error) {
					r0, err = detach(host, j)
					if err != nil {
						err = errors.New("the job still runs after 1m")
					}
					return r0, err
				}
			}
			changes, err := target.Plan(migrate, src)
			require.NoError(t, err)
			if tt.fault.Kind == "power-off" { // while it is on its way, which it is until then
				target.Lab.Guests().SetDirty(100, true)
			}
			target.Fault(tt.fault)
			err = target.Apply(changes)
			for _, want := range tt.want {
				require.ErrorContains(t, err, want)
			}
			if len(tt.want) == 0 {
				require.NoError(t, err)
				require.Contains(t, strings.Join(target.Warnings(), "\n"), tt.warning)
				again, err := target.Plan(migrate, src)
				require.NoError(t, err)
				require.Empty(t, again)
			}
			require.Equal(t, tt.runs, runs(target, 100))
		})
	}
}

func TestLabHAGuestsGoThroughTheirManager(t *testing.T) {
	t.Parallel()
	target := formed(t, vm(100), vm(101), labguest.Spec{ID: 201, Type: "lxc", Running: true, Disks: []labguest.Disk{{Storage: "local-lvm", SizeGiB: 1}}})
	migrate, _ := modules(t)
	for _, sid := range []string{"vm:100", "vm:101", "ct:201"} {
		target.Must("pve1", "ha-manager add "+sid)
	}
	target.Eventually("pve1", `[ "$(grep -o '"state":"started"' /etc/pve/ha/manager_status | wc -l)" = 3 ]`)
	require.Equal(t, []string{"move vm 100 (web) from pve1 to pve2, live through the HA manager"}, target.Converge(migrate, "guests = [100]\ntarget = \"pve2\""))
	require.Equal(t, "pve2", runs(target, 100))
	_, err := target.Plan(migrate, "guests = [201]\ntarget = \"pve2\"\nrestart = true")
	require.ErrorContains(t, err, "with_local_disks = true", "the HA manager would copy the disk unasked")
	require.Len(t, target.Converge(migrate, "guests = [201]\ntarget = \"pve2\"\nrestart = true\nwith_local_disks = true"), 1)
	require.Equal(t, "pve2", runs(target, 201))

	// A move that fails brings the guest back; why is in the journals.
	target.Fault(lab.Fault{Kind: "fail", Target: "pve1", Phase: "migrate:transfer:101", Value: "the channel broke"})
	changes, err := target.Plan(migrate, "guests = [101]\ntarget = \"pve2\"")
	require.NoError(t, err)
	err = target.Apply(changes)
	require.ErrorContains(t, err, "the HA manager tried and failed")
	require.ErrorContains(t, err, "service 'vm:101' - migration failed")
	require.ErrorContains(t, err, "the migration's task: online migrate failure - the channel broke")

	// What the manager refuses it only writes down.
	target.Must("pve1", "ha-manager rules add resource-affinity apart --affinity negative --resources vm:100,vm:101")
	_, err = target.Plan(migrate, "guests = [101]\ntarget = \"pve2\"")
	require.ErrorContains(t, err, "vm:100 keeps it away by a rule (resource-affinity)")
	require.NoError(t, target.Apply(nil))

	target.Must("pve1", "ha-manager set vm:101 --state ignored")
	target.Eventually("pve1", `! grep -q '"vm:101"' /etc/pve/ha/manager_status`)
	changes, err = target.Plan(migrate, "guests = [101]\ntarget = \"pve3\"")
	require.NoError(t, err)
	require.Equal(t, []string{"move vm 101 (web) from pve1 to pve3, live"}, testkit.Summaries(changes), "ignored guests are their own masters")
}

func TestLabHARefusalsComeFromTheJournal(t *testing.T) {
	t.Parallel()
	target := formed(t, vm(100))
	migrate, _ := modules(t)
	target.Must("pve1", "ha-manager add vm:100")
	target.Eventually("pve1", `grep -q '"state":"started"' /etc/pve/ha/manager_status`)
	changes, err := target.Plan(migrate, "guests = [100]\ntarget = \"pve3\"")
	require.NoError(t, err)
	// The target goes away before the command is on its way to the master.
	target.Lab.Machine("pve1").BeforeExec(func(ctx context.Context, p *machine.Proc) (int, bool) {
		if strings.Contains(strings.Join(p.Argv, " "), "ha-manager migrate") {
			target.Lab.Machine("pve3").PowerOff()
			_ = p.Machine.Sleep(ctx, 15*time.Second) // until the others know
		}
		return 0, false
	})
	target.OnDetach = func(string, module.Job) (transport.Result, error) {
		return transport.Result{}, errors.New("HA guests need no job")
	}
	err = target.Apply(changes)
	require.ErrorContains(t, err, "the HA manager took the command and refused it: crm command error - node not online: migrate vm:100 pve3")
	require.Equal(t, "pve1", runs(target, 100))
}

func TestLabDisksMove(t *testing.T) {
	t.Parallel()
	target := formed(t, vm(100, labguest.Disk{Storage: "local-lvm", SizeGiB: 4}, labguest.Disk{Storage: "local-lvm", SizeGiB: 2}),
		labguest.Spec{ID: 201, Type: "lxc", Running: true, Disks: []labguest.Disk{{Storage: "local-lvm", SizeGiB: 1}}})
	_, moveDisk := modules(t)
	disk := func(words ...string) string { return "guest = 100\n" + strings.Join(words, "\n") }
	require.Equal(t, []string{"move scsi0 of vm 100 (web) from local-lvm to fast"}, target.Converge(moveDisk, disk(`disk = "scsi0"`, `storage = "fast"`)))
	require.Contains(t, target.Must("pve1", "qm config 100"), "unused0: local-lvm:vm-100-disk-0")
	require.Contains(t, target.Logs()[len(target.Logs())-1], "the old volume local-lvm:vm-100-disk-0 stays as unused0")
	target.Converge(moveDisk, disk(`disk = "scsi1"`, `storage = "fast"`, "delete_source = true"))
	require.NotContains(t, target.Must("pve1", "qm config 100"), "unused1")
	require.Equal(t, "pve1", runs(target, 100), "it has been running all the time")

	for want, src := range map[string]string{
		"vm 100 (web) has no disk scsi9":     disk(`disk = "scsi9"`, `storage = "fast"`),
		"storage nowhere does not exist":     disk(`disk = "scsi0"`, `storage = "nowhere"`),
		"storage isos does not take content": disk(`disk = "scsi0"`, `storage = "isos"`),
		"the container runs":                 "guest = 201\ndisk = \"rootfs\"\nstorage = \"fast\"",
		"guest 999 does not exist":           "guest = 999\ndisk = \"scsi0\"\nstorage = \"fast\"",
	} {
		_, err := target.Plan(moveDisk, src)
		require.ErrorContains(t, err, want)
	}
	ct := "guest = 201\ndisk = \"rootfs\"\nstorage = \"fast\"\nrestart = true\ndelete_source = true"
	changes, err := target.Plan(moveDisk, ct)
	require.NoError(t, err)
	require.Equal(t, []string{"shut ct 201 (guest201) down while rootfs is copied", "move rootfs of ct 201 (guest201) from local-lvm to fast", "start ct 201 (guest201)"}, testkit.Summaries(changes))
	require.Equal(t, []string{changes[0].ID}, changes[2].Undoes)
	require.NoError(t, target.Apply(changes))
	again, err := target.Plan(moveDisk, ct)
	require.NoError(t, err)
	require.Empty(t, again)
	require.Equal(t, "pve1", runs(target, 201))

	// A copy that breaks leaves the disk where it was.
	target.Fault(lab.Fault{Kind: "fail", Phase: "move-disk:copying", Value: "no space left"})
	changes, err = target.Plan(moveDisk, disk(`disk = "scsi0"`, `storage = "local-lvm"`))
	require.NoError(t, err)
	err = target.Apply(changes)
	require.ErrorContains(t, err, "qm move-disk 100: exit 255: storage migration failed: no space left")
	require.ErrorContains(t, err, "scsi0 is still fast:vm-100-disk-0")
}
