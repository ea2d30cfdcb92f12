package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

// deviceTimeout bounds setting a QDevice up: a login to each node for each of its steps.
const deviceTimeout = 5 * time.Minute

// noteScript keeps standard input as the note of the QDevice.
const noteScript = `# note the QDevice
cat >"$1.tmp" && mv "$1.tmp" "$1"`

// deviceNote is what the note about a QDevice holds that was taken off.
type deviceNote struct {
	Host string `json:"host"`
}

// noteOf reads the note about a QDevice that was taken off.
func noteOf(members []pve.NodeState) string {
	for _, m := range members {
		var note deviceNote
		if json.Unmarshal(m.QDeviceNote, &note) == nil && note.Host != "" {
			return note.Host
		}
	}
	return ""
}

// deviceRun takes the QDevice of a cluster off and sets it up. All modules that do so do it by this.
type deviceRun struct {
	cluster string
	timeout time.Duration // of waits for what corosync shows
	gone    string        // a node that is not to be asked: it is being removed
}

// hosts are the nodes that are asked.
func (r *deviceRun) hosts(t module.Target) []string {
	return slices.DeleteFunc(slices.Clone(t.Cluster().Nodes), func(name string) bool { return name == r.gone })
}

// note writes down in pmxcfs which QDevice is taken off for a while, so that any later run knows to put it back.
func (r *deviceRun) note(ctx context.Context, t module.Target, host, device string) error {
	note, err := json.Marshal(deviceNote{Host: device})
	if err != nil {
		return err
	}
	if _, err := act(ctx, t, host, transport.Command{Script: noteScript, Argv: []string{pve.QDeviceNote}, Stdin: note, Mutates: true}); err != nil {
		return fmt.Errorf("%s: note the QDevice: %w", host, err)
	}
	return nil
}

// off takes the QDevice off.
func (r *deviceRun) off(ctx context.Context, t module.Target, host string) error {
	members, conf, err := r.whole(ctx, t, host)
	if err != nil {
		return err
	}
	if conf.Device != nil {
		if refusals := deviceGates("take the QDevice off", members, conf); len(refusals) > 0 {
			return refusals
		}
		job := detached("qdevice-remove-"+r.cluster, "pvecm", "qdevice", "remove")
		job.Timeout = deviceTimeout
		result, err := t.Detach(ctx, host, job)
		if err == nil {
			err = result.Err(transport.Command{Argv: []string{"pvecm", "qdevice", "remove"}})
		}
		if err != nil {
			return fmt.Errorf("%s: take the QDevice off: %w", host, err)
		}
	}
	// The flags still speak of a QDevice afterwards: only the configuration tells (records 07).
	return r.await(ctx, t, "the QDevice is off on every node", func(s pve.NodeState) error {
		if s.Conf.Device != nil {
			return fmt.Errorf("%s: the QDevice is still configured", s.Host)
		}
		return nil
	})
}

// on sets the QDevice up from a member that can log in to its host, and waits for its vote on every node.
func (r *deviceRun) on(ctx context.Context, t module.Target, host, device string) error {
	members, conf, err := r.whole(ctx, t, host)
	if err != nil {
		return err
	}
	if conf.Device == nil {
		if err := r.setUp(ctx, t, members, conf, device); err != nil {
			return err
		}
	}
	if err := r.votes(ctx, t); err != nil {
		return err
	}
	return forgetDevice(ctx, t, host)
}

// whole reads the cluster. A node that is listed and cannot be read makes it fail.
func (r *deviceRun) whole(ctx context.Context, t module.Target, host string) ([]pve.NodeState, *pve.CorosyncConf, error) {
	states, err := readAll(ctx, t, r.hosts(t))
	if err != nil {
		return nil, nil, err
	}
	members := pve.MembersOf(states, r.cluster)
	conf := pve.NewestConf(members)
	if conf == nil {
		return nil, nil, fmt.Errorf("%s: it is no member of a cluster %q (look: pvecm status)", host, r.cluster)
	}
	return members, conf, nil
}

