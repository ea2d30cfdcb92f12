package guest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/moves"
)

// diskMover moves one disk.
type diskMover struct {
	actor  string
	guest  guest.Guest
	volume guest.Volume
	args   moveDiskArgs
}

func (m *diskMover) command() []string {
	verb, id := "move-disk", strconv.Itoa(m.guest.ID)
	if m.guest.Kind == guest.CT {
		verb = "move-volume"
	}
	argv := []string{m.guest.Kind.Tool(), verb, id, m.args.Disk, m.args.Storage}
	if m.args.Format != "" {
		argv = append(argv, "--format", m.args.Format)
	}
	if m.args.DeleteSource {
		argv = append(argv, "--delete", "1")
	}
	if m.args.Bwlimit > 0 {
		argv = append(argv, "--bwlimit", strconv.Itoa(m.args.Bwlimit))
	}
	return argv
}

// move looks again, copies, and judges by the config.
func (m *diskMover) move(ctx context.Context, t module.Target) error {
	w, err := again(ctx, t, m.actor, m.guest.Node)
	if err != nil {
		return err
	}
	g, there := w.Guest(m.guest.ID)
	if there && g.Node != m.guest.Node {
		return fmt.Errorf("%s is on %s now, and was on %s when this was planned: plan again", g, g.Node, m.guest.Node)
	}
	gate := fmt.Sprintf("move %s of %s to storage %s", m.args.Disk, m.guest, m.args.Storage)
	if refusals := w.refuseDisk(gate, g, there, m.args); len(refusals) > 0 {
		return refusals
	}
	c := transport.Command{Argv: m.command(), Mutates: true}
	var lines moves.Tail
	c.Output = func(_ transport.Stream, line string) { lines.Add(line) }
	r, err := t.Detach(ctx, m.guest.Node, module.Job{Name: fmt.Sprintf("move-disk-%d-%s", m.guest.ID, m.args.Disk), Command: c, Timeout: m.args.MoveTimeout})
	lines.Add(string(r.Stdout))
	lines.Add(string(r.Stderr))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var failed error
	switch {
	case err != nil:
		failed = fmt.Errorf("%w\nA copy that is at work is not cut off. Look: %s config %d on %s", err, m.guest.Kind.Tool(), m.guest.ID, m.guest.Node)
	case r.Exit != 0:
		failed = fmt.Errorf("%s: exit %d: %s", strings.Join(c.Argv[:3], " "), r.Exit, moves.Because(lines.Text()))
	}
	return m.settle(ctx, t, failed)
}

// settle looks where the disk is, and what became of the old volume.
func (m *diskMover) settle(ctx context.Context, t module.Target, failed error) error {
	var now guest.Guest
	err := t.WaitFor(ctx, module.Condition{Name: fmt.Sprintf("%s of %s is on %s", m.args.Disk, m.guest, m.args.Storage), Timeout: time.Minute, Check: func(ctx context.Context) error {
		w, err := again(ctx, t, m.actor)
		if err != nil {
			return err
		}
		g, _ := w.Guest(m.guest.ID)
		now = g
		v, has := diskOf(g, m.args.Disk)
		switch {
		case has && v.Storage == m.args.Storage && v.File != m.volume.File && g.Lock == "":
			return nil
		case failed != nil && g.Lock == "":
			return module.Fatal(fmt.Errorf("%s is still %s", m.args.Disk, v.File))
		case g.Lock != "":
			return fmt.Errorf("%s is locked (%s); look: %s config %d", g, g.Lock, g.Kind.Tool(), g.ID)
		}
		return fmt.Errorf("%s is still %s", m.args.Disk, v.File)
	}})
	if err != nil {
		if failed != nil {
			return fmt.Errorf("%w\nNow %s", failed, err.Error())
		}
		return fmt.Errorf("the task ended well, and yet: %w", err)
	}
	if failed != nil {
		t.Warn(m.guest.Node, fmt.Sprintf("%s of %s is on %s, although its task failed: %s", m.args.Disk, m.guest, m.args.Storage, moves.FirstLine(failed)))
	}
	return m.oldVolume(ctx, t, now)
}

// oldVolume removes the old volume if that was asked for and Proxmox VE has left it as an unused disk, which it does where it
// could not delete it at once.
func (m *diskMover) oldVolume(ctx context.Context, t module.Target, now guest.Guest) error {
	i := slices.IndexFunc(now.Volumes, func(v guest.Volume) bool { return v.File == m.volume.File && v.Unused })
	switch {
	case i >= 0 && !m.args.DeleteSource:
		t.Log(m.guest.Node, fmt.Sprintf("the old volume %s stays as %s", m.volume.File, now.Volumes[i].Key))
		return nil
	case i < 0 || !m.args.DeleteSource:
		return nil
	}
	conn, err := t.Conn(ctx, m.guest.Node)
	if err != nil {
		return err
	}
	c := transport.Command{Argv: []string{m.guest.Kind.Tool(), "set", strconv.Itoa(m.guest.ID), "--delete", now.Volumes[i].Key}, Mutates: true, Timeout: 5 * time.Minute}
	r, err := conn.Run(ctx, c)
	if err == nil {
		err = r.Err(c)
	}
	if err == nil {
		w, look := again(ctx, t, m.actor)
		if look != nil {
			return look
		}
		g, _ := w.Guest(m.guest.ID)
		if slices.ContainsFunc(g.Volumes, func(v guest.Volume) bool { return v.File == m.volume.File }) {
			err = errors.New("it is still in the config")
		}
	}
	if err != nil {
		return fmt.Errorf("the disk has moved, and the old volume %s could not be deleted: %w\nLook: %s config %d", m.volume.File, err, m.guest.Kind.Tool(), m.guest.ID)
	}
	return nil
}
