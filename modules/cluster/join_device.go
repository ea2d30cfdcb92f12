package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/transport"
)

// deviceTimeout bounds setting a QDevice up: a login to each node for each of its steps.
const deviceTimeout = 5 * time.Minute

// noteScript keeps standard input as the note of the QDevice.
const noteScript = `# note the QDevice
cat >"$1.tmp" && mv "$1.tmp" "$1"`

// deviceOff takes the QDevice off, after noting in pmxcfs which one it was.
func (r *joinRun) deviceOff(ctx context.Context, t module.Target, host, device string) error {
	note, err := json.Marshal(deviceNote{Host: device})
	if err != nil {
		return err
	}
	if _, err := act(ctx, t, host, transport.Command{Script: noteScript, Argv: []string{pve.QDeviceNote}, Stdin: note, Mutates: true}); err != nil {
		return fmt.Errorf("%s: note the QDevice: %w", host, err)
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
	// The flags still speak of a QDevice afterwards: only the configuration tells (records 07).
	return r.await(ctx, t, "the QDevice is off on every node", func(s pve.NodeState) error {
		if s.Conf.Device != nil {
			return fmt.Errorf("%s: the QDevice is still configured", s.Host)
		}
		return nil
	})
}

// deviceOn sets the QDevice up again from a member that can log in to its host.
func (r *joinRun) deviceOn(ctx context.Context, t module.Target, host, device string) error {
	states, err := readAll(ctx, t, t.Cluster().Nodes)
	if err != nil {
		return err
	}
	members := pve.MembersOf(states, r.cluster)
	if conf := pve.NewestConf(members); conf != nil && conf.Device == nil {
		from, err := deviceDoor(ctx, t, members, device)
		if err != nil {
			return err
		}
		for _, m := range members {
			// Certificates of an earlier set-up on any node make the new one fail half-way. None is in use: no QDevice is
			// configured.
			if m.DeviceStore {
				if _, err := act(ctx, t, m.Host, transport.Command{Argv: []string{"rm", "-rf", "/etc/corosync/qdevice"}, Mutates: true}); err != nil {
					return fmt.Errorf("%s: remove certificates of an earlier QDevice: %w", m.Host, err)
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
			return fmt.Errorf("%s: set the QDevice up: %w", from, err)
		}
	}
	err = r.await(ctx, t, "the QDevice votes on every node", func(s pve.NodeState) error {
		if s.Quorum == nil || s.Quorum.Device == nil || s.Quorum.Device.Votes == 0 {
			return fmt.Errorf("%s: the QDevice casts no vote (look: corosync-qdevice-tool -s)", s.Host)
		}
		for _, m := range s.Quorum.Members {
			if m.Local && !m.Casting() {
				return fmt.Errorf("%s: its QDevice daemon does not vote (look: systemctl status corosync-qdevice)", s.Host)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return forgetDevice(ctx, t, host)
}

// deviceDoor finds a member from which root can log in to the QDevice's host.
func deviceDoor(ctx context.Context, t module.Target, members []pve.NodeState, device string) (string, error) {
	var errs []error
	for _, m := range members {
		_, err := act(ctx, t, m.Host, transport.Command{
			Argv: []string{"ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "root@" + device, "true"}, Timeout: 30 * time.Second,
		})
		if err == nil {
			return m.Host, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", m.Host, err))
	}
	return "", fmt.Errorf("no node can log in to the QDevice's host %s as root with /root/.ssh/id_rsa: %w", device, errors.Join(errs...))
}

// await waits until something holds on every member.
func (r *joinRun) await(ctx context.Context, t module.Target, name string, holds func(pve.NodeState) error) error {
	return t.WaitFor(ctx, module.Condition{
		Name: name, Timeout: r.args.QuorumTimeout, Every: time.Second,
		Check: func(ctx context.Context) error {
			members := pve.MembersOf(readBrief(ctx, t, t.Cluster().Nodes), r.cluster)
			if len(members) == 0 {
				return fmt.Errorf("no member of cluster %q answers", r.cluster)
			}
			conf := pve.NewestConf(members)
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