func (r *deviceRun) setUp(ctx context.Context, t module.Target, members []pve.NodeState, conf *pve.CorosyncConf, device string) error {
	if refusals := deviceGates("set the QDevice up", members, conf); len(refusals) > 0 {
		return refusals
	}
	if len(conf.Nodes)%2 != 0 {
		return oddNodes(len(conf.Nodes), false)
	}
	from, err := r.door(ctx, t, members, device)
	if err != nil {
		return err
	}
	for _, m := range members {
		if m.DeviceStore {
			if err := cleanStore(ctx, t, m.Host); err != nil {
				return err
			}
		}
	}
	job := detached("qdevice-setup-"+r.cluster, "pvecm", "qdevice", "setup", device)
	job.Timeout = deviceTimeout
	result, err := t.Detach(ctx, from, job)
	if err == nil {
		err = result.Err(transport.Command{Argv: []string{"pvecm", "qdevice", "setup", device}})
	}
	if err != nil {
		return fmt.Errorf("%s: set the QDevice up: %w%s\n  what it left on the nodes is removed when the runbook is run again", from, err, lastStep(string(result.Stdout)))
	}
	return nil
}

// lastStep is how far pvecm qdevice setup came.
func lastStep(out string) string {
	step := ""
	for line := range strings.Lines(out) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "INFO: "); ok {
			step = text
		}
	}
	if step == "" {
		return ""
	}
	return fmt.Sprintf("\n  it ended at: %s", step)
}

// cleanStore removes the certificates of an earlier QDevice. On any node they make a new set-up fail half-way, or
// succeed with a daemon that nobody trusts (reference §4.2). It refuses to touch those of a device that is configured.
func cleanStore(ctx context.Context, t module.Target, host string) error {
	_, err := act(ctx, t, host, transport.Command{Script: cleanScript, Mutates: true})
	if err != nil {
		return fmt.Errorf("%s: remove certificates of an earlier QDevice: %w", host, err)
	}
	return nil
}

const cleanScript = `# remove the certificates of an earlier QDevice
# pmxcfs copies a new corosync.conf within seconds; one that is cut off right after the change has not waited for it.
i=0
while [ $i -lt 15 ] && grep -qE '^ *model: net *$' /etc/corosync/corosync.conf && ! grep -qE '^ *model: net *$' /etc/pve/corosync.conf; do
	sleep 1
	i=$((i + 1))
done
if grep -qE '^ *model: net *$' /etc/pve/corosync.conf /etc/corosync/corosync.conf; then
	echo "a QDevice is configured: its certificates are in use" >&2
	exit 1
fi
if [ -e /etc/corosync/corosync.conf ] && ! grep -q 'ring0_addr:' /etc/corosync/corosync.conf; then
	echo "/etc/corosync/corosync.conf cannot be read: whether a QDevice is configured is not known" >&2
	exit 1
fi
rm -rf /etc/corosync/qdevice`

// votes waits until the QDevice votes on every node and is counted.
func (r *deviceRun) votes(ctx context.Context, t module.Target) error {
	return r.await(ctx, t, "the QDevice votes on every node", voteOf)
}

// voteOf says why the QDevice does not count on a node, nil if it does.
func voteOf(s pve.NodeState) error {
	if s.Quorum == nil {
		return fmt.Errorf("%s: corosync does not answer (look: systemctl status corosync)", s.Host)
	}
	for _, m := range s.Quorum.Members {
		if m.Local && !m.Casting() {
			flags := strings.Join(m.QDevice, ",")
			return fmt.Errorf("%s: its QDevice daemon does not vote, it shows %q (look: systemctl status corosync-qdevice; corosync-qdevice-tool -sv)", s.Host, flags)
		}
	}
	if s.Quorum.Device == nil || s.Quorum.Device.Votes == 0 {
		return fmt.Errorf("%s: the QDevice casts no vote (look: corosync-qdevice-tool -s)", s.Host)
	}
	if want := pve.BallotOf(s.Conf, func(string) bool { return true }, true).Expected(); s.Quorum.Expected != want {
		return fmt.Errorf("%s: %d votes are expected, with the QDevice it should be %d (look: corosync-quorumtool -s)", s.Host, s.Quorum.Expected, want)
	}
	return nil
}

