package ceph

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// addPaths puts Ceph's paths into pvesh.
func (n *Node) addPaths() {
	own := "/nodes/" + n.name + "/ceph"
	for path, read := range map[string]func(k *call) (any, error){
		"/cluster/ceph/status": (*call).apiStatus, own + "/status": (*call).apiStatus, own + "/mon": (*call).apiMons, own + "/mgr": (*call).apiMgrs, own + "/mds": (*call).apiMDSs,
		own + "/osd": (*call).apiOSDs, own + "/pool": (*call).apiPools, own + "/fs": (*call).apiFS, own + "/rules": (*call).apiRules, own + "/crush": (*call).apiRules, "/cluster/ceph/flags": (*call).apiFlags,
		"/cluster/ceph/metadata": (*call).apiMetadata, own + "/cfg/db": (*call).apiConfigDB,
	} {
		n.handle("get", path, nil, nil, read)
	}
	n.handle("get", own+"/cmd-safety", map[string]pvetool.Option{"service": enumOf("osd", "mon", "mds"), "id": {}, "action": enumOf("stop", "destroy")}, []string{"service", "id", "action"}, (*call).apiSafety)
	n.handle("get", own+"/pool/{name}", map[string]pvetool.Option{"verbose": {Kind: pvetool.Bool}}, nil, (*call).apiPool)
	n.handle("get", own+"/pool/{name}/status", map[string]pvetool.Option{"verbose": {Kind: pvetool.Bool}}, nil, (*call).apiPool)
	n.handle("get", "/cluster/ceph/flags/{flag}", nil, nil, func(k *call) (any, error) { return flag01(k.c.flags[k.flags["flag"]]), nil })
	n.handle("set", "/cluster/ceph/flags/{flag}", map[string]pvetool.Option{"value": {Kind: pvetool.Bool}}, []string{"value"}, (*call).apiSetFlag)
	n.handle("get", own+"/cfg/raw", nil, nil, nil)
	n.writes(own)
}

// handle adds a path that asks the cluster.
func (n *Node) handle(verb, path string, options map[string]pvetool.Option, required []string, ask func(k *call) (any, error)) {
	n.pve.API().Handle(pvetool.Route{Verb: verb, Path: path, Options: options, Required: required, Do: func(ctx context.Context, r pvetool.Request) (any, error) {
		v := r.Proc.View()
		if err := n.ready(v); err != nil {
			return nil, err
		}
		if ask == nil {
			text, err := v.ReadFile(confPath)
			return string(text), err
		}
		c, err := n.rados5(ctx, v)
		if err != nil {
			return nil, err
		}
		k := &call{n: n, c: c, p: r.Proc, format: "json", flags: map[string]string{}}
		maps.Copy(k.flags, r.Options.Values)
		maps.Copy(k.flags, r.Path)
		var body any
		err = n.with(c, func() (err error) { body, err = ask(k); return err })
		return body, err
	}})
}

// writes are the paths that start a task: they take the worker of pveceph and end with its task's id, exit status 0
// whatever it made.
func (n *Node) writes(own string) {
	table := n.commands()
	for _, w := range []struct{ verb, path, command, positional string }{
		{"create", own + "/init", "init", ""}, {"create", own + "/mon/{monid}", "mon create", ""}, {"delete", own + "/mon/{monid}", "mon destroy", "monid"},
		{"create", own + "/mgr/{id}", "mgr create", ""}, {"delete", own + "/mgr/{id}", "mgr destroy", "id"}, {"create", own + "/mds/{name}", "mds create", ""}, {"delete", own + "/mds/{name}", "mds destroy", "name"},
		{"create", own + "/osd", "osd create", "dev"}, {"delete", own + "/osd/{osdid}", "osd destroy", "osdid"}, {"create", own + "/pool", "pool create", "name"}, {"set", own + "/pool/{name}", "pool set", "name"},
		{"delete", own + "/pool/{name}", "pool destroy", "name"}, {"create", own + "/fs/{name}", "fs create", ""}, {"delete", own + "/fs/{name}", "fs destroy", "name"}, {"create", own + "/start", "start", ""}, {"create", own + "/stop", "stop", ""},
	} {
		c := table[w.command]
		options := maps.Clone(c.options)
		if options == nil {
			options = map[string]pvetool.Option{}
		}
		var required []string
		if w.positional != "" && !strings.Contains(w.path, "{") {
			options[w.positional] = pvetool.Option{}
			required = []string{w.positional}
		}
		n.pve.API().Handle(pvetool.Route{Verb: w.verb, Path: w.path, Options: options, Required: required, Do: func(ctx context.Context, r pvetool.Request) (any, error) {
			o := pvetool.Options{Values: maps.Clone(r.Options.Values)}
			maps.Copy(o.Values, r.Path)
			if w.positional != "" {
				o.Positional = []string{o.Values[w.positional]}
				delete(o.Values, w.positional)
			}
			return n.startTask(ctx, r.Proc, c, o)
		}})
	}
	for _, verb := range []string{"in", "out"} {
		n.handle("create", own+"/osd/{osdid}/"+verb, nil, nil, func(k *call) (any, error) {
			k.args = []string{k.flags["osdid"]}
			if verb == "in" {
				return nil, k.osdIn()
			}
			return nil, k.osdOut()
		})
	}
}

