package guest

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// apiResources is /cluster/resources: what .rrd tells, with what the configs and the HA manager add (reference §2.4).
func (h *Host) apiResources(_ context.Context, r pvetool.Request) (any, error) {
	a := h.byProgram(r.Proc)
	text, err := a.view.ReadFile("/etc/pve/.rrd")
	if err != nil {
		return nil, err
	}
	rrd := map[string][]string{}
	for line := range strings.SplitSeq(string(text), "\n") {
		if fields := strings.Split(line, ":"); len(fields) > 1 {
			kind, name, _ := strings.Cut(fields[0], "/")
			for _, old := range []string{"pve2-", "pve2.3-", "pve-"} {
				kind = strings.TrimPrefix(kind, old)
			}
			kind, _, _ = strings.Cut(kind, "-")
			rrd[kind+"/"+name] = fields[1:]
		}
	}
	want := r.Options.Values["type"]
	out := []pvetool.Object{}
	states := a.haStates()
	if want == "" || want == "vm" {
		out = append(out, a.guestRows(rrd, states)...)
	}
	if want == "" || want == "node" {
		out = append(out, a.nodeRows(rrd, states)...)
	}
	if want == "" || want == "storage" {
		out = append(out, a.storageRows(rrd)...)
	}
	h.w.mu.Lock()
	more := h.w.resources
	h.w.mu.Unlock()
	for _, rows := range more {
		for _, one := range rows(h.node) {
			if want == "" || one["type"] == want {
				out = append(out, one)
			}
		}
	}
	return out, nil
}

// haStates are the states of services ("vm:100") and nodes that the HA manager keeps.
func (a *actor) haStates() map[string]string {
	text, err := a.view.ReadFile("/etc/pve/ha/manager_status")
	if err != nil {
		return nil
	}
	var status struct {
		Nodes    map[string]string `json:"node_status"`
		Services map[string]struct {
			State string `json:"state"`
		} `json:"service_status"`
	}
	if json.Unmarshal(text, &status) != nil {
		return nil
	}
	out := status.Nodes
	if out == nil {
		out = map[string]string{}
	}
	for sid, s := range status.Services {
		out[sid] = s.State
	}
	return out
}

// haNodes are the nodes that the HA manager has its services on.
func (a *actor) haNodes() map[string]string {
	text, err := a.view.ReadFile("/etc/pve/ha/manager_status")
	if err != nil {
		return nil
	}
	var status struct {
		Services map[string]struct {
			Node string `json:"node"`
		} `json:"service_status"`
	}
	if json.Unmarshal(text, &status) != nil {
		return nil
	}
	out := map[string]string{}
	for sid, s := range status.Services {
		out[sid] = s.Node
	}
	return out
}

func (a *actor) guestRows(rrd map[string][]string, states map[string]string) []pvetool.Object {
	var out []pvetool.Object
	nodes, err := a.view.ReadDir("/etc/pve/nodes")
	if err != nil {
		return nil
	}
	for _, n := range nodes {
		for _, k := range []*kind{vm, ct} {
			for _, id := range a.ids(k, n.Name) {
				o := pvetool.Object{"id": k.api + "/" + strconv.Itoa(id), "node": n.Name, "type": k.api, "vmid": id, "status": "unknown"}
				if f := rrd["vm/"+strconv.Itoa(id)]; len(f) >= 15 {
					o["uptime"], o["name"], o["status"], o["template"] = number(f[0]), f[1], f[2], number(f[3])
					for i, key := range []string{"maxcpu", "cpu", "maxmem", "mem", "maxdisk", "disk", "netin", "netout", "diskread", "diskwrite"} {
						o[key] = number(f[5+i])
					}
				}
				if content, err := a.view.ReadFile(configPath(k, n.Name, id)); err == nil {
					conf := ParseConfig(string(content))
					for _, key := range []string{"lock", "tags"} {
						if v := conf.Values[key]; v != "" {
							o[key] = v
						}
					}
				}
				if state := states[k.sid+":"+strconv.Itoa(id)]; state != "" {
					o["hastate"] = state
				}
				if pool := a.poolOf(id); pool != "" {
					o["pool"] = pool
				}
				out = append(out, o)
			}
		}
	}
	return out
}

func (a *actor) nodeRows(rrd map[string][]string, states map[string]string) []pvetool.Object {
	var out []pvetool.Object
	for _, name := range a.node.Members() {
		o := pvetool.Object{"id": "node/" + name, "node": name, "type": "node", "level": "", "status": "offline"}
		f := rrd["node/"+name]
		if a.node.Online(name) {
			o["status"], o["cgroup-mode"] = "online", 2
			if len(f) < 13 {
				o["status"] = "unknown"
			}
		}
		if len(f) >= 13 && a.node.Online(name) {
			o["uptime"], o["maxcpu"], o["cpu"] = number(f[0]), number(f[4]), number(f[5])
			o["maxmem"], o["mem"], o["maxdisk"], o["disk"] = number(f[7]), number(f[8]), number(f[11]), number(f[12])
		}
		if state := states[name]; state != "" && a.node.Release().Major() >= 9 {
			o["hastate"] = state
		}
		out = append(out, o)
	}
	return out
}

func (a *actor) storageRows(rrd map[string][]string) []pvetool.Object {
	var out []pvetool.Object
	all := a.storages()
	for _, node := range a.node.Members() {
		for id, s := range all {
			if !s.on(node) {
				continue
			}
			o := pvetool.Object{
				"id": "storage/" + node + "/" + id, "node": node, "storage": id, "type": "storage", "plugintype": s.kind, "shared": bit(s.shared),
				"content": strings.Join(s.content, ","), "status": "unknown",
			}
			if f := rrd["storage/"+node+"/"+id]; len(f) >= 3 && a.node.Online(node) {
				o["maxdisk"], o["disk"], o["status"] = number(f[1]), number(f[2]), "available"
			}
			out = append(out, o)
		}
	}
	return out
}

// number is a field of .rrd as JSON shows it.
func number(field string) any {
	if n, err := strconv.ParseInt(field, 10, 64); err == nil {
		return n
	}
	if f, err := strconv.ParseFloat(field, 64); err == nil {
		return f
	}
	return 0
}

// poolOf finds a guest's resource pool in user.cfg: "pool:name:comment:100,101:storage:".
func (a *actor) poolOf(id int) string {
	text, err := a.view.ReadFile("/etc/pve/user.cfg")
	if err != nil {
		return ""
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		fields := strings.Split(line, ":")
		if len(fields) < 4 || fields[0] != "pool" {
			continue
		}
		if only(fields[3])[id] {
			return fields[1]
		}
	}
	return ""
}
