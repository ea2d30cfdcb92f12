package ceph

import (
	"cmp"
	"math"
	"slices"
)

// bucket is a node of the CRUSH map above the OSDs.
type bucket struct {
	id       int
	name     string
	kind     string // root, datacenter, rack, host …
	parent   *bucket
	children []*bucket
	osds     []int
}

// rule places the copies of a pool's objects: each below another bucket of one kind.
type rule struct {
	id      int
	name    string
	root    string
	domain  string // kind of bucket; "osd" is none
	per     int    // copies that each of them gets, on as many hosts; 0 is one
	class   string // of devices; "" is all
	erasure bool
}

// crushMap is the hierarchy of an Ceph cluster with its rules.
type crushMap struct {
	buckets []*bucket
	rules   []*rule
	lastID  int
	lastRul int
	version int
	seen    string // the map's text when version was counted last
}

// bucketKinds are the types of buckets with their numbers.
var bucketKinds = []string{"osd", "host", "chassis", "rack", "row", "pdu", "pod", "room", "datacenter", "zone", "region", "root"}

func newCrushMap() *crushMap {
	m := &crushMap{}
	m.add("default", "root", nil)
	m.addRule(rule{name: "replicated_rule", root: "default", domain: "host"})
	return m
}

func (m *crushMap) add(name, kind string, parent *bucket) *bucket {
	m.lastID--
	b := &bucket{id: m.lastID, name: name, kind: kind}
	m.buckets = append(m.buckets, b)
	m.move(b, parent)
	return b
}

func (m *crushMap) addRule(r rule) *rule {
	r.id = m.lastRul
	m.lastRul++
	m.rules = append(m.rules, &r)
	return &r
}

func (m *crushMap) find(name string) *bucket {
	at := slices.IndexFunc(m.buckets, func(b *bucket) bool { return b.name == name })
	if at < 0 {
		return nil
	}
	return m.buckets[at]
}

func (m *crushMap) rule(name string) *rule {
	at := slices.IndexFunc(m.rules, func(r *rule) bool { return r.name == name })
	if at < 0 {
		return nil
	}
	return m.rules[at]
}

// move hangs a bucket below another one; nil takes it out of the hierarchy.
func (m *crushMap) move(b, parent *bucket) {
	if b.parent != nil {
		b.parent.children = slices.DeleteFunc(b.parent.children, func(x *bucket) bool { return x == b })
	}
	b.parent = parent
	if parent != nil {
		parent.children = append(parent.children, b)
	}
}

func (m *crushMap) remove(b *bucket) {
	m.move(b, nil)
	m.buckets = slices.DeleteFunc(m.buckets, func(x *bucket) bool { return x == b })
}

// host returns the bucket of a node, making it below the default root.
func (m *crushMap) host(name string) *bucket {
	if b := m.find(name); b != nil {
		return b
	}
	return m.add(name, "host", m.find("default"))
}

// dropOSD takes an OSD out of the map.
func (m *crushMap) dropOSD(id int) {
	for _, b := range m.buckets {
		b.osds = slices.DeleteFunc(b.osds, func(x int) bool { return x == id })
	}
}

// hostOf is the bucket right above an OSD, or nil.
func (m *crushMap) hostOf(id int) *bucket {
	for _, b := range m.buckets {
		if slices.Contains(b.osds, id) {
			return b
		}
	}
	return nil
}

// all are the OSDs below a bucket.
func (b *bucket) all() []int {
	out := slices.Clone(b.osds)
	for _, child := range b.children {
		out = append(out, child.all()...)
	}
	slices.Sort(out)
	return out
}

// candidate is an OSD that a copy may go to.
type candidate struct {
	id     int
	weight float64
}

// domain is a part of the cluster that fails as a whole: it gets one copy at most.
type domain struct {
	key    int // the bucket's id
	weight float64
	osds   []candidate
	hosts  []domain // of a rule that takes several of each
}

