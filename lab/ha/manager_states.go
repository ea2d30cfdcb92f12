package ha

import (
	"fmt"
	"strings"
)

// Exit codes of what an LRM does.
const (
	exitOK        = 0
	exitError     = 1
	exitIgnored   = 2 // a rebalanced start of what runs already
	exitWrongNode = 3
	exitUnknown   = 4 // no such resource, or an unknown order
)

// step lets one service take its next step.
func (m *manager) step(sid string, s *service) {
	c := m.f.conf[sid]
	if c == nil {
		c = &serviceConf{SID: sid, State: wantDisabled, Node: s.Node}
	}
	switch s.State {
	case stateStopped:
		m.stepStopped(sid, s, c)
	case stateRequestStart:
		m.stepRequestStart(sid, s, c)
	case stateStarted:
		m.stepStarted(sid, s, c)
	case stateMigrate, stateRelocate, stateBalance:
		m.stepMoving(sid, s, c)
	case stateRequestStop:
		m.stepRequestStop(sid, s)
	case stateRecovery:
		m.stepRecovery(sid, s, c)
	case stateFreeze:
		if m.modeOf(s.Node) == modeActive {
			m.move(sid, s, wanted(c), service{})
		}
	case stateError:
		if c.State == wantDisabled {
			s.Failed = nil
			m.move(sid, s, stateStopped, service{})
		}
	}
}

// wanted is the state that leads to what a resource's config asks for.
func wanted(c *serviceConf) string {
	if c.State == stateStarted {
		return stateStarted
	}
	return stateRequestStop
}

// lost sends a service of a node that has been away for too long to be fenced.
func (m *manager) lost(sid string, s *service) bool {
	if !m.nodes.offlineFor(s.Node, fenceDelay) {
		return false
	}
	m.move(sid, s, stateFence, service{})
	return true
}

func (m *manager) stepRequestStop(sid string, s *service) {
	if r, answered := m.result(s); answered {
		if r.Exit == exitOK {
			m.move(sid, s, stateStopped, service{})
			return
		}
		m.logf("service '%s' stop failed (exit code %d)", sid, r.Exit)
		m.move(sid, s, stateError, service{})
		return
	}
	m.lost(sid, s)
}

func (m *manager) stepMoving(sid string, s *service, c *serviceConf) {
	r, answered := m.result(s)
	switch {
	case !answered:
		m.lost(sid, s)
	case r.Exit == exitOK:
		m.move(sid, s, wanted(c), service{Node: s.Target})
	case r.Exit == exitWrongNode:
		m.logf("service '%s' - migration failed: service registered on wrong node!", sid)
		m.move(sid, s, stateError, service{})
	case r.Exit == exitIgnored:
		m.logf("service '%s' - rebalance-on-start request ignored - service already running", sid)
		m.move(sid, s, wanted(c), service{Node: s.Node})
	default:
		m.logf("service '%s' - migration failed (exit code %d)", sid, r.Exit)
		m.move(sid, s, wanted(c), service{Node: s.Node})
	}
}

// order takes a command of an administrator from a service and reports whether there was one, and whether it changed the
// service's state.
func (m *manager) order(sid string, s *service) (had, moved bool) {
	if len(s.Command) < 2 {
		return false, false
	}
	command, argument := s.Command[0], s.Command[1]
	s.Command = nil
	switch {
	case command == "stop" && s.State == stateStopped:
		m.logf("ignore service '%s' stop request - service already stopped", sid)
		return true, false
	case command == "stop":
		if argument == "0" {
			m.logf("request immediate service hard-stop for service '%s'", sid)
		} else {
			m.logf("request graceful stop with timeout '%s' for service '%s'", argument, sid)
		}
		m.move(sid, s, stateRequestStop, service{Timeout: argument})
		if err := m.env.change(sid, map[string]string{"state": stateStopped}); err != nil {
			m.env.log(err.Error())
		}
		if c := m.f.conf[sid]; c != nil {
			stopped := *c
			stopped.State = stateStopped
			m.f.conf[sid] = &stopped
		}
		return true, true
	case !m.nodes.isOnline(argument):
		m.logf("ignore service '%s' %s request - node '%s' not online", sid, command, argument)
		return true, false
	case argument == s.Node:
		m.logf("ignore service '%s' %s request - service already on node '%s'", sid, command, argument)
		return true, false
	}
	m.logf("%s service '%s' to node '%s'", command, sid, argument)
	m.move(sid, s, command, service{Node: s.Node, Target: argument})
	return true, true
}

func (m *manager) stepStopped(sid string, s *service, c *serviceConf) {
	if c.Node != "" && s.Node != c.Node {
		// After a node with a migration was fenced.
		m.logf("fixup service '%s' location (%s => %s)", sid, s.Node, c.Node)
		s.Node = c.Node
	}
	if _, moved := m.order(sid, s); moved || c.State == wantDisabled {
		return
	}
	if m.nodes.state(s.Node) != nodeMaintenance && m.lost(sid, s) {
		return
	}
	if c.State == stateStarted {
		m.move(sid, s, stateRequestStart, service{Node: s.Node})
	}
}

