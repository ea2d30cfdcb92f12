package ceph

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/schema"
)

//go:embed ceph_pool.md
var poolDoc string

// poolSettings are what a pool can be told, in ceph_pool and in the pool blocks of ceph_init. What is left out keeps its
// value on a pool that exists.
type poolSettings struct {
	Size          *int          `hcl:"size,optional" min:"1" max:"7" doc:"Copies that are kept (new pools: 3). Of an erasure coded pool it is that of its metadata."`
	MinSize       *int          `hcl:"min_size,optional" min:"1" max:"7" doc:"Copies without which the pool takes no writes (new pools: 2)."`
	Lower         []string      `hcl:"lower,optional" doc:"Settings that may be made less safe than they are: size, min_size. Without it that is refused." example:"[\"size\"]"`
	Autoscale     string        `hcl:"autoscale,optional" oneof:"on off warn" doc:"Whether Ceph chooses the number of placement groups (new pools: on)."`
	PGNum         *int          `hcl:"pg_num,optional" min:"1" max:"32768" doc:"Placement groups; with autoscale on only what the pool begins with (default: 32, and 128 without autoscale)."`
	PGNumMin      *int          `hcl:"pg_num_min,optional" min:"1" max:"32768" doc:"The number of placement groups below which autoscale does not go."`
	TargetSize    string        `hcl:"target_size,optional" doc:"How much the pool is going to hold, for autoscale." example:"\"2T\""`
	TargetRatio   *float64      `hcl:"target_size_ratio,optional" min:"0" doc:"What part of the cluster the pool is going to use, relative to other pools, for autoscale."`
	CrushRule     string        `hcl:"crush_rule,optional" doc:"The CRUSH rule that places the copies. One that does not exist is made when device_class or failure_domain say how." example:"\"fast\""`
	DeviceClass   string        `hcl:"device_class,optional" doc:"For a new CRUSH rule: the class of the OSDs that it takes." example:"\"nvme\""`
	FailureDomain string        `hcl:"failure_domain,optional" doc:"For a new CRUSH rule: what no two copies share (default: host)." example:"\"host\""`
	PerDomain     *int          `hcl:"copies_per_domain,optional" min:"2" max:"4" doc:"For a new CRUSH rule over a failure_domain above hosts: each one gets as many copies, on hosts of their own. Of two sites each has two of four copies." example:"2"`
	Application   string        `hcl:"application,optional" oneof:"rbd cephfs rgw" doc:"What uses the pool (new pools: rbd)."`
	Storage       bool          `hcl:"storage,optional" doc:"Whether Proxmox VE shall have a storage of the pool's name on it, for disks of guests."`
	Erasure       *erasureBlock `hcl:"erasure_coding,block" doc:"Makes the data erasure coded: two pools, <name>-data and <name>-metadata. It cannot be changed later."`
	HealthTimeout time.Duration `hcl:"health_timeout,optional" default:"10m" min:"10s" doc:"How long the placement groups of a new pool may take until they are clean."`
}

type erasureBlock struct {
	K             int    `hcl:"k" min:"2" max:"20" doc:"Pieces of data."`
	M             int    `hcl:"m" min:"1" max:"10" doc:"Pieces of parity: as many failures can be borne."`
	DeviceClass   string `hcl:"device_class,optional" doc:"The class of the OSDs that are used."`
	FailureDomain string `hcl:"failure_domain,optional" doc:"What no two pieces share (default: host)."`
}

type poolArgs struct {
	Name    string `hcl:"name,optional" doc:"The pool's name (default: the task's)." example:"\"vm\""`
	Ensure  string `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether the pool shall be there or not."`
	Destroy string `hcl:"destroy,optional" doc:"With ensure = \"absent\": the pool's name once more. Everything in it is lost."`
	poolSettings
}

// Validate checks what belongs together.
func (a *poolArgs) Validate() error {
	if a.Name != "" {
		if err := checkPoolName(a.Name); err != nil {
			return schema.At("name", err)
		}
	}
	if a.Ensure != "absent" && a.Destroy != "" {
		return schema.At("destroy", errors.New(`it is for ensure = "absent"`))
	}
	return a.poolSettings.validate("")
}

