package ha

import (
	"crypto/md5" //nolint:gosec // it makes identifiers, as the real manager does
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// env is what the master can do besides deciding.
type env interface {
	now() time.Duration
	// log writes to the journal of pve-ha-crm.
	log(text string)
	// fence takes the agent lock of a node, which it loses two minutes after it stopped renewing it.
	fence(node string) bool
	// steal moves a guest's config from a dead node, and takes out a lock that does not count any more.
	steal(sid, from, to string) error
	// change edits a resource's section.
	change(sid string, set map[string]string, remove ...string) error
	// migrateGroups makes rules of the groups.
	migrateGroups(rules []*rule, failback map[string]bool) error
}

// facts are what the master has read in a round.
type facts struct {
	self     string
	members  map[string]bool // the cluster's nodes, true for those that are online
	lrm      map[string]*lrmStatus
	versions map[string]string // of pve-manager
	features features
	conf     map[string]*serviceConf
	groups   map[string]*group
	rules    []*rule
	commands []string
	balance  bool // crs: ha-rebalance-on-start
	// placing changes whenever conf, groups or rules did.
	placing any
}

// manager is the master's state (reference §13.2). It decides on values: what it needs comes in with facts.
type manager struct {
	env    env
	status *managerStatus
	nodes  nodeStates

	placed     *placement
	placedFor  any
	placedOn   []string
	failback   map[string]bool
	groupRound int
	uids       int
	f          facts
	results    map[string]lrmResult // of all LRMs, by the services\' UIDs
}

// newManager takes over from the last master what cannot be found out again.
func newManager(self string, old *managerStatus, e env) *manager {
	m := &manager{env: e, status: &managerStatus{}}
	if err := json.Unmarshal(encode(old), m.status); err != nil {
		m.status = &managerStatus{}
	}
	m.status.Master = self
	if m.status.Nodes == nil {
		m.status.Nodes = map[string]string{}
	}
	if m.status.Services == nil {
		m.status.Services = map[string]*service{}
	}
	m.nodes = nodeStates{states: m.status.Nodes, lastOnline: map[string]time.Duration{}, now: e.now, log: e.log}
	return m
}

func (m *manager) logf(format string, args ...any) { m.env.log(fmt.Sprintf(format, args...)) }

// round is one round of the master. It reports false when the master is no proper member: then nothing may be written.
func (m *manager) round(f facts) bool {
	m.f = f
	modes := map[string]string{}
	m.results = map[string]lrmResult{}
	for node, s := range f.lrm {
		modes[node] = s.Mode
		maps.Copy(m.results, s.Results)
	}
	m.nodes.update(f.members, modes)
	if state := m.nodes.state(f.self); state != nodeOnline && state != nodeMaintenance {
		m.env.log("master seems offline")
		return false
	}
	m.migrateGroups()
	m.adopt()
	m.place()
	m.commands()
	if m.disarmRound() {
		return true
	}
	for m.services() {
	}
	return true
}

// adopt takes new resources in and drops those that are gone or ignored.
func (m *manager) adopt() {
	if m.status.Disarm != nil {
		return
	}
	for _, sid := range slices.Sorted(maps.Keys(m.f.conf)) {
		c := m.f.conf[sid]
		if m.status.Services[sid] != nil || c.State == wantIgnored || c.Node == "" {
			continue
		}
		m.logf("adding new service '%s' on node '%s'", sid, c.Node)
		state := stateRequestStop
		if c.State == stateStarted {
			state = stateRequestStart
		}
		m.status.Services[sid] = &service{State: state, Node: c.Node, UID: m.uid(sid)}
	}
	for _, sid := range slices.Sorted(maps.Keys(m.status.Services)) {
		c := m.f.conf[sid]
		switch {
		case c == nil || c.Node == "":
			m.logf("removing stale service '%s' (no config)", sid)
		case c.State == wantIgnored:
			m.logf("removing stale service '%s' (ignored state requested)", sid)
		default:
			continue
		}
		delete(m.status.Services, sid)
	}
}

// place compiles the rules when anything that they depend on has changed.
func (m *manager) place() {
	nodes := m.nodes.names()
	if m.placed != nil && m.f.placing == m.placedFor && slices.Equal(nodes, m.placedOn) {
		return
	}
	rules, failback := withGroups(m.f.rules, m.f.groups, m.f.conf)
	placed, messages := compile(rules, nodes)
	for _, text := range messages {
		m.env.log(text)
	}
	m.placed, m.placedFor, m.placedOn, m.failback = placed, m.f.placing, nodes, failback
}

// services lets every service take one step, fences, and reports whether another pass is needed.
func (m *manager) services() (again bool) {
	for _, sid := range slices.Sorted(maps.Keys(m.status.Services)) {
		s := m.status.Services[sid]
		before := s.State
		m.step(sid, s)
		mode := m.modeOf(s.Node)
		if mode == modeRestart && (s.State == stateStarted || s.State == stateStopped || s.State == stateRequestStop) {
			m.move(sid, s, stateFreeze, service{})
		}
		again = again || s.State != before
	}
	return m.fenceRound() || again
}

// fenceRound fences the nodes of services that are to be fenced, and lets those recover whose node is proved to be dead.
func (m *manager) fenceRound() (again bool) {
	asked := map[string]bool{}
	dead := map[string]bool{}
	for _, sid := range slices.Sorted(maps.Keys(m.status.Services)) {
		s := m.status.Services[sid]
		if s.State != stateFence {
			continue
		}
		if !asked[s.Node] {
			asked[s.Node], dead[s.Node] = true, m.fenceNode(s.Node)
		}
		if dead[s.Node] {
			m.move(sid, s, stateRecovery, service{})
			again = true
		}
	}
	for _, node := range m.nodes.names() {
		if m.nodes.state(node) == nodeFence && !asked[node] {
			m.logf("node '%s' in fence state but no services to-fence! admin interference?!", node)
			again = m.fenceNode(node) || again
		}
	}
	return again
}

func (m *manager) fenceNode(node string) bool {
	m.nodes.set(node, nodeFence)
	if !m.env.fence(node) {
		return false
	}
	m.logf("fencing: acknowledged - got agent lock for node '%s'", node)
	m.nodes.set(node, nodeUnknown)
	return true
}

func (m *manager) modeOf(node string) string {
	if s := m.f.lrm[node]; s != nil {
		return s.Mode
	}
	return ""
}

// result is what the LRM of a service's node answered to its last order.
func (m *manager) result(s *service) (lrmResult, bool) {
	r, ok := m.results[s.UID]
	return r, ok
}

// move changes a service's state. Only the node, target and timeout of with are taken over; without a node it stays.
func (m *manager) move(sid string, s *service, state string, with service) {
	before, node := s.State, with.Node
	if node == "" {
		node = s.Node
	}
	var details []string
	*s = service{
		State: state, Node: node, Target: with.Target, Timeout: with.Timeout, Failed: s.Failed, Maintenance: s.Maintenance,
		UID: m.uid(sid),
	}
	for _, p := range []struct{ name, value string }{{"node", with.Node}, {"target", with.Target}, {"timeout", with.Timeout}} {
		if p.value != "" {
			details = append(details, p.name+" = "+p.value)
		}
	}
	text := fmt.Sprintf("service '%s': state changed from '%s' to '%s'", sid, before, state)
	if len(details) > 0 {
		text += "  (" + strings.Join(details, ", ") + ")"
	}
	m.env.log(text)
}

// uid makes an identifier under which the LRM will answer.
func (m *manager) uid(sid string) string {
	m.uids++
	sum := md5.Sum(fmt.Appendf(nil, "%s %s %d %d", m.status.Master, sid, m.env.now(), m.uids)) //nolint:gosec // as above
	return base64.RawStdEncoding.EncodeToString(sum[:])
}
