package ceph

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/transport"
)

// osdTimeout bounds the creation of one OSD: wiping and formatting takes up to a minute, on a slow disk some more.
const osdTimeout = 15 * time.Minute

// create plans one OSD, after everything that pveceph would stumble over.
func (w *world) create(d disk, m ceph.Match, gate string, upWait time.Duration, n *networks, data map[string]string) (module.Change, bool) {
	before := len(w.refusals)
	w.installed(d.host, gate)
	w.linked(d.host, gate)
	w.writable(d.host, gate)
	w.reaches(d.host, gate, "public network", w.public(n))
	w.reaches(d.host, gate, "cluster network", w.private(n))
	after := map[string]any{"disk": m.Disk.Describe(), "device": d.Device}
	for _, part := range []struct{ word, device string }{{"database", d.DBDevice}, {"log", d.WALDevice}} {
		if part.device == "" {
			continue
		}
		on, ok := w.part(d, part.word, part.device, gate)
		if ok && data[d.host+on.Path] != "" {
			w.refuse(d.host, gate, fmt.Sprintf("%s, for the OSD's %s, is to be an OSD itself", part.device, part.word), "a disk for databases alone", "ls -l "+byID, "name another disk")
			continue
		}
		if ok {
			after[part.word] = fmt.Sprintf("%s (%s)", part.device, on.Describe())
		}
	}
	if len(w.refusals) > before {
		return module.Change{}, false
	}
	if d.Class != "" {
		after["class"] = d.Class
	}
	if d.Encrypted {
		after["encrypted"] = true
	}
	c := module.Change{
		ID: d.host + "/" + kindOSD + "/" + path.Base(d.Device), Host: d.host, Action: module.Create, Group: kindOSD,
		Summary: fmt.Sprintf("make an OSD of %s on %s", path.Base(d.Device), d.host), After: after,
	}
	wipe := m.Found != ceph.Free
	if wipe {
		c.Summary = fmt.Sprintf("WIPE %s on %s and make an OSD of it", path.Base(d.Device), d.host)
		c.Risk = module.RiskDestructive
		c.Before = map[string]any{"destroyed": strings.Join(contents(m), "; ")}
	}
	planned := making{disk: d, serial: m.Disk.Serial, size: m.Disk.Size, wipe: wipe, wait: upWait}
	c.Apply = func(ctx context.Context, t module.Target) error { return planned.make(ctx, t) }
	return c, true
}

// contents is what is going to be destroyed.
func contents(m ceph.Match) []string {
	what := m.Disk.Carries()
	if len(what) == 0 && m.Saw != "" {
		what = []string{m.Saw}
	}
	return what
}

// part checks a device for a database or log.
func (w *world) part(d disk, word, device, gate string) (*ceph.Disk, bool) {
	if err := checkByID(device); err != nil {
		w.refuse(d.host, gate, err.Error(), "a path in "+byID, "ls -l "+byID, w.suggest(d.host, device))
		return nil, false
	}
	on, why := ceph.MatchPart(w.local[d.host], device)
	if why != "" {
		w.refuse(d.host, gate, fmt.Sprintf("%s, for the OSD's %s: %s", device, word, why), "a disk with nothing on it, or with databases of other OSDs",
			"lsblk -f; ls -l "+byID, "name another disk; disks for databases are never wiped")
		return nil, false
	}
	if own, ok := w.local[d.host].Disk(d.Device); ok && own.Path == on.Path {
		w.refuse(d.host, gate, fmt.Sprintf("%s and %s are the same disk, %s", d.Device, device, on.Path), "two disks", "ls -l "+byID, "leave the "+word+" out: it lies on the disk itself then")
		return nil, false
	}
	return on, true
}

// making is an OSD that was planned, with what was seen of its disk.
type making struct {
	disk
	serial string
	size   int64
	wipe   bool
	wait   time.Duration
}

// createScript makes an OSD of the disk that was planned and of no other: between plan and act a disk can have been pulled,
// and its name given to the next one. Parameters: the disk, its serial number and size, whether it is wiped, the disks for
// database and log, then options of pveceph.
const createScript = `# make an OSD of the disk that was planned
cd / || exit 1
dev=$(readlink -f "$1"); serial=$2; size=$3; wipe=$4; db=$5; wal=$6; shift 6
if ! [ -b "$dev" ]; then echo "the disk is gone: $dev" >&2; exit 70; fi
now=$(lsblk -dno SERIAL "$dev" | sed 's/^ *//; s/ *$//')
if [ "$now" != "$serial" ]; then echo "it is another disk: serial '$now', planned '$serial'" >&2; exit 70; fi
now=$(lsblk -dbno SIZE "$dev" | tr -d ' ')
if [ "$now" != "$size" ]; then echo "it is another disk: $now bytes, planned $size" >&2; exit 70; fi
if [ -n "$db" ]; then set -- "$@" --db_dev "$(readlink -f "$db")"; fi
if [ -n "$wal" ]; then set -- "$@" --wal_dev "$(readlink -f "$wal")"; fi
if [ "$wipe" = yes ]; then
	ceph-volume lvm zap --destroy "$dev" || exit 71
	# the kernel may still know partitions that are no more
	blockdev --rereadpt "$dev" 2>/dev/null
	udevadm settle --timeout=30 2>/dev/null
fi
exec pveceph osd create "$dev" "$@"`

