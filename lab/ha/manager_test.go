package ha

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// desk is the surroundings of a master: a clock moved by hand, and agent locks that a test gives.
type desk struct {
	clock time.Duration
	lines []string
	free  map[string]bool // agent locks that can be had
	moved []string
	edits []string
}

func (d *desk) now() time.Duration     { return d.clock }
func (d *desk) log(text string)        { d.lines = append(d.lines, text) }
func (d *desk) fence(node string) bool { return d.free[node] }

func (d *desk) steal(sid, from, to string) error {
	d.moved = append(d.moved, sid+" "+from+">"+to)
	return nil
}

func (d *desk) change(sid string, set map[string]string, _ ...string) error {
	d.edits = append(d.edits, fmt.Sprint(sid, set))
	return nil
}

func (d *desk) migrateGroups([]*rule, map[string]bool) error { return nil }

// scene is a cluster of three nodes with its master, moved on round by round.
type scene struct {
	t *testing.T
	*desk
	m *manager
	f facts
	n int // counts the versions of the configuration
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, desk: &desk{free: map[string]bool{}}}
	s.f = facts{
		self: "pve1", members: map[string]bool{}, lrm: map[string]*lrmStatus{}, conf: map[string]*serviceConf{},
		features: features{rules: true, fencing: true, idleCommands: true},
	}
	for _, node := range []string{"pve1", "pve2", "pve3"} {
		s.f.members[node] = true
		s.f.lrm[node] = &lrmStatus{Mode: modeActive, State: lrmActive, Results: map[string]lrmResult{}}
	}
	s.m = newManager("pve1", &managerStatus{}, s.desk)
	return s
}

func (s *scene) add(sid, node, state string) *serviceConf {
	kind, _, _ := parseSID(sid)
	c := &serviceConf{SID: sid, Type: kind, Node: node, State: state, MaxRestart: 1, MaxRelocate: 1, Failback: true}
	s.f.conf[sid] = c
	return c
}

// round lets ten seconds pass and the master do its round, with these commands in the queue.
func (s *scene) round(commands ...string) {
	s.t.Helper()
	s.clock += masterRound
	s.n++
	s.f.placing, s.f.commands = s.n, commands
	require.True(s.t, s.m.round(s.f))
}

// answer is what the LRM of a service's node says about its last order.
func (s *scene) answer(sid string, exit int) {
	one := s.m.status.Services[sid]
	s.f.lrm[one.Node].Results[one.UID] = lrmResult{Exit: exit, SID: sid, State: one.State}
}

// is checks where a service is, and in what state: "pve1 migrate>pve2".
func (s *scene) is(sid, want string) {
	s.t.Helper()
	one := s.m.status.Services[sid]
	got := "none"
	if one != nil {
		got = one.Node + " " + one.State
		if one.Target != "" {
			got += ">" + one.Target
		}
	}
	require.Equal(s.t, want, got, strings.Join(s.lines, "\n"))
}

