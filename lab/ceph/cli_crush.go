package ceph

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
)

// nodeFlagNames are the flags that can be set on hosts and OSDs.
var nodeFlagNames = []string{"noup", "nodown", "noin", "noout"}

// clusterFlags are those of `osd set`.
var clusterFlags = append([]string{"full", "pause", "nobackfill", "norebalance", "norecover", "noscrub", "nodeep-scrub", "notieragent", "nosnaptrim"}, nodeFlagNames...)

func flagCommands() map[string]handler {
	table := map[string]handler{
		"osd set": func(k *call) error { return k.setFlag(true) }, "osd unset": func(k *call) error { return k.setFlag(false) },
		"osd set-group": func(k *call) error { return k.setGroup(true) }, "osd unset-group": func(k *call) error { return k.setGroup(false) },
	}
	for _, f := range nodeFlagNames {
		table["osd add-"+f] = func(k *call) error { return k.osdFlag(f, true) }
		table["osd rm-"+f] = func(k *call) error { return k.osdFlag(f, false) }
	}
	return table
}

func (k *call) setFlag(on bool) error {
	f := k.arg(0)
	if !slices.Contains(clusterFlags, f) {
		return refuse(syscall.EINVAL, "invalid command")
	}
	names := []string{f}
	if f == "pause" {
		names = []string{"pauserd", "pausewr"}
	}
	for _, name := range names {
		if on {
			k.c.flags[name] = true
		} else {
			delete(k.c.flags, name)
		}
	}
	k.c.flagsChanged()
	if on {
		return k.say("%s is set", strings.Join(names, ","))
	}
	return k.say("%s is unset", strings.Join(names, ","))
}

// flagsChanged lets what flags have held go on.
func (c *Cluster) flagsChanged() {
	for _, p := range c.pools {
		for i := range p.pgs {
			if p.pgs[i].done == forever {
				p.pgs[i].done = 0
			}
		}
	}
	c.osdChanged(c.model.now())
}

// setGroup sets flags on hosts, device classes or OSDs.
func (k *call) setGroup(on bool) error {
	if err := k.need(2); err != nil {
		return err
	}
	for f := range strings.SplitSeq(k.args[0], ",") {
		if !slices.Contains(nodeFlagNames, f) {
			return refuse(syscall.EINVAL, "invalid flag(s) %s", f)
		}
		for _, who := range k.args[1:] {
			if b := k.c.crush.find(who); b != nil {
				if k.c.nodeFlags[who] == nil {
					k.c.nodeFlags[who] = map[string]bool{}
				}
				change(k.c.nodeFlags[who], f, on)
				continue
			}
			list, err := k.osdArgs([]string{who})
			if err != nil {
				return refuse(syscall.EINVAL, "unable to parse osd id or crush node or device class: '%s'", who)
			}
			for _, o := range list {
				change(o.flags, f, on)
			}
		}
	}
	k.c.flagsChanged()
	return nil
}

func change(set map[string]bool, key string, on bool) {
	if on {
		set[key] = true
	} else {
		delete(set, key)
	}
}

func (k *call) osdFlag(f string, on bool) error {
	list, err := k.osdArgs(k.args)
	if err != nil {
		return err
	}
	for _, o := range list {
		change(o.flags, f, on)
	}
	k.c.flagsChanged()
	return nil
}

func crushCommands() map[string]handler {
	return map[string]handler{
		"osd crush rule ls": (*call).ruleList, "osd crush rule dump": (*call).ruleDump, "osd crush rule create-replicated": (*call).ruleReplicated, "osd crush rule create-simple": (*call).ruleReplicated,
		"osd crush rule create-erasure": (*call).ruleErasure, "osd crush rule rm": (*call).ruleRemove, "osd crush class ls": (*call).classList, "osd crush class ls-osd": (*call).classOSDs,
		"osd crush set-device-class": (*call).setClass, "osd crush rm-device-class": (*call).removeClass, "osd crush get-device-class": (*call).getClass, "osd crush tree": (*call).osdTree,
		"osd crush add-bucket": (*call).addBucket, "osd crush move": (*call).moveBucket, "osd crush rm": (*call).removeBucket, "osd crush remove": (*call).removeBucket, "osd crush reweight": (*call).crushReweight,
		"osd crush dump": (*call).crushDump, "osd getcrushmap": (*call).getMap, "osd setcrushmap": (*call).setMap,
		"osd erasure-code-profile ls": (*call).profileList, "osd erasure-code-profile get": (*call).profileGet, "osd erasure-code-profile set": (*call).profileSet, "osd erasure-code-profile rm": (*call).profileRemove,
	}
}

