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

func monCommands() map[string]handler {
	return map[string]handler{
		"mon stat": (*call).monStat, "mon dump": (*call).monDump, "quorum_status": (*call).quorumStatus, "mon ok-to-stop": (*call).monOKToStop, "mon metadata": (*call).monMetadata, "mon versions": (*call).versions,
		"mon remove": (*call).monRemove, "mon rm": (*call).monRemove, "mon enable-msgr2": func(*call) error { return nil },
		"mgr dump": (*call).mgrDump, "mgr stat": (*call).mgrStat, "mgr fail": (*call).mgrFail, "mgr module ls": (*call).mgrModules, "mgr module enable": func(*call) error { return nil }, "mgr module disable": func(*call) error { return nil },
		"mgr versions": (*call).versions, "mgr metadata": (*call).mgrMetadata,
		"mds stat": (*call).mdsStat, "mds ok-to-stop": (*call).mdsOKToStop, "mds metadata": (*call).mdsMetadata, "fs ls": (*call).fsList, "fs dump": (*call).fsDump, "fs status": (*call).fsStatus, "fs get": (*call).fsDump, "fs set": func(*call) error { return nil },
	}
}

func (k *call) monsObject() []object {
	out := []object{}
	for i, m := range k.c.mons {
		out = append(out, object{
			"rank": i, "name": m.id, "addr": joinPort(m.addr, 6789) + "/0", "public_addr": joinPort(m.addr, 6789) + "/0", "priority": 0, "weight": 0, "crush_location": "{}",
			"public_addrs": object{"addrvec": []object{{"type": "v2", "addr": joinPort(m.addr, 3300), "nonce": 0}, {"type": "v1", "addr": joinPort(m.addr, 6789), "nonce": 0}}},
		})
	}
	return out
}

func (k *call) monmap() object {
	r := releaseOf(k.c.quorum[0].version)
	major, _ := strconv.Atoi(strings.Split(r.short, ".")[0])
	return object{
		"epoch": k.c.monEpoch, "fsid": k.c.fsid, "modified": k.stamp(0), "created": k.stamp(0), "min_mon_release": major, "min_mon_release_name": r.name, "election_strategy": 1, "disallowed_leaders: ": "", "stretch_mode": false,
		"features": object{"persistent": []string{"kraken", "luminous", "mimic"}, "optional": []string{}}, "mons": k.monsObject(),
	}
}

func (k *call) ranks() []int {
	out := []int{}
	for _, m := range k.c.quorum {
		out = append(out, k.c.rank(m))
	}
	return out
}

func (k *call) monDump() error {
	out := k.monmap()
	out["quorum"] = k.ranks()
	return k.print(out, func() string {
		var b strings.Builder
		fmt.Fprintf(&b, "epoch %d\nfsid %s\n", k.c.monEpoch, k.c.fsid)
		for i, m := range k.c.mons {
			fmt.Fprintf(&b, "%d: %s mon.%s\n", i, m.vector(), m.id)
		}
		return b.String()
	})
}

func (k *call) monStat() error {
	leader := k.c.quorum[0]
	rows := []object{}
	for _, m := range k.c.quorum {
		rows = append(rows, object{"rank": k.c.rank(m), "name": m.id})
	}
	return k.print(object{"epoch": k.c.monEpoch, "min_mon_release_name": releaseOf(leader.version).name, "num_mons": len(k.c.mons), "leader": leader.id, "quorum": rows}, func() string {
		return fmt.Sprintf("e%d: %d mons at {…} removed_ranks: {} disallowed_leaders: {}, election epoch %d, leader %d %s, quorum %s %s", k.c.monEpoch, len(k.c.mons), k.c.electionEpoch, k.c.rank(leader), leader.id,
			strings.Trim(listOf(k.ranks()), "[]"), strings.Join(k.c.inQuorum(), ","))
	})
}

func (k *call) quorumStatus() error {
	return k.print(object{
		"election_epoch": k.c.electionEpoch, "quorum": k.ranks(), "quorum_names": k.c.inQuorum(), "quorum_leader_name": k.c.quorum[0].id, "quorum_age": int((k.c.model.now() - k.c.quorumSince).Seconds()),
		"features": object{"quorum_con": "4540701547738038271", "quorum_mon": []string{"kraken", "luminous"}}, "monmap": k.monmap(),
	}, nil)
}

