package ceph

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func poolCommands() map[string]handler {
	return map[string]handler{
		"osd pool ls": (*call).poolLs, "osd pool ls detail": (*call).poolLs, "osd lspools": (*call).poolLs, "osd pool create": (*call).poolCreate, "osd pool set": (*call).poolSet, "osd pool get": (*call).poolGet,
		"osd pool rm": (*call).poolRemove, "osd pool delete": (*call).poolRemove, "osd pool rename": (*call).poolRename, "osd pool application enable": (*call).poolApp, "osd pool application get": (*call).poolAppGet,
		"osd pool stats": (*call).poolStats, "osd pool autoscale-status": (*call).autoscaleStatus,
	}
}

// printLine prints JSON in one line, whatever the format.
func (k *call) printLine(value any) error {
	text, err := json.Marshal(value)
	k.out.Write(text)
	if k.format == "plain-json" {
		k.format = ""
	}
	return err
}

// poolDump is a pool in `osd dump` and `osd pool ls detail`.
func (c *Cluster) poolDump(p *pool, k *call) object {
	kind := 1
	if p.profile != "" {
		kind = 3
	}
	flags := []string{"hashpspool"}
	if p.overwrites {
		flags = append(flags, "ec_overwrites")
	}
	if p.noDelete {
		flags = append(flags, "nodelete")
	}
	if p.bulk {
		flags = append(flags, "bulk")
	}
	apps, options := object{}, object{}
	if p.app != "" {
		apps[p.app] = object{}
	}
	if p.pgNumMin > 0 {
		options["pg_num_min"] = p.pgNumMin
	}
	if p.targetRatio > 0 {
		options["target_size_ratio"] = p.targetRatio
	}
	if p.target > 0 {
		options["target_size_bytes"] = p.target
	}
	return object{
		"pool": p.id, "pool_name": p.name, "create_time": k.stamp(p.created), "flags": 1, "flags_names": strings.Join(flags, ","), "type": kind, "size": p.size, "min_size": p.minSize, "crush_rule": p.rule.id,
		"peering_crush_bucket_count": 0, "object_hash": 2, "pg_autoscale_mode": p.autoscale, "pg_num": len(p.pgs), "pg_placement_num": len(p.pgs), "pg_placement_num_target": len(p.pgs), "pg_num_target": len(p.pgs), "pg_num_pending": len(p.pgs),
		"last_change": strconv.Itoa(c.osdEpoch), "auid": 0, "snap_mode": "selfmanaged", "snap_seq": 0, "quota_max_bytes": 0, "quota_max_objects": 0, "tiers": []int{}, "tier_of": -1, "erasure_code_profile": p.profile,
		"options": options, "application_metadata": apps, "pool_id": p.id,
	}
}

func (k *call) poolLs() error {
	detail := k.command == "osd pool ls detail"
	list, short, names := []object{}, []object{}, []string{}
	for _, p := range k.c.pools {
		list = append(list, k.c.poolDump(p, k))
		short = append(short, object{"poolnum": p.id, "poolname": p.name})
		names = append(names, p.name)
	}
	switch {
	case k.command == "osd lspools":
		return k.print(short, func() string {
			var b strings.Builder
			for _, p := range k.c.pools {
				fmt.Fprintf(&b, "%d %s\n", p.id, p.name)
			}
			return b.String()
		})
	case detail:
		return k.print(list, func() string {
			var b strings.Builder
			for _, p := range k.c.pools {
				fmt.Fprintf(&b, "pool %d '%s' %s size %d min_size %d crush_rule %d object_hash rjenkins pg_num %d pgp_num %d autoscale_mode %s application %s\n", p.id, p.name, map[bool]string{true: "erasure profile " + p.profile, false: "replicated"}[p.profile != ""], p.size, p.minSize, p.rule.id, len(p.pgs), len(p.pgs), p.autoscale, p.app)
			}
			return b.String()
		})
	}
	return k.printNames(names)
}

// poolCreate is `osd pool create NAME [PG_NUM [PGP_NUM]] [replicated|erasure] [PROFILE|RULE] …`.
func (k *call) poolCreate() error {
	if err := k.need(1); err != nil {
		return err
	}
	name := k.args[0]
	if k.c.pool(name) != nil {
		return k.say("pool '%s' already exists", name)
	}
	pgs, rest := 32, k.args[1:]
	for i := 0; i < 2 && len(rest) > 0 && isNumber(rest[0]); i++ {
		if i == 0 {
			pgs, _ = strconv.Atoi(rest[0])
		}
		rest = rest[1:]
	}
	if text := k.flags["pg_num"]; text != "" {
		pgs, _ = strconv.Atoi(text)
	}
	profile, rule := "", ""
	if len(rest) > 0 {
		switch rest[0] {
		case "erasure":
			profile, rest = "default", rest[1:]
			if len(rest) > 0 {
				profile, rest = rest[0], rest[1:]
			}
		case "replicated":
			rest = rest[1:]
		}
		if len(rest) > 0 {
			rule = rest[0]
		}
	}
	p, err := k.c.createPool(name, pgs, profile, rule)
	if err != nil {
		return err
	}
	if size, err := strconv.Atoi(k.flags["size"]); err == nil {
		if err := k.c.setPool(name, "size", strconv.Itoa(size)); err != nil {
			return err
		}
	}
	if mode := k.flags["autoscale-mode"]; mode != "" {
		p.autoscale = mode
	}
	p.bulk = k.flags["bulk"] != ""
	return k.say("pool '%s' created", name)
}

func (k *call) poolNamed() (*pool, error) {
	p := k.c.pool(k.arg(0))
	if p == nil {
		return nil, refuse(syscall.ENOENT, "unrecognized pool '%s'", k.arg(0))
	}
	return p, nil
}

