package ceph

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

func enumOf(list ...string) pvetool.Option {
	return pvetool.Option{Check: func(v string) string {
		if !slices.Contains(list, v) {
			return fmt.Sprintf("value '%s' does not have a value in the enumeration '%s'", v, strings.Join(list, ", "))
		}
		return ""
	}}
}

func numberOf(low, high int) pvetool.Option {
	return pvetool.Option{Kind: pvetool.Int, Check: between(low, high)}
}

func poolOptions() map[string]pvetool.Option {
	return map[string]pvetool.Option{
		"size": numberOf(1, 7), "min_size": numberOf(1, 7), "pg_num": numberOf(1, 32768), "pg_num_min": numberOf(0, 32768), "crush_rule": {}, "application": enumOf("rbd", "cephfs", "rgw"),
		"pg_autoscale_mode": enumOf("on", "off", "warn"), "target_size": {}, "target_size_ratio": {}, "add_storages": {Kind: pvetool.Bool}, "erasure-coding": {},
	}
}

// poolSettings are what a pool shall be, by Proxmox's names.
type poolSettings map[string]string

// poolCreate is `pveceph pool create`, which exits 0 whatever its worker makes.
func (n *Node) poolCreate(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	v, name := p.View(), o.Positional[0]
	if err := n.ready(v); err != nil {
		return err
	}
	ec, err := parseEC(o.Values["erasure-coding"])
	if err != nil {
		return err
	}
	add := o.Is("add_storages") || ec != nil && o.Values["add_storages"] == ""
	if add {
		if err := n.storageFree(p, name); err != nil {
			return err
		}
	}
	k, err := n.rados5(ctx, v)
	if err != nil {
		return err
	}
	settings := poolSettings{"size": "3", "min_size": "2", "pg_num": "128", "application": "rbd", "pg_autoscale_mode": "warn"}
	for key, value := range o.Values {
		if key != "add_storages" && key != "erasure-coding" {
			settings[key] = value
		}
	}
	return n.task(ctx, p, "cephcreatepool", name, false, func(ctx context.Context, out io.Writer) error {
		storage := map[string]string{"pool": name, "content": "images,rootdir", "krbd": "0"}
		if ec == nil {
			if err := n.makePool(ctx, out, k, name, settings); err != nil {
				return err
			}
		} else {
			if err := n.makeErasurePools(ctx, out, k, name, settings, ec); err != nil {
				return err
			}
			storage["pool"], storage["data-pool"] = name+"-metadata", name+"-data"
		}
		if add {
			return n.addStorage(ctx, p, out, "rbd", name, storage)
		}
		return nil
	})
}

// parseEC reads "k=2,m=1,…", nil without.
func parseEC(text string) (map[string]string, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // not erasure-coded
	}
	out := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok || !slices.Contains([]string{"k", "m", "device-class", "failure-domain", "profile"}, key) {
			return nil, &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"erasure-coding: invalid format - format error"}}
		}
		out[key] = value
	}
	if out["profile"] == "" && (out["k"] == "" || out["m"] == "") {
		return nil, errors.New("'erasure-coding' option needs 'k' and 'm' or 'profile'")
	}
	return out, nil
}

// makeErasurePools makes the profile, the data pool on it and the replicated pool of metadata.
func (n *Node) makeErasurePools(ctx context.Context, out io.Writer, k *Cluster, name string, settings poolSettings, ec map[string]string) error {
	profile := or2(ec["profile"], "pve_ec_"+name)
	err := n.with(k, func() error {
		if ec["profile"] != "" {
			if k.profiles[profile] == nil {
				return fmt.Errorf("unknown erasure code profile '%s'", profile)
			}
			return nil
		}
		k.profiles[profile] = map[string]string{"k": ec["k"], "m": ec["m"], "plugin": "jerasure", "technique": "reed_sol_van", "crush-root": "default", "crush-failure-domain": or2(ec["failure-domain"], "host"), "crush-device-class": ec["device-class"]}
		return nil
	})
	if err != nil {
		return err
	}
	data := maps.Clone(settings)
	for _, key := range []string{"size", "min_size", "crush_rule"} {
		delete(data, key)
	}
	data["profile"] = profile
	if err := n.makePool(ctx, out, k, name+"-data", data); err != nil {
		return err
	}
	metadata := maps.Clone(settings)
	metadata["pg_num"] = "32"
	return n.makePool(ctx, out, k, name+"-metadata", metadata)
}