// startTask runs a command of pveceph in the name of pvesh, whose last line is the task's id.
func (n *Node) startTask(ctx context.Context, p *machine.Proc, c command, o pvetool.Options) (any, error) {
	var tail strings.Builder
	child := *p
	child.Stderr = &tail
	before := n.lastTask()
	code := c.run(ctx, &child, o)
	upid := n.lastTask()
	started := upid != before
	switch {
	case code == pvetool.ExitKilled:
		return nil, pvetool.ErrKilled
	case code != 0 && !started:
		return nil, &dieError{code: code, text: strings.TrimSpace(tail.String())}
	}
	fmt.Fprint(p.Stderr, tail.String())
	if !started {
		return nil, nil //nolint:nilnil // pvesh prints nothing
	}
	return upid, nil
}

// lastTask is the id of the node's task that ended last.
func (n *Node) lastTask() string {
	index, err := n.m.FS.ReadFile("/var/log/pve/tasks/index")
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(index)), "\n")
	upid, _, _ := strings.Cut(lines[len(lines)-1], " ")
	return upid
}

func (k *call) apiStatus() (any, error) {
	out := k.statusObject()
	out["health"] = k.c.healthObject(true)
	return out, nil
}

// object is a daemon in the form of the API.
func (d *daemon) object() object {
	host := ""
	if d.node != nil {
		host = d.node.name
	}
	return object{"name": d.id, "host": host, "service": 1, "direxists": 1, "ceph_version_short": upstream(d.version), "ceph_version": releaseOf(d.version).full()}
}

func (k *call) apiMons() (any, error) {
	out := []object{}
	for i, m := range k.c.mons {
		o := m.object()
		quorum := slices.Contains(k.c.quorum, m)
		o["addr"], o["rank"], o["quorum"], o["state"] = joinPort(m.addr, 6789)+"/0", i, flag01(quorum), map[bool]string{true: "running", false: "stopped"}[m.on]
		out = append(out, o)
	}
	return out, nil
}

func (k *call) apiMgrs() (any, error) {
	out := []object{}
	for _, m := range k.c.mgrs {
		o := m.object()
		o["state"] = "stopped"
		if m.on {
			o["state"] = map[bool]string{true: "active", false: "standby"}[m == k.c.active]
		}
		if m.node != nil {
			o["addr"] = m.node.publicAddress(k.c).String()
		}
		out = append(out, o)
	}
	return out, nil
}

func (k *call) apiMDSs() (any, error) {
	out := []object{}
	for _, d := range k.c.mds {
		o := d.object()
		o["state"] = "stopped"
		if d.on {
			o["state"] = d.state(k.c)
		}
		if d.fs != nil {
			o["fs_name"], o["rank"] = d.fs.name, d.rank
		}
		out = append(out, o)
	}
	return out, nil
}

// apiOSDs is the tree with what Proxmox adds to it.
func (k *call) apiOSDs() (any, error) {
	c := k.c
	var node func(b *bucket) object
	node = func(b *bucket) object {
		children := []object{}
		for _, child := range b.children {
			children = append(children, node(child))
		}
		for _, id := range b.osds {
			o := c.osds[id]
			if o == nil {
				continue
			}
			status := "down"
			if o.up {
				status = "up"
			}
			children = append(children, object{
				"id": strconv.Itoa(id), "name": "osd." + o.id, "type": "osd", "leaf": 1, "status": status, "in": flag01(o.in > 0), "reweight": o.in, "crush_weight": o.weight, "device_class": o.class, "host": b.name,
				"total_space": o.size, "bytes_used": 30 * mib, "percent_used": 100 * float64(30*mib) / float64(max(1, o.size)), "commit_latency_ms": 1, "apply_latency_ms": 1, "ceph_version_short": upstream(o.version),
				"ceph_version": releaseOf(o.version).full(), "osdtype": "bluestore", "blfsdev": 0, "pgs": 0,
			})
		}
		return object{"id": strconv.Itoa(b.id), "name": b.name, "type": b.kind, "leaf": 0, "children": children}
	}
	roots := []object{}
	for _, b := range c.crush.buckets {
		if b.parent == nil {
			roots = append(roots, node(b))
		}
	}
	return object{"flags": strings.Join(c.setFlags(), ","), "root": object{"leaf": 0, "children": roots}}, nil
}

