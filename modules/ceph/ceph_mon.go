package ceph

import (
	"context"
	_ "embed"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed ceph_mon.md
var monDoc string

// fewestMons is the number of monitors below which none is taken away.
const fewestMons = 3

type monArgs struct {
	Nodes     inventory.Refs        `hcl:"nodes,optional" doc:"The nodes that shall have a monitor (default: the hosts of the task; in ceph_init the first three)." example:"cluster.lab.nodes"`
	Addresses map[string]netip.Addr `hcl:"addresses,optional" doc:"The monitor's address by node, where a node has several in the public network." example:"{ pve1 = \"10.0.3.1\" }"`
	Ensure    string                `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether the monitors shall be there or not. Fewer than three are never left."`
}

func cephMon() module.Module {
	return module.Define(module.Spec{
		Name: "ceph_mon", Summary: "Make Ceph monitors, one after the other", Doc: monDoc, Scope: module.PerCluster,
	}, module.Funcs[monArgs, cephOut]{
		Probes: func(t module.Target, _ monArgs) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args monArgs) ([]module.Change, error) {
			w, err := look(ctx, t)
			if err != nil {
				return nil, err
			}
			hosts := inRun(t, args.Nodes)
			if args.Ensure == "absent" {
				return w.done(t, w.withoutMonitors(args.Nodes, hosts))
			}
			return w.done(t, w.monitors(hosts, args.Addresses, nil))
		},
		Read: func(ctx context.Context, t module.Target, _ monArgs) (cephOut, error) { return outputs(ctx, t) },
	})
}

// monitors plans those that are missing, and starts those that do not run. Creating one holds the lock of ceph.conf, so
// they are strictly one after the other.
func (w *world) monitors(hosts []string, addresses map[string]netip.Addr, n *networks) []module.Change {
	changes := w.startMonitors(hosts)
	if len(changes) > 0 && !w.Answers {
		return changes // they may be what is missing for an answer; the rest is planned when there is one
	}
	if !w.ready("make monitors") {
		return nil
	}
	for _, host := range hosts {
		if w.will.mons[host] || !w.lacksMonitor(host) {
			continue
		}
		if c, ok := w.monitor(host, addresses[host], n); ok {
			changes = append(changes, w.plan([]module.Change{c})...)
		}
	}
	if advice := ceph.MonAdvice(w.countMons()); advice != "" {
		w.warn("", "%s", advice)
	}
	return changes
}

// ready is answers for monitors, the first of which is made before anybody can answer.
func (w *world) ready(gate string) bool {
	if w.Conf.Inited() && len(w.Conf.Daemons("mon")) == 0 && w.Unread["conf"] == "" {
		return true
	}
	return w.answers(gate)
}

// startMonitors starts monitors that are there and do not run.
func (w *world) startMonitors(hosts []string) []module.Change {
	var changes []module.Change
	for _, host := range hosts {
		n := w.local[host]
		if n == nil || n.Err != nil {
			continue // told by need
		}
		id, ok := w.monOn(host)
		if d, _ := n.Daemon("mon", id); ok && w.Conf.Has("mon", id) && !d.Unit.Running() {
			changes = append(changes, w.startChange(host, "mon", id))
		}
	}
	if n := len(changes); n > 0 {
		// Only the last one can be waited for: half of the monitors make no quorum.
		start, host := changes[n-1].Apply, changes[n-1].Host
		changes[n-1].Apply = func(ctx context.Context, t module.Target) error {
			if err := start(ctx, t); err != nil {
				return err
			}
			return t.WaitFor(ctx, module.Condition{Name: "the monitors answer", Timeout: daemonTimeout, Check: func(ctx context.Context) error {
				_, err := status(ctx, t, host)
				return err
			}})
		}
	}
	return changes
}

