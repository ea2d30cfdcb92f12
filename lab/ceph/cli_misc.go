package ceph

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/pxrun/pxrun/lab/machine"
)

func pgCommands() map[string]handler {
	return map[string]handler{
		"pg stat": (*call).pgStat, "pg dump": (*call).pgDump, "pg dump brief": (*call).pgDump, "pg dump pgs_brief": (*call).pgDump, "pg dump pgs": (*call).pgDump, "pg dump all": (*call).pgDump, "pg ls": (*call).pgDump, "pg dump_stuck": (*call).pgStuck, "pg map": (*call).pgMap,
	}
}

func (k *call) pgStat() error {
	t := k.c.tally()
	return k.print(object{"pg_ready": true, "pg_summary": k.c.pgmap(t)}, func() string {
		var parts []string
		for name, count := range t.states {
			parts = append(parts, fmt.Sprintf("%d %s", count, name))
		}
		slices.Sort(parts)
		return fmt.Sprintf("%d pgs: %s", t.pgs, strings.Join(parts, ", "))
	})
}

// pgRows are the placement groups with their states and sets.
func (k *call) pgRows(keep func(pgView) bool) []object {
	out := []object{}
	k.c.eachPG(func(p *pool, number int, v pgView) {
		if !keep(v) {
			return
		}
		primary := func(l []int) int {
			if len(l) == 0 {
				return -1
			}
			return l[0]
		}
		row := object{"pgid": pgID(p.id, number), "state": v.state, "up": append([]int{}, v.up...), "up_primary": primary(v.up), "acting": append([]int{}, v.acting...), "acting_primary": primary(v.acting)}
		if len(row) > 0 && !strings.Contains(k.command+k.arg(0), "brief") {
			row["stat_sum"] = object{"num_objects": objectsPerPG, "num_objects_degraded": v.degraded, "num_objects_misplaced": v.misplaced}
		}
		out = append(out, row)
	})
	return out
}

func (k *call) pgDump() error {
	rows := k.pgRows(func(pgView) bool { return true })
	var out any = object{"pg_ready": true, "pg_stats": rows}
	if !strings.Contains(k.command+k.arg(0), "brief") {
		out = object{"pg_ready": true, "pg_map": object{"version": k.c.osdEpoch, "stamp": k.stamp(k.c.model.now()), "pg_stats": rows}}
	}
	return k.print(out, func() string {
		var b strings.Builder
		b.WriteString("PG_STAT  STATE  UP  UP_PRIMARY  ACTING  ACTING_PRIMARY\n")
		for _, r := range rows {
			up, _ := r["up"].([]int)
			acting, _ := r["acting"].([]int)
			fmt.Fprintf(&b, "%s  %s  %s  %d  %s  %d\n", r["pgid"], r["state"], listOf(up), r["up_primary"], listOf(acting), r["acting_primary"])
		}
		return b.String()
	})
}

func (k *call) pgStuck() error {
	return k.print(object{"stuck_pg_stats": k.pgRows(func(v pgView) bool { return !v.clean() })}, nil)
}

func (k *call) pgMap() error {
	for _, row := range k.pgRows(func(pgView) bool { return true }) {
		if row["pgid"] == k.arg(0) {
			return k.print(object{"epoch": k.c.osdEpoch, "raw_pgid": k.arg(0), "pgid": k.arg(0), "up": row["up"], "acting": row["acting"]}, nil)
		}
	}
	return refuse(syscall.ENOENT, "i don't have pgid %s", k.arg(0))
}

func miscCommands() map[string]handler {
	return map[string]handler{
		"config dump": (*call).configDump, "config set": (*call).configSet, "config get": (*call).configGet, "config rm": (*call).configRemove, "config assimilate-conf": func(*call) error { return nil },
		"crash ls": func(k *call) error { return k.crashList(true) }, "crash ls-new": func(k *call) error { return k.crashList(false) }, "crash archive-all": (*call).crashArchive, "crash archive": (*call).crashArchive,
		"auth ls": (*call).authList, "auth get-or-create": (*call).authGet, "auth get-key": (*call).authGet, "auth del": func(*call) error { return nil }, "auth rm": func(*call) error { return nil },
		"balancer status": func(k *call) error {
			return k.print(object{"active": true, "mode": "upmap", "optimize_result": "", "plans": []string{}}, nil)
		},
		"node ls": (*call).nodeList, "features": func(k *call) error { return k.print(object{}, nil) }, "time-sync-status": func(k *call) error { return k.print(object{"time_skew_status": object{}}, nil) },
	}
}

func (k *call) configDump() error {
	out := []object{}
	for _, s := range k.c.config {
		out = append(out, object{"section": s.section, "name": s.name, "value": s.value, "level": "advanced", "can_update_at_runtime": true, "mask": "", "location_type": "", "location_value": ""})
	}
	return k.print(out, func() string {
		var b strings.Builder
		b.WriteString("WHO  MASK  LEVEL     OPTION  VALUE  RO\n")
		for _, s := range k.c.config {
			fmt.Fprintf(&b, "%s        advanced  %s  %s\n", s.section, s.name, s.value)
		}
		return b.String()
	})
}

