package cluster

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/lab"
	labguest "github.com/pxrun/pxrun/lab/guest"
	"github.com/stretchr/testify/require"
)

func TestRoomOfANode(t *testing.T) {
	t.Parallel()
	const status = "Name         Type     Status           Total            Used       Available        %\n"
	const df = "Filesystem 1-blocks Used Available Capacity Mounted on\n"
	for name, test := range map[string]struct {
		read, text string
		rc         int
		want       []string
	}{
		"all is well":        {"storages", status + "local dir active 1000 500 500 50.00%\nold nfs disabled 0 0 0 N/A\n", 0, nil},
		"a full storage":     {"storages", status + "local dir active 1000 960 40 96.00%\n", 0, []string{"storages: storage local is 96 % full"}},
		"one that is away":   {"storages", status + "san nfs inactive 0 0 0 0.00%\n", 0, []string{"storages: storage san is inactive"}},
		"one that hangs":     {"storages", "", 124, []string{"storages: pvesm status does not answer: a storage hangs"}},
		"it fails":           {"storages", "no quorum\n", 2, []string{"storages: pvesm status: no quorum"}},
		"room enough":        {"room", df + "/dev/a 9 9 90000000000 9% /\n/dev/b 9 9 300000000 9% /boot\n", 0, nil},
		"/boot is full":      {"room", df + "/dev/a 9 9 90000000000 9% /\n/dev/b 9 9 104857600 9% /boot\n", 0, []string{"space: 100 MiB are free at /boot"}},
		"no /boot, full /":   {"room", df + "/dev/a 9 9 1048576 9% /\n/dev/a 9 9 1048576 9% /\n", 0, []string{"space: 1 MiB are free at /"}},
		"no ZFS":             {"zfs", "", 0, nil},
		"sound pools":        {"zfs", "rpool\t900G\t10G\t890G\t-\t-\t0%\t1%\t1.00x\tONLINE\t-\n", 0, nil},
		"a degraded pool":    {"zfs", "rpool\t900G\t10G\t890G\t-\t-\t0%\t1%\t1.00x\tDEGRADED\t-\n", 0, []string{"zfs: the pool rpool is DEGRADED"}},
		"a full pool":        {"zfs", "rpool\t900G\t10G\t890G\t-\t-\t0%\t97%\t1.00x\tONLINE\t-\n", 0, []string{"zfs: the pool rpool is 97 % full"}},
		"ZFS does not speak": {"zfs", "", 124, []string{"zfs: zpool list: no answer within its time limit"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := readyNode{host: "pve1", answers: map[string]frame.Answer{test.read: {Text: []byte(test.text), RC: test.rc}}}
			var got []string
			for _, p := range n.judge(preflightArgs{Full: 95}) {
				require.NotEmpty(t, p.want)
				require.NotEmpty(t, p.look)
				got = append(got, p.check+": "+p.saw)
			}
			require.Equal(t, test.want, got)
		})
	}
}

// Before work on a cluster that runs, its nodes have room, and its guests have been backed up if that is asked for.
func TestPreflightOfARunningCluster(t *testing.T) {
	t.Parallel()
	tgt := labkit.New(t, 3, nil)
	tgt.Form()
	m := labkit.Only(t, All(), "preflight")
	plan := func(src string) string {
		_, err := tgt.Plan(m, "for = \"running\"\n"+src)
		if err == nil {
			return ""
		}
		return err.Error()
	}
	require.Empty(t, plan(""))

	tgt.Fault(lab.Fault{Kind: "boot-full", Target: "pve2"})
	require.Contains(t, plan(""), "pve2: refused: preflight space")
	require.Empty(t, plan(`ignore = ["space"]`))
	require.Contains(t, strings.Join(tgt.Warnings(), "\n"), "pve2: space: ")
	require.NoError(t, tgt.Lab.ClearFault(0))

	require.NoError(t, tgt.Lab.AddGuest(t.Context(), "pve2", labguest.Spec{ID: 100, Running: true, Disks: []labguest.Disk{{Storage: "local-lvm", SizeGiB: 1}}}))
	require.NoError(t, tgt.Lab.AddGuest(t.Context(), "pve2", labguest.Spec{ID: 101, Template: true}))
	require.Empty(t, plan(""), "backups were not asked for")
	require.Contains(t, plan(`backups_within = "26h"`), "guests without a recent backup: 100 (none)\n")
	tgt.Must("pve2", "pvesm set local --content iso,vztmpl,backup; vzdump 100 --storage local")
	require.Empty(t, plan(`backups_within = "26h"`))
}
