package ceph

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
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
