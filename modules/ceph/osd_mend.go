package ceph

import (
	"context"
	"fmt"
	"slices"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
)

// mend plans what an OSD on its disk lacks: that it runs, and its device class.
func (w *world) mend(d disk, id int, startStopped bool) []module.Change {
	var changes []module.Change
	o, _ := w.Map.OSD(id)
	daemon, here := w.local[d.host].Daemon("osd", fmt.Sprint(id))
	why := w.stoppedBy(o, daemon)
	switch {
	case !o.Up && here && why != "" && !startStopped:
		w.warn(d.host, "osd.%d is down and left so: %s. Where it shall run again: start_stopped = true in the task, or systemctl start ceph-osd@%d (look: systemctl status ceph-osd@%d; ceph osd tree)", id, why, id, id)
	case !o.Up && w.heldDown(o) != "":
		w.warn(d.host, "osd.%d is down and cannot come up: %s", id, w.heldDown(o))
	case !o.Up && here && (daemon.Unit.Active == "failed" || daemon.Unit.Active == "inactive"):
		changes = append(changes, w.startOSD(d.host, id))
	case !o.Up:
		w.warn(d.host, "osd.%d is down (look: systemctl status ceph-osd@%d; journalctl -u ceph-osd@%d -n 50)", id, id, id)
	case !o.In:
		w.warn(d.host, "osd.%d is out: it gets no data. It is left so; ceph osd in %d takes it back", id, id)
	}
	if d.Class != "" && o.Class != d.Class {
		changes = append(changes, w.classChange(d.host, o, d.Class))
	}
	return changes
}

// stoppedBy says why an OSD that is down looks as if a person meant it; "" if it does not. A unit that was stopped is
// inactive, one that broke is failed. One that never came up was never stopped: its creation has not come to its end.
func (w *world) stoppedBy(o ceph.OSD, d ceph.Daemon) string {
	unit := "ceph-osd@" + d.ID
	switch {
	case d.Unit.Load == "masked", d.Unit.Enabled == "masked", d.Unit.Enabled == "masked-runtime":
		return unit + " is masked"
	case o.NeverIn() || o.NodeName == "":
		return ""
	case d.Unit.Enabled == "disabled":
		return unit + " is disabled"
	case d.Unit.Active == "inactive":
		return unit + " was stopped, it did not fail"
	case !o.In && !slices.Contains(o.State, "autoout"):
		return "somebody has taken it out, Ceph did not"
	}
	return ""
}

// heldDown says which flag keeps an OSD from coming up.
func (w *world) heldDown(o ceph.OSD) string {
	switch {
	case w.Map.Has("noup"):
		return "noup is set on the whole cluster (ceph osd unset noup takes it away)"
	case w.Map.HasOn(o.Host, "noup"):
		return fmt.Sprintf("noup is set on %s (ceph osd unset-group noup %s takes it away)", o.Host, o.Host)
	case slices.Contains(o.State, "noup"):
		return fmt.Sprintf("noup is set on it (ceph osd rm-noup %d takes it away)", o.ID)
	}
	return ""
}

func (w *world) startOSD(host string, id int) module.Change {
	c := w.startChange(host, "osd", fmt.Sprint(id))
	start := c.Apply
	c.Apply = func(ctx context.Context, t module.Target) error {
		if err := start(ctx, t); err != nil {
			return err
		}
		return await(ctx, t, fmt.Sprintf("osd.%d is up", id), host, daemonTimeout, func(c *ceph.Cluster) string {
			if o, _ := c.Map.OSD(id); !o.Up {
				return fmt.Sprintf("osd.%d is down (look: journalctl -u ceph-osd@%d -n 50)", id, id)
			}
			return ""
		})
	}
	return c
}

// classChange moves an OSD to another device class. Data moves where rules ask for classes.
func (w *world) classChange(host string, o ceph.OSD, class string) module.Change {
	actor, id := w.actor(), fmt.Sprintf("osd.%d", o.ID)
	return module.Change{
		ID: fmt.Sprintf("%s/ceph-class/%d", host, o.ID), Host: host, Action: module.Update, Risk: module.RiskDisruptive,
		Summary: fmt.Sprintf("give %s the device class %s", id, class), Before: map[string]any{"class": o.Class}, After: map[string]any{"class": class},
		Apply: func(ctx context.Context, t module.Target) error {
			if o.Class != "" {
				if err := tell(ctx, t, actor, "osd", "crush", "rm-device-class", id); err != nil {
					return err
				}
			}
			if err := tell(ctx, t, actor, "osd", "crush", "set-device-class", class, id); err != nil {
				return err
			}
			return await(ctx, t, id+" has its class", actor, quickTimeout, func(c *ceph.Cluster) string {
				if now, _ := c.Map.OSD(o.ID); now.Class != class {
					return "its class is " + now.Class
				}
				return ""
			})
		},
	}
}
