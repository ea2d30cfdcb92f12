package ceph_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab"
)

// codes are the findings of the cluster's health.
func (t *labTest) codes(host string) []string {
	t.Helper()
	health := t.json(host, "health")
	var out []string
	checks, _ := health["checks"].(map[string]any)
	for code := range checks {
		out = append(out, code)
	}
	return out
}

// states are the states of the placement groups with their numbers.
func (t *labTest) states(host string) map[string]int {
	t.Helper()
	out := map[string]int{}
	pgmap, _ := t.json(host, "-s")["pgmap"].(map[string]any)
	list, _ := pgmap["pgs_by_state"].([]any)
	for _, one := range list {
		state, _ := one.(map[string]any)
		out[fmt.Sprint(state["state_name"])] = int(state["count"].(float64))
	}
	return out
}

func TestFaultsOfDaemons(t *testing.T) {
	inLab(t, site(3, "9.1.8"), func(t *labTest) {
		t.ceph(3)
		t.ok("pve1", "pveceph pool create vm --pg_autoscale_mode off --pg_num 32")
		t.eventually("clean", func() bool { return t.states("pve1")["active+clean"] == 33 })

		t.fault(lab.Fault{Kind: "osd-crash", Value: "2"})
		t.after(5 * time.Second)
		require.ElementsMatch(t, []string{"RECENT_CRASH"}, t.codes("pve1"), "not missed yet")
		t.after(15 * time.Second)
		require.Contains(t, t.ok("pve1", "ceph osd stat"), "6 up")
		require.Contains(t, t.ok("pve1", "ceph crash ls-new -f json"), `"entity_name":"osd.2"`)
		t.ok("pve1", "ceph crash archive-all")
		require.Empty(t, t.codes("pve1"))

		id := t.fault(lab.Fault{Kind: "osd-down", Value: "2"})
		t.after(30 * time.Second)
		require.Contains(t, t.codes("pve1"), "OSD_DOWN")
		require.Contains(t, t.codes("pve1"), "PG_DEGRADED")
		_, errs, code := t.sh("pve2", "systemctl start ceph-osd@2")
		require.Equal(t, 1, code, errs)
		t.after(20 * time.Minute)
		require.Contains(t, t.ok("pve1", "ceph osd stat"), "6 osds: 5 up")
		require.Contains(t, t.ok("pve1", "ceph osd stat"), "5 in")
		require.NotContains(t, t.codes("pve1"), "PG_DEGRADED", "the copies were made elsewhere")
		require.NoError(t, t.l.ClearFault(id))
		t.eventually("osd.2 is back and in", func() bool { return strings.Contains(t.ok("pve1", "ceph osd stat"), "6 in") })

		id = t.fault(lab.Fault{Kind: "ceph-flag", Value: "noout=pve3"})
		require.Equal(t, []string{"OSD_FLAGS"}, keep(t.codes("pve1"), "OSD_FLAGS"))
		require.Contains(t, t.ok("pve1", "ceph osd dump -f json"), `"crush_node_flags":{"pve3":["noout"]}`)
		require.NoError(t, t.l.ClearFault(id))
		t.fault(lab.Fault{Kind: "ceph-flag"})
		require.Contains(t, fmt.Sprint(t.json("pve1", "-s")["health"]), "noout flag(s) set")
		t.steps([]step{{"pve1", "ceph osd unset noout", "", "noout is unset\n", 0}})

		id = t.fault(lab.Fault{Kind: "pg-stuck", Value: "vm"})
		t.after(time.Hour)
		require.Equal(t, 1, t.states("pve1")["active+remapped+backfill_toofull"])
		require.NoError(t, t.l.ClearFault(id))
		t.eventually("clean", func() bool { return t.states("pve1")["active+clean"] == 33 })
	})
}

func keep(list []string, want string) []string {
	var out []string
	for _, one := range list {
		if one == want {
			out = append(out, one)
		}
	}
	return out
}

