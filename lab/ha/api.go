package ha

import (
	"context"
	"fmt"
	"maps"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// addPaths puts /cluster/ha into pvesh. What the node's version has not is left out when the path is called, since versions
// change under a running node.
func (s *Stack) addPaths() {
	type method = func(ctx context.Context, c *call) (any, error)
	get := func(path string, options map[string]pvetool.Option, do method) {
		s.route("get", path, options, nil, do)
	}
	act := func(verb, path string, options map[string]pvetool.Option, required []string, do func(context.Context, *call) error) {
		s.route(verb, path, options, required, func(ctx context.Context, c *call) (any, error) { return nil, do(ctx, c) })
	}
	get("/cluster/ha", nil, func(context.Context, *call) (any, error) {
		return []object{{"id": "status"}, {"id": "resources"}, {"id": "groups"}, {"id": "rules"}}, nil
	})
	get("/cluster/ha/status", nil, func(context.Context, *call) (any, error) {
		return []object{{"name": "current"}, {"name": "manager_status"}}, nil
	})
	get("/cluster/ha/status/current", nil, func(_ context.Context, c *call) (any, error) { return s.current(c.view) })
	get("/cluster/ha/status/manager_status", nil, func(_ context.Context, c *call) (any, error) { return s.fullStatus(c.view) })
	act("create", "/cluster/ha/status/disarm-ha", map[string]pvetool.Option{"resource-mode": {Check: oneOf("freeze", "ignore")}}, []string{"resource-mode"},
		func(ctx context.Context, c *call) error {
			return c.since(featuresOf(s.node.Release()).fencing, "create", func() error { return c.queue(ctx, "disarm-ha "+c.value("resource-mode")) })
		})
	act("create", "/cluster/ha/status/arm-ha", nil, nil, func(ctx context.Context, c *call) error {
		return c.since(featuresOf(s.node.Release()).fencing, "create", func() error { return c.queue(ctx, "arm-ha") })
	})
	s.resourcePaths(get, act)
	s.groupPaths(get, act)
	s.rulePaths(get, act)
}

type (
	getter = func(path string, options map[string]pvetool.Option, do func(context.Context, *call) (any, error))
	actor  = func(verb, path string, options map[string]pvetool.Option, required []string, do func(context.Context, *call) error)
)

// route adds one method. Names in braces and options come to it as the call's values.
func (s *Stack) route(verb, path string, options map[string]pvetool.Option, required []string, do func(context.Context, *call) (any, error)) {
	s.node.API().Handle(pvetool.Route{
		Verb: verb, Path: path, Options: options, Required: required,
		Do: func(ctx context.Context, r pvetool.Request) (any, error) {
			values := maps.Clone(r.Options.Values)
			if values == nil {
				values = map[string]string{}
			}
			maps.Copy(values, r.Path)
			c := &call{stack: s, proc: r.Proc, view: r.Proc.View(), values: values}
			c.path = path
			return do(ctx, c)
		},
	})
}

// since refuses a method that the node's version does not have.
func (c *call) since(has bool, verb string, do func() error) error {
	if !has {
		return c.unknown(verb)
	}
	return do()
}

func (c *call) unknown(verb string) error {
	return fmt.Errorf("No '%s' handler defined for '%s'", verb, c.path) //nolint:revive,staticcheck // Proxmox's words
}

func (s *Stack) resourcePaths(get getter, act actor) {
	const all, one = "/cluster/ha/resources", "/cluster/ha/resources/{sid}"
	create := s.resourceOptions(false)
	update := s.resourceOptions(true)
	// The node may become one that knows it.
	create["failback"], update["failback"] = pvetool.Option{Kind: pvetool.Bool}, pvetool.Option{Kind: pvetool.Bool}
	create["sid"] = pvetool.Option{}
	get(all, map[string]pvetool.Option{"type": {Check: oneOf("ct", "vm")}}, func(_ context.Context, c *call) (any, error) { return c.resources() })
	get(one, nil, func(_ context.Context, c *call) (any, error) { return c.resource() })
	act("create", all, create, []string{"sid"}, func(ctx context.Context, c *call) error { return c.addResource(ctx) })
	act("set", one, update, nil, func(ctx context.Context, c *call) error { return c.setResource(ctx) })
	act("delete", one, map[string]pvetool.Option{"purge": {Kind: pvetool.Bool}}, nil, func(ctx context.Context, c *call) error { return c.removeResource(ctx) })
	for _, task := range []string{stateMigrate, stateRelocate} {
		s.route("create", one+"/"+task, map[string]pvetool.Option{"node": {Check: nodeName}}, []string{"node"}, func(ctx context.Context, c *call) (any, error) {
			m, err := c.requestMove(ctx, task)
			if err != nil || !featuresOf(s.node.Release()).rules {
				return nil, err
			}
			return m.object(), nil
		})
	}
}

// object is what the API answers to a request to move a resource.
func (m *motion) object() object {
	out := object{"sid": m.sid, "requested-node": m.node}
	var blocking []object
	for _, sid := range m.blocking {
		blocking = append(blocking, object{"sid": sid, "cause": resourceAffinity})
	}
	if len(blocking) > 0 {
		out["blocking-resources"] = blocking
	}
	if len(m.together) > 0 {
		out["comigrated-resources"] = m.together
	}
	return out
}

func (s *Stack) groupPaths(get getter, act actor) {
	const all, one = "/cluster/ha/groups", "/cluster/ha/groups/{group}"
	create := groupOptions(false)
	create["group"] = pvetool.Option{Check: configID}
	get(all, nil, func(_ context.Context, c *call) (any, error) { return c.groups() })
	get(one, nil, func(_ context.Context, c *call) (any, error) { return c.group() })
	act("create", all, create, []string{"group", "nodes"}, func(ctx context.Context, c *call) error { return c.addGroup(ctx) })
	act("set", one, groupOptions(true), nil, func(ctx context.Context, c *call) error { return c.setGroup(ctx) })
	act("delete", one, nil, nil, func(ctx context.Context, c *call) error { return c.removeGroup(ctx) })
}

func (s *Stack) rulePaths(get getter, act actor) {
	const all, one = "/cluster/ha/rules", "/cluster/ha/rules/{rule}"
	rules := func() bool { return featuresOf(s.node.Release()).rules }
	kinds := pvetool.Option{Check: oneOf(nodeAffinity, resourceAffinity)}
	create, update := ruleOptions("", false), ruleOptions("", true)
	create["rule"], create["type"] = pvetool.Option{Check: configID}, kinds
	update["type"] = kinds
	get(all, map[string]pvetool.Option{"type": kinds, "resource": {}}, func(_ context.Context, c *call) (any, error) {
		if !rules() {
			return nil, c.unknown("get")
		}
		return c.ruleRows()
	})
	get(one, nil, func(_ context.Context, c *call) (any, error) {
		if !rules() {
			return nil, c.unknown("get")
		}
		return c.rule()
	})
	act("create", all, create, []string{"rule", "type"}, func(ctx context.Context, c *call) error {
		return c.since(rules(), "create", func() error { return c.addRule(ctx) })
	})
	act("set", one, update, []string{"type"}, func(ctx context.Context, c *call) error {
		return c.since(rules(), "set", func() error { return c.setRule(ctx) })
	})
	act("delete", one, nil, nil, func(ctx context.Context, c *call) error {
		return c.since(rules(), "delete", func() error { return c.removeRule(ctx) })
	})
}