func (k *call) apiPools() (any, error) {
	out := []object{}
	for _, p := range k.c.pools {
		out = append(out, k.c.poolObject(p))
	}
	return out, nil
}

func (k *call) apiPool() (any, error) {
	p := k.c.pool(k.flags["name"])
	if p == nil {
		return nil, fmt.Errorf("mon_cmd failed - ENOENT: unrecognized pool '%s'", k.flags["name"])
	}
	return k.c.poolDetail(p), nil
}

func (k *call) apiFS() (any, error) {
	out := []object{}
	for _, f := range k.c.fs {
		out = append(out, object{"name": f.name, "metadata_pool": k.poolName(f.metadata), "metadata_pool_id": f.metadata, "data_pool": k.poolName(f.data), "data_pools": []string{k.poolName(f.data)}, "data_pool_ids": []int{f.data}})
	}
	return out, nil
}

func (k *call) apiRules() (any, error) {
	out := []object{}
	for _, r := range k.c.crush.rules {
		out = append(out, object{"name": r.name})
	}
	return out, nil
}

func (k *call) apiConfigDB() (any, error) {
	out := []object{}
	for _, s := range k.c.config {
		out = append(out, object{"section": s.section, "name": s.name, "value": s.value, "level": "advanced", "can_update_at_runtime": 1, "mask": ""})
	}
	return out, nil
}

// flagTexts describes the flags that Proxmox shows.
var flagTexts = map[string]string{
	"nobackfill": "Backfilling of PGs is suspended.", "nodeep-scrub": "Deep Scrubbing is disabled.", "nodown": "OSD failure reports are being ignored, such that the monitors will not mark OSDs down.",
	"noin": "OSDs that were previously marked out will not be marked back in when they start.", "noout": "OSDs will not automatically be marked out after the configured interval.", "norebalance": "Rebalancing of PGs is suspended.",
	"norecover": "Recovery of PGs is suspended.", "noscrub": "Scrubbing is disabled.", "notieragent": "Cache tiering activity is suspended.", "noup": "OSDs are not allowed to start.", "pause": "Pauses read and writes.",
}

func (k *call) apiFlags() (any, error) {
	out := []object{}
	for _, name := range slices.Sorted(maps.Keys(flagTexts)) {
		on := k.c.flags[name] || name == "pause" && k.c.flags["pauserd"]
		out = append(out, object{"name": name, "description": flagTexts[name], "value": flag01(on)})
	}
	return out, nil
}

func (k *call) apiSetFlag() (any, error) {
	name := k.flags["flag"]
	if flagTexts[name] == "" {
		return nil, &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{fmt.Sprintf("flag: value '%s' does not have a value in the enumeration '%s'", name, strings.Join(slices.Sorted(maps.Keys(flagTexts)), ", "))}}
	}
	k.args = []string{name}
	return nil, k.setFlag(k.flags["value"] == "1")
}

// apiSafety asks whether a daemon may go.
func (k *call) apiSafety() (any, error) {
	k.args = []string{k.flags["id"]}
	var err error
	switch k.flags["service"] + " " + k.flags["action"] {
	case "osd stop":
		err = k.okToStop()
	case "osd destroy":
		err = k.safeToDestroy()
	case "mds stop":
		err = k.mdsOKToStop()
	case "mon stop", "mon destroy":
		err = k.monOKToStop()
	default:
		return nil, fmt.Errorf("service '%s' has no command for '%s'", k.flags["service"], k.flags["action"])
	}
	status := k.status.String()
	if refused, ok := errors.AsType[*cephError](err); ok {
		return object{"safe": 0, "status": refused.text}, nil
	}
	return object{"safe": 1, "status": status}, err
}

func (k *call) apiMetadata() (any, error) {
	out := object{}
	for _, kind := range targets {
		if kind == "osd" {
			list := []object{}
			for _, o := range k.c.sortedOSDs() {
				list = append(list, k.metadataOf(o))
			}
			out[kind] = list
			continue
		}
		byName := object{}
		for _, d := range k.c.daemons() {
			if d.kind == kind && d.version != "" {
				byName[d.id+"@"+d.node.name] = d.metadata()
			}
		}
		out[kind] = byName
	}
	versions := object{}
	for name, node := range k.n.model.nodes {
		if v := node.installed("ceph-common"); v != "" {
			versions[name] = object{"version": object{"parts": strings.Split(upstream(v), "."), "str": upstream(v)}, "buildcommit": releaseOf(v).hash}
		}
	}
	out["node"], out["version"] = versions, versions
	return out, nil
}