// monOKToStop says yes to names that it does not know.
func (k *call) monOKToStop() error {
	if err := k.need(1); err != nil {
		return err
	}
	left := slices.DeleteFunc(k.c.inQuorum(), func(name string) bool { return slices.Contains(k.args, name) })
	if len(left) <= len(k.c.mons)/2 {
		return refuse(syscall.EBUSY, "not enough monitors would be available (%s) after stopping mons [%s]", strings.Join(left, ","), strings.Join(k.args, ","))
	}
	return k.say("quorum should be preserved (%s) after stopping [%s]", strings.Join(left, ","), strings.Join(k.args, ","))
}

func (d *daemon) metadata() object {
	r := releaseOf(d.version)
	out := object{"name": d.id, "ceph_release": r.name, "ceph_version": r.full(), "ceph_version_short": upstream(d.version)}
	if d.node != nil {
		out["hostname"], out["kernel_version"] = d.node.name, d.node.m.Kernel()
	}
	return out
}

func metadataOf[D any](k *call, list []D, of func(D) *daemon) error {
	out := []object{}
	for _, one := range list {
		if d := of(one); d.version != "" {
			if k.arg(0) == d.id {
				return k.print(d.metadata(), nil)
			}
			out = append(out, d.metadata())
		}
	}
	if k.arg(0) != "" {
		return refuse(syscall.ENOENT, "")
	}
	return k.print(out, nil)
}

func (k *call) monMetadata() error {
	return metadataOf(k, k.c.mons, func(m *mon) *daemon { return &m.daemon })
}

func (k *call) mgrMetadata() error {
	return metadataOf(k, k.c.mgrs, func(m *mgr) *daemon { return &m.daemon })
}

func (k *call) mdsMetadata() error {
	return metadataOf(k, k.c.mds, func(m *mds) *daemon { return &m.daemon })
}

func (k *call) monRemove() error {
	m := k.c.mon(k.arg(0))
	switch {
	case m == nil:
		return k.say("mon.%s does not exist or has already been removed", k.arg(0))
	case len(k.c.mons) == 1:
		return refuse(syscall.EINVAL, "error: refusing removal of last monitor %s", m.id)
	}
	k.c.mons = slices.DeleteFunc(k.c.mons, func(x *mon) bool { return x == m })
	k.c.monEpoch++
	return k.say("removing mon.%s at %s, there will be %d monitors", m.id, m.vector(), len(k.c.mons))
}

func (k *call) mgrStandbys() []object {
	out := []object{}
	for i, m := range k.c.mgrs {
		if m.on && m != k.c.active {
			out = append(out, object{"gid": 14100 + i, "name": m.id, "mgr_features": 4540701547738038271, "available_modules": []object{}})
		}
	}
	return out
}

func (k *call) mgrDump() error {
	name, available := "", k.c.active != nil && k.c.active.on
	if k.c.active != nil {
		name = k.c.active.id
	}
	return k.print(object{
		"epoch": k.c.mgrEpoch, "flags": 0, "active_gid": 14000, "active_name": name, "active_addr": "-", "active_addrs": object{"addrvec": []object{}}, "active_change": k.stamp(0), "available": available, "standbys": k.mgrStandbys(),
		"modules": []string{"iostat", "nfs"}, "available_modules": []object{}, "services": object{}, "always_on_modules": object{},
	}, nil)
}

func (k *call) mgrStat() error {
	name, available := "", k.c.active != nil && k.c.active.on
	if k.c.active != nil {
		name = k.c.active.id
	}
	return k.print(object{"epoch": k.c.mgrEpoch, "available": available, "active_name": name, "num_standby": len(k.mgrStandbys())}, nil)
}

func (k *call) mgrFail() error {
	for _, m := range k.c.mgrs {
		if m.on && m != k.c.active {
			k.c.active = m
			k.c.mgrEpoch++
			return nil
		}
	}
	return nil
}

func (k *call) mgrModules() error {
	return k.print(object{"always_on_modules": []string{"balancer", "crash", "devicehealth", "orchestrator", "pg_autoscaler", "progress", "rbd_support", "status", "telemetry", "volumes"}, "enabled_modules": []string{"iostat", "nfs"}, "disabled_modules": []object{}}, nil)
}