func (m *manager) stepRequestStart(sid string, s *service, c *serviceConf) {
	if m.f.balance {
		best := m.placed.choose(sid, m.failback[sid], m.status.Services, m.nodes.online(), preferBest)
		which := "current"
		if best != s.Node {
			which = "new"
		}
		m.logf("service %s: re-balance selected %s node %s for startup", sid, which, best)
		if best != "" && best != s.Node {
			m.move(sid, s, stateBalance, service{Node: s.Node, Target: best})
			return
		}
	}
	m.move(sid, s, stateStarted, service{Node: s.Node})
}

func (m *manager) stepStarted(sid string, s *service, c *serviceConf) {
	if !m.nodes.isOnline(s.Node) {
		if m.lost(sid, s) || m.nodes.state(s.Node) != nodeMaintenance {
			return
		}
		s.Maintenance = s.Node // where it goes back to
	}
	if c.State != stateStarted {
		m.move(sid, s, stateRequestStop, service{})
		return
	}
	if ordered, _ := m.order(sid, s); ordered {
		return
	}
	how := preferCurrent
	r, answered := m.result(s)
	if answered {
		var ok bool
		if how, ok = m.judge(sid, s, c, r); !ok {
			m.move(sid, s, stateError, service{})
			return
		}
	}
	node := m.placed.choose(sid, m.failback[sid], m.status.Services, m.nodes.online(), how)
	if node != "" && node != s.Node {
		m.leave(sid, s, c, node)
		return
	}
	if how == preferNext && node == "" {
		m.logf("Start Error Recovery: Tried all available nodes for service '%s', retry start on current node. Tried nodes: %s",
			sid, strings.Join(s.Failed, ", "))
	}
	if s.Maintenance == s.Node && m.nodes.isOnline(s.Node) {
		m.logf("service '%s': clearing stale maintenance node '%s' setting (is current node)", sid, s.Maintenance)
		s.Maintenance = ""
	}
	if answered {
		s.UID = m.uid(sid) // have it started again should it have stopped
	}
}

// judge takes in how the start on a node went. ok is false when the service has to be given up.
func (m *manager) judge(sid string, s *service, c *serviceConf, r lrmResult) (how preference, ok bool) {
	switch r.Exit {
	case exitOK:
		if len(s.Failed) > 0 {
			m.logf("relocation policy successful for '%s' on node '%s', failed nodes: %s", sid, s.Node, strings.Join(s.Failed, ", "))
		}
		s.Failed, s.Running = nil, 1
		return preferCurrent, true
	case exitError, exitWrongNode:
		s.Running = 0
		s.Failed = append(s.Failed, s.Node)
		if len(s.Failed) <= c.MaxRelocate {
			m.logf("starting service %s on node '%s' failed, relocating service.", sid, s.Node)
			return preferNext, true
		}
		m.logf("recovery policy for service %s failed, entering error state. Failed nodes: %s", sid, strings.Join(s.Failed, ", "))
		return preferCurrent, false
	}
	s.Failed = append(s.Failed, s.Node)
	m.logf("service '%s' got unrecoverable error (exit code %d))", sid, r.Exit)
	return preferCurrent, false
}

// leave sends a running service to another node.
func (m *manager) leave(sid string, s *service, c *serviceConf, node string) {
	if s.Maintenance != "" {
		switch {
		case node == s.Maintenance:
			m.logf("moving service '%s' back to '%s', node came back from maintenance.", sid, node)
			s.Maintenance = ""
		case s.Node != s.Maintenance:
			m.logf("dropping maintenance fallback node '%s' for '%s'", s.Maintenance, sid)
			s.Maintenance = ""
		}
	}
	if c.Type == "vm" {
		m.logf("migrate service '%s' to node '%s' (running)", sid, node)
		m.move(sid, s, stateMigrate, service{Node: s.Node, Target: node})
		return
	}
	m.logf("relocate service '%s' to node '%s'", sid, node)
	m.move(sid, s, stateRelocate, service{Node: s.Node, Target: node})
}

// stepRecovery gives a service of a fenced node a new one, and keeps trying.
func (m *manager) stepRecovery(sid string, s *service, c *serviceConf) {
	from := s.Node
	to := m.placed.choose(sid, m.failback[sid], m.status.Services, m.nodes.online(), preferBest)
	if to == "" {
		m.logf("recovering service '%s' from fenced node '%s' failed, no recovery node found", sid, from)
		if c.State == wantDisabled {
			s.Failed = nil
			m.move(sid, s, stateStopped, service{})
		}
		return
	}
	text := fmt.Sprintf("recover service '%s' from fenced node '%s' to node '%s'", sid, from, to)
	if to == from {
		text = fmt.Sprintf("recover service '%s' to previous failed and fenced node '%s' again", sid, from)
	}
	m.env.log(text)
	if err := m.env.steal(sid, from, to); err != nil {
		m.env.log(err.Error())
		return
	}
	if known := m.f.conf[sid]; known != nil {
		moved := *known
		moved.Node = to
		m.f.conf[sid] = &moved
	}
	m.move(sid, s, wanted(c), service{Node: to})
}