// door finds a member from which root can log in to the QDevice's host. If none can and the host is in the inventory,
// the first is let in.
func (r *deviceRun) door(ctx context.Context, t module.Target, members []pve.NodeState, device string) (string, error) {
	var errs []error
	for _, m := range members {
		_, err := act(ctx, t, m.Host, loginTo(device))
		if err == nil {
			return m.Host, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", m.Host, err))
	}
	if arbiter, known := hostOfAddress(t.Site(), device); known {
		return members[0].Host, trustArbiter(ctx, t, members[0].Host, arbiter, device)
	}
	return "", fmt.Errorf("no node can log in to the QDevice's host %s as root with /root/.ssh/id_rsa: %w", device, errors.Join(errs...))
}

// hostOfAddress finds the host of an inventory that is no node of a cluster and has an address.
func hostOfAddress(site *inventory.Site, address string) (string, bool) {
	i := slices.IndexFunc(site.Hosts, func(h inventory.Host) bool { return h.Node == nil && h.Address == address })
	if i < 0 {
		return "", false
	}
	return site.Hosts[i].Name, true
}

// await waits until something holds on every member.
func (r *deviceRun) await(ctx context.Context, t module.Target, name string, holds func(pve.NodeState) error) error {
	return t.WaitFor(ctx, module.Condition{
		Name: name, Timeout: r.timeout, Every: time.Second,
		Check: func(ctx context.Context) error {
			members := pve.MembersOf(readBrief(ctx, t, r.hosts(t)), r.cluster)
			if len(members) == 0 {
				return fmt.Errorf("no member of cluster %q answers", r.cluster)
			}
			conf := pve.NewestConf(members)
			if len(members) < len(conf.Nodes) && r.gone == "" {
				return fmt.Errorf("only %d of %d members answer", len(members), len(conf.Nodes))
			}
			for _, m := range members {
				if err := holds(m); err != nil {
					return err
				}
				if m.Conf.Version != conf.Version || !m.ConfsEqual {
					return fmt.Errorf("%s: its configuration is not yet the newest", m.Host)
				}
			}
			return nil
		},
	})
}

// forgetDevice removes the note of a QDevice.
func forgetDevice(ctx context.Context, t module.Target, host string) error {
	if _, err := act(ctx, t, host, transport.Command{Argv: []string{"rm", "-f", pve.QDeviceNote}, Mutates: true}); err != nil {
		return fmt.Errorf("%s: remove the note of the QDevice: %w", host, err)
	}
	return nil
}

// undoDeviceOff sets the QDevice up again, from the journal alone. It does nothing when one is configured, and leaves
// the note in place when the number of nodes does not allow it.
func undoDeviceOff(host, device string) *module.Undo {
	return &module.Undo{
		Host: host, Summary: fmt.Sprintf("set the QDevice %s up again", device),
		Command: transport.Command{
			Script: strings.TrimSpace(`
cd /
conf=/etc/pve/corosync.conf
if ! grep -q 'ring0_addr:' "$conf"; then
	echo "$conf cannot be read: whether a QDevice is configured is not known" >&2
	exit 1
fi
if ! grep -q 'model: net' "$conf"; then
	if [ $(($(grep -c 'ring0_addr:' "$conf") % 2)) -ne 0 ]; then
		echo "the number of nodes is odd: the QDevice stays off"
		exit 0
	fi
	rm -rf /etc/corosync/qdevice
	pvecm qdevice setup "$1" || exit 1
fi
rm -f ` + pve.QDeviceNote),
			Argv: []string{device}, Mutates: true, Timeout: deviceTimeout,
		},
	}
}
