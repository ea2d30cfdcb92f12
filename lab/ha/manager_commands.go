package ha

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// commands takes in what crm_commands held. What is refused is only in the journal (reference §5.5).
func (m *manager) commands() {
	for _, line := range m.f.commands {
		words := strings.Fields(line)
		switch {
		case len(words) == 3 && (words[0] == stateMigrate || words[0] == stateRelocate):
			m.commandMove(line, words[0], words[1], words[2])
		case len(words) == 3 && words[0] == "stop":
			m.commandStop(line, words[1], words[2])
		case len(words) == 2 && words[0] == "enable-node-maintenance":
			m.commandMaintenance(line, words[1])
		case len(words) == 2 && words[0] == "disable-node-maintenance":
			m.commandMaintenanceEnd(words[1])
		case m.f.features.fencing && len(words) == 2 && words[0] == "disarm-ha":
			m.commandDisarm(words[1])
		case m.f.features.fencing && line == "arm-ha":
			m.commandArm()
		default:
			m.logf("unable to parse crm command: %s", line)
		}
	}
}

func (m *manager) commandMove(line, task, sid, node string) {
	s := m.status.Services[sid]
	switch {
	case s == nil:
		m.logf("crm command error - no such service: %s", line)
		return
	case !m.nodes.isOnline(node):
		m.logf("crm command error - node not online: %s", line)
		return
	case node == s.Node:
		m.logf("ignore crm command - service already on target node: %s", line)
		return
	}
	for _, other := range slices.Sorted(slices.Values(m.placed.apart[sid])) {
		if o := m.status.Services[other]; o != nil && (o.Node == node || o.Target == node) {
			m.logf("crm command '%s' error - service '%s' on node '%s' in negative affinity with service '%s'", line, other, node, sid)
			return
		}
	}
	m.logf("got crm command: %s", line)
	s.Command = []string{task, node}
	for _, other := range slices.Sorted(slices.Values(m.placed.together[sid])) {
		if o := m.status.Services[other]; o != nil && o.Node != node && o.Target != node {
			m.logf("crm command '%s' - %s service '%s' to node '%s' (service '%s' in positive affinity with service '%s')",
				line, task, other, node, other, sid)
			o.Command = []string{task, node}
		}
	}
}

func (m *manager) commandStop(line, sid, timeout string) {
	s := m.status.Services[sid]
	if s == nil {
		m.logf("crm command error - no such service: %s", line)
		return
	}
	m.logf("got crm command: %s", line)
	s.Command = []string{"stop", timeout}
}

func (m *manager) commandMaintenance(line, node string) {
	switch state := m.nodes.state(node); {
	case m.status.Disarm != nil:
		m.logf("ignoring maintenance command for node %s - HA stack is disarmed", node)
	case state == nodeOnline:
		m.request(node, 1)
	case state == nodeMaintenance:
		m.logf("ignoring crm command - node %s is already in maintenance state", node)
	default:
		m.logf("crm command error - node not online: %s", line)
	}
}

func (m *manager) commandMaintenanceEnd(node string) {
	if m.status.Disarm != nil {
		m.logf("ignoring maintenance command for node %s - HA stack is disarmed", node)
		return
	}
	if state := m.nodes.state(node); state != nodeMaintenance {
		m.logf("clearing maintenance of node %s requested, but it's in state %s", node, state)
	}
	m.request(node, 0)
}

func (m *manager) request(node string, maintenance int) {
	if m.status.Requests == nil {
		m.status.Requests = map[string]nodeRequest{}
	}
	m.status.Requests[node] = nodeRequest{Maintenance: maintenance}
}

func (m *manager) commandDisarm(mode string) {
	if m.status.Disarm != nil {
		m.logf("ignoring disarm-ha command - already in disarm state (%s)", m.status.Disarm.State)
		return
	}
	m.logf("got crm command: disarm-ha %s", mode)
	m.status.Disarm = &disarm{Mode: mode, State: "disarming"}
}

