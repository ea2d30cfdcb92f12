package ceph

import (
	"context"
	"fmt"

	"github.com/pxrun/pxrun/engine/module"
)

// startChange starts a daemon that is there and does not run.
func (w *world) startChange(host, kind, id string) module.Change {
	unit := fmt.Sprintf("ceph-%s@%s", kind, id)
	d, _ := w.local[host].Daemon(kind, id)
	return module.Change{
		ID: host + "/ceph-start/" + unit, Host: host, Action: module.Update, Summary: fmt.Sprintf("start %s on %s", unit, host),
		Before: map[string]any{"state": orUnknown(d.Unit.Active)}, After: map[string]any{"state": "active"},
		Apply: func(ctx context.Context, t module.Target) error { return startDaemon(ctx, t, host, kind, id) },
	}
}

func orUnknown(state string) string {
	if state == "" {
		return "unknown"
	}
	return state
}

// startDaemon starts a unit. One that failed too often in a short time must be forgiven first.
func startDaemon(ctx context.Context, t module.Target, host, kind, id string) error {
	unit := fmt.Sprintf("ceph-%s@%s", kind, id)
	if d, err := readNode(ctx, t, host); err == nil {
		if one, _ := d.Daemon(kind, id); one.Unit.Active == "failed" {
			if err := run(ctx, t, host, "systemctl", "reset-failed", unit); err != nil {
				return fmt.Errorf("%s: %s", host, said(err))
			}
		}
	}
	if err := run(ctx, t, host, "systemctl", "start", unit); err != nil {
		return fmt.Errorf("%s: start %s: %s (look: journalctl -u %s -n 50)", host, unit, said(err), unit)
	}
	return awaitUnit(ctx, t, host, kind, id)
}

func awaitUnit(ctx context.Context, t module.Target, host, kind, id string) error {
	unit := fmt.Sprintf("ceph-%s@%s", kind, id)
	return t.WaitFor(ctx, module.Condition{Name: unit + " runs on " + host, Timeout: daemonTimeout, Check: func(ctx context.Context) error {
		n, err := readNode(ctx, t, host)
		if err != nil {
			return err
		}
		d, there := n.Daemon(kind, id)
		switch {
		case !there:
			return fmt.Errorf("the node has no /var/lib/ceph/%s/ceph-%s", kind, id)
		case !d.Unit.Running():
			return fmt.Errorf("it is %s (look: journalctl -u %s -n 50)", orUnknown(d.Unit.Active), unit)
		}
		return nil
	}})
}

// daemon plans a manager or metadata server on each node that lacks it. It is as wanted when it runs.
func (w *world) daemons(kind string, hosts []string, coming func(host string) bool) []module.Change {
	words := map[string]string{"mgr": "manager", "mds": "metadata server"}
	var changes []module.Change
	for _, host := range hosts {
		gate := "make a " + words[kind] + " on " + host
		if coming(host) || !w.need(host, gate) {
			continue
		}
		if id, there := w.daemonOn(host, kind); there {
			if d, _ := w.local[host].Daemon(kind, id); !d.Unit.Running() {
				changes = append(changes, w.startChange(host, kind, id))
			}
			continue
		}
		if !w.answers(gate) || !w.installed(host, gate) || !w.linked(host, gate) || !w.writable(host, gate) {
			continue
		}
		if kind == "mds" && w.Conf.Has("mds", host) {
			w.refuse(host, gate, fmt.Sprintf("/etc/pve/ceph.conf lists a metadata server %s, and the node has no /var/lib/ceph/mds/ceph-%s", host, host), "both or neither",
				"cat /etc/pve/ceph.conf; ls /var/lib/ceph/mds", "if it was lost with its disk: take its section out of /etc/pve/ceph.conf, then apply again")
			continue
		}
		option := map[string]string{"mgr": "--id", "mds": "--name"}[kind]
		argv := []string{"pveceph", kind, "create", option, host}
		changes = append(changes, w.plan([]module.Change{{
			ID: host + "/ceph-" + kind, Host: host, Action: module.Create, Summary: gate, After: map[string]any{words[kind]: host},
			Apply: func(ctx context.Context, t module.Target) error { return makeDaemon(ctx, t, host, kind, argv) },
		}})...)
	}
	return changes
}

// daemonOn is the id of the daemon of a kind that a node has: its own name, or any other.
func (w *world) daemonOn(host, kind string) (string, bool) {
	n := w.local[host]
	if _, ok := n.Daemon(kind, host); ok || n == nil {
		return host, ok
	}
	for _, d := range n.Daemons {
		if d.Kind == kind {
			return d.ID, true
		}
	}
	return "", false
}

func makeDaemon(ctx context.Context, t module.Target, host, kind string, argv []string) error {
	failed := work(ctx, t, host, tool("ceph-"+kind+"-create", daemonTimeout, argv...))
	if failed != nil {
		n, err := readNode(ctx, t, host)
		if err != nil {
			return err
		}
		if _, there := n.Daemon(kind, host); !there {
			return fmt.Errorf("%s: pveceph %s create: %s", host, kind, said(failed))
		}
	}
	return awaitUnit(ctx, t, host, kind, host)
}

// removeDaemon destroys a manager or metadata server and waits until its folder is gone.
func removeDaemon(ctx context.Context, t module.Target, host, kind, id string) error {
	failed := work(ctx, t, host, tool("ceph-"+kind+"-destroy", daemonTimeout, "pveceph", kind, "destroy", id))
	n, err := readNode(ctx, t, host)
	if err != nil {
		return err
	}
	if _, there := n.Daemon(kind, id); there {
		why := "its folder is still there"
		if failed != nil {
			why = said(failed)
		}
		return fmt.Errorf("%s: pveceph %s destroy %s: %s", host, kind, id, why)
	}
	return nil
}
