package system_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/stretchr/testify/require"
)

// systemd puts a fake systemctl in front of the real one. It knows one unit, whose properties are files.
func systemd(t *testing.T, l *testkit.Local, unit string, properties map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	all := map[string]string{"Id": unit, "LoadState": "loaded", "ActiveState": "inactive", "SubState": "dead", "UnitFileState": "disabled", "NeedDaemonReload": "no"}
	for k, v := range properties {
		all[k] = v
	}
	for k, v := range all {
		require.NoError(t, os.WriteFile(filepath.Join(dir, k), []byte(v), 0o600))
	}
	l.Program(t, "systemctl", fmt.Sprintf(`cd %s
		if [ "$1" = show ]; then
			for k in $(echo "$3" | tr , ' '); do echo "$k=$(cat $k)"; done; exit 0
		fi
		echo "$*" >>log
		case $1 in
		start|restart) [ -e broken ] && printf failed >ActiveState || printf active >ActiveState;;
		stop) printf inactive >ActiveState;;
		enable) printf enabled >UnitFileState;;
		disable) printf disabled >UnitFileState;;
		daemon-reload) printf no >NeedDaemonReload;;
		is-active) [ "$(cat ActiveState)" = active ];;
		esac`, dir))
	return dir
}

func TestService(t *testing.T) {
	for _, tt := range []struct {
		name string
		have map[string]string
		args string
		plan []string
		log  string
	}{
		{"started already", map[string]string{"ActiveState": "active"}, `state = "started"`, nil, ""},
		{"start and enable", nil, "state = \"started\"\nenabled = true", []string{"enable x.service", "start x.service"}, "enable x.service\nstart x.service\n"},
		{"start a failed one", map[string]string{"ActiveState": "failed"}, `state = "started"`, []string{"start x.service"}, "start x.service\n"},
		{"stop and disable", map[string]string{"ActiveState": "active", "UnitFileState": "enabled"}, "state = \"stopped\"\nenabled = false", []string{"disable x.service", "stop x.service"}, "disable x.service\nstop x.service\n"},
		{"stopped, failed", map[string]string{"ActiveState": "failed"}, `state = "stopped"`, nil, ""},
		{"restart", map[string]string{"ActiveState": "active"}, `state = "restarted"`, []string{"restart x.service"}, "restart x.service\n"},
		{"reload", map[string]string{"ActiveState": "active"}, `state = "reloaded"`, []string{"reload x.service"}, "reload x.service\n"},
		{"changed unit file", map[string]string{"NeedDaemonReload": "yes"}, `state = "started"`, []string{"start x.service"}, "daemon-reload\nstart x.service\n"},
		{"changed unit file, nothing else", map[string]string{"NeedDaemonReload": "yes", "ActiveState": "active"}, `state = "started"`, nil, ""},
		{"static, disabled wanted", map[string]string{"UnitFileState": "static"}, `enabled = false`, nil, ""},
		{"unknown, absence wanted", map[string]string{"LoadState": "not-found", "UnitFileState": ""}, "state = \"stopped\"\nenabled = false", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target, l := local(t)
			dir := systemd(t, l, "x.service", tt.have)
			changes := testkit.Converge(t, get(t, "service"), target, "name = \"x\"\n"+tt.args)
			require.ElementsMatch(t, tt.plan, testkit.Summaries(changes))
			log, _ := os.ReadFile(filepath.Join(dir, "log"))
			require.Equal(t, tt.log, string(log))
		})
	}
}

func TestServiceThatCannotBeAsWanted(t *testing.T) {
	for _, tt := range []struct {
		name string
		have map[string]string
		args string
		want string
	}{
		{"unknown", map[string]string{"LoadState": "not-found"}, `state = "started"`, "there is no unit x.service; does its package have to be installed first?"},
		{"masked", map[string]string{"LoadState": "masked"}, `state = "started"`, "x.service is masked"},
		{"static", map[string]string{"UnitFileState": "static"}, `enabled = true`, "x.service is static: other units start it"},
		{"nothing of use", map[string]string{"LoadState": ""}, `enabled = true`, "systemctl show said nothing of use"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target, l := local(t)
			systemd(t, l, "x.service", tt.have)
			_, err := testkit.TryPlan(t, get(t, "service"), target, "name = \"x\"\n"+tt.args)
			require.ErrorContains(t, err, tt.want)
		})
	}
}

