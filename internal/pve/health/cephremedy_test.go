package health

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRemediesOfCephNameWhatIsThere(t *testing.T) {
	for complaint, want := range map[string]string{
		"OSDMAP_FLAGS: noscrub flag(s) set":            "if nobody works on a node: ceph osd unset noscrub",
		"OSDMAP_FLAGS: noout,nodeep-scrub flag(s) set": "if nobody works on a node: ceph osd unset noout; ceph osd unset nodeep-scrub",
		"OSDMAP_FLAGS: pauserd,pausewr flag(s) set":    "if nobody works on a node: ceph osd unset pause",
		"OSD_FLAGS: 1 OSDs or CRUSH nodes have flags":  "if nobody works on the node: ceph osd unset-group noout <node>, or the flag that the detail names",
		"MON_DOWN: 1/3 mons down, quorum pve1,pve2":    "bring its node back, or start it there: systemctl start ceph-mon@<node>",
		"SOMETHING_NEW: this is not known yet":         "do as the detail says; Ceph's documentation of health checks explains SOMETHING_NEW",
	} {
		t.Run(complaint, func(t *testing.T) {
			remedy, _ := cephRemedy(complaint)
			require.Equal(t, want, remedy)
		})
	}
}