var poolName = regexp.MustCompile(`^[A-Za-z0-9._][A-Za-z0-9._-]*$`)

func checkPoolName(name string) error {
	if !poolName.MatchString(name) {
		return fmt.Errorf("%q is no name for a pool: letters, digits, dots, _ and -, not beginning with -", name)
	}
	return nil
}

func (s *poolSettings) validate(at string) error {
	switch {
	case s.Size != nil && s.MinSize != nil && *s.MinSize > *s.Size:
		return schema.At(at+"min_size", fmt.Errorf("min_size %d is more than size %d", *s.MinSize, *s.Size))
	case s.CrushRule == "" && (s.DeviceClass != "" || s.FailureDomain != "" || s.PerDomain != nil):
		return schema.At(at+"crush_rule", errors.New("device_class, failure_domain and copies_per_domain describe a CRUSH rule: give it a name"))
	case s.CrushRule != "" && checkCrushName(s.CrushRule) != nil:
		return schema.At(at+"crush_rule", checkCrushName(s.CrushRule))
	case s.DeviceClass != "" && checkCrushName(s.DeviceClass) != nil:
		return schema.At(at+"device_class", checkCrushName(s.DeviceClass))
	case s.FailureDomain != "" && s.FailureDomain != "osd" && !slices.Contains(ceph.Kinds, s.FailureDomain):
		return schema.At(at+"failure_domain", fmt.Errorf("%q is none of osd, %s", s.FailureDomain, strings.Join(ceph.Kinds, ", ")))
	case s.PerDomain != nil && (s.FailureDomain == "" || s.FailureDomain == "osd" || s.FailureDomain == "host" || s.FailureDomain == "root"):
		return schema.At(at+"copies_per_domain", errors.New("it is for a failure_domain that has several hosts, such as datacenter"))
	case s.PerDomain != nil && s.Size != nil && *s.Size%*s.PerDomain != 0:
		return schema.At(at+"copies_per_domain", fmt.Errorf("%d copies are no multiple of %d for each %s", *s.Size, *s.PerDomain, s.FailureDomain))
	}
	for i, name := range s.Lower {
		if name != "size" && name != "min_size" {
			return schema.At(fmt.Sprintf("%slower[%d]", at, i), fmt.Errorf("%q is none of size, min_size", name))
		}
	}
	if s.TargetSize != "" {
		if _, err := ceph.ParseSize(s.TargetSize); err != nil {
			return schema.At(at+"target_size", err)
		}
	}
	return nil
}

func cephPool() module.Module {
	return module.Define(module.Spec{
		Name: "ceph_pool", Summary: "Make a Ceph pool and keep its settings", Doc: poolDoc, Scope: module.PerCluster,
	}, module.Funcs[poolArgs, cephOut]{
		Probes: func(t module.Target, _ poolArgs) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args poolArgs) ([]module.Change, error) {
			name := args.Name
			if name == "" {
				name = t.Task()
				if err := checkPoolName(name); err != nil {
					return nil, err
				}
			}
			w, err := look(ctx, t)
			if err != nil {
				return nil, err
			}
			if args.Ensure == "absent" {
				return w.done(t, w.withoutPool(name, args))
			}
			return w.done(t, w.pool(name, args.poolSettings))
		},
		Read: func(ctx context.Context, t module.Target, _ poolArgs) (cephOut, error) { return outputs(ctx, t) },
	})
}

// wanted are the settings that the runbook names, for a pool that holds the data, its metadata, or both.
func (s poolSettings) wanted(data, metadata bool, have ceph.Pool) ceph.Wanted {
	w := ceph.Wanted{Application: s.Application}
	if w.Application == "" && len(have.Applications) == 0 {
		w.Application = "rbd" // a pool without any is complained of by Ceph, and is what a creation that was cut off leaves
	}
	if metadata {
		w.Size, w.MinSize, w.Rule = s.Size, s.MinSize, s.CrushRule
	}
	if data {
		w.Autoscale, w.PGs, w.PGsMin, w.TargetRatio = s.Autoscale, s.PGNum, s.PGNumMin, s.TargetRatio
		if s.TargetSize != "" {
			bytes, _ := ceph.ParseSize(s.TargetSize) // checked by validate
			w.TargetBytes = &bytes
		}
	}
	return w
}