// lacksMonitor reports whether a monitor must be made on a node. States in between are refused: they hold data, or stand
// for it.
func (w *world) lacksMonitor(host string) bool {
	gate := "make a monitor on " + host
	if !w.need(host, gate) {
		return false
	}
	id, here := w.monOn(host)
	if !here {
		id = host
	}
	_, folder := w.local[host].Daemon("mon", id)
	listed, member := w.Conf.Has("mon", id), w.Status.InQuorum(id)
	dir := "/var/lib/ceph/mon/ceph-" + id
	switch {
	case listed && folder:
		if id != host {
			w.warn(host, "its monitor is called %s", id)
		}
		d, _ := w.local[host].Daemon("mon", id)
		if w.Answers && !member && d.Unit.Running() {
			w.warn(host, "monitor %s runs and is not in the quorum (look: journalctl -u ceph-mon@%s -n 50)", id, id)
		}
	case listed:
		w.refuse(host, gate, fmt.Sprintf("/etc/pve/ceph.conf lists a monitor %s, and the node has no %s", id, dir), "both or neither", "cat /etc/pve/ceph.conf; ls /var/lib/ceph/mon",
			fmt.Sprintf("if its disk was lost: ceph mon remove %s, take [mon.%s] and its address out of /etc/pve/ceph.conf, then apply again", id, id))
	case folder && member:
		w.refuse(host, gate, fmt.Sprintf("monitor %s is in the quorum, and /etc/pve/ceph.conf does not list it", id), "a monitor that is listed", "ceph mon dump; cat /etc/pve/ceph.conf",
			fmt.Sprintf("write [mon.%s] with its public_addr into /etc/pve/ceph.conf", id))
	case folder:
		w.refuse(host, gate, dir+" is there, and /etc/pve/ceph.conf does not list a monitor "+id+": its creation, or its removal, was cut off", "neither", "ls "+dir+"; ceph mon dump",
			fmt.Sprintf("if ceph mon dump does not list it: systemctl disable --now ceph-mon@%s; mv %s /root/; then apply again", id, dir))
	default:
		return true
	}
	return false
}

func (w *world) monitor(host string, address netip.Addr, n *networks) (module.Change, bool) {
	gate := "make a monitor on " + host
	public := w.public(n)
	if !w.installed(host, gate) || !w.linked(host, gate) || !w.writable(host, gate) || !w.reaches(host, gate, "public network", public) {
		return module.Change{}, false
	}
	argv := []string{"pveceph", "mon", "create"}
	after := map[string]any{"monitor": host}
	if address.IsValid() {
		if !w.states[host].HasAddress(address) {
			w.refuse(host, gate, fmt.Sprintf("no interface has %s", address), "the monitor's address on the node", "ip addr", "mend addresses")
			return module.Change{}, false
		}
		argv = append(argv, "--mon-address", address.String())
		after["address"] = address.String()
	} else if many := w.choices(host, public); len(many) > 1 {
		w.refuse(host, gate, "several addresses in the public network: "+strings.Join(many, ", "), "one that is the monitor's", "ip addr", fmt.Sprintf(`say addresses = { %s = "%s" }`, host, many[0]))
		return module.Change{}, false
	}
	return module.Change{
		ID: host + "/" + kindMon, Host: host, Action: module.Create, Summary: "make a monitor on " + host, After: after,
		Apply: func(ctx context.Context, t module.Target) error { return makeMonitor(ctx, t, host, argv) },
	}, true
}

// choices are the node's addresses in some networks.
func (w *world) choices(host string, networks []netip.Prefix) []string {
	var out []string
	for _, p := range networks {
		for _, a := range w.addressIn(host, p) {
			if !slices.Contains(out, a.String()) {
				out = append(out, a.String())
			}
		}
	}
	return out
}

// makeMonitor makes one and waits until it is in the quorum. Whether the command failed is of no interest when it is:
// another program may have made it at the same moment.
func makeMonitor(ctx context.Context, t module.Target, host string, argv []string) error {
	failed := work(ctx, t, host, tool("ceph-mon-create", daemonTimeout, argv...))
	limit := daemonTimeout
	if failed != nil {
		limit = statusTimeout
	}
	err := t.WaitFor(ctx, module.Condition{Name: "monitor " + host + " is in the quorum", Timeout: limit, Check: func(ctx context.Context) error {
		s, err := status(ctx, t, host)
		if err == nil && !s.InQuorum(host) {
			err = fmt.Errorf("the quorum is %s (look: journalctl -u ceph-mon@%s -n 50)", strings.Join(s.QuorumNames, ", "), host)
		}
		return err
	}})
	if failed != nil && err != nil {
		return fmt.Errorf("%s: pveceph mon create: %s", host, said(failed))
	}
	return err
}