func (k *call) configSet() error {
	if err := k.need(3); err != nil {
		return err
	}
	at := slices.IndexFunc(k.c.config, func(s setting) bool { return s.section == k.args[0] && s.name == k.args[1] })
	if at < 0 {
		k.c.config = append(k.c.config, setting{k.args[0], k.args[1], k.args[2]})
		return nil
	}
	k.c.config[at].value = k.args[2]
	return nil
}

func (k *call) configGet() error {
	section, name := k.arg(0), k.arg(1)
	kind, _, _ := strings.Cut(section, ".")
	for _, where := range []string{section, kind, "global"} {
		for _, s := range k.c.config {
			if s.section == where && s.name == name {
				return k.print(s.value, func() string { return s.value })
			}
		}
	}
	defaults := map[string]string{"mon_osd_down_out_interval": "600", "osd_pool_default_size": strconv.Itoa(k.c.defaultSize), "mon_max_pg_per_osd": "250", "auth_allow_insecure_global_id_reclaim": "true"}
	if v, ok := defaults[name]; ok {
		return k.print(v, func() string { return v })
	}
	return refuse(syscall.ENOENT, "unrecognized key '%s'", name)
}

func (k *call) configRemove() error {
	k.c.config = slices.DeleteFunc(k.c.config, func(s setting) bool { return s.section == k.arg(0) && s.name == k.arg(1) })
	return nil
}

func (k *call) crashList(all bool) error {
	out := []object{}
	for _, one := range k.c.crashes {
		if !one.archived || all {
			o := object{"crash_id": one.id, "entity_name": one.entity, "timestamp": one.at.UTC().Format("2006-01-02T15:04:05.000000Z"), "utsname_hostname": one.host, "stack_sig": strings.Repeat("0", 64)}
			if one.archived {
				o["archived"] = one.at.UTC().Format("2006-01-02 15:04:05.000000")
			}
			out = append(out, o)
		}
	}
	return k.print(out, func() string {
		var b strings.Builder
		b.WriteString("ID  ENTITY  NEW\n")
		for _, o := range out {
			fmt.Fprintf(&b, "%s  %s\n", o["crash_id"], o["entity_name"])
		}
		return b.String()
	})
}

func (k *call) crashArchive() error {
	for i := range k.c.crashes {
		if k.arg(0) == "" || k.arg(0) == k.c.crashes[i].id {
			k.c.crashes[i].archived = true
		}
	}
	return nil
}

func (k *call) authList() error {
	out := []object{}
	for _, d := range k.c.daemons() {
		out = append(out, object{"entity": d.name(), "caps": object{"mon": "allow profile " + d.kind}})
	}
	return k.print(object{"auth_dump": out}, nil)
}

func (k *call) authGet() error {
	name := k.arg(0)
	if k.c.keys[name] == "" {
		if k.command == "auth get-key" {
			return refuse(syscall.ENOENT, "failed to find %s in keyring", name)
		}
		k.c.keys[name] = k.n.newKey()
	}
	if k.command == "auth get-key" {
		return k.print(object{"key": k.c.keys[name]}, func() string { return k.c.keys[name] })
	}
	return k.print([]object{{"entity": name, "key": k.c.keys[name]}}, func() string { return fmt.Sprintf("[%s]\n\tkey = %s", name, k.c.keys[name]) })
}

func (k *call) nodeList() error {
	out := map[string]map[string][]any{"mon": {}, "osd": {}, "mgr": {}, "mds": {}}
	for _, d := range k.c.daemons() {
		if d.node == nil {
			continue
		}
		var id any = d.id
		if n, err := strconv.Atoi(d.id); err == nil && d.kind == "osd" {
			id = n
		}
		out[d.kind][d.node.name] = append(out[d.kind][d.node.name], id)
	}
	return k.print(out, nil)
}

// rados and rbd only list: the lab's images are the storage model's.
func (n *Node) rados(ctx context.Context, p *machine.Proc) int { return n.lists(ctx, p, "lspools") }

func (n *Node) rbd(ctx context.Context, p *machine.Proc) int { return n.lists(ctx, p, "pool") }

func (n *Node) lists(ctx context.Context, p *machine.Proc, verb string) int {
	k, err := n.connect(ctx, p.View(), connectLimit)
	if err != nil {
		return connectFailed(p, err)
	}
	if !slices.Contains(p.Args(), verb) {
		return p.Fail(1, "only %s is simulated", verb)
	}
	n.model.mu.Lock()
	defer n.model.mu.Unlock()
	for _, one := range k.pools {
		p.Println(one.name)
	}
	return 0
}