// makePool creates a pool, or takes the one that is there, and applies the settings: what Ceph refuses is named at the end.
func (n *Node) makePool(ctx context.Context, out io.Writer, k *Cluster, name string, s poolSettings) error {
	if err := n.pve.Phase(ctx, "ceph:pool", 1500*time.Millisecond); err != nil {
		return err
	}
	err := n.with(k, func() error {
		if k.pool(name) != nil {
			return nil
		}
		pgs, _ := strconv.Atoi(s["pg_num"]) // checked
		_, err := k.createPool(name, pgs, s["profile"], s["crush_rule"])
		return err
	})
	if err != nil {
		return fmt.Errorf("mon_cmd failed - %w", err)
	}
	return n.applySettings(ctx, out, k, name, s)
}

// settingOrder is the order in which settings are tried.
var settingOrder = []string{"size", "min_size", "crush_rule", "application", "pg_autoscale_mode", "pg_num", "pg_num_min", "target_size", "target_size_ratio"}

func (n *Node) applySettings(ctx context.Context, out io.Writer, k *Cluster, name string, s poolSettings) error {
	var failed []string
	for _, key := range settingOrder {
		value, ok := s[key]
		if !ok {
			continue
		}
		if err := n.m.Sleep(ctx, 200*time.Millisecond); err != nil {
			return err
		}
		fmt.Fprintf(out, "pool %s: applying %s = %s\n", name, key, value)
		err := n.with(k, func() error { return k.setPool(name, key, value) })
		if err != nil {
			fmt.Fprintf(out, "%s\n", strings.TrimSpace(err.Error()))
			failed = append(failed, key)
		}
	}
	if len(failed) > 0 {
		slices.Sort(failed)
		return fmt.Errorf("Could not set: %s", strings.Join(failed, ", ")) //nolint:revive,staticcheck // Proxmox's words
	}
	return nil
}

// createPool makes a pool. The model's lock is held.
func (c *Cluster) createPool(name string, pgs int, profile, ruleName string) (*pool, error) {
	if err := c.pgLimit(pgs, or(c.defaultSize, 3)); err != nil {
		return nil, err
	}
	c.poolSeq++
	now := c.model.now()
	p := &pool{id: c.poolSeq, name: name, size: c.defaultSize, minSize: c.defaultSize - c.defaultSize/2, k: 1, autoscale: "on", created: now, scaleAt: now + autoscales, createdEpoch: c.osdEpoch, options: map[string]string{}}
	p.rule = c.crush.rule(or2(ruleName, "replicated_rule"))
	if profile != "" {
		e := c.profiles[profile]
		if e == nil {
			return nil, fmt.Errorf("ENOENT: specified erasure-code-profile '%s' doesn't exist", profile)
		}
		k, _ := strconv.Atoi(e["k"])
		m, _ := strconv.Atoi(e["m"])
		p.profile, p.k, p.size, p.minSize = profile, k, k+m, min(k+1, k+m)
		if p.rule = c.crush.rule(or2(ruleName, name)); p.rule == nil {
			p.rule = c.crush.addRule(rule{name: name, root: or2(e["crush-root"], "default"), domain: or2(e["crush-failure-domain"], "host"), class: e["crush-device-class"], erasure: true})
		}
	}
	if p.rule == nil {
		return nil, fmt.Errorf("ENOENT: specified rule %s doesn't exist", ruleName)
	}
	p.pgs = make([]pg, pgs)
	c.pools = append(c.pools, p)
	c.osdChanged(now)
	return p, nil
}

// pgLimit refuses more placement groups than the OSDs may hold (mon_max_pg_per_osd).
func (c *Cluster) pgLimit(pgs, size int) error {
	const most = 250
	total, in := pgs*size, 0
	for _, p := range c.pools {
		total += len(p.pgs) * p.size
	}
	for _, o := range c.osds {
		if o.in > 0 {
			in++
		}
	}
	if in > 0 && total/in > most {
		return fmt.Errorf("ERANGE:  pg_num %d size %d for this pool would result in %d cumulative PGs per OSD (%d total PG replicas on %d 'in' root OSDs by crush rule) which exceeds the mon_max_pg_per_osd value of %d", pgs, size, total/in, total, in, most)
	}
	return nil
}