func TestServiceStates(t *testing.T) {
	for name, c := range map[string]struct {
		start func(s *scene)
		steps []func(s *scene)
		want  []string
	}{
		"a new resource that is to run starts": {
			start: func(s *scene) { s.add("vm:100", "pve2", stateStarted) },
			steps: []func(*scene){nil, func(s *scene) { s.answer("vm:100", exitOK) }},
			want:  []string{"pve2 started", "pve2 started"},
		},
		"a new resource that is to stay down is stopped": {
			start: func(s *scene) { s.add("vm:100", "pve2", stateStopped) },
			steps: []func(*scene){nil, func(s *scene) { s.answer("vm:100", exitOK) }, func(s *scene) { s.f.conf["vm:100"].State = stateStarted }},
			want:  []string{"pve2 request_stop", "pve2 stopped", "pve2 started"},
		},
		"a stop that fails is an error, which only disabling clears": {
			start: func(s *scene) { s.add("vm:100", "pve2", stateStopped) },
			steps: []func(*scene){
				nil, func(s *scene) { s.answer("vm:100", exitError) }, func(s *scene) { s.f.conf["vm:100"].State = stateStarted },
				func(s *scene) { s.f.conf["vm:100"].State = wantDisabled },
			},
			want: []string{"pve2 request_stop", "pve2 error", "pve2 error", "pve2 stopped"},
		},
		"an ignored resource is dropped": {
			start: func(s *scene) { s.add("vm:100", "pve2", stateStarted) },
			steps: []func(*scene){nil, func(s *scene) { s.f.conf["vm:100"].State = wantIgnored }},
			want:  []string{"pve2 started", "none"},
		},
		"a migration that worked ends on the target": {
			start: func(s *scene) { s.add("vm:100", "pve2", stateStarted) },
			steps: []func(*scene){nil, func(s *scene) { s.f.commands = []string{"migrate vm:100 pve3"} }, func(s *scene) { s.answer("vm:100", exitOK) }},
			want:  []string{"pve2 started", "pve2 migrate>pve3", "pve3 started"},
		},
		"a migration that failed ends on the source": {
			start: func(s *scene) { s.add("vm:100", "pve2", stateStarted) },
			steps: []func(*scene){nil, func(s *scene) { s.f.commands = []string{"relocate vm:100 pve3"} }, func(s *scene) { s.answer("vm:100", exitError) }},
			want:  []string{"pve2 started", "pve2 relocate>pve3", "pve2 started"},
		},
		"a guest that is not where it was thought to be is an error": {
			start: func(s *scene) { s.add("vm:100", "pve2", stateStarted) },
			steps: []func(*scene){nil, func(s *scene) { s.f.commands = []string{"migrate vm:100 pve3"} }, func(s *scene) { s.answer("vm:100", exitWrongNode) }},
			want:  []string{"pve2 started", "pve2 migrate>pve3", "pve2 error"},
		},
		"a stopped service can be moved": {
			start: func(s *scene) { s.add("vm:100", "pve2", stateStopped) },
			steps: []func(*scene){
				nil, func(s *scene) { s.answer("vm:100", exitOK) }, func(s *scene) { s.f.commands = []string{"migrate vm:100 pve3"} },
				func(s *scene) { s.answer("vm:100", exitOK) },
			},
			want: []string{"pve2 request_stop", "pve2 stopped", "pve2 migrate>pve3", "pve3 request_stop"},
		},
		"a restarting LRM freezes, an active one thaws": {
			start: func(s *scene) { s.add("vm:100", "pve2", stateStarted) },
			steps: []func(*scene){nil, func(s *scene) { s.f.lrm["pve2"].Mode = modeRestart }, nil, func(s *scene) { s.f.lrm["pve2"].Mode = modeActive }},
			want:  []string{"pve2 started", "pve2 freeze", "pve2 freeze", "pve2 started"},
		},
		"a failed start goes elsewhere, a second one is an error": {
			start: func(s *scene) { s.add("ct:201", "pve2", stateStarted) },
			steps: []func(*scene){
				nil, func(s *scene) { s.answer("ct:201", exitError) }, func(s *scene) { s.answer("ct:201", exitOK) }, func(s *scene) { s.answer("ct:201", exitError) },
			},
			want: []string{"pve2 started", "pve2 relocate>pve1", "pve1 started", "pve1 error"},
		},
		"a stop with a timeout rewrites the configuration": {
			start: func(s *scene) { s.add("vm:100", "pve2", stateStarted) },
			steps: []func(*scene){nil, func(s *scene) { s.f.commands = []string{"stop vm:100 30"} }},
			want:  []string{"pve2 started", "pve2 request_stop"},
		},
		"re-balancing at the start looks for the emptiest node": {
			start: func(s *scene) {
				s.f.balance = true
				s.add("vm:100", "pve2", stateStarted)
				s.add("vm:101", "pve2", stateStopped)
			},
			steps: []func(*scene){nil, func(s *scene) { s.answer("vm:100", exitOK) }},
			want:  []string{"pve2 request_start_balance>pve1", "pve1 started"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			c.start(s)
			var sid string
			for _, one := range []string{"vm:100", "ct:201"} {
				if s.f.conf[one] != nil {
					sid = one
				}
			}
			for i, step := range c.steps {
				s.f.commands = nil
				if step != nil {
					step(s)
				}
				s.round(s.f.commands...)
				s.is(sid, c.want[i])
			}
		})
	}
}

