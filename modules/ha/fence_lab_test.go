package ha_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/bmc"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/modules/ha"
	"github.com/stretchr/testify/require"
)

// guarded is a cluster whose nodes have management controllers; on the third run the guests 100 and 101.
func guarded(t *testing.T) *labkit.Target {
	t.Helper()
	target := labkit.New(t, 3, func(s *lab.Spec) {
		s.Speed = 20 // a node's death is told by the times of many daemons
		for i := range s.Hosts {
			s.Hosts[i].BMC = &bmc.Spec{Address: fmt.Sprintf("198.51.100.%d", 11+i), User: "fence", Password: labkit.Password}
			s.Hosts[i].Packages = []string{"ipmitool"}
		}
	})
	target.Form()
	for _, g := range []guest.Spec{{ID: 100, Running: true}, {ID: 101, Running: true}} {
		require.NoError(t, target.Lab.AddGuest(t.Context(), "pve3", g))
	}
	target.Eventually("pve1", "grep -q '/101:' /etc/pve/.rrd")
	return target
}

const device = "address = \"198.51.100.13\"\nuser = \"fence\"\npassword = secret.root\n"

// on makes a target of one host, as the engine does for modules that run on each.
func on(target *labkit.Target, name string) *labkit.Target {
	one := &testkit.Target{TB: target.TB, Whole: target.Whole, In: target.In, Conns: target.Conns, RunID: target.RunID, Named: target.Named, OnDetach: target.OnDetach}
	one.Of, _ = target.Whole.Host(name)
	return &labkit.Target{Target: one, Lab: target.Lab}
}

func TestLabFenceDevice(t *testing.T) {
	t.Parallel()
	target := guarded(t)
	three := on(target, "pve3")
	fence := labkit.Only(t, ha.All(), "fence_device")
	require.Empty(t, three.Converge(fence, device))

	_, err := three.Plan(fence, device+`power = "off"`)
	require.ErrorContains(t, err, `confirm = "pve3"`)
	_, err = three.Plan(fence, device+"power = \"off\"\nconfirm = \"pve3\"")
	require.ErrorContains(t, err, "vm:100, vm:101 on it")
	require.Equal(t, []string{"cut the power of pve3"}, three.Converge(fence, device+"power = \"off\"\nconfirm = \"pve3\"\nguests = \"lose\""))
	require.False(t, target.Lab.Machine("pve3").Powered())
	require.Equal(t, []string{"switch the power of pve3 on"}, three.Converge(fence, device+`power = "on"`))
	target.Eventually("pve1", `[ "$(grep -c '"online": 1' /etc/pve/.members)" = 3 ]`)

	_, err = three.Plan(fence, "address = \"198.51.100.13\"\nuser = \"nobody\"\npassword = secret.root")
	require.ErrorContains(t, err, "Unable to establish IPMI v2 / RMCP+ session")
	target.Fault(lab.Fault{Kind: "bmc-dead", Target: "pve3"})
	_, err = three.Plan(fence, device)
	require.ErrorContains(t, err, "a controller that tells the power status")
}

func TestLabWatchdog(t *testing.T) {
	t.Parallel()
	target := labkit.New(t, 1, nil)
	watchdog := labkit.Only(t, ha.All(), "watchdog")
	require.Empty(t, target.Converge(watchdog, ``))
	target.Must("pve1", "echo '# kept' >>/etc/default/pve-ha-manager")
	require.Equal(t, []string{"choose ipmi_watchdog as the watchdog of pve1 from its next boot on"}, target.Converge(watchdog, `module = "ipmi_watchdog"`))
	require.Contains(t, target.Must("pve1", "cat /etc/default/pve-ha-manager"), "# kept")
	require.Contains(t, target.Must("pve1", "cat /sys/class/watchdog/watchdog0/identity"), "Software Watchdog", "what watches is not exchanged")
	require.Contains(t, target.Warnings()[len(target.Warnings())-1], "changes when the node is restarted")
	target.Must("pve1", "mkdir -p /etc/systemd/system.conf.d && printf '[Manager]\\nRuntimeWatchdogSec=20\\n' >/etc/systemd/system.conf.d/w.conf")
	_, err := target.Plan(watchdog, ``)
	require.ErrorContains(t, err, "systemd holds the watchdog")
	target.Must("pve1", "rm /etc/systemd/system.conf.d/w.conf; systemctl stop watchdog-mux")
	_, err = target.Plan(watchdog, ``)
	require.ErrorContains(t, err, "watchdog-mux does not run")
}

const drillArgs = "node = [\"pve3\"]\nconfirm = \"pve3\"\nignore = [\"storage\"]\n"

func TestLabDrill(t *testing.T) {
	for name, fence := range map[string]string{"corosync": "", "power": "fence {\n" + device + "}\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := guarded(t)
			target.Converge(labkit.Only(t, ha.All(), "ha_resource"), `resources = ["vm:100", "vm:101"]`)
			drill := labkit.Only(t, ha.All(), "failover_drill")
			changes, err := target.Plan(drill, drillArgs+fence)
			require.NoError(t, err)
			require.Len(t, changes, 1)
			require.Equal(t, module.RiskDisruptive, changes[0].Risk)
			require.NoError(t, target.Apply(changes))
			require.Contains(t, target.Must("pve1", "cat /etc/pve/.vmlist"), `"100"`)
			require.NotContains(t, target.Must("pve1", "ha-manager status"), "vm:100 (pve3")
			target.Must("pve3", "[ $(stat -c %a /etc/pve/local) = 755 ]")
		})
	}
}

func TestLabDrillRefuses(t *testing.T) {
	t.Parallel()
	target := guarded(t)
	drill := labkit.Only(t, ha.All(), "failover_drill")
	_, err := target.Plan(drill, drillArgs)
	require.ErrorContains(t, err, "no guest under HA runs on it")
	require.ErrorContains(t, err, "vm:100, vm:101 on it, not under HA")
	target.Converge(labkit.Only(t, ha.All(), "ha_resource"), `resources = ["vm:100", "vm:101"]`)
	_, err = on(target, "pve1").Plan(drill, drillArgs) // as with --limit pve1
	require.ErrorContains(t, err, "not among the hosts of this run")
	target.Fault(lab.Fault{Kind: "power-off", Target: "pve2"})
	target.Eventually("pve1", `grep -q '"online": 0' /etc/pve/.members`)
	_, err = target.Plan(drill, drillArgs)
	require.ErrorContains(t, err, "without it 1 of 3 votes are left and 2 are needed")
}

// Whatever becomes of the task's own time, the node gets its power back.
func TestLabDrillGivesThePowerBack(t *testing.T) {
	t.Parallel()
	target := guarded(t)
	target.Converge(labkit.Only(t, ha.All(), "ha_resource"), `resources = ["vm:100", "vm:101"]`)
	drill := labkit.Only(t, ha.All(), "failover_drill")
	changes, err := target.Plan(drill, drillArgs+"fence {\n"+device+"}\n")
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	target.Lab.Machine("pve3").OnPower(func(up bool) {
		if !up {
			cancel(errors.New("the time is over"))
		}
	})
	require.Error(t, changes[0].Apply(ctx, target))
	require.True(t, target.Lab.Machine("pve3").Powered())
}
