package ceph_test

import (
	"testing"

	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// three hosts with two OSDs each and a pool of three copies.
func six() *ceph.Cluster {
	c := &ceph.Cluster{Map: &ceph.OSDMap{}, Status: &ceph.Status{}, Rules: []ceph.Rule{{ID: 0, Name: "replicated_rule", Domain: "host"}, {ID: 1, Name: "fast", Class: "nvme", Domain: "host"}}}
	for i := range 6 {
		class := "ssd"
		if i%2 == 0 {
			class = "nvme"
		}
		c.Map.OSDs = append(c.Map.OSDs, ceph.OSD{ID: i, Up: true, In: true, Host: []string{"pve1", "pve2", "pve3"}[i/2], Class: class, Weight: 1})
	}
	c.Map.Pools = []ceph.Pool{{Name: "vm", Size: 3, MinSize: 2}}
	c.Status.PGs.Bytes, c.Status.PGs.Used = 6e12, 1e12
	return c
}

func TestLost(t *testing.T) {
	require.Empty(t, six().Lost([]int{0}))
	require.Empty(t, six().Lost([]int{0, 2, 4}))
	require.Contains(t, six().Lost([]int{0, 1}), "pool vm keeps 3 copies and would find 2 places (host)")
	fast := six()
	fast.Map.Pools = append(fast.Map.Pools, ceph.Pool{Name: "fast", Size: 3, Rule: 1})
	require.Contains(t, fast.Lost([]int{0}), "pool fast keeps 3 copies and would find 2 places")
	require.Empty(t, fast.Lost([]int{1}))
	full := six()
	full.Status.PGs.Used = 4.5e12
	require.Contains(t, full.Lost([]int{0}), "4.5 TB are used, and 5 TB would be left")
	out := six()
	out.Map.OSDs[0].In = false
	require.Contains(t, out.Lost([]int{1}), "2 places", "one that is out is no place")
}

// Taking more away never makes it safer.
func TestLostGrows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfDistinct(rapid.IntRange(0, 5), rapid.ID[int]).Draw(t, "ids")
		if len(ids) > 0 && six().Lost(ids[1:]) != "" {
			require.NotEmpty(t, six().Lost(ids))
		}
	})
}

func TestAdvice(t *testing.T) {
	require.Contains(t, ceph.MonAdvice(1), "one monitor")
	require.Contains(t, ceph.MonAdvice(2), "worse than with one")
	require.Contains(t, ceph.MonAdvice(4), "no more failures than 3")
	require.Empty(t, ceph.MonAdvice(3))
	require.Empty(t, ceph.MonAdvice(5))
	tests := []struct {
		size, min, places int
		want              []string
	}{
		{3, 2, 3, nil},
		{3, 2, 5, nil},
		{3, 2, 2, []string{"never becomes clean"}},
		{2, 1, 3, []string{"keeps two copies", "min_size 1"}},
		{2, 2, 3, []string{"keeps two copies", "stops when a single host is away"}},
		{1, 1, 1, []string{"single copy"}},
	}
	for _, tt := range tests {
		got := ceph.PoolAdvice("vm", tt.size, tt.min, tt.places, ceph.Rule{Domain: "host"})
		require.Len(t, got, len(tt.want), "%v: %v", tt, got)
		for i := range tt.want {
			require.Contains(t, got[i], tt.want[i])
		}
	}
}

func TestComparePool(t *testing.T) {
	n := func(i int) *int { return &i }
	ratio, bytes := 0.5, int64(100<<30)
	have := ceph.Pool{Name: "vm", Size: 3, MinSize: 2, Rule: 0, PGs: 128, Autoscale: "on", Applications: []string{"rbd"}, TargetRatio: 0.5}
	rules := six().Rules
	tests := []struct {
		name string
		want ceph.Wanted
		out  map[string]string
	}{
		{"nothing wanted", ceph.Wanted{}, nil},
		{"as wanted", ceph.Wanted{Size: n(3), MinSize: n(2), Autoscale: "on", Application: "rbd", Rule: "replicated_rule", TargetRatio: &ratio}, nil},
		{"size", ceph.Wanted{Size: n(4)}, map[string]string{"size": "4"}},
		{"pg_num under autoscale", ceph.Wanted{PGs: n(64)}, nil},
		{"pg_num without", ceph.Wanted{PGs: n(64), Autoscale: "off"}, map[string]string{"pg_autoscale_mode": "off", "pg_num": "64"}},
		{"rule", ceph.Wanted{Rule: "fast"}, map[string]string{"crush_rule": "fast"}},
		{"application", ceph.Wanted{Application: "cephfs"}, map[string]string{"application": "cephfs"}},
		{"target", ceph.Wanted{TargetBytes: &bytes}, map[string]string{"target_size": "107374182400"}},
	}
	for _, tt := range tests {
		out := map[string]string{}
		for _, s := range tt.want.Compare(have, rules) {
			out[s.Option] = s.Value
			require.False(t, s.Lowered, tt.name)
		}
		if len(tt.out) == 0 {
			require.Empty(t, out, tt.name)
		} else {
			require.Equal(t, tt.out, out, tt.name)
		}
	}
	lowered := ceph.Wanted{Size: n(2), MinSize: n(1)}.Compare(have, rules)
	require.Len(t, lowered, 2)
	require.True(t, lowered[0].Lowered && lowered[1].Lowered)
}

func TestPoolAdviceOnSeveralSites(t *testing.T) {
	sites := ceph.Rule{Domain: "datacenter", Per: 2}
	require.Empty(t, ceph.PoolAdvice("vm", 4, 2, 4, sites))
	require.Equal(t, []string{"pool vm stops when a single datacenter is away: 3 of its 4 copies must be there (min_size)"}, ceph.PoolAdvice("vm", 4, 3, 4, sites))
	require.Equal(t, []string{"pool vm keeps 4 copies on 2 hosts of each datacenter, and there are places for 3: it never becomes clean"}, ceph.PoolAdvice("vm", 4, 2, 3, sites))
	require.Empty(t, ceph.PoolAdvice("vm", 3, 2, 3, ceph.Rule{Domain: "datacenter"}))
}
