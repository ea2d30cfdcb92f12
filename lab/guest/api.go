package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// addPaths puts the guests' paths into pvesh.
func (h *Host) addPaths() {
	handle := func(verb, path string, options map[string]pvetool.Option, do func(ctx context.Context, r pvetool.Request) (any, error)) {
		h.node.API().Handle(pvetool.Route{Verb: verb, Path: "/nodes/{node}" + path, Options: options, Do: h.proxied(verb, do)})
	}
	for _, k := range []*kind{vm, ct} {
		handle("get", "/"+k.api, map[string]pvetool.Option{"full": flag}, func(_ context.Context, r pvetool.Request) (any, error) { return h.apiList(r, k), nil })
		handle("get", "/"+k.api+"/{vmid}/config", map[string]pvetool.Option{"current": flag}, func(_ context.Context, r pvetool.Request) (any, error) { return h.apiConfig(r, k) })
		handle("get", "/"+k.api+"/{vmid}/status/current", nil, func(_ context.Context, r pvetool.Request) (any, error) { return h.apiStatus(r, k) })
		if k == vm || h.node.Release().Major() >= 9 { // containers have it since 9
			handle("get", "/"+k.api+"/{vmid}/migrate", map[string]pvetool.Option{"target": text}, func(_ context.Context, r pvetool.Request) (any, error) { return h.preconditions(r, k) })
		}
		options := map[string]pvetool.Option{"target": text}
		for name, o := range map[*kind]map[string]pvetool.Option{vm: vmMigrateOptions, ct: ctMigrateOptions}[k] {
			options[name] = o
		}
		h.create(k, "/migrate", options, []string{"target"}, func(ctx context.Context, c *call) int {
			c.args = []string{c.o.Values["target"]}
			return migrate(ctx, c)
		})
		h.create(k, "/status/start", nil, nil, start)
		h.create(k, "/status/stop", map[string]pvetool.Option{"timeout": num, "skiplock": flag}, nil, stop)
		h.create(k, "/status/shutdown", map[string]pvetool.Option{"timeout": num, "forceStop": flag}, nil, shutdown)
	}
	handle("create", "/startall", map[string]pvetool.Option{"force": flag, "vms": text}, h.apiStartAll)
	handle("create", "/stopall", map[string]pvetool.Option{"timeout": num, "force-stop": flag, "max-workers": num, "vms": text}, h.apiStopAll)
	handle("create", "/migrateall", map[string]pvetool.Option{"target": text, "max-workers": num, "maxworkers": num, "vms": text, "with-local-disks": flag}, h.migrateAll)
	h.node.API().Handle(pvetool.Route{Verb: "get", Path: "/cluster/resources", Options: map[string]pvetool.Option{"type": text}, Do: h.apiResources})
}

// proxied lets the path of another node be answered there: pvesh asks it over SSH (reference §1.6).
func (h *Host) proxied(verb string, do func(ctx context.Context, r pvetool.Request) (any, error)) func(ctx context.Context, r pvetool.Request) (any, error) {
	return func(ctx context.Context, r pvetool.Request) (any, error) {
		name := r.Path["node"]
		if name == h.name || name == "localhost" {
			return do(ctx, r)
		}
		other := h.w.Host(name)
		if other == nil {
			return nil, fmt.Errorf("proxy handler failed: no such cluster node '%s'", name)
		}
		argv := []string{
			"/usr/bin/ssh", "-e", "none", "-o", "BatchMode=yes", "-o", "HostKeyAlias=" + name, "-o", "UserKnownHostsFile=/etc/pve/nodes/" + name + "/ssh_known_hosts",
			"-o", "GlobalKnownHostsFile=none", "root@" + other.node.Address().String(), "--", "pvesh", verb,
		}
		argv = append(append(argv, r.Proc.Args()[1:]...), "--noproxy", "--output-format", "json")
		var out, errs bytes.Buffer
		if code := pvetool.Run(ctx, r.Proc, &out, &errs, argv...); code != 0 {
			return nil, fmt.Errorf("proxy handler failed: %s", pvetool.OneLine(errs.String()))
		}
		if out.Len() == 0 {
			return nil, nil //nolint:nilnil // no answer prints nothing
		}
		var body any
		if json.Unmarshal(out.Bytes(), &body) != nil {
			return out.String(), nil // what the other printed first breaks it
		}
		return body, nil
	}
}

// create adds a path that starts a task: its log comes first, then its id; the exit status is 0 whatever happened.
func (h *Host) create(k *kind, path string, options map[string]pvetool.Option, required []string, do func(ctx context.Context, c *call) int) {
	h.node.API().Handle(pvetool.Route{
		Verb: "create", Path: "/nodes/{node}/" + k.api + "/{vmid}" + path, Options: options, Required: required,
		Do: h.proxied("create", func(ctx context.Context, r pvetool.Request) (any, error) {
			id, err := parseID(r.Path["vmid"])
			if err != nil {
				return nil, &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"vmid: " + err.Error()}}
			}
			p := *r.Proc
			var errs bytes.Buffer
			p.Stderr = &errs
			c := &call{actor: h.byProgram(&p), k: k, id: id, o: r.Options, p: &p}
			code := do(ctx, c)
			if c.upid == "" && code != 0 {
				return nil, fmt.Errorf("%s", errs.String())
			}
			if ctx.Err() != nil || code == pvetool.ExitKilled {
				return nil, pvetool.ErrKilled
			}
			_, _ = io.WriteString(r.Proc.Stderr, errs.String())
			return c.upid, nil
		}),
	})
}

func (h *Host) apiList(r pvetool.Request, k *kind) any {
	a := h.byProgram(r.Proc)
	out := []pvetool.Object{}
	for _, id := range a.ids(k, h.name) {
		if conf, err := a.load(k, id); err == nil {
			out = append(out, h.summary(k, id, conf))
		}
	}
	return out
}

// guestOf finds the guest of a path.
func (h *Host) guestOf(r pvetool.Request, k *kind) (int, *Config, error) {
	id, err := parseID(r.Path["vmid"])
	if err != nil {
		return 0, nil, &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"vmid: " + err.Error()}}
	}
	conf, err := h.byProgram(r.Proc).load(k, id)
	return id, conf, err
}

func (h *Host) apiStatus(r pvetool.Request, k *kind) (any, error) {
	id, conf, err := h.guestOf(r, k)
	if err != nil {
		return nil, err
	}
	o := h.summary(k, id, conf)
	ha := pvetool.Object{"managed": 0}
	if h.byProgram(r.Proc).managed(k, id) {
		ha["managed"] = 1
	}
	o["ha"] = ha
	return o, nil
}

func (h *Host) apiConfig(r pvetool.Request, k *kind) (any, error) {
	_, conf, err := h.guestOf(r, k)
	if err != nil {
		return nil, err
	}
	values := conf.merged()
	if r.Options.Is("current") {
		values = conf.Values
	}
	o := pvetool.Object{"digest": conf.digest()}
	for key, value := range values {
		o[key] = value
		if n, err := strconv.Atoi(value); err == nil && key != "name" && key != "tags" {
			o[key] = n
		}
	}
	return o, nil
}
