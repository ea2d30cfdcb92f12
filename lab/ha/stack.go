package ha

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/vfs"
)

// The units of the HA stack.
const (
	crmUnit = "pve-ha-crm"
	lrmUnit = "pve-ha-lrm"
)

// The points at which a fault can cut in.
const (
	phaseCommands = "ha:commands" // the master takes commands from the queue
	phaseStart    = "ha:start"    // an LRM starts, stops or moves a service
	phaseStop     = "ha:stop"
	phaseMigrate  = "ha:migrate"
)

// Phases lists the points at which a fault can cut in.
func Phases() []string { return []string{phaseCommands, phaseStart, phaseStop, phaseMigrate} }

// perlStart is what any of Proxmox's command line tools needs before it does something.
const perlStart = time.Second

// Stack is the HA stack of one node: its daemons, its watchdog and its programs.
type Stack struct {
	site     *Site
	node     *cluster.Node
	machine  *machine.Machine
	clock    clock.Clock
	watchdog *watchdog

	mu  sync.Mutex
	crm *crm // nil while the daemon does not run
	lrm *lrm
	// hung daemons do no rounds.
	hung map[string]bool
}

// Hang makes a daemon ("pve-ha-lrm") do nothing more, or lets it go on.
func (s *Stack) Hang(unit string, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hung[unit] = on
}

func (s *Stack) hangs(unit string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hung[unit]
}

// Install puts the HA stack on a node: units, files, programs and paths of pvesh. Daemons whose units are active begin to
// work at once.
func (s *Site) Install(node *cluster.Node) (*Stack, error) {
	stack := &Stack{site: s, node: node, machine: node.Machine(), clock: s.world.Clock(), hung: map[string]bool{}}
	stack.watchdog = &watchdog{stack: stack, clients: map[string]*watchdogClient{}}
	s.mu.Lock()
	if s.stacks[node.Name()] != nil {
		s.mu.Unlock()
		return nil, fmt.Errorf("%s has an HA stack", node.Name())
	}
	s.stacks[node.Name()] = stack
	s.mu.Unlock()

	m := stack.machine
	if err := stack.addFiles(); err != nil {
		return nil, err
	}
	stack.addUnits()
	m.Register("/usr/sbin/ha-manager", stack.program)
	stack.addPaths()
	m.OnPower(func(up bool) {
		if !up {
			stack.powerLost()
		}
	})
	if m.UnitActive(watchdogUnit) {
		if err := stack.watchdog.muxStarted(); err != nil {
			return nil, err
		}
	}
	if m.UnitActive(crmUnit) {
		stack.startCRM()
	}
	if m.UnitActive(lrmUnit) {
		stack.startLRM()
	}
	return stack, nil
}

func (s *Stack) addFiles() error {
	fs := s.machine.FS
	if _, err := fs.Stat(watchdogDefaults); err != nil {
		text := "# select watchdog module (default is softdog)\n#WATCHDOG_MODULE=ipmi_watchdog\n"
		if err := fs.WriteFile(watchdogDefaults, []byte(text), 0o644); err != nil {
			return err
		}
	}
	if dev, ok := fs.Mounted("/dev").(*vfs.Mem); ok {
		if _, err := fs.Lstat("/dev/watchdog"); err != nil {
			return dev.Device("/watchdog", 0o600, func(int) (vfs.File, error) { return nil, errBusy })
		}
	}
	return nil
}

func (s *Stack) addUnits() {
	m := s.machine
	m.AddUnit(machine.Unit{
		Name: watchdogUnit, Description: "Proxmox VE watchdog multiplexer", Static: true, Enabled: true, Command: "/usr/sbin/watchdog-mux",
		OnStart: func(context.Context) error { return s.watchdog.muxStarted() },
		OnStop:  func(context.Context) error { s.watchdog.muxStopped(); return nil },
	})
	m.AddUnit(machine.Unit{
		Name: crmUnit, Description: "PVE Cluster HA Resource Manager Daemon", Enabled: true, Command: "pve-ha-crm",
		OnStart: func(context.Context) error { s.startCRM(); return nil }, OnStop: s.stopCRM,
	})
	m.AddUnit(machine.Unit{
		Name: lrmUnit, Description: "PVE Local HA Resource Manager Daemon", Enabled: true, Command: "pve-ha-lrm",
		OnStart: func(context.Context) error { s.startLRM(); return nil }, OnStop: s.stopLRM,
	})
}

func (s *Stack) startCRM() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.crm != nil {
		s.crm.end()
	}
	s.crm = newCRM(s)
	s.crm.start()
}

func (s *Stack) startLRM() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lrm != nil {
		s.lrm.end()
	}
	s.lrm = newLRM(s)
	s.lrm.start()
}

func (s *Stack) stopCRM(ctx context.Context) error {
	s.mu.Lock()
	c := s.crm
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	c.log("server received shutdown request")
	return c.stop(ctx)
}

func (s *Stack) stopLRM(ctx context.Context) error {
	s.mu.Lock()
	l := s.lrm
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.stop(ctx)
}

// starved reports whether the daemon of a watchdog's client is only late: see daemon.starved.
func (s *Stack) starved(client string) bool {
	s.mu.Lock()
	c, l := s.crm, s.lrm
	s.mu.Unlock()
	switch {
	case client == "crm" && c != nil:
		return c.starved()
	case client == "lrm" && l != nil:
		return l.starved()
	}
	return false
}

// powerLost ends the daemons with everything else.
func (s *Stack) powerLost() {
	s.mu.Lock()
	c, l := s.crm, s.lrm
	s.crm, s.lrm = nil, nil
	s.mu.Unlock()
	if c != nil {
		c.end()
	}
	if l != nil {
		l.end()
	}
	s.watchdog.forget()
}