func TestFaultsOfMonitors(t *testing.T) {
	inLab(t, site(3, "9.1.8"), func(t *labTest) {
		t.ceph(3)
		id := t.fault(lab.Fault{Kind: "ceph-hang", Target: "pve1"})
		t.steps([]step{
			{"pve1", "timeout 20 ceph -s", "", "", 124},
			{"pve2", "ceph fsid", "[0-9a-f-]{36}\n", "", 0},
		})
		require.NoError(t, t.l.ClearFault(id))

		t.fault(lab.Fault{Kind: "mon-name", Target: "pve2", Value: "b"})
		t.after(5 * time.Second)
		require.Equal(t, []any{"pve1", "b", "pve3"}, t.json("pve1", "quorum_status")["quorum_names"])
		t.steps([]step{
			{"pve1", "ceph mon ok-to-stop pve2", "", "quorum should be preserved \\(pve1,b,pve3\\) after stopping \\[pve2\\]\n", 0},
			{"pve2", "systemctl is-active ceph-mon@b ceph-mon@pve2; grep -c 'mon.b' /etc/pve/ceph.conf", "active\ninactive\n1\n", "", 0},
		})

		t.fault(lab.Fault{Kind: "mon-lost", Target: "pve3"})
		t.after(10 * time.Second)
		require.Contains(t, t.codes("pve1"), "MON_DOWN")
		_, _, code := t.sh("pve3", "systemctl start ceph-mon@pve3")
		require.Equal(t, 1, code)
		t.ok("pve3", "pveceph mon destroy pve3")
		require.NotContains(t, t.codes("pve1"), "MON_DOWN")
		t.ok("pve3", "pveceph mon create")
		t.after(5 * time.Second)
		require.Equal(t, []any{"pve1", "b", "pve3"}, t.json("pve1", "quorum_status")["quorum_names"])

		t.fault(lab.Fault{Kind: "skew", Target: "pve3", Value: "300ms"})
		require.Contains(t, fmt.Sprint(t.json("pve1", "health detail")), "mon.pve3 clock skew 0.3s > max 0.05s")

		t.fault(lab.Fault{Kind: "crush-name", Target: "pve1", Value: "rack1-pve1"})
		t.steps([]step{{"pve1", "ceph osd set-group noout pve1", "", "Error EINVAL: unable to parse osd id or crush node or device class: 'pve1'\n", 22}})

		id = t.fault(lab.Fault{Kind: "partition", Value: "pve1,pve2|pve3"})
		t.after(40 * time.Second)
		require.Equal(t, []any{"pve1", "b"}, t.json("pve1", "quorum_status")["quorum_names"])
		require.Contains(t, t.codes("pve1"), "OSD_HOST_DOWN")
		t.steps([]step{{"pve3", "ceph --connect-timeout 5 -s", "", "\\[errno 110\\].*", 1}})
		require.NoError(t, t.l.ClearFault(id))
		t.eventually("together again", func() bool { return strings.Contains(t.ok("pve1", "ceph osd stat"), "6 up") })
	})
}

func TestFaultsOfDisks(t *testing.T) {
	inLab(t, site(1, "9.1.8"), func(t *labTest) {
		t.ceph(1)
		spare := "/dev/disk/by-id/ata-B1"
		t.ok("pve1", "ceph osd out 1; systemctl stop ceph-osd@1; pveceph osd destroy 1 --cleanup 1")
		id := t.fault(lab.Fault{Kind: "disk-busy", Target: "pve1", Value: "ata-B1"})
		t.steps([]step{
			{"pve1", "pveceph osd create " + spare, "", "device '" + spare + "' is already in use\n", 255},
			{"pve1", "wipefs -a " + spare, "", "wipefs: error: " + spare + ": probing initialization failed: Device or resource busy\n", 1},
			{"pve1", "pvesh get /nodes/pve1/disks/list --output-format json | grep -o '\"used\":\"Device Mapper\"'", "\"used\":\"Device Mapper\"\n", "", 0},
		})
		require.NoError(t, t.l.ClearFault(id))

		id = t.fault(lab.Fault{Kind: "disk-used", Target: "pve1", Value: "ata-B1=zfs"})
		t.steps([]step{{"pve1", "pveceph osd create " + spare, "", "device '" + spare + "' is already in use\n", 255}})
		require.NoError(t, t.l.ClearFault(id))

		id = t.fault(lab.Fault{Kind: "disk-swap", Target: "pve1", Value: "ata-B1=ata-Z9"})
		t.steps([]step{
			{"pve1", "pveceph osd create " + spare, "", "unable to get device info for '" + spare + "'\n", 255},
			{"pve1", "readlink -f /dev/disk/by-id/ata-Z9; lsblk -dn -o SERIAL /dev/sdc", "/dev/sdc\nZ9\n", "", 0},
		})
		require.NoError(t, t.l.ClearFault(id))

		t.fault(lab.Fault{Kind: "disk-swap", Target: "pve1", Value: "ata-A1=ata-Y9"}) // with an OSD on it
		t.after(time.Minute)
		t.steps([]step{
			{"pve1", "systemctl is-active ceph-osd@0", "failed\n", "", 3},
			{"pve1", "ceph osd stat", "1 osds: 0 up .*", "", 0},
		})
		_, _, code := t.sh("pve1", "systemctl restart ceph-osd@0")
		require.Equal(t, 1, code)
	})
}