// poolSettable are the names of `osd pool set`.
var poolSettable = strings.Fields("size min_size pg_num pgp_num pgp_num_actual crush_rule hashpspool nodelete nopgchange nosizechange write_fadvise_dontneed noscrub nodeep-scrub hit_set_type allow_ec_overwrites bulk compression_mode compression_algorithm compression_required_ratio csum_type pg_autoscale_mode pg_autoscale_bias pg_num_min pg_num_max target_size_bytes target_size_ratio recovery_priority scrub_priority deep_scrub_interval scrub_min_interval")

func (k *call) poolSet() error {
	if err := k.need(3); err != nil {
		return err
	}
	p, err := k.poolNamed()
	if err != nil {
		return err
	}
	key, value := k.args[1], k.args[2]
	if !slices.Contains(poolSettable, key) {
		return errInvalid
	}
	if key == "size" && value == "1" && k.flags["yes-i-really-mean-it"] == "" {
		return refuse(syscall.EPERM, "WARNING: setting pool size 1 could lead to data loss without recovery. If you are *ABSOLUTELY CERTAIN* that is what you want, pass the flag --yes-i-really-mean-it.")
	}
	if err := k.c.setPool(p.name, key, value); err != nil {
		return err
	}
	return k.say("set pool %d %s to %s", p.id, key, value)
}

func (k *call) poolGet() error {
	if err := k.need(2); err != nil {
		return err
	}
	p, err := k.poolNamed()
	if err != nil {
		return err
	}
	all := map[string]any{
		"size": p.size, "min_size": p.minSize, "pg_num": len(p.pgs), "pgp_num": len(p.pgs), "crush_rule": p.rule.name, "pg_autoscale_mode": p.autoscale, "nodelete": p.noDelete, "bulk": p.bulk, "allow_ec_overwrites": p.overwrites,
		"hashpspool": true, "noscrub": false, "nodeep-scrub": false, "nopgchange": false, "nosizechange": false, "pg_num_min": p.pgNumMin, "target_size_bytes": p.target, "target_size_ratio": p.targetRatio, "erasure_code_profile": p.profile,
	}
	key := k.args[1]
	if key == "all" {
		all["pool"], all["pool_id"] = p.name, p.id
		return k.print(all, nil)
	}
	value, known := all[key]
	if option, ok := p.options[key]; !known && ok {
		value, known = option, true
	}
	if !known {
		if slices.Contains(poolSettable, key) {
			return refuse(syscall.ENOENT, "option '%s' is not set on pool '%s'", key, p.name)
		}
		return errInvalid
	}
	return k.print(object{"pool": p.name, "pool_id": p.id, key: value}, func() string { return fmt.Sprintf("%s: %v", key, value) })
}

func (k *call) poolRemove() error {
	p, err := k.poolNamed()
	if err != nil {
		return k.say("pool '%s' does not exist", k.arg(0))
	}
	switch {
	case k.arg(1) != p.name || k.flags["yes-i-really-really-mean-it"] == "":
		return refuse(syscall.EPERM, "WARNING: this will *PERMANENTLY DESTROY* all data stored in pool %s.  If you are *ABSOLUTELY CERTAIN* that is what you want, pass the pool name *twice*, followed by --yes-i-really-really-mean-it.", p.name)
	case p.noDelete:
		return refuse(syscall.EPERM, "pool deletion is disabled; you must unset nodelete flag for the pool first")
	}
	k.c.dropPools(func(x *pool) bool { return x == p })
	return k.say("pool '%s' removed", p.name)
}

func (k *call) poolRename() error {
	p, err := k.poolNamed()
	if err != nil {
		return err
	}
	old := p.name
	p.name = k.arg(1)
	return k.say("pool '%s' renamed to '%s'", old, p.name)
}

func (k *call) poolApp() error {
	p, err := k.poolNamed()
	if err != nil {
		return err
	}
	if p.app != "" && p.app != k.arg(1) && k.flags["yes-i-really-mean-it"] == "" {
		return refuse(syscall.EPERM, "Are you SURE? Pool '%s' already has an enabled application; pass --yes-i-really-mean-it to proceed anyway", p.name)
	}
	p.app = k.arg(1)
	return k.say("enabled application '%s' on pool '%s'", p.app, p.name)
}

func (k *call) poolAppGet() error {
	out := object{}
	for _, p := range k.c.pools {
		apps := object{}
		if p.app != "" {
			apps[p.app] = object{}
		}
		if p.name == k.arg(0) {
			return k.print(apps, nil)
		}
		out[p.name] = apps
	}
	return k.print(out, nil)
}

func (k *call) poolStats() error {
	out := []object{}
	for _, p := range k.c.pools {
		out = append(out, object{"pool_name": p.name, "pool_id": p.id, "recovery": object{}, "recovery_rate": object{}, "client_io_rate": object{}})
	}
	return k.print(out, nil)
}

func (k *call) autoscaleStatus() error {
	out := []object{}
	_, total := k.c.space()
	for _, p := range k.c.pools {
		used, ratio := k.c.usage(p)
		out = append(out, object{
			"pool_id": p.id, "pool_name": p.name, "pg_autoscale_mode": p.autoscale, "pg_num_target": len(p.pgs), "pg_num_ideal": k.c.wantedPGs(p), "pg_num_final": k.c.wantedPGs(p), "would_adjust": k.c.misscaled(p) != 0,
			"target_bytes": p.target, "target_ratio": p.targetRatio, "effective_target_ratio": p.targetRatio, "actual_raw_used": used, "capacity_ratio": ratio, "subtree_capacity": total, "bulk": p.bulk, "bias": 1, "raw_used_rate": p.size, "crush_root_id": -1,
		})
	}
	return k.print(out, nil)
}