func newDomain(key int, osds []candidate) domain {
	d := domain{key: key, osds: osds}
	for _, o := range osds {
		d.weight += o.weight
	}
	return d
}

// domains are the failure domains of a rule with the OSDs that can take copies.
func (c *Cluster) domains(r *rule) []domain {
	root := c.crush.find(r.root)
	if root == nil {
		return nil
	}
	usable := func(ids []int) []candidate {
		var out []candidate
		for _, id := range ids {
			o := c.osds[id]
			if o != nil && o.weight > 0 && o.in > 0 && (r.class == "" || r.class == o.class) {
				out = append(out, candidate{id, o.weight * o.in})
			}
		}
		return out
	}
	var out []domain
	if r.domain == "osd" {
		for _, one := range usable(root.all()) {
			out = append(out, newDomain(one.id, []candidate{one}))
		}
		return out
	}
	var walk func(*bucket)
	walk = func(b *bucket) {
		if b.kind == r.domain {
			if osds := usable(b.all()); len(osds) > 0 {
				d := newDomain(b.id, osds)
				if r.per > 0 {
					d.hosts = hostsBelow(b, usable)
				}
				out = append(out, d)
			}
			return
		}
		for _, child := range b.children {
			walk(child)
		}
	}
	walk(root)
	return out
}

// hostsBelow are the hosts of a bucket that have OSDs to take copies.
func hostsBelow(b *bucket, usable func([]int) []candidate) []domain {
	var out []domain
	if b.kind == "host" {
		if osds := usable(b.osds); len(osds) > 0 {
			out = append(out, newDomain(b.id, osds))
		}
	}
	for _, child := range b.children {
		out = append(out, hostsBelow(child, usable)...)
	}
	return out
}

// placeBy chooses the OSDs of a placement group by a rule: of each of the domains that score best one, or as many as the rule
// takes, each on a host of its own.
func placeBy(r *rule, pool, pg, size int, domains []domain) []int {
	if r.per == 0 {
		return place(pool, pg, size, domains)
	}
	var out []int
	for _, at := range best(pool, pg, size, domains) {
		out = append(out, place(pool, pg, r.per, domains[at].hosts)...)
	}
	return out[:min(size, len(out))]
}

// best are the indices of the domains that score best, in order.
func best(pool, pg, size int, domains []domain) []int {
	type scored struct {
		score float64
		at    int
	}
	best := make([]scored, 0, size+1) // the best so far, in order
	for i, d := range domains {
		s := score(pool, pg, -1000-d.key, d.weight)
		if len(best) == size && (size == 0 || s >= best[size-1].score) {
			continue
		}
		at, _ := slices.BinarySearchFunc(best, s, func(b scored, s float64) int { return cmp.Compare(b.score, s) })
		best = slices.Insert(best, at, scored{s, i})
		best = best[:min(size, len(best))]
	}
	out := make([]int, 0, size)
	for _, b := range best {
		out = append(out, b.at)
	}
	return out
}

// place chooses the OSDs of a placement group: from each of the size domains that score best the OSD that scores best.
// What is chosen changes as little as it can when domains come and go. Fewer domains than size give fewer OSDs.
func place(pool, pg, size int, domains []domain) []int {
	out := make([]int, 0, size)
	for _, at := range best(pool, pg, size, domains) {
		choice, low := -1, math.Inf(1)
		for _, o := range domains[at].osds {
			if s := score(pool, pg, o.id, o.weight); s < low {
				choice, low = o.id, s
			}
		}
		out = append(out, choice)
	}
	return out
}

// score draws a number that is the smaller the heavier the item is, always the same for the same arguments.
func score(pool, pg, item int, weight float64) float64 {
	x := uint64(pool)<<40 ^ uint64(pg)<<20 ^ uint64(uint32(item))
	for range 2 { // twice the finaliser of SplitMix64
		x += 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
	}
	u := (float64(x>>11) + 1) / (1 << 53)
	return -math.Log(u) / weight
}
