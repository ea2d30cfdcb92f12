package ceph

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Pool is a pool as the cluster has it.
type Pool struct {
	ID            int
	Name          string
	Erasure       bool
	Size, MinSize int
	Rule          int
	PGs, PGsMin   int
	Autoscale     string // on, off, warn
	Profile       string // of erasure code
	Applications  []string
	TargetBytes   int64
	TargetRatio   float64
}

const poolErasure = 3

func (r rawPool) pool() Pool {
	p := Pool{
		ID: r.ID, Name: r.Name, Erasure: r.Type == poolErasure, Size: r.Size, MinSize: r.MinSize, Rule: r.Rule, PGs: r.PGs, Autoscale: r.Autoscale,
		Profile: r.Profile, Applications: slices.Sorted(maps.Keys(r.Application)),
	}
	if r.PGsTarget > 0 {
		p.PGs = r.PGsTarget // where it is on its way to: the number itself follows step by step
	}
	number := func(key string) float64 {
		switch v := r.Options[key].(type) {
		case float64:
			return v
		case string:
			f, _ := strconv.ParseFloat(v, 64)
			return f
		}
		return 0
	}
	p.PGsMin, p.TargetBytes, p.TargetRatio = int(number("pg_num_min")), int64(number("target_size_bytes")), number("target_size_ratio")
	return p
}

// Wanted are the settings of a pool that somebody cares about. What is nil or "" is left as it is.
type Wanted struct {
	Size, MinSize, PGs, PGsMin *int
	Autoscale, Application     string
	Rule                       string
	TargetBytes                *int64
	TargetRatio                *float64
}

// Setting is one setting of a pool that differs: its option of pveceph, what it is and what it shall be.
type Setting struct {
	Option string
	Before any
	After  any
	// Value is After as pveceph wants it.
	Value string
	// Lowered says that the data is kept less safely afterwards.
	Lowered bool
}

// Compare lists the settings of a pool that are not as wanted. pg_num is not compared while the autoscaler rules it.
func (w Wanted) Compare(p Pool, rules []Rule) []Setting {
	var out []Setting
	number := func(option string, want *int, have int, lowers bool) {
		if want != nil && *want != have {
			out = append(out, Setting{Option: option, Before: have, After: *want, Value: strconv.Itoa(*want), Lowered: lowers && *want < have})
		}
	}
	text := func(option, want, have string) {
		if want != "" && want != have {
			out = append(out, Setting{Option: option, Before: have, After: want, Value: want})
		}
	}
	number("size", w.Size, p.Size, true)
	number("min_size", w.MinSize, p.MinSize, true)
	text("pg_autoscale_mode", w.Autoscale, p.Autoscale)
	mode := w.Autoscale
	if mode == "" {
		mode = p.Autoscale
	}
	if mode != "on" {
		number("pg_num", w.PGs, p.PGs, false)
	}
	number("pg_num_min", w.PGsMin, p.PGsMin, false)
	if w.Rule != "" {
		have := fmt.Sprintf("rule %d", p.Rule)
		if i := slices.IndexFunc(rules, func(r Rule) bool { return r.ID == p.Rule }); i >= 0 {
			have = rules[i].Name
		}
		text("crush_rule", w.Rule, have)
	}
	if w.Application != "" && !slices.Contains(p.Applications, w.Application) {
		out = append(out, Setting{Option: "application", Before: strings.Join(p.Applications, ", "), After: w.Application, Value: w.Application})
	}
	if w.TargetBytes != nil && *w.TargetBytes != p.TargetBytes {
		out = append(out, Setting{Option: "target_size", Before: p.TargetBytes, After: *w.TargetBytes, Value: strconv.FormatInt(*w.TargetBytes, 10)})
	}
	if w.TargetRatio != nil && math.Abs(*w.TargetRatio-p.TargetRatio) > 1e-6 {
		out = append(out, Setting{Option: "target_size_ratio", Before: p.TargetRatio, After: *w.TargetRatio, Value: strconv.FormatFloat(*w.TargetRatio, 'g', -1, 64)})
	}
	return out
}

var sizeForm = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)\s*([KMGT])?(?:i?B)?$`)

// ParseSize reads a size such as "100G" in bytes. Units are powers of 1024, as Proxmox means them.
func ParseSize(text string) (int64, error) {
	m := sizeForm.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return 0, fmt.Errorf("%q is no size: write 100G, 512M or 2T", text)
	}
	n, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no size: %w", text, err)
	}
	n *= float64(int64(1) << (10 * (strings.Index("KMGT", m[2]) + len(m[2]))))
	if n > math.MaxInt64/2 {
		return 0, fmt.Errorf("%q is more than there is", text)
	}
	return int64(n), nil
}

// Pool returns the pool of a name.
func (m *OSDMap) Pool(name string) (Pool, bool) {
	if m == nil {
		return Pool{}, false
	}
	i := slices.IndexFunc(m.Pools, func(p Pool) bool { return p.Name == name })
	if i < 0 {
		return Pool{}, false
	}
	return m.Pools[i], true
}
