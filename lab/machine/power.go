package machine

import (
	"context"
)

// power is a machine's state.
type power int

const (
	off power = iota
	booting
	running
	stopping
)

// Up reports whether the operating system runs. While it does not, nothing answers.
func (m *Machine) Up() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.power == running || m.power == stopping
}

// Powered reports whether the machine has power, whether or not its operating system runs.
func (m *Machine) Powered() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.power != off
}

// Accepting reports whether the machine's sshd takes new connections.
func (m *Machine) Accepting() bool {
	m.mu.Lock()
	up := m.power == running
	m.mu.Unlock()
	state, ok := m.Unit("ssh.service")
	return up && ok && state.Active == "active"
}

// ShuttingDown reports whether the machine goes down in order, and whether to boot again: what the jobs that systemd has
// queued tell a unit that is being stopped.
func (m *Machine) ShuttingDown() (down, reboot bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.power == stopping, m.power == stopping && m.rebooting
}

// OnPower adds a function that hears when the machine comes up (after its units are started) and when it goes down.
func (m *Machine) OnPower(f func(up bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onPower = append(m.onPower, f)
}

func (m *Machine) tellPower(up bool) {
	m.mu.Lock()
	list := m.onPower
	m.mu.Unlock()
	for _, f := range list {
		f(up)
	}
}

// Boot is how a machine comes up.
type Boot struct {
	// Kernel is the one that runs from now on; "" is the one that ran before.
	Kernel string
	// Stuck ends it here: nothing answers until somebody switches the power off and on.
	Stuck bool
}

// OnBoot sets what decides how the machine comes up, when firmware and boot loader have had their time and before the first unit
// is started. It may take time of its own, until ctx ends with the power. An error leaves the machine stuck.
func (m *Machine) OnBoot(f func(ctx context.Context) (Boot, error)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.onBoot = f
}

// PowerOff cuts the power: every process dies at once, no unit is stopped in order.
func (m *Machine) PowerOff() {
	m.mu.Lock()
	was := m.power
	m.power = off
	if m.endBoot != nil {
		m.endBoot()
	}
	m.mu.Unlock()
	if was == off {
		return
	}
	m.killAll()
	m.units.lost()
	m.tellPower(false)
}

// PowerOn starts a machine that is off. It returns at once; the boot takes Options.BootTime.
func (m *Machine) PowerOn() {
	m.mu.Lock()
	if m.power != off || m.closed {
		m.mu.Unlock()
		return
	}
	m.power = booting
	ctx, end := context.WithCancel(context.Background())
	m.endBoot = end
	m.wg.Go(func() { // with the lock held, so that Close either forbids it or waits for it
		defer end()
		m.boot(ctx)
	})
	m.mu.Unlock()
}

// boot waits for the firmware and the kernel, then starts the enabled units in the order in which they were added.
func (m *Machine) boot(ctx context.Context) {
	if m.clock.Sleep(ctx, m.opt.BootTime) != nil {
		return
	}
	m.mu.Lock()
	decide := m.onBoot
	m.mu.Unlock()
	var way Boot
	if decide != nil {
		var err error
		if way, err = decide(ctx); err != nil || way.Stuck {
			return
		}
	}
	m.mu.Lock()
	if m.power != booting || ctx.Err() != nil {
		m.mu.Unlock()
		return
	}
	if way.Kernel != "" {
		m.opt.Kernel = way.Kernel
	}
	m.power = running
	m.bootID = m.uuid()
	m.bootedAt = m.clock.Elapsed()
	m.mu.Unlock()
	m.clearRun()
	for _, name := range m.units.enabled() {
		if !m.Up() {
			return
		}
		_ = m.StartUnit(context.WithoutCancel(ctx), name) // a unit that fails does not stop the boot; its state shows it
	}
	m.tellPower(true)
}

// Shutdown stops the units in reverse order, ends all processes and leaves the machine off, or boots it again. It
// returns at once.
func (m *Machine) Shutdown(reboot bool) {
	m.mu.Lock()
	if m.power != running || m.closed {
		m.mu.Unlock()
		return
	}
	m.power, m.rebooting = stopping, reboot
	defer m.mu.Unlock()
	m.wg.Go(func() {
		m.stopUnits(context.Background())
		if m.clock.Sleep(context.Background(), m.opt.ShutdownTime) != nil {
			return
		}
		m.PowerOff()
		if reboot {
			m.PowerOn()
		}
	})
}

// Reboot is Shutdown(true).
func (m *Machine) Reboot() { m.Shutdown(true) }

// clearRun empties /run and /tmp, which live in memory on a real machine.
func (m *Machine) clearRun() {
	for _, dir := range []string{"/run", "/tmp"} {
		list, err := m.disk.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, entry := range list {
			_ = m.FS.RemoveAll(dir + "/" + entry.Name)
		}
	}
	for _, dir := range runDirs {
		_ = m.FS.MkdirAll(dir, 0o755)
	}
}
