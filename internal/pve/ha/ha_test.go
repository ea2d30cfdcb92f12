package ha_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// snapshot is what the script of Probe prints on a node with Proxmox VE 9 and one HA guest.
const snapshot = `@@n begin
@@n ha_time
1795300245

@@n rc 0
@@n ha_quorate
755

@@n rc 0
@@n ha_resources
vm: 100
	max_restart 2
	state enabled

ct: 200

@@n rc 0
@@n ha_groups
cat: /etc/pve/ha/groups.cfg: No such file or directory

@@n rc 1
@@n ha_rules
node-affinity: prefer1
	comment on%20the%20left
	nodes pve1:2,pve2
	resources vm:100,ct:200
	strict 1

resource-affinity: apart
	disable
	affinity negative
	resources vm:100,ct:200

@@n rc 0
@@n ha_manager
{"master_node":"pve1","node_request":{"pve2":{"maintenance":1},"pve1":{}},"node_status":{"pve1":"online","pve2":"maintenance","pve3":"online"},"service_status":{"vm:100":{"node":"pve1","running":1,"state":"started","uid":"x"},"ct:200":{"node":"pve2","state":"migrate","target":"pve3","maintenance_node":"pve2","uid":"y"}},"timestamp":1795300243}
@@n rc 0
@@n ha_commands
node-maintenance enable pve2

@@n rc 0
@@n ha_lrm
#/etc/pve/nodes/pve1/
{"mode":"active","results":{},"state":"active","timestamp":1795300245}
#/etc/pve/nodes/pve2/
{"mode":"maintenance","results":{},"state":"wait_for_agent_lock","timestamp":1795300241}
#/etc/pve/nodes/pve3/


@@n rc 0
@@n ha_guests
{
"version": 3,
"ids": {
"100": { "node": "pve1", "type": "qemu", "version": 2 },
"200": { "node": "pve2", "type": "lxc", "version": 2 }}

}

@@n rc 0
@@n ha_rrd
pve-node-9.0/pve1:1:2
pve-vm-9.0/100:86400:web01:running:0:1732292100:4:0.031:8589934592
pve-vm-9.0/200:0:tpl:stopped:1:1732292100:4:0.031:8589934592

@@n rc 0
@@n end
`

func TestASnapshotIsRead(t *testing.T) {
	s, err := ha.Parse("pve1", []byte(snapshot))
	require.NoError(t, err)
	require.Empty(t, s.Unread)
	require.True(t, s.Quorate)
	require.Empty(t, s.Groups)
	want := []ha.Resource{
		{SID: "vm:100", State: "started", MaxRestart: 2, MaxRelocate: 1, Failback: true},
		{SID: "ct:200", State: "started", MaxRestart: 1, MaxRelocate: 1, Failback: true},
	}
	if diff := cmp.Diff(want, s.Resources); diff != "" {
		t.Error(diff)
	}
	rules := []ha.Rule{
		{ID: "prefer1", Type: ha.NodeAffinity, Resources: []string{"ct:200", "vm:100"}, Nodes: ha.Nodes{"pve1": 2, "pve2": 0}, Strict: true, Comment: "on the left"},
		{ID: "apart", Type: ha.ResourceAffinity, Resources: []string{"ct:200", "vm:100"}, Affinity: ha.Negative, Disabled: true},
	}
	if diff := cmp.Diff(rules, s.Rules); diff != "" {
		t.Error(diff)
	}
	require.Equal(t, []string{"pve2"}, s.Manager.Maintenance)
	require.Equal(t, ha.Service{Node: "pve2", State: "migrate", Target: "pve3", MaintenanceNode: "pve2"}, s.Manager.Services["ct:200"])
	require.Equal(t, "maintenance", s.LRMs["pve2"].Mode)
	require.NotContains(t, s.LRMs, "pve3")
	require.Equal(t, []string{"node-maintenance enable pve2"}, s.Pending)
	g, _ := s.Guest("vm:100")
	require.Equal(t, ha.Guest{SID: "vm:100", Node: "pve1", Name: "web01", Running: "running"}, g)
	g, _ = s.Guest("ct:200")
	require.True(t, g.Template)
}

func TestWhatCannotBeReadIsSaid(t *testing.T) {
	broken := strings.Replace(snapshot, `{"master_node"`, `{"master_node`, 1)
	s, err := ha.Parse("pve1", []byte(broken))
	require.NoError(t, err)
	require.Contains(t, s.Unread, "manager")
	hung := strings.Replace(snapshot, "@@n rc 0\n@@n ha_groups", "@@n rc 124\n@@n ha_groups", 1)
	s, err = ha.Parse("pve1", []byte(hung))
	require.NoError(t, err)
	require.Contains(t, s.Unread, "resources")
	_, err = ha.Parse("pve1", []byte(snapshot[:400]))
	require.Error(t, err)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(snapshot))
	f.Add([]byte("@@n begin\n@@n ha_manager\n{}\n@@n rc 0\n@@n end\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		if s, err := ha.Parse("pve1", out); err == nil && s == nil {
			t.Error("neither a state nor an error")
		}
	})
}

