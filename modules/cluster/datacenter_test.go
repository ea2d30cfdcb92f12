package cluster

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/lab"
	"github.com/stretchr/testify/require"
)

func TestDatacenterArguments(t *testing.T) {
	for src, want := range map[string]string{
		`ha = { shutdown_policy = "never" }`:                       `shutdown_policy is "never"; it can be conditional, freeze, failover, migrate`,
		`migration = { net = "10.0.0.0/8" }`:                       `there is no part "net"; there are network, type`,
		`migration = { network = "10.0.0.1" }`:                     "length of its mask",
		`remove = ["bogus"]`:                                       `there is no option "bogus"`,
		`remove = ["migration.bogus"]`:                             `there is no part "bogus"`,
		"keyboard = \"de\"\nremove = [\"keyboard\"]":               "keyboard is both wanted and to be removed",
		"ha = { shutdown_policy = \"freeze\" }\nremove = [\"ha\"]": "ha is both wanted and to be removed",
		"bogus = 1": "bogus",
	} {
		_, problems := testkit.TryArgs(t, datacenter(), src)
		require.Contains(t, strings.Join(problems, "\n"), want, src)
	}
	_, problems := testkit.TryArgs(t, datacenter(), "migration = { type = \"secure\" }\nremove = [\"migration.network\"]")
	require.Empty(t, problems)
}

func TestLabDatacenter(t *testing.T) {
	t.Parallel()
	target := labkit.New(t, 2, nil)
	target.Form()
	m := datacenter()
	const wanted = "ha = { shutdown_policy = \"migrate\" }\nmigration = { network = \"10.9.0.0/24\" }\nmax_workers = 3\ncrs = { ha = \"static\", \"ha-rebalance-on-start\" = true }\ndescription = \"kept\\nby pxrun\""
	require.Equal(t, []string{"set crs, description, ha, max_workers, migration of the datacenter"}, target.Converge(m, wanted))
	require.Contains(t, target.Must("pve2", "cat /etc/pve/datacenter.cfg"), "keyboard: en-us", "what is not named stays")

	// Somebody sets another part, which a change of the first does not touch; drift is repaired.
	target.Must("pve2", "pvesh set /cluster/options --migration type=insecure,network=10.9.0.0/24 --ha shutdown_policy=freeze")
	require.Equal(t, []string{"set ha of the datacenter"}, target.Converge(m, wanted))
	require.Equal(t, []string{"set migration of the datacenter"}, target.Converge(m, "migration = { network = \"10.8.0.0/24\" }"))
	require.Contains(t, target.Must("pve1", "cat /etc/pve/datacenter.cfg"), "migration: type=insecure,network=10.8.0.0/24")
	require.Equal(t, []string{"set keyboard, migration of the datacenter"}, target.Converge(m, "remove = [\"migration.network\", \"keyboard\"]"))

	out, err := m.Read(t.Context(), target, testkit.Args(t, m, ""))
	require.NoError(t, err)
	require.Equal(t, "3", out.(datacenterOut).Options["max_workers"])

	// A program that says that it did and did not is found out; a lock that somebody holds is waited for.
	target.Fault(lab.Fault{Kind: "lie", Match: "pvesh set", Value: ""})
	changes, err := target.Plan(m, "max_workers = 7")
	require.NoError(t, err)
	require.ErrorContains(t, target.Apply(changes), `max_workers of the datacenter is "3", wanted "7"`)
	target.Fault(lab.Fault{Kind: "cfs-lock", Target: "pve1", Value: "file-datacenter_cfg"})
	err = target.Apply(changes)
	require.ErrorContains(t, err, "got lock request timeout")
	require.NoError(t, target.Lab.ClearFault(0))
	require.NoError(t, target.Apply(changes))

	_, err = target.Plan(m, "replication = { type = \"secure\" }")
	require.NoError(t, err)
	target.Fault(lab.Fault{Kind: "pmxcfs-hang", Target: "pve1"})
	changes, err = target.Plan(m, "max_workers = 8")
	require.NoError(t, err)
	require.Equal(t, "pve2", changes[0].Host, "another node answers")
}

func TestLabDatacenterOfPVE8(t *testing.T) {
	t.Parallel()
	target := labkit.New(t, 1, func(s *lab.Spec) { s.Hosts[0].PVE = "8.4.1" })
	_, err := target.Plan(datacenter(), "replication = { type = \"secure\" }")
	require.ErrorContains(t, err, "the nodes run Proxmox VE 8, which has no option replication")
	var refusals module.Refusals
	require.ErrorAs(t, err, &refusals)
	require.Equal(t, []string{"set max_workers of the datacenter"}, target.Converge(datacenter(), "max_workers = 2"))
}
