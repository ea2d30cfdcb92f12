package lua_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/lua"
)

// machine is a host that exists in memory.
type machine struct {
	name, address, cluster string
	groups, tags           []string
	vars                   map[string]lua.Value

	mu    sync.Mutex
	files map[string]string
	ran   []lua.Command
	run   func(ctx context.Context, c lua.Command) (lua.Output, error)
}

func (m *machine) Name() string               { return m.name }
func (m *machine) Address() string            { return m.address }
func (m *machine) Cluster() string            { return m.cluster }
func (m *machine) Groups() []string           { return m.groups }
func (m *machine) Tags() []string             { return m.tags }
func (m *machine) Vars() map[string]lua.Value { return m.vars }

func (m *machine) Run(ctx context.Context, c lua.Command) (lua.Output, error) {
	m.mu.Lock()
	m.ran = append(m.ran, c)
	m.mu.Unlock()
	if m.run != nil {
		return m.run(ctx, c)
	}
	return lua.Output{Stdout: "ok\n"}, nil
}

func (m *machine) Read(_ context.Context, path string) (string, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text, found := m.files[path]
	return text, found, nil
}

func (m *machine) Write(_ context.Context, f lua.File) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f.Path == "/readonly" {
		return errors.New("refused while planning")
	}
	m.files[f.Path] = f.Content.Reveal()
	return nil
}

func (m *machine) Facts(context.Context) (map[string]lua.Value, error) {
	return map[string]lua.Value{"hostname": m.name, "cpus": 8}, nil
}

// pve is a cluster that exists in memory.
type pve struct{ err error }

func (pve) Name() string { return "lab" }

func (c pve) Votes(context.Context) (map[string]lua.Value, error) {
	return map[string]lua.Value{"quorate": true, "total": 3, "expected": 3, "needed": 2, "bearable": 1}, c.err
}

func (c pve) Guests(context.Context) ([]map[string]lua.Value, error) {
	return []map[string]lua.Value{{
		"id": 100, "kind": "vm", "name": "db", "node": "pve1", "status": "running", "tags": []string{"postgres"}, "pool": "", "lock": "",
		"template": false, "ha": true, "memory": int64(4 << 30), "cores": 2,
	}}, c.err
}

func (c pve) Ceph(context.Context) (map[string]lua.Value, error) { return nil, c.err }
func (c pve) HA(context.Context) (map[string]lua.Value, error)   { return nil, c.err }

func (c pve) Snapshot(ctx context.Context) (map[string]lua.Value, error) {
	votes, _ := c.Votes(ctx)
	return map[string]lua.Value{"votes": votes, "nodes": []lua.Value{}, "findings": []lua.Value{}}, c.err
}

// password must be seen nowhere but on a host.
const password = "correct-horse-battery"

// world is an environment of two nodes and a database host.
func world(change ...func(*lua.Environment)) (lua.Environment, []*machine) {
	machines := []*machine{
		{name: "pve1", address: "192.0.2.11", cluster: "lab", tags: []string{"canary"}, vars: map[string]lua.Value{"site": "a", "rack": 1.0}},
		{name: "pve2", address: "192.0.2.12", cluster: "lab", vars: map[string]lua.Value{"site": "b"}},
		{name: "db1", address: "192.0.2.21", groups: []string{"databases"}, vars: map[string]lua.Value{"site": "a"}},
	}
	env := lua.Environment{
		Cluster: pve{},
		Secret: func(_ context.Context, name string) (secret.String, error) {
			if name != "db_password" {
				return secret.String{}, errors.New("there is no secret " + name)
			}
			return secret.New(password), nil
		},
	}
	for _, m := range machines {
		m.files = maps.Clone(map[string]string{"/etc/hostname": m.name + "\n"})
		env.Hosts = append(env.Hosts, m)
	}
	for _, f := range change {
		f(&env)
	}
	return env, machines
}

// in runs a script in an environment.
func in(t testing.TB, env lua.Environment, src string) (lua.Result, error) {
	t.Helper()
	return compile(t, lua.New(nil), "x.lua", src).Run(t.Context(), lua.Call{API: lua.Declare(env), Limits: lua.Limits{Time: 10 * time.Minute}})
}