// setPool changes a setting by Proxmox's name. The model's lock is held.
func (c *Cluster) setPool(name, key, value string) error {
	p := c.pool(name)
	if p == nil {
		return fmt.Errorf("ENOENT: unrecognized pool '%s'", name)
	}
	number, err := strconv.Atoi(value)
	now := c.model.now()
	switch key {
	case "size", "min_size", "pg_num", "pgp_num", "pg_num_min":
		if err != nil {
			return fmt.Errorf("EINVAL: error parsing integer value '%s'", value)
		}
	}
	switch key {
	case "size":
		if p.profile != "" {
			return errors.New("EPERM: can not change the size of an erasure-coded pool")
		}
		if number < 1 || number > 10 {
			return errors.New("EINVAL: pool size must be between 1 and 10")
		}
		p.size = number
		p.minSize = min(p.minSize, number)
	case "min_size":
		low := 1
		if p.profile != "" {
			low = p.k
		}
		if number < low || number > p.size {
			return fmt.Errorf("EINVAL: pool min_size must be between %d and size, which is set to %d", low, p.size)
		}
		p.minSize = number
	case "pg_num", "pgp_num":
		if number < 1 || number > 65536 {
			return fmt.Errorf("ERANGE: 'pgp_num' must be greater than 0 and lower or equal than 'mon_max_pool_pg_num', which is %d", 65536)
		}
		if number != len(p.pgs) && key == "pg_num" {
			if err := c.pgLimit(number-len(p.pgs), p.size); err != nil {
				return err
			}
			p.pgs, p.created = make([]pg, number), now
		}
	case "pg_num_min":
		p.pgNumMin = number
	case "crush_rule":
		r := c.crush.rule(value)
		if r == nil {
			return fmt.Errorf("ENOENT: crush rule %s does not exist", value)
		}
		p.rule = r
	case "application":
		p.app = value
	case "pg_autoscale_mode":
		if !slices.Contains([]string{"on", "off", "warn"}, value) {
			return fmt.Errorf("EINVAL: invalid autoscale mode %s", value)
		}
		p.autoscale = value
		p.scaleAt = now + autoscales
	case "target_size", "target_size_bytes":
		size, ok := bytesOf(value)
		if !ok {
			return fmt.Errorf("EINVAL: error parsing value '%s'", value)
		}
		p.target = size
	case "target_size_ratio":
		ratio, err := strconv.ParseFloat(value, 64)
		if err != nil || ratio < 0 {
			return fmt.Errorf("EINVAL: error parsing float value '%s'", value)
		}
		p.targetRatio = ratio
		p.scaleAt = now + autoscales
	case "bulk":
		p.bulk = value == "true" || value == "1"
		p.scaleAt = now + autoscales
	case "allow_ec_overwrites":
		p.overwrites = value == "true" || value == "1"
	case "nodelete":
		p.noDelete = value == "true" || value == "1"
	default:
		p.options[key] = value
	}
	c.osdChanged(now)
	return nil
}

// bytesOf reads 100G and the like.
func bytesOf(text string) (int64, bool) {
	units := map[string]float64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "KI": 1 << 10, "MI": 1 << 20, "GI": 1 << 30, "TI": 1 << 40}
	number := strings.TrimRight(strings.ToUpper(text), "BKMGTI")
	n, err := strconv.ParseFloat(number, 64)
	unit, ok := units[strings.TrimSuffix(strings.ToUpper(text[len(number):]), "B")]
	return int64(n * unit), err == nil && ok
}

// dropPools removes pools.
func (c *Cluster) dropPools(which func(*pool) bool) {
	c.pools = slices.DeleteFunc(c.pools, which)
	c.osdChanged(c.model.now())
}

// wantedPGs is what the autoscaler would give a pool: as the share of the capacity that is expected of it.
func (c *Cluster) wantedPGs(p *pool) int {
	const perOSD = 100
	in := 0
	for _, o := range c.osds {
		if o.in > 0 && (p.rule.class == "" || p.rule.class == o.class) {
			in++
		}
	}
	ratios := 0.0
	for _, other := range c.pools {
		ratios += other.targetRatio
	}
	share := 0.0
	if ratios > 0 {
		share = p.targetRatio / ratios
	}
	if p.bulk {
		share = max(share, 1/float64(len(c.pools)))
	}
	low := or(p.pgNumMin, 32)
	if p.name == ".mgr" {
		low = 1
	}
	want := share * float64(perOSD*in) / float64(max(1, p.size))
	return max(low, int(math.Exp2(math.Round(math.Log2(max(1, want))))))
}

// misscaled is what the autoscaler thinks of a pool: 1 is too few placement groups, -1 too many.
func (c *Cluster) misscaled(p *pool) int {
	const threshold = 3
	want := c.wantedPGs(p)
	switch {
	case want > len(p.pgs)*threshold:
		return 1
	case want*threshold < len(p.pgs):
		return -1
	}
	return 0
}

// autoscale lets the autoscaler look at the pools whose time has come.
func (c *Cluster) autoscale(at time.Duration) {
	changed := false
	for _, p := range c.pools {
		if p.scaleAt == 0 || p.scaleAt > at {
			continue
		}
		p.scaleAt = 0
		if p.autoscale == "on" && c.misscaled(p) != 0 {
			p.pgs, p.created, changed = make([]pg, c.wantedPGs(p)), at, true
		}
	}
	if changed {
		c.osdChanged(at)
	}
}