func TestDeadNodeIsFencedBeforeItsServicesRecover(t *testing.T) {
	s := newScene(t)
	s.add("vm:100", "pve3", stateStarted)
	s.add("vm:101", "pve3", stateStopped)
	s.add("vm:102", "pve3", wantDisabled)
	s.round()
	s.answer("vm:101", exitOK)
	s.answer("vm:102", exitOK)
	s.round()
	s.f.members["pve3"] = false
	var states []string
	for range 8 {
		s.round()
		states = append(states, s.m.status.Nodes["pve3"]+" "+s.m.status.Services["vm:100"].State)
	}
	require.Equal(t, []string{
		"unknown started", "unknown started", "unknown started", "unknown started", "unknown started", "fence fence", "fence fence", "fence fence",
	}, states)
	require.Empty(t, s.moved)
	s.free["pve3"] = true
	s.round()
	s.is("vm:100", "pve1 started")
	s.is("vm:101", "pve2 request_stop") // stopped ones are recovered too
	s.is("vm:102", "pve3 stopped")      // disabled ones are not
	require.Equal(t, []string{"vm:100 pve3>pve1", "vm:101 pve3>pve2"}, s.moved)
	require.Equal(t, nodeUnknown, s.m.status.Nodes["pve3"])
	s.f.members["pve3"] = true
	s.round()
	require.Equal(t, nodeOnline, s.m.status.Nodes["pve3"])
}

func TestServiceWithNowhereToRecoverWaits(t *testing.T) {
	s := newScene(t)
	s.add("vm:100", "pve3", stateStarted)
	s.f.rules = []*rule{{ID: "only", Type: nodeAffinity, Resources: []string{"vm:100"}, Nodes: map[string]int{"pve3": 0}, Strict: true}}
	s.round()
	s.f.members["pve3"] = false
	s.free["pve3"] = true
	for range 10 {
		s.round()
	}
	s.is("vm:100", "pve3 recovery")
	require.Contains(t, s.lines, "recovering service 'vm:100' from fenced node 'pve3' failed, no recovery node found")
	s.f.members["pve3"] = true
	s.round()
	s.is("vm:100", "pve3 started")
	require.Contains(t, s.lines, "recover service 'vm:100' to previous failed and fenced node 'pve3' again")
}

func TestNodeThatLeftIsForgottenAfterAnHour(t *testing.T) {
	s := newScene(t)
	s.round()
	delete(s.f.members, "pve3")
	delete(s.f.lrm, "pve3")
	s.round()
	s.round()
	require.Equal(t, nodeGone, s.m.status.Nodes["pve3"])
	s.clock += time.Hour
	s.round()
	require.NotContains(t, s.m.status.Nodes, "pve3")
}

func TestMasterThatTookOverGoesOn(t *testing.T) {
	s := newScene(t)
	s.add("vm:100", "pve3", stateStarted)
	s.round("enable-node-maintenance pve2")
	old, err := parseManagerStatus(encode(s.m.status))
	require.NoError(t, err)
	s.m = newManager("pve2", old, s.desk)
	s.f.self = "pve2"
	s.round()
	s.is("vm:100", "pve3 started")
	require.True(t, s.m.status.requested("pve2"))
	require.Equal(t, "pve2", s.m.status.Master)
}

