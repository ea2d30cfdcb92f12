package ceph

import (
	"slices"
	"strings"
	"time"
)

// pool is a pool with its placement groups.
type pool struct {
	id            int
	name          string
	size, minSize int
	pgNumMin      int
	rule          *rule
	profile       string // of an erasure-coded pool
	k             int    // pieces that make the whole; 1 of a replicated pool
	app           string
	autoscale     string // on, off or warn
	bulk          bool
	target        int64
	targetRatio   float64
	overwrites    bool
	noDelete      bool
	pgs           []pg
	created       time.Duration
	scaleAt       time.Duration
	createdEpoch  int
	options       map[string]string // what is only kept
	stuck         bool              // a placement group never gets clean
}

// objectsPerPG are in every placement group, as if something had been written: what is degraded shows.
const (
	objectsPerPG = 4
	objectSize   = 4 * mib
	mib          = 1 << 20
)

// pg is a placement group.
type pg struct {
	// want are the OSDs that CRUSH chooses among those that are in.
	want []int
	// have are those that hold everything; late those that missed what was written while they were away.
	have, late []int
	// served are those that were up of them at the last change.
	served []int
	// done is when what is missing will have been copied; 0 is nothing to copy.
	done time.Duration
	// changed is when it last had to agree on who holds what.
	changed time.Duration
	lost    bool // all who held it are gone for good
}

// pgView is how a placement group stands.
type pgView struct {
	state      string
	up, acting []int
	complete   []int // of the acting, those without missing objects
	active     bool
	degraded   int // copies of objects that are missing
	misplaced  int
}

// How long it takes to agree, and to be made.
const (
	peers   = time.Second
	creates = 3 * time.Second
)

// view works out the state of a placement group. alive says which OSDs are up.
func (p *pool) view(g *pg, alive func(int) bool, now time.Duration) pgView {
	v := pgView{}
	keep := func(list []int) []int {
		return slices.DeleteFunc(slices.Clone(list), func(o int) bool { return !alive(o) })
	}
	v.up = keep(g.want)
	live, late := keep(g.have), keep(g.late)
	var missing, recover []int
	for _, o := range v.up {
		switch {
		case slices.Contains(live, o):
		case slices.Contains(late, o):
			recover = append(recover, o)
		default:
			missing = append(missing, o)
		}
	}
	v.acting = live
	if len(missing) == 0 && len(live) > 0 { // who is only late serves already
		v.acting = nil
		for _, o := range v.up {
			v.acting = append(v.acting, o)
		}
		for _, o := range live {
			if !slices.Contains(v.acting, o) && len(v.acting) < p.size {
				v.acting = append(v.acting, o)
			}
		}
	} else {
		v.acting = append(slices.Clone(live), recover...)
	}
	if len(v.acting) > p.size {
		v.acting = v.acting[:p.size]
	}
	for _, o := range v.acting {
		if slices.Contains(live, o) {
			v.complete = append(v.complete, o)
		}
	}
	switch {
	case g.lost, len(g.have)+len(g.late) == 0:
		v.state = "unknown"
		return v
	case now-p.created < creates && g.changed == p.created:
		v.state = "creating+peering"
		if now-p.created < peers {
			v.state = "unknown"
		}
		return v
	case len(live) == 0 && len(v.acting)+len(v.up) == 0:
		v.state = "stale+undersized+degraded+peered"
		return v
	case len(live) < p.k:
		v.state = "down"
		v.degraded = objectsPerPG * (p.size - len(live))
		return v
	case now-g.changed < peers && g.changed > 0:
		v.state = "peering"
		return v
	}
	v.degraded = objectsPerPG * max(0, p.size-len(v.complete))
	if len(missing) > 0 {
		v.misplaced = objectsPerPG * len(missing)
	}
	v.active = len(v.acting) >= p.minSize
	v.state = p.words(v, g, missing, recover)
	if p.stuck && v.active && g == &p.pgs[0] {
		v.state, v.misplaced = "active+remapped+backfill_toofull", objectsPerPG
	}
	return v
}