func TestServiceThatFailsToStayUpIsAFailure(t *testing.T) {
	target, l := local(t)
	dir := systemd(t, l, "x.service", nil)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "broken"), nil, 0o600))
	err := testkit.Apply(t.Context(), target, testkit.Plan(t, get(t, "service"), target, "name = \"x\"\nstate = \"started\""))
	require.ErrorContains(t, err, "x.service failed after start; see journalctl -u x.service")
}

func TestServiceOfAnEarlierTaskIsAForecast(t *testing.T) {
	target, l := local(t)
	systemd(t, l, "x.service", map[string]string{"LoadState": "not-found"})
	target.Earlier = []module.Planned{{Module: "package", Change: module.Change{Host: "pve1", Summary: "install x"}}}
	changes := testkit.Plan(t, get(t, "service"), target, "name = \"x\"\nstate = \"started\"")
	require.Contains(t, changes[0].Predicted, "install x")
	target.Earlier[0].Host = "pve2"
	_, err := testkit.TryPlan(t, get(t, "service"), target, "name = \"x\"\nstate = \"started\"")
	require.Error(t, err)
}

func TestServiceRefusesWhatWouldResetANode(t *testing.T) {
	show := func(unit string) string {
		return "Id=" + unit + ".service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\nNeedDaemonReload=no\n"
	}
	for _, tt := range []struct {
		name, unit, state, ha string
		exit                  int
		refusal               string // "" for allowed
	}{
		{"watchdog with active HA", "watchdog-mux", "stopped", "pve\ncluster\nlrm {\"mode\":\"active\",\"state\":\"active\"}\n", 0, "HA guards services on this node"},
		{"watchdog that is armed", "watchdog-mux", "restarted", "pve\nwatchdog\ncluster\nlrm {\"state\":\"wait_for_agent_lock\"}\n", 0, "HA guards services on this node"},
		{"lrm not to be read", "pve-ha-lrm", "restarted", "pve\ncluster\nlrm \n", 0, "could not be read"},
		{"nothing to be read", "pve-ha-crm", "restarted", "", 255, "could not be read"},
		{"corosync in a cluster", "corosync", "restarted", "pve\ncluster\nlrm {\"state\":\"wait_for_agent_lock\"}\n", 0, "member of a cluster"},
		{"corosync alone", "corosync", "restarted", "pve\nlrm {\"state\":\"wait_for_agent_lock\"}\n", 0, ""},
		{"idle HA", "pve-ha-lrm", "restarted", "pve\ncluster\nlrm {\"state\":\"wait_for_agent_lock\"}\n", 0, ""},
		{"no Proxmox", "corosync", "stopped", "lrm \n", 0, ""},
		{"ssh", "ssh", "stopped", "", 0, "pxrun reaches the host through it"},
		{"ssh by another name", "ssh", "restarted", "", 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := testkit.NewConn(t, "pve1").OnOutput("systemctl show", show(tt.unit)).On("lrm_status", testkit.Reply{Stdout: tt.ha, Exit: tt.exit})
			_, err := testkit.TryPlan(t, get(t, "service"), testkit.NewTarget(t, "pve1", conn), fmt.Sprintf("name = %q\nstate = %q", tt.unit, tt.state))
			if tt.refusal == "" {
				require.NoError(t, err)
				return
			}
			requireRefusal(t, err, tt.refusal)
		})
	}
}

func TestServiceGuardReadsAreOneRoundTrip(t *testing.T) {
	conn := testkit.NewConn(t, "pve1").
		OnOutput("systemctl show", "Id=corosync.service\nLoadState=loaded\nActiveState=active\n").OnOutput("lrm_status", "pve\nlrm {\"state\":\"wait_for_agent_lock\"}\n")
	testkit.Plan(t, get(t, "service"), testkit.NewTarget(t, "pve1", conn), "name = \"corosync\"\nstate = \"restarted\"")
	require.Equal(t, 1, conn.RoundTrips())
}