func TestChoosingNodes(t *testing.T) {
	all := map[string]bool{"pve1": true, "pve2": true, "pve3": true}
	names := []string{"pve1", "pve2", "pve3"}
	at := func(node string) *service { return &service{Node: node, State: stateStarted} }
	for name, c := range map[string]struct {
		rules    []*rule
		services map[string]*service
		online   map[string]bool
		noBack   bool
		how      preference
		want     string
	}{
		"without rules a service stays":             {services: map[string]*service{"vm:1": at("pve3")}, want: "pve3"},
		"without its node it goes to the emptiest":  {services: map[string]*service{"vm:1": at("pve3"), "vm:2": at("pve1")}, online: map[string]bool{"pve1": true, "pve2": true}, want: "pve2"},
		"the best is the emptiest":                  {services: map[string]*service{"vm:1": at("pve3"), "vm:2": at("pve3"), "vm:3": at("pve1")}, how: preferBest, want: "pve2"},
		"a higher priority draws it":                {rules: []*rule{home("vm:1", "pve1:1,pve2:2", false)}, services: map[string]*service{"vm:1": at("pve1")}, want: "pve2"},
		"unless it does not fail back":              {rules: []*rule{home("vm:1", "pve1:1,pve2:2", false)}, services: map[string]*service{"vm:1": at("pve1")}, noBack: true, want: "pve1"},
		"a preference is left when nothing is up":   {rules: []*rule{home("vm:1", "pve2", false)}, services: map[string]*service{"vm:1": at("pve2")}, online: map[string]bool{"pve1": true, "pve3": true}, want: "pve1"},
		"a strict rule leaves nowhere":              {rules: []*rule{home("vm:1", "pve2", true)}, services: map[string]*service{"vm:1": at("pve2")}, online: map[string]bool{"pve1": true, "pve3": true}, want: ""},
		"what must stay together gathers":           {rules: []*rule{affine(positive, "vm:1", "vm:2", "vm:3")}, services: map[string]*service{"vm:1": at("pve1"), "vm:2": at("pve2"), "vm:3": at("pve2")}, want: "pve2"},
		"what must be apart parts":                  {rules: []*rule{affine(negative, "vm:1", "vm:2")}, services: map[string]*service{"vm:1": at("pve1"), "vm:2": at("pve1")}, want: "pve2"},
		"apart with nowhere left":                   {rules: []*rule{affine(negative, "vm:1", "vm:2", "vm:3")}, services: map[string]*service{"vm:1": at("pve9"), "vm:2": at("pve1"), "vm:3": at("pve2")}, online: map[string]bool{"pve1": true, "pve2": true}, want: ""},
		"a friend's enemy is an enemy":              {rules: []*rule{affine(positive, "vm:1", "vm:2"), affine(negative, "vm:2", "vm:3")}, services: map[string]*service{"vm:1": at("pve1"), "vm:3": at("pve1")}, want: "pve2"},
		"a friend's home is a home":                 {rules: []*rule{affine(positive, "vm:1", "vm:2"), home("vm:2", "pve3", true)}, services: map[string]*service{"vm:1": at("pve1")}, want: "pve3"},
		"rules that contradict count for nothing":   {rules: []*rule{home("vm:1", "pve2", true), homeNamed("other", "vm:1", "pve3", true)}, services: map[string]*service{"vm:1": at("pve1")}, want: "pve1"},
		"disabled rules count for nothing":          {rules: []*rule{{ID: "off", Type: nodeAffinity, Disabled: true, Resources: []string{"vm:1"}, Nodes: map[string]int{"pve2": 0}}}, services: map[string]*service{"vm:1": at("pve1")}, want: "pve1"},
		"after a failed start the next is taken":    {services: map[string]*service{"vm:1": {Node: "pve1", State: stateStarted, Failed: []string{"pve1"}}}, how: preferNext, want: "pve2"},
		"where all starts failed nothing is left":   {services: map[string]*service{"vm:1": {Node: "pve1", State: stateStarted, Failed: names}}, how: preferNext, want: ""},
		"it returns to where maintenance began":     {services: map[string]*service{"vm:1": {Node: "pve2", State: stateStarted, Maintenance: "pve3"}}, want: "pve3"},
		"a service that moves counts on both nodes": {rules: []*rule{affine(negative, "vm:1", "vm:2")}, services: map[string]*service{"vm:1": at("pve9"), "vm:2": {Node: "pve1", Target: "pve2", State: stateMigrate}}, want: "pve3"},
	} {
		t.Run(name, func(t *testing.T) {
			online := c.online
			if online == nil {
				online = all
			}
			p, _ := compile(c.rules, names)
			require.Equal(t, c.want, p.choose("vm:1", !c.noBack, c.services, online, c.how))
		})
	}
}

func home(sid, nodes string, strict bool) *rule { return homeNamed("home", sid, nodes, strict) }

func homeNamed(id, sid, nodes string, strict bool) *rule {
	named, _ := prioritised(nodes)
	return &rule{ID: id, Type: nodeAffinity, Resources: []string{sid}, Nodes: named, Strict: strict}
}