// words are the parts of a state in Ceph's order.
func (p *pool) words(v pgView, g *pg, missing, recover []int) string {
	var out []string
	add := func(on bool, word string) {
		if on {
			out = append(out, word)
		}
	}
	short := len(v.acting) < p.size
	moving := g.done > 0 && v.active
	add(v.active, "active")
	add(v.active && v.degraded == 0 && len(missing) == 0 && len(recover) == 0 && !short, "clean")
	add(len(recover) > 0 && v.active && g.done != forever, "recovering")
	add(len(recover) > 0 && v.active && g.done == forever, "recovery_wait")
	add(short, "undersized")
	add(v.degraded > 0, "degraded")
	add(len(missing) > 0, "remapped")
	add(len(missing) > 0 && moving && g.done != forever && len(recover) == 0, "backfilling")
	add(len(missing) > 0 && moving && g.done == forever && len(recover) == 0, "backfill_wait")
	add(!v.active, "peered")
	return strings.Join(out, "+")
}

// clean is a state in which nothing is missing.
func (v pgView) clean() bool { return v.state == "active+clean" }

func (c *Cluster) alive(id int) bool {
	o := c.osds[id]
	return o != nil && o.up
}

// Copying takes this long for each placement group, divided by how many OSDs copy at once.
const (
	recovers  = 600 * time.Millisecond
	backfills = 2 * time.Second
)

// remap places all placement groups anew after a change of the OSD map, and queues what has to be copied.
func (c *Cluster) remap(now time.Duration) {
	for _, p := range c.pools {
		domains := c.domains(p.rule)
		for i := range p.pgs {
			c.replace(p, &p.pgs[i], placeBy(p.rule, p.id, i, p.size, domains), now)
		}
	}
}

// replace gives a placement group the OSDs that it shall be on.
func (c *Cluster) replace(p *pool, g *pg, want []int, now time.Duration) {
	held := len(g.have)+len(g.late) > 0
	if !held && !g.lost { // new: there is nothing to copy
		g.want, g.have, g.changed = want, slices.Clone(want), now
		g.served = g.acting(c)
		return
	}
	unknown := func(o int) bool { return c.osds[o] == nil }
	g.have, g.late = slices.DeleteFunc(g.have, unknown), slices.DeleteFunc(g.late, unknown)
	g.lost = g.lost || len(g.have)+len(g.late) == 0
	wanted, again := g.want, false
	g.want = want
	v := p.view(&pg{want: want, have: g.have, late: g.late, done: g.done}, c.alive, now+creates+p.created)
	if v.active { // what is written now is missing on those that are away
		for _, o := range g.have {
			if !c.alive(o) {
				g.late = append(g.late, o)
			}
		}
		g.have = slices.DeleteFunc(g.have, func(o int) bool { return !c.alive(o) })
	}
	if serving := g.acting(c); !slices.Equal(g.served, serving) {
		g.served, again = serving, true
	}
	g.late = slices.DeleteFunc(g.late, func(o int) bool { return slices.Contains(g.have, o) })
	if again {
		g.changed = now
	}
	c.queue(p, g, again || !slices.Equal(wanted, want), now)
}

// acting are the OSDs that hold something and are up.
func (g *pg) acting(c *Cluster) []int {
	var out []int
	for _, list := range [][]int{g.have, g.late} {
		for _, o := range list {
			if c.alive(o) {
				out = append(out, o)
			}
		}
	}
	slices.Sort(out)
	return out
}

// missing are OSDs that shall hold the placement group and do not, although they are up.
func (g *pg) missing(c *Cluster) (all []int, copyAll bool) {
	for _, o := range g.want {
		if c.alive(o) && !slices.Contains(g.have, o) {
			all = append(all, o)
			copyAll = copyAll || !slices.Contains(g.late, o)
		}
	}
	return all, copyAll
}

