package ceph

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// fullest is how much of what is left may be used after OSDs are taken away: Ceph warns at 85 %.
const fullest = 0.85

// Lost says what would not work without some OSDs: pools that find fewer places than they keep copies, or too little space
// for the data. "" if nothing speaks against it. It counts places only; whether data has moved is for safe-to-destroy.
func (c *Cluster) Lost(ids []int) string {
	var why []string
	gone := func(o OSD) bool { return slices.Contains(ids, o.ID) }
	for _, p := range c.Map.Pools {
		rule := Rule{Domain: "host"}
		if i := slices.IndexFunc(c.Rules, func(r Rule) bool { return r.ID == p.Rule }); i >= 0 {
			rule = c.Rules[i]
		}
		if places := c.Map.Places(rule, func(o OSD) bool { return !gone(o) }); places < p.Size {
			why = append(why, fmt.Sprintf("pool %s keeps %d copies and would find %d places (%s)", p.Name, p.Size, places, rule.Over()))
		}
	}
	if w := c.space(gone); w != "" {
		why = append(why, w)
	}
	return strings.Join(why, "; ")
}

// LostByMoving says which pools would find fewer places than they keep copies if hosts hung in other buckets of a kind; "" if
// none. Pools that find too few already are not worse off.
func (c *Cluster) LostByMoving(to map[string]string, kind string) string {
	moved := &OSDMap{}
	for _, o := range c.Map.OSDs {
		if bucket := to[o.Host]; bucket != "" {
			o.Above = maps.Clone(o.Above)
			o.Above[kind] = bucket
		}
		moved.OSDs = append(moved.OSDs, o)
	}
	all := func(OSD) bool { return true }
	var why []string
	for _, p := range c.Map.Pools {
		i := slices.IndexFunc(c.Rules, func(r Rule) bool { return r.ID == p.Rule })
		if i < 0 {
			continue
		}
		if places := moved.Places(c.Rules[i], all); places < p.Size && c.Map.Places(c.Rules[i], all) >= p.Size {
			why = append(why, fmt.Sprintf("pool %s keeps %d copies and would find %d places (%s)", p.Name, p.Size, places, c.Rules[i].Over()))
		}
	}
	return strings.Join(why, "; ")
}

func (c *Cluster) space(gone func(OSD) bool) string {
	var all, left float64
	for _, o := range c.Map.OSDs {
		if !o.In {
			continue
		}
		all += o.Weight
		if !gone(o) {
			left += o.Weight
		}
	}
	if all == 0 || c.Status.PGs.Bytes == 0 {
		return ""
	}
	rest := float64(c.Status.PGs.Bytes) * left / all
	if used := float64(c.Status.PGs.Used); used > fullest*rest {
		return fmt.Sprintf("%s are used, and %s would be left", Bytes(c.Status.PGs.Used), Bytes(int64(rest)))
	}
	return ""
}

// MonAdvice is what to know about a number of monitors; "" if it is a good one.
func MonAdvice(n int) string {
	switch {
	case n == 1:
		return "one monitor: when its node is away, so is all storage; three are the usual number"
	case n == 2:
		return "two monitors: when either node is away, so is all storage, which is worse than with one; use three"
	case n%2 == 0:
		return fmt.Sprintf("%d monitors bear no more failures than %d: use an odd number", n, n-1)
	}
	return ""
}

// PoolAdvice is what to know about a pool's copies on a number of places, which a rule spreads them over.
func PoolAdvice(name string, size, minSize, places int, rule Rule) []string {
	domain := rule.Domain
	var out []string
	switch {
	case size == 1:
		out = append(out, fmt.Sprintf("pool %s keeps a single copy: the first disk that fails takes data with it", name))
	case size == 2:
		out = append(out, fmt.Sprintf("pool %s keeps two copies: while a node restarts there is one left, and a second failure loses data; use size 3", name))
	}
	if minSize == 1 && size > 1 {
		out = append(out, fmt.Sprintf("pool %s takes writes with one copy (min_size 1): a failure at that time loses data; use min_size 2", name))
	}
	if size > 1 && minSize > size-max(1, rule.Per) {
		out = append(out, fmt.Sprintf("pool %s stops when a single %s is away: %d of its %d copies must be there (min_size)", name, domain, minSize, size))
	}
	switch {
	case places >= size:
	case rule.Per > 0:
		out = append(out, fmt.Sprintf("pool %s keeps %d copies on %s, and there are places for %d: it never becomes clean", name, size, rule.Over(), places))
	default:
		out = append(out, fmt.Sprintf("pool %s keeps %d copies, each on a %s of its own, and there are %d: it never becomes clean", name, size, domain, places))
	}
	return out
}