func affine(how string, sids ...string) *rule {
	return &rule{ID: how, Type: resourceAffinity, Affinity: how, Resources: sids}
}

func TestVerboseStates(t *testing.T) {
	conf := func(state string) *serviceConf { return &serviceConf{State: state, Node: "pve1"} }
	for _, c := range []struct {
		s    *service
		c    *serviceConf
		want string
	}{
		{nil, conf(stateStarted), "queued"},
		{nil, &serviceConf{State: stateStarted}, "not found"},
		{&service{State: stateStarted, Running: 1}, nil, "deleting"},
		{&service{State: stateStarted, Running: 1}, conf(wantIgnored), "ignored"},
		{&service{State: stateStarted}, conf(stateStarted), "starting"},
		{&service{State: stateStarted, Running: 1}, conf(stateStarted), "started"},
		{&service{State: stateStarted, Running: 1}, conf(stateStopped), "stopping"},
		{&service{State: stateStopped}, conf(stateStarted), "starting"},
		{&service{State: stateStopped}, conf(stateStopped), "stopped"},
		{&service{State: stateStopped}, conf(wantDisabled), "disabled"},
		{&service{State: stateError}, conf(wantDisabled), "clearing error flag"},
		{&service{State: stateError}, conf(stateStarted), "error"},
		{&service{State: stateFreeze}, conf(stateStarted), "freeze"},
	} {
		require.Equal(t, c.want, verbose(c.s, c.c))
	}
}

func TestDatacenterOptions(t *testing.T) {
	require.Equal(t, datacenter{policy: "conditional", maxWorkers: 4, scheduler: "basic"}, parseDatacenter("keyboard: en-us\n"))
	require.Equal(t, datacenter{policy: "migrate", maxWorkers: 8, scheduler: "static", balance: true},
		parseDatacenter("crs: ha=static,ha-rebalance-on-start=1\nha: shutdown_policy=migrate\nmax_workers: 8\n"))
}

func FuzzSectionReaders(f *testing.F) {
	for _, seed := range []string{
		"vm: 100\n\tmax_restart 1\n\tstate started\n\n", "node-affinity: prefer1\n\tnodes pve1:2,pve2:1\n\tresources vm:100\n\n",
		"resource-affinity: apart\n\tcomment 50%25\n\taffinity negative\n\tresources ct:201,vm:100\n\tdisable\n\n",
		"group: g\n\tnodes pve1:2,pve2\n\trestricted 0\n\tnofailback 1\n\n", "ct: x\n", "node-affinity: a\n\tnodes :\n", "vm: 1\n\n\tstate started\n",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		conf := parseResources(text, map[string]string{"100": "pve1"})
		for sid, c := range conf {
			if _, _, ok := parseSID(sid); !ok || c.State == "" || c.MaxRestart < 0 {
				t.Fatalf("%q: %+v", sid, c)
			}
		}
		groups, rules := parseGroups(text), parseRules(text)
		all, _ := withGroups(rules, groups, conf)
		compile(all, []string{"pve1", "pve2"})
		// What is written reads as the same.
		again := parseRules(formatRules(rules))
		if len(again) != len(rules) {
			t.Fatalf("%d rules became %d:\n%s", len(rules), len(again), formatRules(rules))
		}
		for i, r := range again {
			require.Equal(t, rules[i], r)
		}
	})
}

func FuzzStatusReaders(f *testing.F) {
	f.Add(`{"master_node":"pve1","node_request":{"pve1":{}},"node_status":{"pve1":"unknown"},"service_status":{"vm:100":{"node":"pve2","running":1,"state":"started","uid":"a"}},"timestamp":1795300983}`)
	f.Add(`{"mode":"active","results":{"O+7W6euS+s2kcGFDDVqUxw":{"exit_code":0,"sid":"vm:100","state":"started"}},"state":"active","timestamp":1795300838}`)
	f.Add(`{"service_status":{"vm:1":null}}`)
	f.Fuzz(func(t *testing.T, text string) {
		if status, err := parseManagerStatus([]byte(text)); err == nil {
			status.activeOn("pve1")
			d := &desk{}
			newManager("pve1", status, d)
		}
		_, _ = parseLRMStatus([]byte(text))
		guestNodes([]byte(text))
	})
}
