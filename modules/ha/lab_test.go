package ha_test

import (
	"testing"

	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/modules/ha"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// formed is a cluster of three nodes with guests on the first: 100 and 101 run, 102 does not.
func formed(t *testing.T, release string) *labkit.Target {
	t.Helper()
	target := labkit.New(t, 3, func(s *lab.Spec) {
		for i := range s.Hosts {
			s.Hosts[i].PVE = release
		}
		s.Hosts[0].Guests = []guest.Spec{{ID: 100, Name: "db", Running: true}, {ID: 101, Name: "web", Running: true}, {ID: 102, Name: "spare"}}
	})
	target.Form()
	target.Eventually("pve1", "grep -q '/101:' /etc/pve/.rrd")
	return target
}

func TestLabResources(t *testing.T) {
	t.Parallel()
	target := formed(t, "9.1.8")
	resource := labkit.Only(t, ha.All(), "ha_resource")
	require.Equal(t, []string{"put vm:100 under HA", "put vm:102 under HA"}, target.Converge(resource, `resources = ["vm:100", "vm:102"]`))
	target.Must("pve1", "qm status 102 | grep -q stopped")
	target.Must("pve1", "qm status 100 | grep -q running")

	// What is asked for starts it, and drift by hand is repaired.
	require.Equal(t, []string{"change how HA treats vm:102, which starts it"}, target.Converge(resource, "resources = [\"vm:102\"]\nstate = \"started\""))
	target.Must("pve1", "qm status 102 | grep -q running")
	target.Must("pve2", "ha-manager set vm:100 --max_restart 4")
	require.Empty(t, target.Converge(resource, `resources = ["vm:100"]`), "what the task does not name is left alone")
	require.Len(t, target.Converge(resource, "resources = [\"vm:100\"]\nmax_restart = 2"), 1)

	require.Len(t, target.Converge(resource, "resources = [\"vm:100\"]\nensure = \"absent\""), 1)
	target.Must("pve1", "qm status 100 | grep -q running")
	_, err := target.Plan(resource, `resources = ["vm:999"]`)
	require.ErrorContains(t, err, "vm:999 does not exist")
}

// What HA is told to do is told from a node that is in the run.
func TestLabResourcesFromANodeInTheRun(t *testing.T) {
	t.Parallel()
	target := formed(t, "9.1.8")
	resource := labkit.Only(t, ha.All(), "ha_resource")
	target.Limit = []string{"pve3"}
	changes, err := target.Plan(resource, `resources = ["vm:100"]`)
	require.NoError(t, err)
	require.Equal(t, "pve3", changes[0].Host)
	target.Limit = []string{"pve9"}
	_, err = target.Plan(resource, `resources = ["vm:100"]`)
	require.ErrorContains(t, err, "pve1, pve2, pve3 left out by --limit, and no node in the run is a quorate member")
}

func TestLabGroupIsARuleOnNine(t *testing.T) {
	t.Parallel()
	target := formed(t, "9.1.8")
	group := labkit.Only(t, ha.All(), "ha_group")
	src := "name = \"db\"\nnodes = { pve1 = 2, pve2 = 1 }\nresources = [\"vm:100\"]"
	require.Equal(t, []string{"put vm:100 under HA", "make HA rule db"}, target.Converge(group, src))
	require.Contains(t, target.Must("pve3", "cat /etc/pve/ha/rules.cfg"), "node-affinity: db")

	target.Must("pve2", "ha-manager rules set node-affinity db --nodes pve3")
	require.Equal(t, []string{"change HA rule db"}, target.Converge(group, src))
	require.Equal(t, []string{"set failback of vm:100 to false"}, target.Converge(group, src+"\nfailback = false"))

	// A second rule for the guest, and one that Proxmox VE would ignore, are refused in the plan.
	_, err := target.Plan(group, "name = \"other\"\nnodes = { pve3 = 1 }\nresources = [\"vm:100\"]")
	require.ErrorContains(t, err, "one node affinity rule only")
	rule := labkit.Only(t, ha.All(), "ha_rule")
	_, err = target.Plan(rule, "name = \"apart\"\ntype = \"resource-affinity\"\naffinity = \"negative\"\nresources = [\"vm:100\", \"vm:101\"]")
	require.ErrorContains(t, err, "vm:101 not under HA")

	require.Len(t, target.Converge(group, "name = \"db\"\nensure = \"absent\""), 1)
	require.Contains(t, target.Must("pve1", "cat /etc/pve/ha/resources.cfg"), "vm: 100", "the guest stays under HA")
}

func TestLabRules(t *testing.T) {
	t.Parallel()
	target := formed(t, "9.1.8")
	target.Converge(labkit.Only(t, ha.All(), "ha_resource"), `resources = ["vm:100", "vm:101"]`)
	rule := labkit.Only(t, ha.All(), "ha_rule")
	apart := "name = \"apart\"\ntype = \"resource-affinity\"\naffinity = \"negative\"\nresources = [\"vm:101\", \"vm:100\"]"
	require.Equal(t, []string{"make HA rule apart"}, target.Converge(rule, apart))
	// The HA manager follows it: the two come apart.
	target.Eventually("pve1", `[ "$(grep -c '"node": "pve1"' /etc/pve/.vmlist)" -le 2 ]`)
	_, err := target.Plan(rule, "name = \"prefer\"\ntype = \"node-affinity\"\nnodes = { pve1 = 2, pve2 = 1 }\nresources = [\"vm:100\"]")
	require.ErrorContains(t, err, "several priorities")
	target.Must("pve2", "ha-manager rules set resource-affinity apart --disable 1")
	require.Empty(t, target.Converge(rule, apart), "what the task does not name is left alone")
	require.Contains(t, target.Warnings()[len(target.Warnings())-1], "HA rule apart is disabled, so that nobody follows it")
	require.Equal(t, []string{"change HA rule apart"}, target.Converge(rule, apart+"\ndisabled = false"))
	require.Equal(t, []string{"remove HA rule apart"}, target.Converge(rule, apart+"\nensure = \"absent\""))
}

func TestLabGroupOnEight(t *testing.T) {
	t.Parallel()
	target := formed(t, "8.4.14")
	group := labkit.Only(t, ha.All(), "ha_group")
	src := "name = \"db\"\nnodes = { pve1 = 2, pve2 = 1 }\nresources = [\"vm:100\"]\nrestricted = true"
	require.Equal(t, []string{"put vm:100 under HA", "make HA group db", "put vm:100 into HA group db"}, target.Converge(group, src))
	target.Must("pve3", "ha-manager groupset db --nodes pve3 --restricted 0")
	require.Equal(t, []string{"change HA group db"}, target.Converge(group, src))
	_, err := target.Plan(labkit.Only(t, ha.All(), "ha_rule"), "name = \"x1\"\ntype = \"node-affinity\"\nnodes = { pve1 = 1 }\nresources = [\"vm:100\"]")
	require.ErrorContains(t, err, "which has no rules")
	require.Len(t, target.Converge(group, "name = \"db\"\nensure = \"absent\""), 2)
}

func TestLabMixedClusterWaits(t *testing.T) {
	t.Parallel()
	target := formed(t, "8.4.14")
	group := labkit.Only(t, ha.All(), "ha_group")
	src := "name = \"db\"\nnodes = { pve1 = 2, pve2 = 1 }\nresources = [\"vm:100\"]"
	target.Converge(group, src)
	target.Fault(lab.Fault{Kind: "version", Target: "pve3", Value: "9.1.8"})
	changes, err := target.Plan(group, src)
	require.NoError(t, err)
	require.Empty(t, testkit.Summaries(changes), "what is as wanted is left alone")
	require.Contains(t, target.Warnings()[len(target.Warnings())-1], "becomes a rule when all run 9")
	_, err = target.Plan(group, src+"\nrestricted = true")
	require.ErrorContains(t, err, "Proxmox VE 8 and 9")

	// When all run 9, Proxmox VE makes a rule of the group, and the same intent is that rule.
	for _, name := range []string{"pve1", "pve2"} {
		target.Fault(lab.Fault{Kind: "version", Target: name, Value: "9.1.8"})
	}
	require.NotEmpty(t, target.Converge(group, src+"\nrestricted = true"))
	require.Contains(t, target.Must("pve1", "cat /etc/pve/ha/rules.cfg"), "node-affinity: ha-group-db")
}