// countMons is how many monitors there will be.
func (w *world) countMons() int {
	names := map[string]bool{}
	for _, id := range w.Conf.Daemons("mon") {
		names[id] = true
	}
	for host := range w.will.mons {
		names[host] = true
	}
	return len(names)
}

// withoutMonitors plans to take monitors away: one after the other, and never below three.
func (w *world) withoutMonitors(named inventory.Refs, hosts []string) []module.Change {
	const gate = "remove monitors"
	if len(named) == 0 {
		w.refuse("", gate, "no nodes are named", "the nodes whose monitors shall go", "", "say nodes = [...]")
		return nil
	}
	if !w.answers(gate) {
		return nil
	}
	var changes []module.Change
	left := w.Conf.Daemons("mon")
	for _, host := range hosts {
		id, ok := w.monOn(host)
		if !ok || !w.Conf.Has("mon", id) {
			continue
		}
		if !w.need(host, gate) || !w.writable(host, gate) {
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(left), func(m string) bool { return m == id })
		up := slices.DeleteFunc(slices.Clone(rest), func(m string) bool { return !w.Status.InQuorum(m) })
		switch {
		case len(rest) < fewestMons:
			w.refuse(host, gate, fmt.Sprintf("%d monitors would be left", len(rest)), fmt.Sprintf("at least %d", fewestMons), "ceph quorum_status", "make another one elsewhere first")
			continue
		case len(up) <= len(rest)/2:
			w.refuse(host, gate, fmt.Sprintf("of the %d monitors that would be left %d are in the quorum", len(rest), len(up)), "more than half", "ceph quorum_status", "bring the others back first")
			continue
		}
		left = rest
		actor := host
		for _, other := range w.nodes {
			if m, ok := w.monOn(other); ok && other != host && slices.Contains(up, m) {
				actor = other
			}
		}
		changes = append(changes, module.Change{
			ID: host + "/" + kindMon, Host: host, Action: module.Delete, Risk: module.RiskDestructive, Summary: "remove monitor " + id,
			Before: map[string]any{"monitor": id}, Apply: func(ctx context.Context, t module.Target) error { return removeMonitor(ctx, t, host, actor, id) },
		})
	}
	if advice := ceph.MonAdvice(len(left)); advice != "" && len(changes) > 0 {
		w.warn("", "%s", advice)
	}
	return changes
}

// removeMonitor looks once more, from another node, whether the quorum stays; an unknown name would pass that question too.
func removeMonitor(ctx context.Context, t module.Target, host, actor, id string) error {
	s, err := status(ctx, t, actor)
	if err != nil {
		return err
	}
	if s.MonMap.NumMons <= fewestMons {
		return &module.Refusal{Host: host, Gate: "remove monitor " + id, Saw: fmt.Sprintf("there are %d monitors", s.MonMap.NumMons), Want: fmt.Sprintf("at least %d that stay", fewestMons), Look: "ceph mon dump"}
	}
	if s.InQuorum(id) {
		if err := ask(ctx, t, actor, "mon", "ok-to-stop", id); err != nil {
			return &module.Refusal{Host: host, Gate: "remove monitor " + id, Saw: said(err), Want: "a quorum without it", Look: "ceph mon ok-to-stop " + id, Override: "bring the other monitors back first"}
		}
	}
	failed := work(ctx, t, host, tool("ceph-mon-destroy", daemonTimeout, "pveceph", "mon", "destroy", id))
	err = await(ctx, t, "monitor "+id+" is gone", actor, daemonTimeout, func(c *ceph.Cluster) string {
		switch {
		case c.Conf.Has("mon", id):
			return "/etc/pve/ceph.conf still lists it"
		case c.Status.InQuorum(id):
			return "it is still in the quorum"
		}
		return ""
	})
	if failed != nil && err != nil {
		return fmt.Errorf("%s: pveceph mon destroy %s: %s", host, id, said(failed))
	}
	return err
}
