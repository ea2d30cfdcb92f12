package machine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

func (s *systemctl) control(verb string, names []string) int {
	if s.p.UID != 0 {
		fmt.Fprintf(s.p.Stderr, "Failed to %s %s: Interactive authentication required.\n", verb, strings.Join(names, " "))
		return 1
	}
	if verb == "reset-failed" {
		for _, u := range s.p.Machine.Units() {
			if u.Active == "failed" && (len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return matches(canonicalUnit(n), u.Name) })) {
				s.p.Machine.resetFailed(u.Name)
			}
		}
		return 0
	}
	status := 0
	for _, u := range s.units(names) {
		if u.Load == "not-found" {
			fmt.Fprintf(s.p.Stderr, "Failed to %s %s: Unit %s not found.\n", verb, u.Name, u.Name)
			status = 5
			continue
		}
		if u.Load == "masked" && verb != "stop" {
			fmt.Fprintf(s.p.Stderr, "Failed to %s %s: Unit %s is masked.\n", verb, u.Name, u.Name)
			status = 1
			continue
		}
		if s.opts.has("no-block") {
			s.p.Machine.background(s.ctx, func(ctx context.Context) { _ = s.act(ctx, verb, u) }) // the state shows the outcome
			continue
		}
		if err := s.act(s.ctx, verb, u); err != nil {
			status = 1
			s.complain(verb, u, err)
		}
	}
	return status
}

func (s *systemctl) act(ctx context.Context, verb string, u UnitState) error {
	m := s.p.Machine
	active := u.Active == "active"
	switch verb {
	case "start":
		return m.StartUnit(ctx, u.Name)
	case "stop":
		return m.StopUnit(ctx, u.Name)
	case "restart":
		return m.RestartUnit(ctx, u.Name)
	case "try-restart", "condrestart":
		if active {
			return m.RestartUnit(ctx, u.Name)
		}
	case "reload":
		if u.OnReload == nil {
			return errNoReload
		}
		if !active {
			return errNotActive
		}
		return m.ReloadUnit(ctx, u.Name)
	case "reload-or-restart", "try-reload-or-restart":
		switch {
		case active && u.OnReload != nil:
			return m.ReloadUnit(ctx, u.Name)
		case active || verb == "reload-or-restart":
			return m.RestartUnit(ctx, u.Name)
		}
	case "kill":
		sig, ok := ParseSignal(s.opts.last("s"))
		if !ok || s.opts.last("s") == "" {
			sig = SIGTERM
		}
		if !m.Kill(u.MainPID, sig) {
			m.daemonKilled(u.MainPID)
		}
	}
	return nil
}

var (
	errNoReload  = errors.New("Job type reload is not applicable for unit")
	errNotActive = errors.New("is not active, cannot reload")
)

func (s *systemctl) complain(verb string, u UnitState, err error) {
	switch {
	case errors.Is(err, errNoReload):
		fmt.Fprintf(s.p.Stderr, "Failed to reload %s: Job type reload is not applicable for unit %s.\n", u.Name, u.Name)
	case errors.Is(err, errNotActive):
		fmt.Fprintf(s.p.Stderr, "%s is not active, cannot reload.\n", u.Name)
	case IsCanceled(err):
	default:
		fmt.Fprintf(s.p.Stderr, "Job for %s failed because the control process exited with error code.\nSee \"systemctl status %s\" and \"journalctl -xeu %s\" for details.\n", u.Name, u.Name, u.Name)
	}
}

func (m *Machine) resetFailed(name string) {
	u := m.units.find(name)
	if u == nil {
		return
	}
	m.setState(u, func(s *UnitState) { s.Active, s.Sub, s.Result, s.Restarts = "inactive", "dead", "success", 0 })
	if u.Transient {
		m.RemoveUnit(name)
	}
}

func (s *systemctl) enable(verb string, names []string) int {
	m := s.p.Machine
	if s.p.UID != 0 {
		fmt.Fprintf(s.p.Stderr, "Failed to %s unit: Interactive authentication required.\n", verb)
		return 1
	}
	status := 0
	for _, name := range names {
		u, ok := m.Unit(name)
		if !ok && m.loadUnitFiles() == 0 {
			u, ok = m.Unit(name)
		}
		if !ok && verb != "mask" {
			fmt.Fprintf(s.p.Stderr, "Failed to %s unit: Unit %s does not exist\n", verb, u.Name)
			status = 1
			continue
		}
		link := "/etc/systemd/system/multi-user.target.wants/" + u.Name
		switch verb {
		case "enable", "reenable", "preset":
			if !u.Enabled && !u.Static {
				m.EnableUnit(name, true)
				_ = m.FS.MkdirAll("/etc/systemd/system/multi-user.target.wants", 0o755)
				_ = s.p.view.Symlink("/usr/lib/systemd/system/"+u.Name, link) // it may be there
				fmt.Fprintf(s.p.Stderr, "Created symlink '%s' → '/usr/lib/systemd/system/%s'.\n", link, u.Name)
			}
		case "disable":
			if u.Enabled {
				m.EnableUnit(name, false)
				_ = s.p.view.Remove(link) // units of the base system have no link
				fmt.Fprintf(s.p.Stderr, "Removed '%s'.\n", link)
			}
		case "mask", "unmask":
			m.maskUnit(name, verb == "mask")
		}
		if s.opts.has("now") && status == 0 {
			action := map[string]string{"enable": "start", "disable": "stop", "mask": "stop"}[verb]
			if action != "" {
				status = s.control(action, []string{name})
			}
		}
	}
	return status
}

func (m *Machine) maskUnit(name string, on bool) {
	if u := m.units.find(name); u != nil {
		m.setState(u, func(s *UnitState) {
			s.Load = "loaded"
			if on {
				s.Load = "masked"
			}
		})
	}
}
