package machine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// UnitState is what systemctl shows of a unit.
type UnitState struct {
	Unit
	Active, Sub string // "active" "running"
	Load        string // "loaded", "not-found", "masked"
	Result      string // "success", "exit-code", "signal", "timeout"
	ExitStatus  int
	ExitCode    int // 1 exited, 2 killed, as CLD_* codes
	MainPID     int
	Restarts    int
	Since       time.Time
	// Began is the uptime at which its process began.
	Began     time.Duration
	Transient bool
}

// units is a machine's systemd.
type units struct {
	mu   sync.Mutex
	list []*unit // in the order of boot
}

type unit struct {
	UnitState
	job     sync.Mutex // one start, stop or reload at a time
	process *process   // of a transient unit
	done    chan struct{}
	collect bool
}

// canonicalUnit adds .service where a name has no type.
func canonicalUnit(name string) string {
	for _, suffix := range []string{".service", ".timer", ".target", ".socket", ".mount", ".slice", ".path", ".scope"} {
		if strings.HasSuffix(name, suffix) {
			return name
		}
	}
	return name + ".service"
}

func (u *units) find(name string) *unit {
	name = canonicalUnit(name)
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, one := range u.list {
		if one.Name == name {
			return one
		}
	}
	return nil
}

// AddUnit makes a unit known, inactive. Units are started at boot in the order in which they were added. Adding one of
// the same name replaces its hooks and keeps its state.
func (m *Machine) AddUnit(add Unit) {
	add.Name = canonicalUnit(add.Name)
	if old := m.units.find(add.Name); old != nil {
		m.units.mu.Lock()
		old.Unit = add
		m.units.mu.Unlock()
		return
	}
	m.units.mu.Lock()
	defer m.units.mu.Unlock()
	m.units.list = append(m.units.list, &unit{UnitState: UnitState{
		Unit: add, Active: "inactive", Sub: "dead", Load: "loaded", Result: "success", Since: m.Now(),
	}})
}

// RemoveUnit forgets a unit, as after its package is removed.
func (m *Machine) RemoveUnit(name string) {
	name = canonicalUnit(name)
	m.units.mu.Lock()
	defer m.units.mu.Unlock()
	m.units.list = slices.DeleteFunc(m.units.list, func(u *unit) bool { return u.Name == name })
}

// Unit returns a unit's state and whether it exists.
func (m *Machine) Unit(name string) (UnitState, bool) {
	u := m.units.find(name)
	if u == nil {
		return UnitState{Unit: Unit{Name: canonicalUnit(name)}, Active: "inactive", Sub: "dead", Load: "not-found", Result: "success"}, false
	}
	m.units.mu.Lock()
	defer m.units.mu.Unlock()
	return u.UnitState, true
}

// Units returns all units in the order of boot.
func (m *Machine) Units() []UnitState {
	m.units.mu.Lock()
	defer m.units.mu.Unlock()
	list := make([]UnitState, len(m.units.list))
	for i, u := range m.units.list {
		list[i] = u.UnitState
	}
	return list
}

// SetUnitState overrides what a unit shows: a model says with it that a daemon crashed or finished by itself.
func (m *Machine) SetUnitState(name, active, sub, result string) {
	if u := m.units.find(name); u != nil {
		m.setState(u, func(s *UnitState) { s.Active, s.Sub, s.Result = active, sub, result })
	}
}

// EnableUnit sets whether a unit starts at boot. It reports whether the unit exists.
func (m *Machine) EnableUnit(name string, on bool) bool {
	u := m.units.find(name)
	if u == nil {
		return false
	}
	m.units.mu.Lock()
	defer m.units.mu.Unlock()
	u.Enabled = on
	return true
}

func (m *Machine) setState(u *unit, change func(*UnitState)) {
	now, up, pid := m.Now(), m.Uptime(), 0
	m.units.mu.Lock()
	defer m.units.mu.Unlock()
	was := u.Active
	change(&u.UnitState)
	if was != u.Active {
		u.Since = now
	}
	if u.Active == "active" && u.MainPID == 0 && !u.Oneshot && strings.HasSuffix(u.Name, ".service") && !u.Transient {
		pid = m.nextPID()
		u.MainPID, u.Began = pid, up
	}
	if u.Active == "inactive" || u.Active == "failed" {
		u.MainPID = 0
	}
}

