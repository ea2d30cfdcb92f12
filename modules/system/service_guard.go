package system

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

// clusterUnits carry the cluster's membership and the guard that resets a node. Stopping one on a node with active HA
// services makes the node reset itself after a minute (reference §5.8, §14).
var clusterUnits = []string{"watchdog-mux", "pve-ha-crm", "pve-ha-lrm", "corosync", "pve-cluster"}

// loginUnits are how pxrun reaches a host.
var loginUnits = []string{"ssh", "sshd"}

func (a serviceArgs) bare() string {
	return strings.TrimSuffix(strings.TrimSuffix(a.unit(), ".service"), ".socket")
}

func (a serviceArgs) guarded() bool { return slices.Contains(clusterUnits, a.bare()) && a.disrupts() }

func (a serviceArgs) disrupts() bool { return a.State == "stopped" || a.State == "restarted" }

// haActivity reads whether this node is in a cluster and whether its HA stack guards anything.
func haActivity() transport.Command {
	return transport.Command{Script: `# read whether HA is active
if [ -e /usr/bin/pvecm ]; then echo pve; fi
if [ -e /run/watchdog-mux.active ]; then echo watchdog; fi
if timeout 5 test -e /etc/pve/corosync.conf || [ -e /etc/corosync/corosync.conf ]; then echo cluster; fi
echo "lrm $(timeout 5 cat "/etc/pve/nodes/$(hostname)/lrm_status" 2>/dev/null | tr -d '\n')"
`}
}

// activity is what haActivity says.
type activity struct {
	pve, watchdog, cluster bool
	lrm                    string // the LRM's state; "" when it could not be read
}

func parseActivity(out string) activity {
	var a activity
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch line {
		case "pve":
			a.pve = true
		case "watchdog":
			a.watchdog = true
		case "cluster":
			a.cluster = true
		}
		if text, ok := strings.CutPrefix(line, "lrm "); ok {
			var status struct {
				State string `json:"state"`
			}
			if json.Unmarshal([]byte(text), &status) == nil {
				a.lrm = status.State
			}
		}
	}
	return a
}

// refuse says no to what reference §14 forbids. What could not be read counts as active.
func (a serviceArgs) refuse(t module.Target, c module.Change, u unitState, r transport.Result) error {
	verb, _, _ := strings.Cut(c.Summary, " ")
	if verb != "stop" && verb != "restart" && verb != "disable" {
		return nil
	}
	host := t.Host().Name
	id := strings.TrimSuffix(strings.TrimSuffix(u.id, ".service"), ".socket")
	if verb != "restart" && (slices.Contains(loginUnits, id) || slices.Contains(loginUnits, a.bare())) {
		return &module.Refusal{
			Host: host, Gate: verb + " " + a.unit(), Saw: "pxrun reaches the host through it", Want: "a host that can still be reached",
			Look: "systemctl status " + a.unit(), Override: "none",
		}
	}
	if !a.guarded() || verb == "disable" {
		return nil
	}
	now := parseActivity(string(r.Stdout))
	switch {
	case r.Exit != 0:
		return a.no(host, verb, "the state of HA could not be read", "pve-ha-lrm without active services, read without doubt", "ha-manager status", "look why the node does not answer")
	case !now.pve && !now.cluster:
		return nil
	case now.watchdog || now.lrm == "active":
		return a.no(host, verb, "HA guards services on this node, so it would reset itself", "no active HA services on the node", "ha-manager status",
			"move the services away first: task \"drain\", or ha-manager crm-command node-maintenance enable "+host)
	case now.lrm == "":
		return a.no(host, verb, "the status of the local resource manager could not be read", "pve-ha-lrm that says it is idle", "ha-manager status", "none while it is not known")
	case a.bare() == "corosync" && now.cluster:
		return a.no(host, verb, "the node is a member of a cluster, and other hosts of the run may do the same at this moment", "one node after the other, each verified",
			"corosync-quorumtool -s", "a command task in a rolling block with max_unavailable = 1")
	}
	return nil
}

func (a serviceArgs) no(host, verb, saw, want, look, override string) error {
	return &module.Refusal{Host: host, Gate: verb + " " + a.unit(), Saw: saw, Want: want, Look: look, Override: override}
}
