package inventory_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/inventory"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func site() *inventory.Site {
	s := &inventory.Site{
		Clusters: []*inventory.Cluster{{Name: "lab", Nodes: []string{"pve1", "pve2", "pve10"}}},
		Groups:   []inventory.Group{{Name: "web", Hosts: []string{"w2", "w1"}}, {Name: "none"}, {Name: "mixed", Hosts: []string{"w1", "pve2"}}},
	}
	for _, name := range []string{"pve1", "w1", "pve2", "w2", "pve10", "arbiter"} {
		s.Hosts = append(s.Hosts, inventory.Host{Name: name})
	}
	return s
}

func TestSelect(t *testing.T) {
	for pattern, want := range map[string]string{
		"pve1":            "pve1",
		"pve2,pve1":       "pve1 pve2",
		"pve1, pve1 ,":    "pve1",
		"pve*":            "pve1 pve2 pve10",
		"pve?":            "pve1 pve2",
		"pve[2-9]":        "pve2",
		"web":             "w1 w2",
		"lab":             "pve1 pve2 pve10",
		"group:mixed":     "w1 pve2",
		"cluster:lab":     "pve1 pve2 pve10",
		"host:arbiter":    "arbiter",
		"all":             "pve1 w1 pve2 w2 pve10 arbiter",
		"*":               "pve1 w1 pve2 w2 pve10 arbiter",
		"!lab":            "w1 w2 arbiter",
		"lab,!pve10":      "pve1 pve2",
		"!pve10,lab":      "pve1 pve2",
		"lab,web,!mixed":  "pve1 w2 pve10",
		"all,!pve*,! w*":  "arbiter",
		"group:web,pve10": "w1 w2 pve10",
	} {
		got, err := inventory.Select(site(), pattern)
		require.NoError(t, err, pattern)
		require.Equal(t, want, strings.Join(got, " "), pattern)
	}
}

func TestSelectRefusesWhatStandsForNobody(t *testing.T) {
	for pattern, want := range map[string]string{
		"":           `the pattern "" names no host`,
		" , ":        `the pattern " , " names no host`,
		"pev1":       `there is no host, group or cluster "pev1". Did you mean "pve1"?`,
		"group:wbe":  `there is no group "wbe". Did you mean "web"?`,
		"cluster:x":  `there is no cluster "x". There is lab.`,
		"host:web":   `there is no host "web". There is pve1, w1, pve2, w2, pve10, arbiter.`,
		"x*":         `no host matches "x*"`,
		"pve[":       `the pattern "pve[" is not complete: a [ needs its ]`,
		"pve1,!pve1": `the pattern "pve1,!pve1" leaves no host`,
		"lab,!pve9":  `there is no host, group or cluster "pve9". Did you mean "pve1"?`,
		"none":       `the pattern "none" leaves no host`,
		"!":          `there is no host, group or cluster "". There is pve1, w1, pve2, w2, pve10, arbiter, web, none, mixed, lab.`,
		"pve1 pve2":  `there is no host, group or cluster "pve1 pve2"`,
	} {
		_, err := inventory.Select(site(), pattern)
		require.Error(t, err, pattern)
		require.Contains(t, err.Error(), want, pattern)
	}
}

// Terms that are known to stand for somebody, in any combination.
func terms() *rapid.Generator[[]string] {
	return rapid.SliceOfN(rapid.SampledFrom([]string{"pve1", "pve2", "w1", "pve*", "w?", "web", "lab", "mixed", "arbiter", "group:web", "cluster:lab", "all"}), 1, 4)
}

func TestSelectProperties(t *testing.T) {
	s := site()
	var order []string
	for _, h := range s.Hosts {
		order = append(order, h.Name)
	}
	union := func(patterns []string) map[string]bool {
		set := map[string]bool{}
		for _, p := range patterns {
			hosts, err := inventory.Select(s, p)
			if err != nil {
				panic(err)
			}
			for _, h := range hosts {
				set[h] = true
			}
		}
		return set
	}
	rapid.Check(t, func(t *rapid.T) {
		in, out := terms().Draw(t, "in"), rapid.SliceOfN(terms(), 0, 1).Draw(t, "out")
		pattern, excluded := strings.Join(in, ","), map[string]bool{}
		for _, list := range out {
			pattern += ",!" + strings.Join(list, ",!")
			excluded = union(list)
		}
		wanted := union(in)
		var want []string
		for _, h := range order {
			if wanted[h] && !excluded[h] {
				want = append(want, h)
			}
		}
		got, err := inventory.Select(s, pattern)
		if len(want) == 0 {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Equal(t, want, got, "the union of the terms without the exclusions, in the site's order")
		again, err := inventory.Select(s, strings.Join(got, ","))
		require.NoError(t, err)
		require.Equal(t, got, again, "a selection selects itself")
		shuffled := slices.Clone(in)
		slices.Reverse(shuffled)
		reversed, err := inventory.Select(s, strings.Join(shuffled, ","))
		require.NoError(t, err)
		straight, _ := inventory.Select(s, strings.Join(in, ","))
		require.Equal(t, straight, reversed, "the order of terms does not matter")
	})
}

func FuzzSelect(f *testing.F) {
	for _, seed := range []string{"", "pve*", "!x", "group:", "[", "a,!b", "host:pve1,,!", "\\"} {
		f.Add(seed)
	}
	s := site()
	f.Fuzz(func(t *testing.T, pattern string) {
		hosts, err := inventory.Select(s, pattern)
		if (err == nil) == (len(hosts) == 0) {
			t.Fatalf("%q: %v, %v", pattern, hosts, err)
		}
	})
}