func (k *call) printNames(names []string) error {
	return k.print(append([]string{}, names...), func() string { return strings.Join(names, "\n") })
}

func (k *call) ruleList() error {
	var names []string
	for _, r := range k.c.crush.rules {
		names = append(names, r.name)
	}
	return k.printNames(names)
}

// ruleObject is a rule with its steps.
func (c *Cluster) ruleObject(r *rule) object {
	root := 0
	if b := c.crush.find(r.root); b != nil {
		root = b.id
	}
	take := r.root
	if r.class != "" {
		take += "~" + r.class
	}
	op, kind := "chooseleaf_firstn", 1
	if r.erasure {
		op, kind = "chooseleaf_indep", 3
	}
	if r.domain == "osd" {
		op = strings.Replace(op, "chooseleaf", "choose", 1)
	}
	steps := []object{{"op": "take", "item": root, "item_name": take}, {"op": op, "num": 0, "type": r.domain}, {"op": "emit"}}
	if r.per > 0 {
		steps[1]["op"] = strings.Replace(op, "chooseleaf", "choose", 1)
		steps = slices.Insert(steps, 2, object{"op": op, "num": r.per, "type": "host"})
	}
	return object{"rule_id": r.id, "rule_name": r.name, "type": kind, "steps": steps}
}

func (k *call) ruleDump() error {
	if name := k.arg(0); name != "" {
		r := k.c.crush.rule(name)
		if r == nil {
			return refuse(syscall.ENOENT, "unknown crush rule '%s'", name)
		}
		return k.print(k.c.ruleObject(r), nil)
	}
	out := []object{}
	for _, r := range k.c.crush.rules {
		out = append(out, k.c.ruleObject(r))
	}
	return k.print(out, nil)
}

func (k *call) ruleReplicated() error {
	if err := k.need(3); err != nil {
		return err
	}
	r := rule{name: k.args[0], root: k.args[1], domain: k.args[2], class: k.arg(3)}
	if b := k.c.crush.find(r.root); b == nil {
		return refuse(syscall.ENOENT, "root item %s does not exist", r.root)
	}
	if !slices.Contains(bucketKinds, r.domain) {
		return refuse(syscall.EINVAL, "unknown type %s", r.domain)
	}
	if r.class != "" && !slices.Contains(k.c.classes(), r.class) {
		return refuse(syscall.EINVAL, "device class %s does not exist", r.class)
	}
	if old := k.c.crush.rule(r.name); old != nil {
		return k.say("rule %s already exists", r.name)
	}
	k.c.crush.addRule(r)
	return nil
}

func (k *call) ruleErasure() error {
	if err := k.need(1); err != nil {
		return err
	}
	e := k.c.profiles[or2(k.arg(1), "default")]
	if e == nil {
		return refuse(syscall.ENOENT, "unknown erasure code profile '%s'", k.arg(1))
	}
	if k.c.crush.rule(k.args[0]) != nil {
		return k.say("rule %s already exists", k.args[0])
	}
	r := k.c.crush.addRule(rule{name: k.args[0], root: or2(e["crush-root"], "default"), domain: or2(e["crush-failure-domain"], "host"), class: e["crush-device-class"], erasure: true})
	return k.say("created rule %s at %d", r.name, r.id)
}

