package ceph

import (
	"fmt"
	"testing"

	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lab"
	labdisk "github.com/pxrun/pxrun/lab/disk"
	"github.com/stretchr/testify/require"
)

// labOf forms a cluster of n nodes with two disks and one for databases each.
func labOf(t *testing.T, n int, change func(*lab.Spec)) *labkit.Target {
	t.Helper()
	tgt := labkit.New(t, n, func(s *lab.Spec) {
		for i := range s.Hosts {
			name := s.Hosts[i].Name
			s.Hosts[i].Disks = []labdisk.Spec{{ID: "ata-ACME_" + name + "-A"}, {ID: "ata-ACME_" + name + "-B"}, {ID: "nvme-ACME_" + name + "-N"}}
		}
		if change != nil {
			change(s)
		}
	})
	tgt.Form()
	return tgt
}

const labWhole = `
network    = "10.0.2.0/24"
repository = "no-subscription"
pool "vm" {
  size     = 3
  min_size = 2
  storage  = true
}
fs "cephfs" {
  storage = true
}
`

func labDisks(t *labkit.Target) {
	for _, h := range t.All {
		osdsOf(t.Target, h.Name,
			inventory.OSD{Device: "/dev/disk/by-id/ata-ACME_" + h.Name + "-A", DBDevice: "/dev/disk/by-id/nvme-ACME_" + h.Name + "-N"},
			inventory.OSD{Device: "/dev/disk/by-id/ata-ACME_" + h.Name + "-B", DBDevice: "/dev/disk/by-id/nvme-ACME_" + h.Name + "-N"})
	}
}

func TestLabFromNothingToHealth(t *testing.T) {
	tgt := labOf(t, 3, nil)
	labDisks(tgt)
	changes := tgt.Converge(cephInit(), labWhole)
	require.Len(t, changes, 21)
	out, err := cephInit().Read(t.Context(), tgt, testkit.Args(t, cephInit(), labWhole))
	require.NoError(t, err)
	got := out.(cephOut)
	require.Equal(t, 6, got.OSDsUp)
	require.Len(t, got.Mons, 3)
	require.True(t, got.Clean)
	require.Equal(t, "HEALTH_OK", got.Health, fmt.Sprint(got.Checks))
}