func (m *Machine) nextPID() int {
	m.procs.mu.Lock()
	defer m.procs.mu.Unlock()
	m.procs.last++
	if m.procs.last < 400 {
		m.procs.last = 400
	}
	return m.procs.last
}

// ErrUnitNotFound is what starting an unknown unit gives.
type ErrUnitNotFound struct{ Name string }

func (e *ErrUnitNotFound) Error() string { return "Unit " + e.Name + " not found." }

// ErrUnitFailed is a unit whose start failed.
type ErrUnitFailed struct {
	Name  string
	Cause error
}

func (e *ErrUnitFailed) Error() string { return fmt.Sprintf("unit %s: %v", e.Name, e.Cause) }

// Unwrap gives the cause.
func (e *ErrUnitFailed) Unwrap() error { return e.Cause }

// StartUnit starts a unit and those it needs. Starting what is active does nothing.
func (m *Machine) StartUnit(ctx context.Context, name string) error {
	u := m.units.find(name)
	if u == nil {
		return &ErrUnitNotFound{Name: canonicalUnit(name)}
	}
	for _, first := range u.After {
		if m.units.find(first) == nil {
			continue
		}
		if err := m.StartUnit(ctx, first); err != nil {
			return &ErrUnitFailed{Name: u.Name, Cause: err}
		}
	}
	u.job.Lock()
	defer u.job.Unlock()
	return m.startLocked(ctx, u)
}

func (m *Machine) startLocked(ctx context.Context, u *unit) error {
	state, _ := m.Unit(u.Name)
	if state.Active == "active" {
		return nil
	}
	if !m.conditionMet(u) {
		return nil
	}
	m.setState(u, func(s *UnitState) { s.Active, s.Sub = "activating", "start" })
	m.Log(Entry{Unit: u.Name, Ident: "systemd", PID: 1, Priority: 6, Text: fmt.Sprintf("Starting %s - %s...", u.Name, u.Description)})
	if hook := m.startHook(u); hook != nil {
		if err := hook(ctx); err != nil {
			m.setState(u, func(s *UnitState) {
				s.Active, s.Sub, s.Result, s.ExitStatus, s.ExitCode = "failed", "failed", "exit-code", 1, 1
			})
			m.Log(Entry{Unit: u.Name, Ident: "systemd", PID: 1, Priority: 3, Text: fmt.Sprintf("%s: Failed with result 'exit-code'.", u.Name)})
			m.Log(Entry{Unit: u.Name, Ident: "systemd", PID: 1, Priority: 3, Text: fmt.Sprintf("Failed to start %s - %s.", u.Name, u.Description)})
			return &ErrUnitFailed{Name: u.Name, Cause: err}
		}
	}
	m.setState(u, func(s *UnitState) {
		s.Active, s.Sub, s.Result = "active", "running", "success"
		switch {
		case u.Oneshot:
			s.Sub = "exited"
		case strings.HasSuffix(u.Name, ".timer"):
			s.Sub = "waiting"
		case strings.HasSuffix(u.Name, ".target"):
			s.Sub = "active"
		}
	})
	m.Log(Entry{Unit: u.Name, Ident: "systemd", PID: 1, Priority: 6, Text: fmt.Sprintf("Started %s - %s.", u.Name, u.Description)})
	return nil
}

func (m *Machine) conditionMet(u *unit) bool {
	m.units.mu.Lock()
	condition := u.Condition
	m.units.mu.Unlock()
	return condition == nil || condition()
}

// UnitActive reports whether a unit is active.
func (m *Machine) UnitActive(name string) bool {
	state, _ := m.Unit(name)
	return state.Active == "active"
}

// FailUnit makes a unit look crashed, without calling its OnStop.
func (m *Machine) FailUnit(name string) { m.SetUnitState(name, "failed", "failed", "signal") }

// BreakUnit makes every start of a unit fail, with a reason for the journal; "" mends it.
func (m *Machine) BreakUnit(name, why string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken == nil {
		m.broken = map[string]string{}
	}
	m.broken[canonicalUnit(name)] = why
}

// startHook is what a start of a unit calls; nil if nothing.
func (m *Machine) startHook(u *unit) func(context.Context) error {
	m.mu.Lock()
	why := m.broken[u.Name]
	m.mu.Unlock()
	if why != "" {
		return func(context.Context) error { return errors.New(why) }
	}
	return m.hook(u, func(u Unit) func(context.Context) error { return u.OnStart })
}