func (k *call) ruleRemove() error {
	r := k.c.crush.rule(k.arg(0))
	if r == nil {
		return k.say("rule %s does not exist", k.arg(0))
	}
	if slices.ContainsFunc(k.c.pools, func(p *pool) bool { return p.rule == r }) {
		return refuse(syscall.EBUSY, "crush rule '%s' (%d) is in use", r.name, r.id)
	}
	k.c.crush.rules = slices.DeleteFunc(k.c.crush.rules, func(x *rule) bool { return x == r })
	return nil
}

func (c *Cluster) classes() []string {
	set := map[string]bool{}
	for _, o := range c.osds {
		if o.class != "" {
			set[o.class] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

func (k *call) classList() error { return k.print(append([]string{}, k.c.classes()...), nil) }

func (k *call) classOSDs() error {
	ids := []int{}
	for _, o := range k.c.sortedOSDs() {
		if o.class == k.arg(0) {
			ids = append(ids, o.number)
		}
	}
	return k.printIDs(ids)
}

func (k *call) setClass() error {
	if err := k.need(2); err != nil {
		return err
	}
	list, err := k.osdArgs(k.args[1:])
	if err != nil {
		return err
	}
	var set []string
	for _, o := range list {
		if o.class != "" && o.class != k.args[0] {
			return refuse(syscall.EBUSY, "osd.%d has already bound to class '%s', can not reset class to '%s'; use 'ceph osd crush rm-device-class <id>' to remove old class first", o.number, o.class, k.args[0])
		}
		o.class = k.args[0]
		set = append(set, o.id)
	}
	k.c.osdChanged(k.c.model.now())
	return k.say("set osd(s) %s to class '%s'", strings.Join(set, ","), k.args[0])
}

func (k *call) removeClass() error {
	list, err := k.osdArgs(k.args)
	if err != nil {
		return err
	}
	var done []string
	for _, o := range list {
		o.class = ""
		done = append(done, o.id)
	}
	k.c.osdChanged(k.c.model.now())
	return k.say("done removing class of osd(s): %s", strings.Join(done, ","))
}

func (k *call) getClass() error {
	list, err := k.osdArgs(k.args)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, o := range list {
		fmt.Fprintln(&b, o.class)
	}
	return k.print(object{}, b.String)
}

func (k *call) addBucket() error {
	if err := k.need(2); err != nil {
		return err
	}
	name, kind := k.args[0], k.args[1]
	if !slices.Contains(bucketKinds[1:], kind) {
		return refuse(syscall.EINVAL, "type '%s' does not exist", kind)
	}
	if k.c.crush.find(name) != nil {
		return k.say("bucket '%s' already exists", name)
	}
	parent, err := k.location(k.args[2:])
	if err != nil {
		return err
	}
	k.c.crush.add(name, kind, parent)
	k.c.osdChanged(k.c.model.now())
	return k.say("added bucket %s type %s to crush map", name, kind)
}

// location reads "root=default" and so on: the last is the nearest.
func (k *call) location(args []string) (*bucket, error) {
	var nearest *bucket
	for _, arg := range args {
		kind, name, ok := strings.Cut(arg, "=")
		b := k.c.crush.find(name)
		switch {
		case !ok:
			return nil, errInvalid
		case b == nil:
			b = k.c.crush.add(name, kind, nearest)
		}
		if nearest == nil || slices.Index(bucketKinds, b.kind) < slices.Index(bucketKinds, nearest.kind) {
			nearest = b
		}
	}
	return nearest, nil
}

func (k *call) moveBucket() error {
	if err := k.need(2); err != nil {
		return err
	}
	b := k.c.crush.find(k.args[0])
	if b == nil {
		return refuse(syscall.ENOENT, "item %s does not exist", k.args[0])
	}
	parent, err := k.location(k.args[1:])
	if err != nil {
		return err
	}
	k.c.crush.move(b, parent)
	k.c.osdChanged(k.c.model.now())
	return k.say("moved item id %d name '%s' to location {%s} in crush map", b.id, b.name, strings.Join(k.args[1:], ","))
}

func (k *call) removeBucket() error {
	name := k.arg(0)
	if list, err := k.osdArgs([]string{name}); err == nil && strings.HasPrefix(name, "osd.") {
		k.c.crush.dropOSD(list[0].number)
		k.c.osdChanged(k.c.model.now())
		return k.say("removed item id %d name '%s' from crush map", list[0].number, name)
	}
	b := k.c.crush.find(name)
	switch {
	case b == nil:
		return k.say("device '%s' does not appear in the crush map", name)
	case len(b.children)+len(b.osds) > 0:
		return refuse(syscall.EINVAL, "(39) Directory not empty")
	}
	k.c.crush.remove(b)
	k.c.osdChanged(k.c.model.now())
	return k.say("removed item id %d name '%s' from crush map", b.id, name)
}

func (k *call) crushReweight() error {
	if err := k.need(2); err != nil {
		return err
	}
	list, err := k.osdArgs(k.args[:1])
	if err != nil {
		return err
	}
	weight := 0.0
	if _, err := fmt.Sscan(k.args[1], &weight); err != nil {
		return refuse(syscall.EINVAL, "%s not valid: invalid float", k.args[1])
	}
	list[0].weight = weight
	k.c.osdChanged(k.c.model.now())
	return k.say("reweighted item id %d name 'osd.%d' to %g in crush map", list[0].number, list[0].number, weight)
}

func (k *call) crushDump() error {
	devices, buckets, rules := []object{}, []object{}, []object{}
	for _, o := range k.c.sortedOSDs() {
		devices = append(devices, object{"id": o.number, "name": "osd." + o.id, "class": o.class})
	}
	for _, b := range k.c.crush.buckets {
		items := []object{}
		for i, id := range b.osds {
			items = append(items, object{"id": id, "weight": int(k.c.osds[id].weight * 65536), "pos": i})
		}
		for i, child := range b.children {
			items = append(items, object{"id": child.id, "weight": int(k.c.weightOf(child.name) * 65536), "pos": i})
		}
		buckets = append(buckets, object{"id": b.id, "name": b.name, "type_id": slices.Index(bucketKinds, b.kind), "type_name": b.kind, "weight": int(k.c.weightOf(b.name) * 65536), "alg": "straw2", "hash": "rjenkins1", "items": items})
	}
	for _, r := range k.c.crush.rules {
		rules = append(rules, k.c.ruleObject(r))
	}
	return k.print(object{"devices": devices, "buckets": buckets, "rules": rules, "tunables": object{"profile": "jewel"}}, nil)
}

func (k *call) profileList() error { return k.printNames(slices.Sorted(maps.Keys(k.c.profiles))) }

func (k *call) profileGet() error {
	e := k.c.profiles[k.arg(0)]
	if e == nil {
		return refuse(syscall.ENOENT, "unknown erasure code profile '%s'", k.arg(0))
	}
	return k.print(e, func() string {
		var b strings.Builder
		for _, key := range slices.Sorted(maps.Keys(e)) {
			fmt.Fprintf(&b, "%s=%s\n", key, e[key])
		}
		return b.String()
	})
}

func (k *call) profileSet() error {
	if err := k.need(1); err != nil {
		return err
	}
	e := map[string]string{"plugin": "jerasure", "technique": "reed_sol_van", "k": "2", "m": "2", "crush-root": "default", "crush-failure-domain": "host", "crush-device-class": ""}
	for _, arg := range k.args[1:] {
		key, value, _ := strings.Cut(arg, "=")
		e[key] = value
	}
	if old := k.c.profiles[k.args[0]]; old != nil && !maps.Equal(old, e) && k.flags["force"] == "" {
		return refuse(syscall.EPERM, "will not override erasure code profile %s", k.args[0])
	}
	k.c.profiles[k.args[0]] = e
	return nil
}

func (k *call) profileRemove() error {
	name := k.arg(0)
	if slices.ContainsFunc(k.c.pools, func(p *pool) bool { return p.profile == name }) {
		return refuse(syscall.EBUSY, "%s pool(s) are using the erasure code profile '%s'", "some", name)
	}
	delete(k.c.profiles, name)
	return nil
}