func TestTheModeFollowsTheVersions(t *testing.T) {
	groups := []ha.Group{{Name: "g"}}
	for _, c := range []struct {
		versions map[string]string
		groups   []ha.Group
		want     ha.Mode
	}{
		{map[string]string{"a": "8.4.1", "b": "8.4.14"}, nil, ha.ByGroups},
		{map[string]string{"a": "8.4.1", "b": "9.1.4"}, groups, ha.Mixed},
		{map[string]string{"a": "9.0.1", "b": "9.1.4"}, groups, ha.Migrating},
		{map[string]string{"a": "9.0.1", "b": "9.1.4"}, nil, ha.ByRules},
	} {
		got, err := ha.ModeOf(c.versions, c.groups)
		require.NoError(t, err)
		require.Equal(t, c.want, got)
	}
	_, err := ha.ModeOf(map[string]string{"a": ""}, nil)
	require.Error(t, err)
}

func placed(id string, strict bool, nodes string, resources ...string) ha.Rule {
	return ha.Rule{ID: id, Type: ha.NodeAffinity, Nodes: ha.ParseNodes(nodes), Strict: strict, Resources: resources}
}

func affine(id, affinity string, resources ...string) ha.Rule {
	return ha.Rule{ID: id, Type: ha.ResourceAffinity, Affinity: affinity, Resources: resources}
}

func TestRulesThatProxmoxWouldIgnoreAreFound(t *testing.T) {
	three := []string{"pve1", "pve2", "pve3"}
	off := placed("off", true, "pve9", "vm:1")
	off.Disabled = true
	for name, c := range map[string]struct {
		rules []ha.Rule
		want  string // part of the only conflict; "" for none
	}{
		"apart on three nodes":        {[]ha.Rule{affine("x", ha.Negative, "vm:1", "vm:2", "vm:3")}, ""},
		"four apart on three nodes":   {[]ha.Rule{affine("x", ha.Negative, "vm:1", "vm:2", "vm:3", "vm:4")}, "4 resources must be apart and there are 3 nodes"},
		"alone":                       {[]ha.Rule{affine("x", ha.Positive, "vm:1")}, "less than two"},
		"two homes":                   {[]ha.Rule{placed("a", false, "pve1", "vm:1"), placed("b", false, "pve2", "vm:1")}, "one node affinity rule only"},
		"unknown node":                {[]ha.Rule{placed("a", false, "pve7", "vm:1")}, "pve7 is no node"},
		"together and apart":          {[]ha.Rule{affine("p", ha.Positive, "vm:1", "vm:2"), affine("n", ha.Negative, "vm:1", "vm:2")}, "must be together by the one"},
		"one in common":               {[]ha.Rule{affine("p", ha.Positive, "vm:1", "vm:2"), affine("n", ha.Negative, "vm:1", "vm:3")}, ""},
		"priorities and dependence":   {[]ha.Rule{placed("a", false, "pve1:2,pve2:1", "vm:1"), affine("n", ha.Negative, "vm:1", "vm:2")}, "several priorities"},
		"one priority and dependence": {[]ha.Rule{placed("a", false, "pve1:2,pve2:2", "vm:1"), affine("n", ha.Negative, "vm:1", "vm:2")}, ""},
		"together in two homes":       {[]ha.Rule{placed("a", false, "pve1", "vm:1"), placed("b", false, "pve2", "vm:2"), affine("p", ha.Positive, "vm:1", "vm:2")}, "several node affinity rules"},
		"nowhere to go":               {[]ha.Rule{placed("a", true, "pve1", "vm:1", "vm:2"), affine("n", ha.Negative, "vm:1", "vm:2")}, "no node left"},
		"somewhere to go":             {[]ha.Rule{placed("a", false, "pve1", "vm:1", "vm:2"), affine("n", ha.Negative, "vm:1", "vm:2")}, ""},
		"disabled":                    {[]ha.Rule{off}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			found := ha.Conflicts(c.rules, three)
			if c.want == "" {
				require.Empty(t, found)
				return
			}
			require.Len(t, found, 1)
			require.Contains(t, found[0].String(), c.want)
		})
	}
}

// TestApartIsRefusedExactlyWhenNoPlacementExists compares with trying all placements.
func TestApartIsRefusedExactlyWhenNoPlacementExists(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := []string{"a", "b", "c", "d"}[:rapid.IntRange(1, 4).Draw(t, "nodes")]
		n := rapid.IntRange(2, 4).Draw(t, "resources")
		apart := affine("apart", ha.Negative)
		rules := []ha.Rule{}
		allowed := make([][]string, n)
		for i := range n {
			sid := fmt.Sprintf("vm:%d", 100+i)
			apart.Resources = append(apart.Resources, sid)
			allowed[i] = nodes
			if rapid.Bool().Draw(t, "bound") {
				allowed[i] = rapid.SliceOfNDistinct(rapid.SampledFrom(nodes), 1, len(nodes), rapid.ID).Draw(t, "allowed")
				rules = append(rules, placed(fmt.Sprintf("r%d", i), true, strings.Join(allowed[i], ","), sid))
			}
		}
		refused := len(ha.Conflicts(append(rules, apart), nodes)) > 0
		if possible := placeable(allowed, nil); refused == possible {
			t.Fatalf("refused %v, and a placement exists: %v (%v)", refused, possible, allowed)
		}
	})
}

func placeable(allowed [][]string, taken []string) bool {
	if len(allowed) == 0 {
		return true
	}
	return slices.ContainsFunc(allowed[0], func(name string) bool {
		return !slices.Contains(taken, name) && placeable(allowed[1:], append(slices.Clone(taken), name))
	})
}
