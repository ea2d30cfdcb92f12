package machine

import "context"

// installUnits adds the units of the base system, running.
func (m *Machine) installUnits() {
	for _, u := range []Unit{
		{Name: "systemd-journald.service", Description: "Journal Service", Static: true, Command: "/usr/lib/systemd/systemd-journald"},
		{Name: "systemd-logind.service", Description: "User Login Management", Static: true, Command: "/usr/lib/systemd/systemd-logind"},
		{Name: "dbus.service", Description: "D-Bus System Message Bus", Static: true, Command: "/usr/bin/dbus-daemon --system"},
		{Name: "networking.service", Description: "Network initialization", Enabled: true, Oneshot: true},
		{Name: "cron.service", Description: "Regular background program processing daemon", Enabled: true, Command: "/usr/sbin/cron -f"},
		{Name: "chrony.service", Description: "chrony, an NTP client/server", Enabled: true, Command: "/usr/sbin/chronyd -F 1"},
		{
			Name: "ssh.service", Description: "OpenBSD Secure Shell server", Enabled: true, Command: "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",
			OnReload: func(context.Context) error { return nil },
		},
		{Name: "multi-user.target", Description: "Multi-User System", Static: true, Oneshot: true},
	} {
		m.AddUnit(u)
		m.setState(m.units.find(u.Name), func(s *UnitState) {
			s.Active, s.Sub = "active", "running"
			if u.Oneshot {
				s.Sub = "exited"
			}
		})
	}
}

// isDaemon reports whether a process number is an active unit's.
func (m *Machine) isDaemon(pid int) bool {
	for _, p := range m.daemonProcesses() {
		if p.PID == pid {
			return true
		}
	}
	return pid == 1
}