func (k *call) mdsStat() error {
	return k.print(object{"fsmap": k.fsDumpObject(), "mdsmap_first_committed": 1, "mdsmap_last_committed": k.c.fsEpoch}, func() string {
		var parts []string
		for _, f := range k.c.fs {
			if d := k.c.holder(f); d != nil {
				parts = append(parts, fmt.Sprintf("%s:1 {0=%s=%s}", f.name, d.id, d.state(k.c)))
			} else {
				parts = append(parts, f.name+":0")
			}
		}
		return strings.TrimSpace(strings.Join(parts, " ") + fmt.Sprintf(" %d up:standby", len(k.c.standbys())))
	})
}

func (k *call) mdsOKToStop() error {
	left := 0
	for _, d := range k.c.mds {
		if d.on && !slices.Contains(k.args, d.id) {
			left++
		}
	}
	if left < len(k.c.fs) {
		return refuse(syscall.EBUSY, "file system %s would have insufficient MDSs", k.c.fs[0].name)
	}
	return k.say("should be safe to stop %s", strings.Join(k.args, ","))
}

func (k *call) mdsInfo(d *mds) object {
	return object{"gid": d.gid, "name": d.id, "rank": d.rank, "incarnation": 5, "state": d.state(k.c), "state_seq": 2, "addr": "-", "join_fscid": -1, "flags": 0, "features": 4540701547738038271}
}

func (k *call) fsDumpObject() object {
	standbys, list := []object{}, []object{}
	for _, d := range k.c.standbys() {
		standbys = append(standbys, k.mdsInfo(d))
	}
	for _, f := range k.c.fs {
		info, up := object{}, object{}
		if d := k.c.holder(f); d != nil {
			info[fmt.Sprintf("gid_%d", d.gid)] = k.mdsInfo(d)
			up["mds_0"] = d.gid
		}
		list = append(list, object{"id": f.id, "mdsmap": object{
			"epoch": k.c.fsEpoch, "fs_name": f.name, "max_mds": 1, "in": []int{0}, "up": up, "failed": []int{}, "damaged": []int{}, "stopped": []int{}, "info": info, "data_pools": []int{f.data}, "metadata_pool": f.metadata, "enabled": true, "standby_count_wanted": 1,
		}})
	}
	return object{"epoch": max(1, k.c.fsEpoch), "default_fscid": len(k.c.fs), "standbys": standbys, "filesystems": list}
}

func (k *call) fsDump() error { return k.print(k.fsDumpObject(), nil) }

func (k *call) poolName(id int) string {
	if p := k.c.poolByID(id); p != nil {
		return p.name
	}
	return ""
}

func (k *call) fsList() error {
	out := []object{}
	var b strings.Builder
	for _, f := range k.c.fs {
		data, metadata := k.poolName(f.data), k.poolName(f.metadata)
		out = append(out, object{"name": f.name, "metadata_pool": metadata, "metadata_pool_id": f.metadata, "data_pool_ids": []int{f.data}, "data_pools": []string{data}})
		fmt.Fprintf(&b, "name: %s, metadata pool: %s, data pools: [%s ]\n", f.name, metadata, data)
	}
	return k.print(out, func() string {
		if len(out) == 0 {
			return "No filesystems enabled"
		}
		return b.String()
	})
}

func (k *call) fsStatus() error {
	rows, pools := []object{}, []object{}
	for _, f := range k.c.fs {
		if d := k.c.holder(f); d != nil {
			rows = append(rows, object{"rank": 0, "name": d.id, "state": strings.TrimPrefix(d.state(k.c), "up:"), "dns": 10, "inos": 13, "rate": 0, "dirs": 12, "caps": 0})
		}
		pools = append(pools, object{"id": f.metadata, "name": k.poolName(f.metadata), "type": "metadata", "used": 0, "avail": 0}, object{"id": f.data, "name": k.poolName(f.data), "type": "data", "used": 0, "avail": 0})
	}
	for _, d := range k.c.standbys() {
		rows = append(rows, object{"name": d.id, "state": "standby"})
	}
	return k.print(object{"clients": []object{}, "mds_version": []object{}, "mdsmap": rows, "pools": pools}, nil)
}

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
