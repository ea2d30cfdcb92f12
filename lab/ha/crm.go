package ha

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The states of a CRM.
const (
	crmWait   = "wait_for_quorum"
	crmSlave  = "slave"
	crmMaster = "master"
	crmLost   = "lost_manager_lock"
)

// The rounds of a CRM (reference §5.5).
const (
	masterRound   = 10 * time.Second
	crmRound      = 5 * time.Second
	crmIdleRounds = 90
)

// crm is the cluster resource manager of one node.
type crm struct {
	*daemon
	state   string
	lock    lock
	fences  map[string]*lock // agent locks of other nodes
	manager *manager
	idle    int // rounds as master without any resource
}

func newCRM(s *Stack) *crm {
	c := &crm{daemon: newDaemon(s, crmUnit), state: crmWait, lock: lock{id: "ha_manager_lock"}, fences: map[string]*lock{}}
	c.work = c.round
	return c
}

func (c *crm) set(state string) {
	if c.state == state {
		return
	}
	c.log(fmt.Sprintf("status change %s => %s", c.state, state))
	c.state = state
	c.manager = nil
	if state == crmMaster {
		old, err := c.managerStatus()
		if err != nil {
			c.log("could not read manager status: " + err.Error())
		}
		c.manager = newManager(c.node.Name(), old, c)
	}
}

// protectedLock is the lock of the master together with its watchdog.
func (c *crm) protectedLock() bool {
	if !c.take(&c.lock) {
		return false
	}
	return c.stack.watchdog.update("crm")
}

func (c *crm) round() time.Duration {
	c.elect()
	stopping := c.isStopping()
	switch c.state {
	case crmMaster:
		if stopping {
			c.stack.watchdog.close("crm")
			c.log("voluntary release CRM lock")
			c.drop(&c.lock)
			return -1
		}
		c.manage()
		return masterRound
	case crmLost:
		c.stack.watchdog.close("crm") // what it does not touch any more needs no fence
		if !stopping {
			c.set(crmWait)
		}
	}
	if stopping {
		c.log("server stopped")
		return -1
	}
	return crmRound
}

// elect is the change of state at the beginning of a round.
func (c *crm) elect() {
	switch c.state {
	case crmWait, crmSlave:
		switch {
		case c.isStopping() && c.state == crmWait:
		case !c.mayBecomeActive():
			c.set(crmWait)
		case c.protectedLock():
			c.set(crmMaster)
		default:
			c.set(crmSlave)
		}
	case crmMaster:
		switch {
		case !c.protectedLock():
			c.set(crmLost)
		case !c.mayBecomeIdle():
			c.idle = 0
		default:
			c.idle++
			if c.idle <= crmIdleRounds {
				return
			}
			c.idle = 0
			c.log(fmt.Sprintf("cluster had no service configured for %d rounds, going idle.", crmIdleRounds))
			c.drop(&c.lock)
			c.stack.watchdog.close("crm")
			c.set(crmWait)
		}
	}
}

// healthy reports whether the node may work for the cluster: it is quorate, and it is not to be fenced itself.
func (c *crm) healthy() (*managerStatus, bool) {
	if !c.quorate() {
		return nil, false
	}
	status, err := c.managerStatus()
	if err != nil {
		c.log("could not read manager status: " + err.Error())
		return nil, false
	}
	for _, s := range status.Services {
		if s.Node == c.node.Name() && s.State == stateFence {
			return nil, false
		}
	}
	return status, true
}

// mayBecomeActive reports whether there is anything to do for a master.
func (c *crm) mayBecomeActive() bool {
	status, ok := c.healthy()
	if !ok {
		return false
	}
	config, _, err := c.config()
	if err != nil {
		c.log("could not read service config: " + err.Error())
		return false
	}
	if len(config.conf) > 0 {
		return true
	}
	if !featuresOf(c.node.Release()).idleCommands {
		return false
	}
	if status.Master != "" && status.Nodes[status.Master] == nodeOnline && status.Master != c.node.Name() {
		return false
	}
	for node, state := range status.Nodes {
		if state == nodeMaintenance && !status.requested(node) {
			return true
		}
	}
	if c.node.Stamp(commandsFile) == absent {
		return false
	}
	pending, err := read(c.view, commandsFile)
	return err == nil && len(pending) > 0
}

func (c *crm) mayBecomeIdle() bool {
	if _, ok := c.healthy(); !ok {
		return false
	}
	config, _, err := c.config()
	return err == nil && len(config.conf) == 0
}

// manage is the work of a master's round.
func (c *crm) manage() {
	f, err := c.facts()
	if err != nil {
		c.log("got unexpected error - " + err.Error())
		return
	}
	if !c.manager.round(f) {
		return
	}
	if d := c.manager.status.Disarm; d != nil && d.State == "disarmed" {
		c.stack.watchdog.close("crm")
	}
	c.manager.status.Time = c.stack.machine.Now().Unix()
	if err := replace(c.view, managerFile, encode(c.manager.status)); err != nil {
		c.log("got unexpected error - unable to write manager status: " + err.Error())
	}
}

// facts reads what a round needs.
func (c *crm) facts() (facts, error) {
	f := facts{
		self: c.node.Name(), members: map[string]bool{}, lrm: map[string]*lrmStatus{}, versions: map[string]string{},
		features: featuresOf(c.node.Release()), balance: c.datacenter().balance,
	}
	quorate := c.quorate()
	for _, name := range c.node.Members() {
		f.members[name] = quorate && c.node.Online(name)
		if other := c.stack.site.world.Node(name); other != nil {
			f.versions[name] = other.Release().Version
		}
	}
	for node := range f.members {
		f.lrm[node] = c.lrmStatus(node)
	}
	config, stamp, err := c.config()
	if err != nil {
		return f, err
	}
	f.conf, f.groups, f.rules, f.placing = config.conf, config.groups, config.rules, stamp
	if !f.features.rules {
		f.rules = nil
	}
	f.conf = make(map[string]*serviceConf, len(config.conf))
	for sid, one := range config.conf {
		f.conf[sid] = one
	}
	f.commands, err = c.takeCommands()
	return f, err
}

// takeCommands empties the queue of commands.
func (c *crm) takeCommands() ([]string, error) {
	if c.node.Stamp(commandsFile) == absent {
		return nil, nil
	}
	if text, err := read(c.view, commandsFile); err != nil || len(text) == 0 {
		return nil, err
	}
	if err := c.node.Phase(c.ctx, phaseCommands, 0); err != nil {
		return nil, err
	}
	var commands []string
	err := c.locked(func() error {
		text, err := read(c.view, commandsFile)
		if err != nil {
			return err
		}
		commands = slices.DeleteFunc(strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), c.stack.site.lost)
		return replace(c.view, commandsFile, nil)
	})
	return commands, err
}
