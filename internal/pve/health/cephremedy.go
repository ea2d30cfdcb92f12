package health

import (
	"slices"
	"strings"
)

// cephRemedies say what is to be done about a health check of Ceph, by its name.
var cephRemedies = map[string]string{
	"MON_DOWN":             "bring its node back, or start it there: systemctl start ceph-mon@<node>",
	"MON_CLOCK_SKEW":       "mend the clocks of the monitors' nodes: chronyc tracking",
	"MON_DISK_LOW":         "make room on / of the monitor's node",
	"MON_DISK_CRIT":        "make room on / of the monitor's node at once: it stops when that is full",
	"MGR_DOWN":             "start a manager: systemctl start ceph-mgr@<node>",
	"OSD_DOWN":             "find them with ceph osd tree down, then bring their node back or start them there: systemctl start ceph-osd@<id>",
	"OSD_HOST_DOWN":        "bring the node back: its OSDs start with it",
	"OSD_NEARFULL":         "make room or add OSDs before it is full: ceph osd df",
	"OSD_BACKFILLFULL":     "make room or add OSDs: nothing can be copied to it any more: ceph osd df",
	"OSD_FULL":             "make room or add OSDs at once: nothing can be written: ceph osd df",
	"POOL_NEARFULL":        "make room or add OSDs: ceph df",
	"POOL_FULL":            "make room or add OSDs at once: nothing can be written: ceph df",
	"POOL_NO_REDUNDANCY":   "give the pool copies: ceph osd pool set <pool> size 3",
	"POOL_APP_NOT_ENABLED": "say what the pool is for: ceph osd pool application enable <pool> rbd",
	"POOL_TOO_FEW_PGS":     "let it grow: ceph osd pool set <pool> pg_autoscale_mode on",
	"POOL_TOO_MANY_PGS":    "let it shrink: ceph osd pool set <pool> pg_autoscale_mode on",
	"PG_DEGRADED":          "bring the OSDs back that are down (ceph osd tree down); then wait until the copies are made again",
	"PG_AVAILABILITY":      "bring OSDs back: data cannot be reached without them (ceph osd tree down)",
	"PG_DAMAGED":           "find the groups with ceph health detail, then ceph pg repair <pg>",
	"OSD_SCRUB_ERRORS":     "find the groups with ceph health detail, then ceph pg repair <pg>",
	"PG_NOT_SCRUBBED":      "wait, or take the flag noscrub back",
	"PG_NOT_DEEP_SCRUBBED": "wait, or take the flag nodeep-scrub back",
	"SLOW_OPS":             "check disks and network of the daemons that it names",
	"RECENT_CRASH":         "look with ceph crash ls; when it is settled: ceph crash archive-all",
	"DEVICE_HEALTH":        "replace the disks that it names",
	"AUTH_INSECURE_GLOBAL_ID_RECLAIM_ALLOWED": "when every client is of today: ceph config set mon auth_allow_insecure_global_id_reclaim false",
}

// cephRemedy is what is to be done about one complaint, which is the name of a check and its message.
func cephRemedy(complaint string) (remedy string, maintenance bool) {
	name, message, _ := strings.Cut(complaint, ":")
	switch name {
	case "OSDMAP_FLAGS":
		flags, _, _ := strings.Cut(strings.TrimSpace(message), " ")
		var unset []string
		for flag := range strings.SplitSeq(flags, ",") {
			if command := "ceph osd unset " + unsettable(flag); !slices.Contains(unset, command) {
				unset = append(unset, command)
			}
		}
		return "if nobody works on a node: " + strings.Join(unset, "; "), true
	case "OSD_FLAGS":
		return "if nobody works on the node: ceph osd unset-group noout <node>, or the flag that the detail names", true
	}
	if known := cephRemedies[name]; known != "" {
		return known, false
	}
	return "do as the detail says; Ceph's documentation of health checks explains " + name, false
}

// unsettable is the name under which a flag is set and taken back: pause is shown as its two halves.
func unsettable(flag string) string {
	if flag == "pauserd" || flag == "pausewr" {
		return "pause"
	}
	return flag
}
