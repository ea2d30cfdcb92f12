package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/transport"
)

// removeTimeout bounds pvecm delnode, which works in place.
const removeTimeout = 2 * time.Minute

// remove takes the node out of the cluster's configuration. All that the plan rested on is looked at again: the node may
// have come back.
func (v *removal) remove(ctx context.Context, t module.Target, device *deviceRun) error {
	node := v.args.Node
	states := remaining(ctx, t, node)
	now := viewRemoval(v.args, v.cluster, states)
	now.byInventory(t)
	if err := now.unreachable(states); err != nil {
		return err
	}
	if now.conf == nil {
		return fmt.Errorf("no member of cluster %q answers", v.cluster)
	}
	if !now.listed {
		return now.proved(ctx, t)
	}
	actor, ok := now.actor()
	if ok {
		answered, err := pingNode(ctx, t, actor.Host, now.addrs)
		if err != nil {
			return err
		}
		now.answered = answered
	}
	if refusals := now.gate(); len(refusals) > 0 {
		return refusals
	}
	if now.conf.Device != nil {
		// Whoever goes on after a crash knows by the note that the device is to follow.
		if err := device.note(ctx, t, actor.Host, now.conf.Device.Host); err != nil {
			return err
		}
	}
	job := detached("delnode-"+node, "pvecm", "delnode", node)
	job.Timeout = removeTimeout
	result, err := t.Detach(ctx, actor.Host, job)
	if err == nil {
		err = result.Err(transport.Command{Argv: []string{"pvecm", "delnode", node}})
	}
	if err != nil {
		return fmt.Errorf("%s: remove %s: %w", actor.Host, node, err)
	}
	return now.proved(ctx, t)
}

// proved waits until no member lists the node and all are of one mind.
func (v *removal) proved(ctx context.Context, t module.Target) error {
	node := v.args.Node
	return t.WaitFor(ctx, module.Condition{
		Name: fmt.Sprintf("no member lists %s", node), Timeout: v.args.QuorumTimeout, Every: time.Second,
		Check: func(ctx context.Context) error {
			members := pve.MembersOf(readBrief(ctx, t, hostsOf(v.members)), v.cluster)
			if len(members) < len(v.members) {
				return fmt.Errorf("only %d of %d members answer", len(members), len(v.members))
			}
			conf := pve.NewestConf(members)
			for _, m := range members {
				_, listed := m.Conf.Node(node)
				switch {
				case listed:
					return fmt.Errorf("%s: /etc/pve/corosync.conf still has %s", m.Host, node)
				case m.Conf.Version != conf.Version || !m.ConfsEqual:
					return fmt.Errorf("%s: its configuration is not yet the newest", m.Host)
				case !m.Writable || m.Quorum == nil || !m.Quorum.Quorate:
					return fmt.Errorf("%s: not quorate (look: pvecm status)", m.Host)
				}
			}
			return nil
		},
	})
}

