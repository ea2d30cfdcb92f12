package ceph

import (
	"testing"

	"github.com/stretchr/testify/require"
)

const stretched = `{"nodes":[
{"id":-1,"name":"default","type":"root","children":[-10,-20,-9]},
{"id":-10,"name":"a","type":"datacenter","children":[-2,-3]},{"id":-20,"name":"b","type":"datacenter","children":[-4]},
{"id":-2,"name":"a1","type":"host","children":[0,1]},{"id":-3,"name":"a2","type":"host","children":[2]},{"id":-4,"name":"b1","type":"host","children":[3]},
{"id":-9,"name":"c1","type":"host","children":[4]},
{"id":0,"type":"osd","device_class":"ssd"},{"id":1,"type":"osd","device_class":"hdd"},{"id":2,"type":"osd","device_class":"ssd"},{"id":3,"type":"osd","device_class":"ssd"},{"id":4,"type":"osd","device_class":"ssd"}
]}`

func stretchedMap(t *testing.T) *OSDMap {
	t.Helper()
	m := &OSDMap{}
	for id := range 5 {
		m.OSDs = append(m.OSDs, OSD{ID: id, Up: true, In: true})
	}
	require.NoError(t, m.addTree([]byte(stretched)))
	return m
}

func TestWhereHostsStand(t *testing.T) {
	m := stretchedMap(t)
	require.Equal(t, "a", m.Under("a2", "datacenter"))
	require.Equal(t, "default", m.Under("a", "root"))
	require.Empty(t, m.Under("c1", "datacenter"))
	require.Empty(t, m.Under("nobody", "datacenter"))
	require.Empty(t, (*OSDMap)(nil).Under("a1", "datacenter"))
	require.Equal(t, map[string]string{"host": "b1", "datacenter": "b", "root": "default"}, m.OSDs[3].Above)
	require.Equal(t, "b1", m.OSDs[3].Host)
	round := &OSDMap{OSDs: []OSD{{ID: 0}}}
	require.NoError(t, round.addTree([]byte(`{"nodes":[{"id":-1,"name":"x","type":"rack","children":[-2]},{"id":-2,"name":"y","type":"rack","children":[-1,0]},{"id":0,"type":"osd"}]}`)))
	require.Empty(t, round.Under("x", "root"), "a tree that goes round in circles is no endless loop")
}

func TestPlacesOfARule(t *testing.T) {
	all := func(OSD) bool { return true }
	tests := []struct {
		name string
		rule Rule
		keep func(OSD) bool
		want int
	}{
		{"osd", Rule{Domain: "osd"}, all, 5},
		{"host", Rule{Domain: "host"}, all, 4},
		{"host of a class", Rule{Domain: "host", Class: "hdd"}, all, 1},
		{"datacenter", Rule{Domain: "datacenter"}, all, 2},
		{"two of each, and one has one host", Rule{Domain: "datacenter", Per: 2}, all, 3},
		{"two of each without the other", Rule{Domain: "datacenter", Per: 2}, func(o OSD) bool { return o.ID != 3 }, 2},
		{"rack", Rule{Domain: "rack"}, all, 0},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, stretchedMap(t).Places(tt.rule, tt.keep), tt.name)
	}
}

func TestMovesThatLosePlaces(t *testing.T) {
	c := &Cluster{Map: stretchedMap(t), Rules: []Rule{{ID: 0, Domain: "host"}, {ID: 1, Domain: "datacenter"}, {ID: 2, Domain: "datacenter", Per: 2}}}
	c.Map.Pools = []Pool{{Name: "hosts", Size: 3, Rule: 0}, {Name: "sites", Size: 2, Rule: 1}, {Name: "both", Size: 4, Rule: 2}}
	require.Empty(t, c.LostByMoving(map[string]string{"c1": "b"}, "datacenter"))
	require.Equal(t, "pool sites keeps 2 copies and would find 1 places (datacenter)", c.LostByMoving(map[string]string{"b1": "a"}, "datacenter"), "both has too few before as well")
	require.Empty(t, c.LostByMoving(map[string]string{"b1": "r"}, "rack"))
	require.Equal(t, "datacenter", c.Map.Buckets[1].Kind)
	require.Empty(t, c.Map.OSDs[3].Above["rack"], "the map itself is as it was")
}

func TestRulesOfSeveralSteps(t *testing.T) {
	rules, err := ParseRules([]byte(`[{"rule_id":5,"rule_name":"per_site","type":1,"steps":[{"op":"take","item_name":"default~ssd"},{"op":"choose_firstn","num":0,"type":"datacenter"},{"op":"chooseleaf_firstn","num":2,"type":"host"},{"op":"emit"}]}]`))
	require.NoError(t, err)
	require.Equal(t, []Rule{{ID: 5, Name: "per_site", Root: "default", Class: "ssd", Domain: "datacenter", Per: 2}}, rules)
	require.Equal(t, "2 hosts of each datacenter", rules[0].Over())
}
