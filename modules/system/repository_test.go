package system_test

import (
	"testing"

	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/stretchr/testify/require"
)

const freely = "pve = \"no-subscription\"\nceph = \"no-subscription\"\nceph_release = \"squid\""

func TestRepositoriesOfAFreshNode(t *testing.T) {
	t.Parallel()
	target := labkit.New(t, 1, nil)
	m := get(t, "repository")
	target.Must("pve1", "! apt-get update")
	require.Equal(t, []string{
		"change /etc/apt/sources.list.d/ceph.sources", "write /etc/apt/sources.list.d/proxmox.sources", "change /etc/apt/sources.list.d/pve-enterprise.sources", "refresh the package lists",
	}, target.Converge(m, freely))
	target.Must("pve1", "apt-get update")
	target.Must("pve1", "grep -q '^Enabled: false' /etc/apt/sources.list.d/pve-enterprise.sources")

	// Drift is mended.
	target.Must("pve1", "sed -i /Enabled/d /etc/apt/sources.list.d/pve-enterprise.sources; touch -d '1 hour ago' /etc/apt/sources.list.d/pve-enterprise.sources")
	require.Equal(t, []string{"change /etc/apt/sources.list.d/pve-enterprise.sources", "refresh the package lists"}, target.Converge(m, freely))

	// A subscription.
	_, err := target.Plan(m, `pve = "enterprise"`)
	requireRefusal(t, err, "the subscription is notfound")
	target.Must("pve1", "pvesubscription set pve1c-0000000000")
	_, err = target.Plan(m, `pve = "enterprise"`)
	requireRefusal(t, err, "the subscription is expired")
	target.Must("pve1", "pvesubscription set pve1c-0123456789")
	require.Len(t, target.Converge(m, `pve = "enterprise"`), 3)
	out, err := m.Read(t.Context(), target, m.NewArgs())
	require.NoError(t, err)
	value := m.Outputs().Encode(out)
	require.Equal(t, "active", value.GetAttr("subscription").AsString())
	require.Equal(t, 2, value.GetAttr("enabled").LengthInt())
}

func TestRepositoriesOfTheOlderRelease(t *testing.T) {
	t.Parallel()
	target := labkit.New(t, 1, func(s *lab.Spec) { s.Hosts[0].PVE = "8.4.1" })
	m := get(t, "repository")
	require.Equal(t, []string{
		"change /etc/apt/sources.list.d/ceph.list", "change /etc/apt/sources.list.d/pve-enterprise.list", "write /etc/apt/sources.list.d/pve-install-repo.list", "refresh the package lists",
	}, target.Converge(m, freely))
	require.Equal(t, "deb http://download.proxmox.com/debian/pve bookworm pve-no-subscription\n", target.Must("pve1", "cat /etc/apt/sources.list.d/pve-install-repo.list"))
	require.Len(t, target.Converge(m, `pve = "test"`), 2)
	require.Contains(t, target.Must("pve1", "cat /etc/apt/sources.list.d/pve-install-repo.list"), "bookworm pvetest")
}

func TestRepositoriesThatWouldBreakANodeAreRefused(t *testing.T) {
	for _, tt := range []struct{ name, spoil, args, want string }{
		{"another suite", "echo 'deb http://deb.debian.org/debian testing main' >/etc/apt/sources.list", freely, "with the suite testing"},
		{"of Proxmox too", "sed -i s/trixie/bookworm/ /etc/apt/sources.list.d/pve-enterprise.sources", freely, "with the suite bookworm"},
		{"no such release", "true", "ceph = \"no-subscription\"\nceph_release = \"nautilus\"", "one that Proxmox VE 9 has"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			target := labkit.New(t, 1, nil)
			target.Must("pve1", tt.spoil)
			_, err := target.Plan(get(t, "repository"), tt.args)
			requireRefusal(t, err, tt.want)
		})
	}
}

func TestRepositoriesAreProved(t *testing.T) {
	t.Parallel()
	target := labkit.New(t, 1, nil)
	m := get(t, "repository")
	// Only that of Proxmox VE is chosen; Ceph's answers 401.
	changes, err := target.Plan(m, `pve = "no-subscription"`)
	require.NoError(t, err)
	require.Len(t, target.Warnings(), 1)
	require.ErrorContains(t, target.Apply(changes), "an enterprise repository answers 401: the node has no valid subscription")
	changes, err = target.Plan(m, freely)
	require.NoError(t, err)
	require.NoError(t, target.Apply(changes))

	// apt-get update exits 0 when it fetched nothing.
	target.Lab.Machine("pve1").SetAptFaults(machine.AptFaults{Offline: true})
	target.Must("pve1", "touch -d '1 hour' /etc/apt/sources.list.d/ceph.sources")
	changes, err = target.Plan(m, freely)
	require.NoError(t, err)
	require.ErrorContains(t, target.Apply(changes), "could not fetch everything")
	changes, err = target.Plan(m, freely)
	require.NoError(t, err)
	require.Len(t, changes, 1, "it is tried again")
}
