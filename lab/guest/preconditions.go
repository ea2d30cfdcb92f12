package guest

import (
	"crypto/sha1" //nolint:gosec // the digest that Proxmox shows is a SHA-1
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

func (c *Config) digest() string {
	return fmt.Sprintf("%x", sha1.Sum([]byte(c.String()))) //nolint:gosec // as above
}

// preconditions are what pvesh get …/migrate says (reference §6.4).
func (h *Host) preconditions(r pvetool.Request, k *kind) (any, error) {
	id, conf, err := h.guestOf(r, k)
	if err != nil {
		return nil, err
	}
	if err := locked(k, conf); err != nil {
		return nil, err
	}
	if target := r.Options.Values["target"]; target == h.name {
		return nil, &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"target: target is local node."}}
	} else if target != "" && !slices.Contains(h.node.Members(), target) {
		return nil, fmt.Errorf("no such cluster node '%s'", target)
	}
	a := h.byProgram(r.Proc)
	running := 0
	if h.runs(id) {
		running = 1
	}
	if k == ct {
		allowed := slices.DeleteFunc(h.node.Members(), func(n string) bool { return n == h.name })
		return pvetool.Object{"allowed-nodes": allowed, "not-allowed-nodes": pvetool.Object{}, "running": running}, nil
	}
	rules := a.affinity(fmt.Sprintf("%s:%d", k.sid, id))
	local, mapped := localDevices(conf)
	allowed, not := []string{}, pvetool.Object{}
	for _, node := range h.node.Members() {
		if node == h.name {
			continue
		}
		why := pvetool.Object{}
		if missing := a.lackingStorages(k, conf, node); len(missing) > 0 {
			why["unavailable_storages"] = missing
		}
		if missing := a.unmapped(mapped, node); len(missing) > 0 {
			why["unavailable-resources"] = missing
		}
		if blocking := rules.blocking(node); len(blocking) > 0 {
			why["blocking-ha-resources"] = blocking
		}
		not[node] = why
		if len(why) == 0 {
			allowed = append(allowed, node)
		}
	}
	info := pvetool.Object{}
	for _, key := range mapped {
		info[key] = pvetool.Object{"name": properties(conf.Values[key])["mapping"], "live-migration": 0}
	}
	out := pvetool.Object{
		"running": running, "allowed_nodes": allowed, "not_allowed_nodes": not, "local_disks": a.localDisks(k, id, conf),
		"local_resources": append([]string{}, local...), "mapped-resources": append([]string{}, mapped...), "mapped-resource-info": info,
	}
	if len(rules.together) > 0 {
		out["dependent-ha-resources"] = rules.together
	}
	if h.node.Release().Major() >= 9 {
		out["has-dbus-vmstate"] = 1
	}
	return out, nil
}

// affinity is what HA rules say of a resource: which others go with it, and on which nodes those are that it keeps away from.
type affinity struct {
	together []string
	apart    map[string][]string // by node
}

func (f affinity) blocking(node string) []pvetool.Object {
	var out []pvetool.Object
	for _, sid := range f.apart[node] {
		out = append(out, pvetool.Object{"cause": "resource-affinity", "sid": sid})
	}
	return out
}

// affinity reads the rules that concern a resource.
func (a *actor) affinity(sid string) affinity {
	f := affinity{apart: map[string][]string{}}
	text, err := a.view.ReadFile("/etc/pve/ha/rules.cfg")
	if err != nil {
		return f
	}
	where := a.haNodes()
	for _, s := range pvetool.ParseSections(string(text)) {
		all := strings.FieldsFunc(s.Values["resources"], func(r rune) bool { return r == ',' || r == ' ' })
		if _, off := s.Values["disable"]; off || s.Type != "resource-affinity" || !slices.Contains(all, sid) {
			continue
		}
		slices.Sort(all)
		for _, other := range all {
			switch {
			case other == sid:
			case s.Values["affinity"] == "positive":
				f.together = append(f.together, other)
			case where[other] != "":
				f.apart[where[other]] = append(f.apart[where[other]], other)
			}
		}
	}
	return f
}

// lackingStorages are the storages of a guest that are not configured or enabled for a node.
func (a *actor) lackingStorages(k *kind, conf *Config, node string) []string {
	all := a.storages()
	var out []string
	for _, d := range k.drivesOf(conf.Values) {
		sid, _, ok := d.volume()
		if !ok || d.cdrom && !d.cloud || slices.Contains(out, sid) {
			continue
		}
		if at := all[sid]; at == nil || !at.on(node) {
			out = append(out, sid)
		}
	}
	slices.Sort(out)
	return out
}

// localDisks lists the volumes that are not shared, those of snapshots included.
func (a *actor) localDisks(k *kind, id int, conf *Config) []pvetool.Object {
	all := a.storages()
	out := []pvetool.Object{}
	seen := map[string]bool{}
	consider := func(values map[string]string, current bool) {
		for _, d := range k.drivesOf(values) {
			sid, _, ok := d.volume()
			if !ok || seen[d.file] || all[sid] != nil && all[sid].shared {
				continue
			}
			seen[d.file] = true
			o := pvetool.Object{
				"cdrom": bit(d.cdrom), "drivename": d.key, "is_attached": bit(current && !d.unused), "is_cloudinit": bit(d.cloud),
				"is_tpmstate": bit(strings.HasPrefix(d.key, "tpmstate")), "is_unused": bit(d.unused), "is_vmstate": 0,
				"replicate": bit(d.opts["replicate"] != "0"), "shared": 0, "volid": d.file,
			}
			if n := d.size(); n > 0 {
				o["size"] = n
			}
			out = append(out, o)
		}
	}
	consider(conf.Values, true)
	for _, values := range conf.Snapshots {
		consider(values, false)
	}
	return out
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

var errNoWorkers = errors.New("either 'max-workers' parameter or max_workers in datacenter.cfg must be set!")