// pool plans the CRUSH rule, the pool and its storage.
func (w *world) pool(name string, s poolSettings) []module.Change {
	gate := "make pool " + name
	if !w.answers(gate) {
		return nil
	}
	if !w.hasPlaces(gate, name, s) {
		return nil
	}
	changes := w.rule(gate, s)
	w.advise(name, s)
	parts := []string{name}
	if s.Erasure != nil {
		parts = []string{name + "-data", name + "-metadata"}
	}
	there := 0
	for _, part := range parts {
		if _, ok := w.Map.Pool(part); ok {
			there++
		}
	}
	switch {
	case there == len(parts):
		changes = append(changes, w.settings(name, s)...)
	case there > 0:
		w.refuse("", gate, fmt.Sprintf("of the pools %v one is there and the other is not: a creation was cut off", parts), "both or neither", "ceph osd pool ls detail",
			"if nothing is in it: pveceph pool destroy of the one that is there, then apply again")
		return nil
	case w.will.pools[name]:
	default:
		if s.Erasure == nil {
			if other, ok := w.Map.Pool(name + "-data"); ok && other.Erasure {
				w.refuse("", gate, fmt.Sprintf("there is an erasure coded pool %s-data", name), "a pool of another name, or the erasure_coding block", "ceph osd pool ls detail", "")
				return nil
			}
		}
		if c, ok := w.createPool(gate, name, s); ok {
			changes = append(changes, w.plan([]module.Change{c})...)
		}
	}
	if s.Storage {
		changes = append(changes, w.poolStorage(name, s.Erasure != nil)...)
	}
	return changes
}

// settings plans what differs. Less safety is refused unless the runbook names it.
func (w *world) settings(name string, s poolSettings) []module.Change {
	parts := map[string]ceph.Wanted{}
	if s.Erasure == nil {
		p, _ := w.Map.Pool(name)
		parts[name] = s.wanted(true, true, p)
	} else {
		data, _ := w.Map.Pool(name + "-data")
		metadata, _ := w.Map.Pool(name + "-metadata")
		if !w.sameCode(name, data, *s.Erasure) {
			return nil
		}
		parts[name+"-data"], parts[name+"-metadata"] = s.wanted(true, false, data), s.wanted(false, true, metadata)
	}
	var changes []module.Change
	for _, part := range slices.Sorted(keys(parts)) {
		p, _ := w.Map.Pool(part)
		diff := parts[part].Compare(p, w.Rules)
		for _, d := range diff {
			if d.Lowered && !slices.Contains(s.Lower, d.Option) {
				w.refuse("", fmt.Sprintf("change pool %s", part), fmt.Sprintf("%s is %v, and the runbook says %v", d.Option, d.Before, d.After), "no less safety than there is", "ceph osd pool ls detail",
					fmt.Sprintf("lower = [%q] in the pool, if it is meant", d.Option))
			}
		}
		if len(diff) > 0 {
			changes = append(changes, w.setPool(part, parts[part], diff))
		}
	}
	return changes
}

// sameCode refuses another erasure code than the pool was made with.
func (w *world) sameCode(name string, data ceph.Pool, e erasureBlock) bool {
	gate := "change pool " + name
	if !data.Erasure {
		w.refuse("", gate, name+"-data is a replicated pool", "an erasure coded one", "ceph osd pool ls detail", "choose another name")
		return false
	}
	profile := w.Map.Profiles[data.Profile]
	k, m := profile["k"], profile["m"]
	if profile != nil && (k != fmt.Sprint(e.K) || m != fmt.Sprint(e.M)) {
		w.refuse("", gate, fmt.Sprintf("its code is k=%s, m=%s, and the runbook says k=%d, m=%d", k, m, e.K, e.M), "the code that it was made with", "ceph osd erasure-code-profile get "+data.Profile,
			"a pool's code cannot be changed: make another pool and move the data")
		return false
	}
	return true
}