// queue decides when the copying of a placement group will be done.
func (c *Cluster) queue(p *pool, g *pg, again bool, now time.Duration) {
	missing, copyAll := g.missing(c)
	sources := 0
	for _, o := range g.have {
		if c.alive(o) {
			sources++
		}
	}
	switch {
	case len(missing) == 0:
		g.done = 0
		c.forget(p, g)
		return
	case sources < p.k, c.frozen(copyAll):
		g.done = forever
		return
	case g.done != 0 && g.done != forever && !again:
		return
	}
	cost := recovers
	if copyAll {
		cost = backfills
	}
	parallel := 1
	for _, o := range c.osds {
		if o.up && o.in > 0 {
			parallel++
		}
	}
	c.tail = max(c.tail, now+2*time.Second) + cost/time.Duration(max(1, parallel/2))
	g.done = c.tail
}

// frozen reports whether flags forbid the copying.
func (c *Cluster) frozen(copyAll bool) bool {
	if copyAll {
		return c.flags["nobackfill"] || c.flags["norebalance"]
	}
	return c.flags["norecover"]
}

// forget drops the copies that nobody wants any more, once there are all that are wanted: until then they still serve.
func (c *Cluster) forget(p *pool, g *pg) {
	if len(g.want) < p.size || slices.ContainsFunc(g.want, func(o int) bool { return !c.alive(o) || !slices.Contains(g.have, o) }) {
		return
	}
	unwanted := func(o int) bool { return !slices.Contains(g.want, o) }
	g.have, g.late = slices.DeleteFunc(g.have, unwanted), slices.DeleteFunc(g.late, unwanted)
	g.served = g.acting(c)
}

// finishCopies ends what will have been copied by a time.
func (c *Cluster) finishCopies(at time.Duration) {
	if len(c.quorum) == 0 {
		return
	}
	for _, p := range c.pools {
		for i := range p.pgs {
			g := &p.pgs[i]
			if g.done == 0 || g.done > at {
				continue
			}
			missing, _ := g.missing(c)
			g.have = append(g.have, missing...)
			g.late = slices.DeleteFunc(g.late, func(o int) bool { return slices.Contains(missing, o) })
			g.done = 0
			c.forget(p, g)
		}
	}
}

// eachPG calls f for every placement group with its id and state.
func (c *Cluster) eachPG(f func(p *pool, number int, v pgView)) {
	now := c.model.now()
	for _, p := range c.pools {
		for i := range p.pgs {
			f(p, i, p.view(&p.pgs[i], c.alive, now))
		}
	}
}

// stoppable works out what would become of the placement groups without some OSDs, as the manager does: what is degraded
// counts by the complete copies, all else by who serves.
type stoppable struct {
	ok, more, notOK, inactive, become, unknown []string
}

func (s stoppable) safe() bool { return len(s.notOK) == 0 && len(s.unknown) == 0 }

func (c *Cluster) withoutOSDs(gone map[int]bool) stoppable {
	var s stoppable
	c.eachPG(func(p *pool, number int, v pgView) {
		id := pgID(p.id, number)
		if v.state == "unknown" {
			s.unknown = append(s.unknown, id)
			return
		}
		degraded := strings.Contains(v.state, "degraded")
		serving := v.acting
		if degraded {
			serving = v.complete
		}
		left, touched := 0, false
		for _, o := range serving {
			if gone[o] {
				touched = true
			} else {
				left++
			}
		}
		switch {
		case !touched:
			return
		case !v.active:
			s.inactive, s.notOK = append(s.inactive, id), append(s.notOK, id)
			if left < p.minSize {
				s.become = append(s.become, id)
			}
		case left < p.minSize:
			s.become, s.notOK = append(s.become, id), append(s.notOK, id)
		case degraded:
			s.more = append(s.more, id)
		default:
			s.ok = append(s.ok, id)
		}
	})
	return s
}