func TestVersionsAreMixedUntilDaemonsAreRestarted(t *testing.T) {
	inLab(t, site(3, "9.1.8"), func(t *labTest) {
		t.ceph(3)
		require.Len(t, t.json("pve1", "versions")["overall"], 1)
		t.ok("pve2", "yes | pveceph install --version tentacle --repository no-subscription")
		require.Len(t, t.json("pve1", "versions")["overall"], 1, "what runs is what was started")
		t.ok("pve2", "systemctl restart ceph-mon@pve2; systemctl restart ceph-osd.target")
		t.after(20 * time.Second)
		require.Len(t, t.json("pve1", "versions")["overall"], 2)
		require.Len(t, t.json("pve1", "versions")["mon"], 2)
		require.Len(t, t.json("pve1", "versions")["mgr"], 1)
	})
}

func TestPathsOfPvesh(t *testing.T) {
	inLab(t, site(3, "9.1.8"), func(t *labTest) {
		t.ceph(3)
		t.ok("pve1", "pveceph pool create vm")
		t.after(time.Minute)
		for path, want := range map[string]string{
			"/cluster/ceph/status":      `"status":"HEALTH_`,
			"/nodes/pve1/ceph/status":   `"quorum_names":["pve1","pve2","pve3"]`,
			"/nodes/pve1/ceph/mon":      `{"addr":"10.0.3.1:6789/0","ceph_version":"ceph version 19.2.3 `,
			"/nodes/pve1/ceph/mgr":      `"state":"standby"`,
			"/nodes/pve1/ceph/osd":      `"root":{"children":[{"children":[{"children":[`,
			"/nodes/pve1/ceph/pool":     `"pool_name":".mgr"`,
			"/nodes/pve1/ceph/rules":    `[{"name":"replicated_rule"}]`,
			"/nodes/pve1/ceph/cfg/raw":  `[global]`,
			"/cluster/ceph/flags":       `"name":"noout","value":0}`,
			"/cluster/ceph/flags/noout": `0`,
			"/cluster/ceph/metadata":    `"hostname":"pve3"`,
			"/nodes/pve1/disks/list":    `"osdid":0,"osdid-list":["0"]`,
			"/nodes/pve1/ceph/cmd-safety --service osd --id 0 --action stop":    `"safe":1`,
			"/nodes/pve1/ceph/cmd-safety --service osd --id 0 --action destroy": `"safe":0,"status":"OSD(s) 0 `,
			"/nodes/pve1/ceph/cmd-safety --service mon --id pve1 --action stop": `quorum should be preserved`,
		} {
			out := t.ok("pve1", "pvesh get "+path+" --output-format json")
			require.Contains(t, out, want, path)
			require.True(t, json.Valid([]byte(out)), path)
		}
		t.steps([]step{
			{"pve1", "pvesh set /cluster/ceph/flags/noout --value 1; pvesh get /cluster/ceph/flags/noout", "1\n", "", 0},
			{"pve1", "pvesh set /cluster/ceph/flags/nonsense --value 1", "", "400 Parameter verification failed.\nflag: value 'nonsense'.*", 255},
			{"pve1", "pvesh create /nodes/pve1/ceph/osd --dev /dev/sda", "", "device '/dev/sda' is already in use\n", 255},
		})
	})
}