// hook reads one of a unit's hooks under the lock, so that AddUnit may replace it at any time.
func (m *Machine) hook(u *unit, which func(Unit) func(context.Context) error) func(context.Context) error {
	m.units.mu.Lock()
	defer m.units.mu.Unlock()
	return which(u.Unit)
}

// StopUnit stops a unit. Stopping what is not active does nothing, but a failed unit stays failed.
func (m *Machine) StopUnit(ctx context.Context, name string) error {
	u := m.units.find(name)
	if u == nil {
		return &ErrUnitNotFound{Name: canonicalUnit(name)}
	}
	m.units.mu.Lock()
	process := u.process
	m.units.mu.Unlock()
	if process != nil {
		process.signal(SIGTERM)
		select {
		case <-u.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}
	u.job.Lock()
	defer u.job.Unlock()
	return m.stopLocked(ctx, u)
}

func (m *Machine) stopLocked(ctx context.Context, u *unit) error {
	if state, _ := m.Unit(u.Name); state.Active != "active" && state.Active != "activating" {
		return nil
	}
	m.setState(u, func(s *UnitState) { s.Active, s.Sub = "deactivating", "stop-sigterm" })
	m.Log(Entry{Unit: u.Name, Ident: "systemd", PID: 1, Priority: 6, Text: fmt.Sprintf("Stopping %s - %s...", u.Name, u.Description)})
	var err error
	if hook := m.hook(u, func(u Unit) func(context.Context) error { return u.OnStop }); hook != nil {
		err = hook(ctx)
	}
	m.setState(u, func(s *UnitState) {
		s.Active, s.Sub, s.Result = "inactive", "dead", "success"
		if err != nil {
			s.Active, s.Sub, s.Result = "failed", "failed", "exit-code"
		}
	})
	m.Log(Entry{Unit: u.Name, Ident: "systemd", PID: 1, Priority: 6, Text: fmt.Sprintf("Stopped %s - %s.", u.Name, u.Description)})
	if err != nil {
		return &ErrUnitFailed{Name: u.Name, Cause: err}
	}
	return nil
}

// RestartUnit stops and starts a unit.
func (m *Machine) RestartUnit(ctx context.Context, name string) error {
	u := m.units.find(name)
	if u == nil {
		return &ErrUnitNotFound{Name: canonicalUnit(name)}
	}
	u.job.Lock()
	defer u.job.Unlock()
	if err := m.stopLocked(ctx, u); err != nil {
		return err
	}
	return m.startLocked(ctx, u)
}

// ReloadUnit calls a unit's OnReload.
func (m *Machine) ReloadUnit(ctx context.Context, name string) error {
	u := m.units.find(name)
	if u == nil {
		return &ErrUnitNotFound{Name: canonicalUnit(name)}
	}
	u.job.Lock()
	defer u.job.Unlock()
	hook := m.hook(u, func(u Unit) func(context.Context) error { return u.OnReload })
	if hook == nil {
		return nil
	}
	return hook(ctx)
}

// enabled names the units that start at boot.
func (u *units) enabled() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	var names []string
	for _, one := range u.list {
		if one.Enabled || one.Static && one.Oneshot {
			names = append(names, one.Name)
		}
	}
	return names
}

// lost marks everything inactive: the power went. Transient units are gone.
func (u *units) lost() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.list = slices.DeleteFunc(u.list, func(one *unit) bool { return one.Transient })
	for _, one := range u.list {
		one.Active, one.Sub, one.Result, one.MainPID, one.Restarts = "inactive", "dead", "success", 0, 0
	}
}

// stopUnits stops all active units in reverse order of boot.
func (m *Machine) stopUnits(ctx context.Context) {
	list := m.Units()
	slices.Reverse(list)
	for _, u := range list {
		_ = m.StopUnit(ctx, u.Name) // a shutdown goes on over units that refuse
	}
}

// daemonProcesses are the processes of active units.
func (m *Machine) daemonProcesses() []Process {
	var list []Process
	for _, u := range m.Units() {
		if u.MainPID == 0 || u.Transient {
			continue
		}
		argv := strings.Fields(u.Command)
		if len(argv) == 0 {
			argv = []string{"/usr/sbin/" + strings.TrimSuffix(u.Name, ".service")}
		}
		list = append(list, Process{PID: u.MainPID, PPID: 1, Argv: argv, Started: u.Began})
	}
	return list
}