func (m *manager) commandArm() {
	if m.status.Disarm == nil {
		m.env.log("ignoring arm-ha command - HA stack is not disarmed")
		return
	}
	m.env.log("re-arming HA stack")
	m.status.Disarm = nil
}

// unsettled are the states in which a service must not be left to itself.
var unsettled = []string{stateFence, stateRecovery, stateMigrate, stateRelocate, stateBalance}

// disarmRound reports whether the services are to be left alone. Disarming waits for those that fence, recover or move, and
// is done when no LRM of an online node holds its lock any more; nodes that are away do not count.
func (m *manager) disarmRound() bool {
	d := m.status.Disarm
	if d == nil {
		return false
	}
	if d.State == "disarmed" {
		return true
	}
	for _, sid := range slices.Sorted(maps.Keys(m.status.Services)) {
		if slices.Contains(unsettled, m.status.Services[sid].State) {
			m.logf("deferring disarm - service '%s' is in state '%s'", sid, m.status.Services[sid].State)
			return false
		}
	}
	for _, node := range m.nodes.names() {
		s := m.f.lrm[node]
		if m.f.members[node] && (s == nil || s.Mode != modeDisarm || s.State != lrmWait) {
			return true
		}
	}
	m.env.log("all LRMs disarmed, HA stack is now fully disarmed")
	d.State = "disarmed"
	return true
}

// groupRounds pass between two tries to make rules of the groups.
const groupRounds = 6

// migrateGroups makes rules of the groups once all nodes allow it (reference §5.3).
func (m *manager) migrateGroups() {
	if !m.f.features.rules || len(m.f.groups) == 0 || m.status.Disarm != nil {
		return
	}
	if m.groupRound--; m.groupRound > 0 {
		return
	}
	m.groupRound = groupRounds
	m.env.log("start ha group migration...")
	err := m.canMigrateGroups()
	if err == nil {
		rules, failback := withGroups(m.f.rules, m.f.groups, m.f.conf)
		err = m.env.migrateGroups(rules, failback)
	}
	if err != nil {
		m.logf("abort ha groups migration: %s", err)
		m.env.log("ha groups migration failed")
		m.logf("retry ha groups migration in %d rounds (~ %d seconds)", groupRounds, groupRounds*10)
		return
	}
	m.env.log("ha groups migration successful")
}

// rulesVersion is the first pve-manager whose HA manager knows rules; its beta does not count here.
var rulesVersion = []int{9, 0, 0}

func (m *manager) canMigrateGroups() error {
	names := m.nodes.names()
	if len(names) == 0 {
		return errors.New("node list is empty")
	}
	for _, node := range names {
		state := m.nodes.state(node)
		m.logf("ha groups migration: node '%s' is in state '%s'", node, state)
		if state != nodeOnline {
			return fmt.Errorf("node '%s' is not online", node)
		}
		s := m.f.lrm[node]
		if s == nil || s.State == "" || s.Mode == "" {
			return fmt.Errorf("could not retrieve state for lrm '%s'", node)
		}
		m.logf("ha groups migration: lrm '%s' is in state '%s' and mode '%s'", node, s.State, s.Mode)
		if s.State != lrmActive && (s.State != lrmWait || m.status.activeOn(node) > 0) {
			return fmt.Errorf("lrm '%s' is not in state 'active' or 'idle'", node)
		}
		if s.Mode != modeActive {
			return fmt.Errorf("lrm '%s' is not in mode 'active'", node)
		}
		version := m.f.versions[node]
		if version == "" {
			return fmt.Errorf("could not retrieve version from node '%s'", node)
		}
		m.logf("ha groups migration: node '%s' has version '%s'", node, version)
		if less(numbers(version), rulesVersion) {
			return fmt.Errorf("node '%s' needs at least pve-manager version '9.0.0~16'", node)
		}
	}
	return nil
}