// options are those of pveceph osd create. The device stands before them.
func (m making) options() []string {
	var out []string
	size := func(option string, gib float64, device string) {
		if device != "" && gib > 0 {
			out = append(out, option, strconv.FormatFloat(gib, 'g', -1, 64))
		}
	}
	size("--db_dev_size", m.DBSize, m.DBDevice)
	size("--wal_dev_size", m.WALSize, m.WALDevice)
	if m.Class != "" {
		out = append(out, "--crush-device-class", m.Class)
	}
	if m.Encrypted {
		out = append(out, "--encrypted", "1")
	}
	return out
}

// make looks at the disk once more, makes the OSD, and waits until the cluster has it up.
func (m making) make(ctx context.Context, t module.Target) error {
	found, err := m.match(ctx, t)
	if err != nil {
		return err
	}
	gate := fmt.Sprintf("make an OSD of %s", m.Device)
	switch {
	case found.Found == ceph.HasOSD:
		return m.await(ctx, t) // somebody else has made it, or an earlier run of this program
	case found.Found == ceph.Free:
	case !m.wipe || !mayWipe(found, m.Wipe):
		return &module.Refusal{Host: m.host, Gate: gate, Saw: found.Saw, Want: "the disk as it was planned", Look: found.Look, Override: "plan again"}
	}
	wipe := "no"
	if m.wipe && found.Found != ceph.Free {
		wipe = "yes"
	}
	argv := append([]string{m.Device, m.serial, strconv.FormatInt(m.size, 10), wipe, m.DBDevice, m.WALDevice}, m.options()...)
	failed := work(ctx, t, m.host, module.Job{
		Name: "ceph-osd-" + path.Base(m.Device), Timeout: osdTimeout, Command: transport.Command{Script: createScript, Argv: argv, Mutates: true},
	})
	if failed == nil {
		return m.await(ctx, t)
	}
	// It may have been made all the same: a command that is lost on the way is no reason to think that it failed.
	if found, err = m.match(ctx, t); err == nil && found.Found == ceph.HasOSD {
		return m.await(ctx, t)
	}
	text := fmt.Sprintf("%s: pveceph osd create %s: %s", m.host, m.Device, said(failed))
	if err == nil {
		text += leftovers(found)
	}
	return errors.New(text)
}

// leftovers tells what a creation that failed has left on the disk.
func leftovers(m ceph.Match) string {
	switch {
	case m.Found == ceph.Free || m.Disk == nil:
		return "\n  the disk is still empty; look at ceph osd tree for an id without a host"
	case m.Found == ceph.Cut:
		return fmt.Sprintf("\n  %s; clean up with: ceph osd purge %d --yes-i-really-mean-it; ceph-volume lvm zap --destroy %s", m.Saw, m.OSD, m.Disk.Path)
	}
	return fmt.Sprintf("\n  on the disk now: %s; clean up with: ceph-volume lvm zap --destroy %s; look at ceph osd tree for an id without a host", strings.Join(contents(m), "; "), m.Disk.Path)
}

// match compares the disk with the present.
func (m making) match(ctx context.Context, t module.Target) (ceph.Match, error) {
	n, err := readNode(ctx, t, m.host)
	if err != nil {
		return ceph.Match{}, err
	}
	c, err := m.cluster(ctx, t)
	if err != nil {
		return ceph.Match{}, err
	}
	return ceph.MatchDisk(n, c.Map, c.Conf.FSID, m.Device), nil
}

// cluster asks the node itself, or, where Ceph was not used before, one that has a monitor.
func (m making) cluster(ctx context.Context, t module.Target) (*ceph.Cluster, error) {
	var errs []error
	for _, host := range append([]string{m.host}, t.Cluster().Nodes...) {
		c, err := readCluster(ctx, t, host)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("no monitor answers: %w", errs[0])
}

func (m making) await(ctx context.Context, t module.Target) error {
	return t.WaitFor(ctx, module.Condition{
		Name: fmt.Sprintf("the OSD on %s of %s is up", path.Base(m.Device), m.host), Timeout: m.wait,
		Check: func(ctx context.Context) error {
			n, err := readNode(ctx, t, m.host)
			if err != nil {
				return err
			}
			c, err := m.cluster(ctx, t)
			if err != nil {
				return err
			}
			found := ceph.MatchDisk(n, c.Map, c.Conf.FSID, m.Device)
			if found.Found == ceph.Free {
				return errors.New("pveceph ended well, and the disk is empty (look: ceph-volume lvm list)")
			}
			if found.Found != ceph.HasOSD && found.Found != ceph.Cut {
				return errors.New(found.Saw)
			}
			o, _ := c.Map.OSD(found.OSD)
			if !o.Up {
				return fmt.Errorf("osd.%d is down (look: journalctl -u ceph-osd@%d -n 50)", found.OSD, found.OSD)
			}
			return nil
		},
	})
}