// advise warns of pools that bear too little, by the number of places that there will be.
func (w *world) advise(name string, s poolSettings) {
	hosts := w.Map.Hosts("")
	for host := range w.will.osds {
		hosts[host]++
	}
	if e := s.Erasure; e != nil {
		if domain := orDefault(e.FailureDomain, "host"); domain == "host" && len(hosts) < e.K+e.M {
			w.warn("", "pool %s needs %d hosts with OSDs for k=%d, m=%d, and there are %d: it never becomes clean", name, e.K+e.M, e.K, e.M, len(hosts))
		}
	}
	if e := s.Erasure; e != nil && e.M == 1 {
		w.warn("", "pool %s bears the loss of one %s (m = 1), and until that is back a second one loses data: use m = 2", name, orDefault(e.FailureDomain, "host"))
	}
	size, minSize := w.sizes(name, s)
	rule := s.ruleWanted()
	if r, ok := w.Rule(s.CrushRule); ok {
		rule = r
		if r.Class != "" {
			hosts = w.Map.Hosts(r.Class)
		}
	}
	places := len(hosts)
	switch {
	case rule.Domain == "osd":
		places = 0
		for _, n := range hosts {
			places += n
		}
	case rule.Domain != "host" && (w.Map == nil || len(w.will.osds) > 0 || w.will.placed):
		places = size // hosts are going to be elsewhere than they are
	case rule.Domain != "host":
		places = w.Map.Places(rule, func(ceph.OSD) bool { return true })
	}
	for _, text := range ceph.PoolAdvice(name, size, minSize, places, rule) {
		w.warn("", "%s", text)
	}
}

// hasPlaces refuses a new rule or code that finds no OSD at all: the pool would take no byte. What earlier tasks make is counted
// as found, and less than enough places are warned of.
func (w *world) hasPlaces(gate, name string, s poolSettings) bool {
	if w.Map == nil || len(w.will.osds) > 0 || w.will.placed {
		return true
	}
	var rules []ceph.Rule
	if _, there := w.Rule(s.CrushRule); !there && s.describes() {
		rules = append(rules, s.ruleWanted())
	}
	if _, there := w.Map.Pool(name + "-data"); s.Erasure != nil && !there {
		e := s.Erasure
		rules = append(rules, ceph.Rule{Domain: orDefault(e.FailureDomain, "host"), Class: e.DeviceClass})
	}
	for _, r := range rules {
		if (r.Class == "" && r.Domain == "host") || w.Map.Places(r, func(ceph.OSD) bool { return true }) > 0 {
			continue
		}
		saw := fmt.Sprintf("no host with OSDs is in a %s", r.Domain)
		override := "place hosts by ceph_crush before this task, or name another failure_domain"
		if r.Class != "" && w.Map.Places(ceph.Rule{Domain: "osd", Class: r.Class}, func(ceph.OSD) bool { return true }) == 0 {
			saw = fmt.Sprintf("no OSD is of class %s; there are %s", r.Class, strings.Join(w.classes(), ", "))
			override = "name another device_class, or give OSDs this one (class of a disk in ceph_osd)"
		}
		w.refuse("", gate, saw, "OSDs that can take the copies", "ceph osd tree", override)
		return false
	}
	return true
}

// classes are the device classes that there are.
func (w *world) classes() []string {
	out := []string{}
	for _, o := range w.Map.OSDs {
		if o.Class != "" && !slices.Contains(out, o.Class) {
			out = append(out, o.Class)
		}
	}
	if len(out) == 0 {
		return []string{"none"}
	}
	slices.Sort(out)
	return out
}

// sizes are the copies that a pool will keep.
func (w *world) sizes(name string, s poolSettings) (size, minSize int) {
	size, minSize = 3, 2
	if c := confOf(w); c.Size > 0 && c.MinSize > 0 {
		size, minSize = c.Size, c.MinSize
	}
	if s.Erasure != nil {
		name += "-metadata"
	}
	if p, ok := w.Map.Pool(name); ok {
		size, minSize = p.Size, p.MinSize
	}
	if s.Size != nil {
		size = *s.Size
	}
	if s.MinSize != nil {
		minSize = *s.MinSize
	}
	return size, min(minSize, size)
}

func orDefault(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
