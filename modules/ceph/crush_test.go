package ceph

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	"github.com/stretchr/testify/require"
)

const labSites = `
network    = "10.0.2.0/24"
repository = "no-subscription"
size       = 4
min_size   = 2
crush {
  locations = { pve1 = "north", pve2 = "north", pve3 = "south", pve4 = "south" }
}
pool "vm" {
  size              = 4
  min_size          = 2
  crush_rule        = "per_site"
  failure_domain    = "datacenter"
  copies_per_domain = 2
}
`

// A cluster on two sites is made from nothing, kept, and goes on with either site.
func TestLabCephOnTwoSites(t *testing.T) {
	t.Parallel()
	tgt := labOf(t, 4, nil)
	for _, h := range tgt.All {
		osdsOf(tgt.Target, h.Name, inventory.OSD{Device: "/dev/disk/by-id/ata-ACME_" + h.Name + "-A"})
	}
	got := tgt.Converge(cephInit(), labSites)
	require.Contains(t, got, "place hosts in the CRUSH map: pve1, pve2 in datacenter north; pve3, pve4 in datacenter south")
	require.Contains(t, got, "make CRUSH rule per_site")
	require.Empty(t, strings.Join(tgt.Warnings(), "\n"))
	require.Contains(t, tgt.Must("pve1", "ceph -s -f json"), `"status":"HEALTH_OK"`)
	pgs := tgt.Must("pve1", "ceph pg dump pgs_brief -f json 2>/dev/null")
	require.Contains(t, pgs, "active+clean")

	// A host that somebody has put elsewhere goes back, and the plan says what that costs.
	tgt.Must("pve1", "ceph osd crush move pve4 root=default")
	changes, err := tgt.Plan(cephInit(), labSites)
	require.NoError(t, err)
	require.Equal(t, []string{"place hosts in the CRUSH map: pve4 in datacenter south"}, testkit.Summaries(changes))
	require.Equal(t, module.RiskDisruptive, changes[0].Risk)
	require.Equal(t, map[string]any{"pve4": "root default"}, changes[0].Before)
	require.Contains(t, strings.Join(tgt.Warnings(), "\n"), "take data with them")
	require.NoError(t, tgt.Apply(changes))
	require.Empty(t, tgt.Converge(cephCrush(), `locations = { pve4 = "south" }`))
	tgt.Eventually("pve1", `ceph -s -f json | grep -q '"pgs_by_state":\[{"count":[0-9]*,"state_name":"active+clean"}\]'`)

	refuse := func(args, want string) {
		t.Helper()
		_, err := tgt.Plan(cephCrush(), args)
		require.ErrorContains(t, err, want)
	}
	refuse(`locations = { pve3 = "north", pve4 = "north" }`, "pool vm keeps 4 copies and would find 2 places (2 hosts of each datacenter)")
	refuse("kind = \"rack\"\nlocations = { pve3 = \"north\" }", "there is a datacenter north in the CRUSH map")

	// One site is lost: the other one has two copies of everything.
	tgt.Fault(lab.Fault{Kind: "power-off", Target: "pve4"})
	tgt.Must("pve3", "systemctl stop ceph-osd@2")
	tgt.Eventually("pve1", `ceph -s -f json | grep -q '"num_up_osds":2'`)
	require.NotContains(t, tgt.Must("pve1", "ceph -s -f json"), "peered")
}

// A rule that is written into the map gives way to another change of the map at the same time.
func TestLabRuleWhileTheMapChanges(t *testing.T) {
	t.Parallel()
	tgt := labOf(t, 3, nil)
	for _, h := range tgt.All {
		osdsOf(tgt.Target, h.Name, inventory.OSD{Device: "/dev/disk/by-id/ata-ACME_" + h.Name + "-A"})
	}
	tgt.Converge(cephInit(), "network = \"10.0.2.0/24\"\nrepository = \"no-subscription\"")
	tgt.Must("pve1", "ceph osd crush rule create-replicated one default osd; ceph osd crush rule rm one; ceph osd crush rule create-replicated two default osd")
	const args = "name = \"racks\"\nsize = 2\ncrush_rule = \"per_rack\"\nfailure_domain = \"rack\"\ncopies_per_domain = 2\ndevice_class = \"ssd\""
	_ = tgt.Converge(cephCrush(), "kind = \"rack\"\nlocations = { pve1 = \"r1\", pve2 = \"r1\", pve3 = \"r2\" }")
	require.Equal(t, []string{"make CRUSH rule per_rack", "make pool racks"}, tgt.Converge(cephPool(), args))
	require.Contains(t, tgt.Must("pve1", "ceph osd crush rule dump per_rack -f json"), `"item_name":"default~ssd"`)
	require.Contains(t, tgt.Must("pve1", "ceph osd crush rule ls"), "two")
	_, err := tgt.Plan(cephPool(), strings.Replace(args, "copies_per_domain = 2", "", 1))
	require.ErrorContains(t, err, `CRUSH rule per_rack takes class "ssd" over 2 hosts of each rack`)
}

func TestArgumentsOfPlaces(t *testing.T) {
	for _, tt := range []struct {
		module module.Module
		args   string
		want   string
	}{
		{cephCrush(), `locations = {}`, "locations"},
		{cephCrush(), `locations = { pve1 = "the north" }`, "is no name in a CRUSH map"},
		{cephCrush(), `locations = { pve1 = "pve1" }`, "names in the CRUSH map are given once"},
		{cephCrush(), `locations = { pve1 = "default" }`, "names in the CRUSH map are given once"},
		{cephPool(), "copies_per_domain = 2", "give it a name"},
		{cephPool(), "crush_rule = \"r\"\ncopies_per_domain = 2", "such as datacenter"},
		{cephPool(), "crush_rule = \"r\"\nfailure_domain = \"cellar\"", `"cellar" is none of osd, host`},
		{cephPool(), "crush_rule = \"a b\"", "is no name in a CRUSH map"},
		{cephPool(), "size = 3\ncrush_rule = \"r\"\nfailure_domain = \"room\"\ncopies_per_domain = 2", "3 copies are no multiple of 2 for each room"},
	} {
		_, problems := testkit.TryArgs(t, tt.module, tt.args)
		require.Contains(t, strings.Join(problems, "\n"), tt.want, tt.args)
	}
}
