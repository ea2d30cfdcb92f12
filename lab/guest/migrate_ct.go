package guest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// prepareContainer are the checks of a container inside the task.
func (m *migration) prepareContainer(ctx context.Context) error {
	if m.running && m.online && !m.restart {
		return errors.New("lxc live migration is currently not implemented")
	}
	all := m.storages()
	for _, d := range m.k.drivesOf(m.conf.Values) {
		if d.unused || d.opts["shared"] == "1" {
			continue
		}
		sid, _, ok := d.volume()
		if !ok {
			what := "bind"
			if strings.HasPrefix(d.file, "/dev/") {
				what = "device"
			}
			return fmt.Errorf("cannot migrate local %s mount point '%s'", what, d.key)
		}
		to := m.destination(sid)
		for _, check := range []struct{ storage, node string }{{sid, m.name}, {to, m.target}} {
			if err := checkStorage(all, check.storage, check.node); err != nil {
				return err
			}
		}
		if !slices.Contains(all[to].content, m.k.diskType) {
			return fmt.Errorf("%s: content type '%s' is not available on storage '%s'", d.file, m.k.diskType, to)
		}
		if !all[sid].shared && !slices.Contains(migratable, all[sid].kind) {
			return fmt.Errorf("storage type '%s' not supported", all[sid].kind)
		}
	}
	return m.connect(ctx)
}

// moveContainer moves a container: a running one is shut down, moved and started again.
func (m *migration) moveContainer(ctx context.Context) error {
	if err := m.prepareContainer(ctx); err != nil {
		return err
	}
	restart := m.running
	if restart {
		m.log("shutdown CT %d", m.id)
		if err := m.halt(ctx, m.k, m.id, m.timeout, true); err != nil {
			return err
		}
		m.running = false
	}
	if err := m.phase(ctx, "migrate:start"); err != nil {
		return err
	}
	m.log("starting migration of CT %d to node '%s' (%s)", m.id, m.target, m.ip)
	err := m.lock(ctx, true)
	if err == nil {
		err = m.phase(ctx, "migrate:locked")
	}
	if err == nil {
		m.logShared()
		err = m.scan()
	}
	if err == nil {
		err = m.copyOffline(ctx)
	}
	if err == nil {
		m.log("start final cleanup")
		err = m.reassign(ctx)
	}
	if killed(ctx, err) {
		return pvetool.ErrKilled
	}
	if err != nil {
		m.logError(err)
		m.log("aborting phase 1 - cleanup resources")
		m.log("start final cleanup")
		m.cleanup(ctx)
		if restart {
			m.log("start container on source node")
			if start := m.launch(ctx, m.k, m.id, startOptions{skipLock: true}, func(line string) { m.log("%s", line) }); start != nil {
				m.logError(start)
			}
		}
		return err
	}
	return m.finishContainer(ctx, restart)
}

// logShared names the volumes that need no copy.
func (m *migration) logShared() {
	all := m.storages()
	for _, d := range m.k.drivesOf(m.conf.Values) {
		if sid, _, ok := d.volume(); ok && all[sid] != nil && all[sid].shared {
			m.log("volume '%s' is on shared storage '%s'", d.file, sid)
		}
	}
}

// finishContainer starts the container on the target once its config is there.
func (m *migration) finishContainer(ctx context.Context, restart bool) error {
	steps := []func() error{
		func() error { return m.phase(ctx, "migrate:moved") },
		func() error { return m.unlockOnTarget(ctx) },
	}
	if restart {
		steps = append(steps, func() error {
			m.log("start container on target node")
			if code := m.ssh(ctx, "pct", "start", fmt.Sprint(m.id), "--skiplock", "1"); code != 0 {
				return fmt.Errorf("command 'pct start %d' on node '%s' failed: exit code %d", m.id, m.target, code)
			}
			return nil
		})
	}
	for _, step := range steps {
		err := step()
		if killed(ctx, err) {
			return pvetool.ErrKilled
		}
		if err != nil {
			m.logError(err)
			m.failed = true
		}
	}
	return nil
}
