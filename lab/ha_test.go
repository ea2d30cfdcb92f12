package lab_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/guest"
)

// haLab is a cluster of three nodes with a machine on pve1 that the HA manager looks after.
func haLab(t *testing.T) *lab.Lab {
	t.Helper()
	spec := threeNodes()
	spec.Speed = 50
	l := start(t, spec)
	_, errs, _ := sh(t, l, "pve1", "pvecm create lab")
	require.Empty(t, errs)
	eventually(t, l, "pve1 is writable", writable(l, "pve1"))
	for _, node := range []string{"pve2", "pve3"} {
		out, errs, _ := sh(t, l, node, joinScript(t, l, ""))
		require.Contains(t, out, "successfully added", errs)
	}
	eventually(t, l, "pve1 sees all", func() bool { v, _ := l.Node("pve1"); return len(v.Members) == 3 && v.Writable })
	require.NoError(t, l.AddGuest(t.Context(), "pve1", guest.Spec{ID: 100, Name: "web", Disks: []guest.Disk{{Storage: "local-lvm", SizeGiB: 1}}}))
	_, errs, code := sh(t, l, "pve1", "ha-manager add vm:100")
	require.Zero(t, code, errs)
	eventually(t, l, "the machine runs", haLine(t, l, "pve1", "service vm:100 (pve1, started)"))
	return l
}

// haLine reports whether `ha-manager status` shows a line.
func haLine(t *testing.T, l *lab.Lab, node, line string) func() bool {
	t.Helper()
	return func() bool {
		out, _, _ := sh(t, l, node, "ha-manager status")
		return strings.Contains(out, line+"\n")
	}
}

func TestHAManagerRunsAndRecoversRealGuests(t *testing.T) {
	l := haLab(t)
	out, _, _ := sh(t, l, "pve1", "qm status 100")
	require.Equal(t, "status: running\n", out)
	require.True(t, l.Guests().Running("pve1", "vm:100"))

	began := l.Clock().Elapsed()
	_, err := l.AddFault(lab.Fault{Kind: "power-off", Target: "pve1"})
	require.NoError(t, err)
	eventually(t, l, "the machine runs elsewhere", func() bool { return l.Guests().Running("pve2", "vm:100") || l.Guests().Running("pve3", "vm:100") })
	took := l.Clock().Elapsed() - began
	require.Greater(t, took, 115*time.Second)
	require.Less(t, took, 360*time.Second, "also when the dead node was the master")

	// The dead node's timestamp is as old as it looks in the model, whatever the lab's speed.
	status, _, _ := sh(t, l, "pve2", "cat /etc/pve/nodes/pve1/lrm_status; echo; date +%s")
	_, stamp, found := strings.Cut(status, `"timestamp":`)
	require.True(t, found)
	number, now, _ := strings.Cut(stamp, "}\n")
	last, err := strconv.Atoi(number)
	require.NoError(t, err)
	clock, err := strconv.Atoi(strings.TrimSpace(now))
	require.NoError(t, err)
	require.GreaterOrEqual(t, clock-last, int(took.Seconds())-15)
}

func TestFaultsOfTheHAStack(t *testing.T) {
	l := haLab(t)
	id, err := l.AddFault(lab.Fault{Kind: "ha-ignore", Value: "node-maintenance"})
	require.NoError(t, err)
	_, errs, code := sh(t, l, "pve2", "ha-manager crm-command node-maintenance enable pve1")
	require.Zero(t, code, errs)
	eventually(t, l, "the command is consumed", func() bool {
		out, _, code := sh(t, l, "pve2", "cat /etc/pve/ha/crm_commands")
		return code == 0 && out == ""
	})
	require.NoError(t, l.Clock().Sleep(t.Context(), 30*time.Second))
	out, _, _ := sh(t, l, "pve2", "cat /etc/pve/ha/manager_status")
	require.NotContains(t, out, "maintenance", "nobody heard of it")
	require.NoError(t, l.ClearFault(id))

	_, err = l.AddFault(lab.Fault{Kind: "fail", Target: "pve1", Phase: "ha:migrate", Value: "storage 'local-lvm' is not online"})
	require.NoError(t, err)
	sh(t, l, "pve1", "ha-manager migrate vm:100 pve3")
	eventually(t, l, "the migration fails", func() bool {
		out, _, _ := sh(t, l, "pve1", "journalctl -u pve-ha-lrm")
		return strings.Contains(out, "storage 'local-lvm' is not online") && strings.Contains(out, "service vm:100 not moved (migration error)")
	})
	eventually(t, l, "the machine is where it was", haLine(t, l, "pve1", "service vm:100 (pve1, started)"))

	boot := l.Machine("pve1").BootID()
	_, err = l.AddFault(lab.Fault{Kind: "ha-hang", Target: "pve1", Value: "lrm"})
	require.NoError(t, err)
	eventually(t, l, "the watchdog resets the node", func() bool { return l.Machine("pve1").BootID() != boot })

	_, err = l.AddFault(lab.Fault{Kind: "ha-dead", Target: "pve2", Value: "both"})
	require.ErrorContains(t, err, `"both" is neither lrm nor crm`)
	_, err = l.AddFault(lab.Fault{Kind: "watchdog-dead", Target: "pve3"})
	require.NoError(t, err)
	out, _, _ = sh(t, l, "pve3", "systemctl is-active watchdog-mux")
	require.Equal(t, "failed\n", out)
}
