package ceph

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/lab"
	labdisk "github.com/pxrun/pxrun/lab/disk"
	"github.com/stretchr/testify/require"
)

// Encryption puts a layer between an OSD and its volume; a database and a log lie on disks of their own.
func TestLabEncryptedOSDsWithDatabaseAndLog(t *testing.T) {
	t.Parallel()
	tgt := labOf(t, 3, func(s *lab.Spec) {
		for i := range s.Hosts {
			s.Hosts[i].Disks = append(s.Hosts[i].Disks, labdisk.Spec{ID: "nvme-ACME_" + s.Hosts[i].Name + "-W"})
		}
	})
	tgt.Converge(cephInit(), "network = \"10.0.2.0/24\"\nrepository = \"no-subscription\"\nmons = [\"pve1\"]\nmgrs = [\"pve1\"]")
	disk := func(letter string) string {
		return on("pve1", letter, "encrypted = true", "db_size = 40", "wal_size = 2",
			`db_device = "/dev/disk/by-id/nvme-ACME_pve1-N"`, `wal_device = "/dev/disk/by-id/nvme-ACME_pve1-W"`)
	}
	require.Equal(t, []string{"make an OSD of ata-ACME_pve1-A on pve1"}, tgt.Converge(cephOSD(), disk("A")))
	require.Empty(t, tgt.Converge(cephOSD(), disk("A")), "it is found through the layer")

	require.Contains(t, tgt.Must("pve1", "lsblk -no TYPE,FSTYPE /dev/disk/by-id/ata-ACME_pve1-A"), "crypt ceph_bluestore")
	for _, part := range []string{"block", "block.db", "block.wal"} {
		require.Equal(t, "crypt\n", tgt.Must("pve1", "lsblk -no TYPE /var/lib/ceph/osd/ceph-0/"+part), part)
	}
	for link, disk := range map[string]string{"block.db": "N", "block.wal": "W"} {
		require.Contains(t, tgt.Must("pve1", "lsblk -no NAME /dev/disk/by-id/nvme-ACME_pve1-"+disk), strings.TrimSpace(tgt.Must("pve1", "basename $(readlink /var/lib/ceph/osd/ceph-0/"+link+")")))
	}

	// A second one shares both, and neither of these disks is ever to be had for an OSD.
	require.Equal(t, []string{"make an OSD of ata-ACME_pve1-B on pve1"}, tgt.Converge(cephOSD(), disk("A")+disk("B")))
	for letter, part := range map[string]string{"N": "block.db", "W": "block.wal"} {
		args := fmt.Sprintf("disk {\n  node = \"pve1\"\n  device = \"/dev/disk/by-id/nvme-ACME_pve1-%s\"\n}\n", letter)
		_, err := tgt.Plan(cephOSD(), args)
		require.ErrorContains(t, err, fmt.Sprintf("it holds the %s of osd.0, the %s of osd.1", part, part))
		require.ErrorContains(t, err, "a disk that no OSD of this cluster needs")
	}

	// What is taken away leaves the others' layers alone.
	tgt.Must("pve1", "ceph osd out 1; systemctl stop ceph-osd@1")
	tgt.Must("pve1", "pveceph osd destroy 1 --cleanup 1")
	require.Empty(t, tgt.Converge(cephOSD(), disk("A")))
	require.Equal(t, []string{"make an OSD of ata-ACME_pve1-B on pve1"}, tgt.Converge(cephOSD(), disk("B")))
}