// cleaning makes the change that removes a leftover.
func (v *removal) cleaning(actor string, l pve.Leftover) module.Change {
	node := v.args.Node
	id := strings.ReplaceAll(l.Kind, " ", "-")
	if l.ID != "" && l.ID != node {
		id += "-" + l.ID
	}
	c := module.Change{ID: actor + "/left-" + id, Host: actor, Action: module.Update, Before: map[string]any{"saw": l.Saw}}
	command := func(argv func(now pve.Leftover) []string) {
		c.Apply = func(ctx context.Context, t module.Target) error {
			now, there, err := v.still(ctx, t, actor, l)
			if err != nil || !there {
				return err
			}
			_, err = act(ctx, t, actor, transport.Command{Argv: argv(now), Mutates: true, Timeout: removeTimeout})
			if err != nil {
				return fmt.Errorf("%s: %s: %w", actor, c.Summary, err)
			}
			return nil
		}
	}
	drop := func(path string) {
		c.Apply = func(ctx context.Context, t module.Target) error {
			now, there, err := v.still(ctx, t, actor, l)
			if err != nil || !there {
				return err
			}
			return dropLines(ctx, t, actor, path, now.Lines)
		}
	}
	switch l.Kind {
	case pve.LeftGroup:
		c.Summary = fmt.Sprintf("take %s out of HA group %s", node, l.ID)
		c.After = map[string]any{"nodes": l.Rest}
		command(func(now pve.Leftover) []string { return []string{"ha-manager", "groupset", l.ID, "--nodes", now.Rest} })
	case pve.LeftRule:
		kind, rule, _ := strings.Cut(l.ID, "/")
		c.Summary = fmt.Sprintf("take %s out of HA rule %s", node, rule)
		c.After = map[string]any{"nodes": l.Rest}
		command(func(now pve.Leftover) []string {
			return []string{"ha-manager", "rules", "set", kind, rule, "--nodes", now.Rest}
		})
	case pve.LeftStorage:
		c.Summary = fmt.Sprintf("take %s out of storage %s", node, l.ID)
		c.After = map[string]any{"nodes": l.Rest}
		command(func(now pve.Leftover) []string { return []string{"pvesm", "set", l.ID, "--nodes", now.Rest} })
	case pve.LeftReplication:
		c.Action, c.Summary = module.Delete, fmt.Sprintf("delete replication job %s to %s", l.ID, node)
		// The copies on the node are gone with it; without keep the scheduler would try to reach it for ever.
		command(func(pve.Leftover) []string { return []string{"pvesr", "delete", l.ID, "--keep", "1"} })
	case pve.LeftKey:
		c.Action, c.Summary = module.Delete, fmt.Sprintf("remove the keys of root@%s", node)
		c.Before = map[string]any{"keys": keyNames(l.Lines)}
		drop("/etc/pve/priv/authorized_keys")
	case pve.LeftKnownHost:
		c.Action, c.Summary = module.Delete, fmt.Sprintf("forget the host keys of %s", node)
		drop("/etc/pve/priv/known_hosts")
	default:
		c.Action, c.Summary, c.Risk = module.Delete, "remove /etc/pve/nodes/"+node, module.RiskDestructive
		c.Apply = func(ctx context.Context, t module.Target) error { return dropFolder(ctx, t, actor, node) }
	}
	return c
}

// still reads a leftover again: lists may have changed since the plan, and the node may be a member again.
func (v *removal) still(ctx context.Context, t module.Target, actor string, l pve.Leftover) (pve.Leftover, bool, error) {
	now := viewRemoval(v.args, v.cluster, remaining(ctx, t, v.args.Node))
	if now.conf == nil || now.listed {
		return l, false, fmt.Errorf("%s is a member of the cluster: what names it stays (look: pvecm nodes)", v.args.Node)
	}
	left, err := readLeftovers(ctx, t, actor, v.args.Node, v.addrs)
	if err != nil {
		return l, false, err
	}
	i := slices.IndexFunc(left, func(o pve.Leftover) bool { return o.Kind == l.Kind && o.ID == l.ID })
	switch {
	case i < 0:
		return l, false, nil
	case left[i].Keep != "":
		return l, false, fmt.Errorf("%s; %s", left[i].Saw, left[i].Keep)
	}
	return left[i], true, nil
}

// dropScript removes the lines on standard input from the file $1 in pmxcfs, which is replaced as a whole.
const dropScript = `# remove lines
set -e
t=$1.pxrun
cat >/run/pxrun-drop.$$
trap 'rm -f /run/pxrun-drop.$$' EXIT
grep -vxFf /run/pxrun-drop.$$ "$1" >"$t" || [ $? -eq 1 ]
case $1 in
*/authorized_keys) if ! [ -s "$t" ]; then rm -f "$t"; echo "no key would be left: nobody could log in any more" >&2; exit 1; fi ;;
esac
mv "$t" "$1"
`

func dropLines(ctx context.Context, t module.Target, host, path string, lines []string) error {
	_, err := act(ctx, t, host, transport.Command{Script: dropScript, Argv: []string{path}, Stdin: []byte(strings.Join(lines, "\n") + "\n"), Mutates: true})
	if err != nil {
		return fmt.Errorf("%s: remove lines from %s: %w", host, path, err)
	}
	return nil
}

// folderScript removes the folder of a node that is no member and holds no guest's configuration.
const folderScript = `# remove the folder of a node
if grep -qE "^ *name: $1 *$" /etc/pve/corosync.conf; then echo "$1 is a member" >&2; exit 1; fi
for f in "/etc/pve/nodes/$1/qemu-server/"*.conf "/etc/pve/nodes/$1/lxc/"*.conf; do
	if [ -e "$f" ]; then echo "$f is the configuration of a guest" >&2; exit 1; fi
done
rm -rf -- "/etc/pve/nodes/$1"
`

func dropFolder(ctx context.Context, t module.Target, host, node string) error {
	if _, err := act(ctx, t, host, transport.Command{Script: folderScript, Argv: []string{node}, Mutates: true}); err != nil {
		return fmt.Errorf("%s: remove /etc/pve/nodes/%s: %w", host, node, err)
	}
	return nil
}
