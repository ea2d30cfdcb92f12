package ha_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// said is a command with what it prints and returns.
type said struct {
	line, out, err string
	code           int
}

func (s *site) says(node int, want ...said) {
	s.t.Helper()
	for _, w := range want {
		got := s.sh(node, w.line)
		require.Equal(s.t, w.out, got.out, w.line)
		require.Equal(s.t, w.err, got.err, w.line)
		require.Equal(s.t, w.code, got.code, w.line)
	}
}

// The commands and answers of a recorded cluster.
func TestCommandsOfNineAnswerAsRecorded(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.says(1,
			said{line: "ha-manager status", out: "quorum OK\nfencing standby (CRM watchdog standby)\n"},
			said{line: "ha-manager config"}, said{line: "ha-manager rules config"},
			said{line: "ha-manager groupconfig", err: "cannot index groups: ha groups have been migrated to rules\n", code: 2},
		)
		s.guest(1, "vm:100", false)
		s.says(1,
			said{line: "ha-manager add vm:100 --state started --max_restart 1"},
			said{line: "ha-manager add vm:100", err: "create resource failed: resource ID 'vm:100' already defined\n", code: 255},
			said{line: "ha-manager add vm:999", err: "resource 'vm:999' does not exist in cluster\n", code: 17},
			said{line: "ha-manager config", out: "vm:100\n\tmax_restart 1\n\tstate started\n\n"},
			said{line: "cat /etc/pve/ha/resources.cfg", out: "vm: 100\n\tmax_restart 1\n\tstate started\n\n"},
			said{line: "ha-manager groupadd prefer1 --nodes pve1:2,pve2:1", err: "cannot create group: ha groups have been migrated to rules\n", code: 2},
			said{line: "ha-manager rules add node-affinity prefer1 --resources vm:100 --nodes pve1:2,pve2:1"},
			said{line: "ha-manager rules add node-affinity prefer1 --resources vm:100 --nodes pve1", err: "create ha rule failed: HA rule 'prefer1' already defined\n", code: 255},
			said{line: "ha-manager rules list", out: "┌─────────┐\n│ rule    │\n╞═════════╡\n│ prefer1 │\n└─────────┘\n"},
			said{line: "ha-manager rules config", out: `┌─────────┬────────┬─────────┬───────────────┬───────────┬─────────┐
│ enabled │ state  │ rule    │ type          │ resources │ comment │
╞═════════╪════════╪═════════╪═══════════════╪═══════════╪═════════╡
│ 1       │ in use │ prefer1 │ node-affinity │ vm:100    │         │
└─────────┴────────┴─────────┴───────────────┴───────────┴─────────┘
`},
			said{line: "ha-manager rules config --output-format json", out: `[{"digest":"8541e774dee50dc1efa28acb799ef2e2107b6b7a","enabled":1,"nodes":"pve1:2,pve2:1","order":1,"resources":"vm:100","rule":"prefer1","state":"in use","type":"node-affinity"}]` + "\n"},
			said{line: "cat /etc/pve/ha/rules.cfg", out: "node-affinity: prefer1\n\tnodes pve1:2,pve2:1\n\tresources vm:100\n\n"},
			said{line: "pvesh get /cluster/ha/rules --output-format json", out: `[{"digest":"8541e774dee50dc1efa28acb799ef2e2107b6b7a","nodes":"pve1:2,pve2:1","order":1,"resources":"vm:100","rule":"prefer1","type":"node-affinity"}]` + "\n"},
			said{line: "pvesh get /cluster/ha/resources --output-format json", out: `[{"digest":"f7b4ea8f2bb8d0deab1aea472410697a80beb562","max_restart":1,"sid":"vm:100","state":"started","type":"vm"}]` + "\n"},
		)
		s.wait(1, "vm:100", "pve1, started", time.Minute)
		s.says(1,
			said{line: "ha-manager crm-command node-maintenance enable nosuch", err: "no such cluster node 'nosuch'\n", code: 255},
			said{line: "ha-manager crm-command node-maintenance enable pve3"},
		)
		now := s.machines[0].Now().Format("Mon Jan _2 15:04")
		status := s.must(1, "ha-manager status")
		require.Regexp(t, `^quorum OK
master pve2 \(active, `+now+`:\d\d 2000\)
fencing armed \(CRM watchdog active\)
lrm pve1 \(active, watchdog active, `+now+`:\d\d 2000\)
lrm pve2 \(idle, watchdog standby, `+now+`:\d\d 2000\)
lrm pve3 \(idle, watchdog standby, `+now+`:\d\d 2000\)
service vm:100 \(pve1, started\)
$`, status)

		var rows []map[string]any
		require.NoError(t, json.Unmarshal([]byte(s.must(1, "pvesh get /cluster/ha/status/current --output-format json")), &rows))
		last := rows[len(rows)-1]
		require.Equal(t, map[string]any{
			"crm_state": "started", "failback": 1.0, "id": "service:vm:100", "max_relocate": 1.0, "max_restart": 1.0, "node": "pve1",
			"request_state": "started", "sid": "vm:100", "state": "started", "status": "vm:100 (pve1, started)", "type": "service",
		}, last)
		require.Equal(t, map[string]any{"id": "quorum", "node": "pve1", "quorate": 1.0, "status": "OK", "type": "quorum"}, rows[0])
		require.Equal(t, map[string]any{"armed-state": "armed", "id": "fencing", "node": "pve2", "status": "armed (CRM watchdog active)", "type": "fencing"}, rows[2])

		var full map[string]map[string]any
		require.NoError(t, json.Unmarshal([]byte(s.must(2, "pvesh get /cluster/ha/status/manager_status --output-format json")), &full))
		require.Equal(t, map[string]any{"node": "pve2", "quorate": "1"}, full["quorum"])
		require.Equal(t, "pve2", full["manager_status"]["master_node"])
		require.Len(t, full["lrm_status"], 3)
	})
}

func TestRefusalsOfResources(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.guest(1, "vm:100", true)
		s.guest(1, "ct:201", true)
		s.says(1,
			said{line: "ha-manager add 999", err: "unable to detect SID from VMID - VM/CT 999 does not exist\n", code: 17},
			said{line: "ha-manager add what", err: "unable to parse service id 'what'\n", code: 17},
			said{line: "ha-manager add ct:100", err: "resource 'ct:100' does not exist in cluster - guest with ID 100 is not a CT\n", code: 17},
			said{line: "ha-manager add vm:201", err: "resource 'vm:201' does not exist in cluster - guest with ID 201 is not a VM\n", code: 17},
			said{line: "ha-manager add 100 --type ct", err: "types does not match\n", code: 17},
			said{line: "ha-manager add 100 --group db", err: "invalid parameter 'group': ha groups have been migrated to rules\n", code: 255},
			said{line: "ha-manager set vm:100 --state stopped", err: "update resource failed: no such resource 'vm:100'\n", code: 255},
			said{line: "ha-manager remove vm:100", err: "cannot delete service 'vm:100', not HA managed!\n", code: 255},
			said{line: "ha-manager migrate vm:100 pve2", err: "resource 'vm:100' is not HA managed\n", code: 255},
			said{line: "ha-manager crm-command stop vm:100 10", err: "resource 'vm:100' is not HA managed\n", code: 255},
			said{line: "ha-manager add 201 --comment 'the web' --failback 0"},
			said{line: "cat /etc/pve/ha/resources.cfg", out: "ct: 201\n\tcomment the web\n\tfailback 0\n\n"},
			said{line: "ha-manager set 201 --delete comment --max_relocate 3"},
			said{line: "ha-manager config", out: "ct:201\n\tfailback 0\n\tmax_relocate 3\n\n"},
			said{line: "ha-manager config --type vm"},
			said{line: "ha-manager set 201 --delete nonsense", err: "update resource failed: no such option 'nonsense'\n", code: 255},
			said{line: "ha-manager set 201 --state stopped --digest 0123", err: "update resource failed: detected modified configuration - file changed by other user? Try again.\n", code: 255},
			said{line: "ha-manager set 201 --state ignored"},
			said{line: "ha-manager migrate ct:201 pve2", err: "resource 'ct:201' is not HA managed\n", code: 255},
			said{line: "pvesh get /cluster/ha/resources/ct:201 --output-format json | cut -c1-10", out: "{\"digest\":\n"},
			said{line: "pvesh get /cluster/ha/resources/vm:100", err: "no such resource 'vm:100'\n", code: 255},
		)
		got := s.sh(1, "ha-manager add vm:100 --state running")
		require.Equal(t, 255, got.code)
		require.True(t, strings.HasPrefix(got.err, "400 Parameter verification failed.\nstate: value 'running' does not have a value in the enumeration 'started, stopped, enabled, disabled, ignored'\n"), got.err)
		got = s.sh(1, "ha-manager frobnicate x")
		require.Equal(t, 255, got.code)
		require.True(t, strings.HasPrefix(got.err, "ERROR: unknown command 'ha-manager frobnicate'\n"), got.err)
		got = s.sh(1, "ha-manager crm-command stop vm:100")
		require.True(t, strings.HasPrefix(got.err, "400 not enough arguments\n"), got.err)
	})
}

func TestCommandsWithoutQuorumOrPmxcfs(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.guest(1, "vm:100", false)
		s.must(1, "ha-manager add vm:100 --state ignored")
		s.machines[1].PowerOff()
		s.machines[2].PowerOff()
		s.pass(40 * time.Second)
		require.Contains(t, s.must(1, "ha-manager status"), "quorum No quorum on node 'pve1'!\nmaster pve1 (old timestamp - dead?, ")
		s.says(1,
			said{line: "ha-manager add vm:101", err: "cluster not ready - no quorum?\n", code: 13},
			said{line: "ha-manager set vm:100 --state started", err: "update resource failed: cfs-lock 'domain-ha' error: no quorum!\n", code: 255},
			said{line: "ha-manager crm-command node-maintenance enable pve2", err: "cfs-lock 'domain-ha' error: no quorum!\n", code: 255},
		)
		s.must(1, "systemctl stop pve-cluster")
		got := s.sh(1, "ha-manager status")
		require.Equal(t, 111, got.code)
		require.Contains(t, got.err, "ipcc_send_rec[1] failed: Connection refused\n")
	})
}

func TestRemovePurgesRules(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		for id := 100; id < 104; id++ {
			s.guest(1, fmt.Sprintf("vm:%d", id), true)
			s.must(1, fmt.Sprintf("ha-manager add %d", id))
		}
		s.must(1, "ha-manager rules add resource-affinity both --affinity positive --resources vm:100,vm:101 --comment '50% of é'")
		s.must(1, "ha-manager rules add node-affinity home --nodes pve2:5,pve1 --resources vm:102 --strict 1 --disable")
		require.Equal(t, "resource-affinity: both\n\tcomment 50%25 of %C3%A9\n\taffinity positive\n\tresources vm:100,vm:101\n\nnode-affinity: home\n\tdisable\n\tnodes pve1,pve2:5\n\tresources vm:102\n\tstrict 1\n\n",
			s.must(1, "cat /etc/pve/ha/rules.cfg"))
		s.must(1, "ha-manager remove vm:100 --purge 0")
		require.Contains(t, s.must(1, "cat /etc/pve/ha/rules.cfg"), "vm:100,vm:101")
		s.must(1, "ha-manager remove vm:101")
		require.Contains(t, s.must(1, "cat /etc/pve/ha/rules.cfg"), "\tresources vm:100\n")
		s.must(1, "ha-manager remove vm:102")
		require.NotContains(t, s.must(1, "cat /etc/pve/ha/rules.cfg"), "home")
		s.says(1, said{line: "ha-manager rules remove home"}, said{line: "ha-manager rules remove both"}, said{line: "cat /etc/pve/ha/rules.cfg"})
	})
}

func TestRulesThatCannotBeFollowedAreRefused(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		for id := 100; id < 105; id++ {
			s.guest(1, fmt.Sprintf("vm:%d", id), false)
		}
		s.must(1, "ha-manager add 100 --state stopped; ha-manager add 101 --state stopped")
		// Before a master has run no node counts as available.
		got := s.sh(1, "ha-manager rules add resource-affinity apart --affinity negative --resources vm:100,vm:101")
		require.Equal(t, "create ha rule failed: 400 Rule 'apart' is invalid.\nresources: rule defines more resources than available nodes\n", got.err)
		s.must(1, "ha-manager add 102 --state stopped; ha-manager add 103 --state stopped")
		s.pass(30 * time.Second)
		invalid := func(verb, id, text string) string {
			return fmt.Sprintf("%s: 400 Rule '%s' is invalid.\nresources: %s\n", verb, id, text)
		}
		const add = "create ha rule failed"
		s.says(1,
			said{line: "ha-manager rules add resource-affinity apart --affinity negative --resources vm:100,vm:101"},
			said{line: "ha-manager rules add node-affinity n1 --resources vm:102 --nodes pve1"},
			said{line: "ha-manager rules add node-affinity n2 --resources vm:102,vm:103 --nodes pve2", err: invalid(add, "n2", "resource 'vm:102' is already used in another node affinity rule"), code: 255},
			said{line: "ha-manager rules add resource-affinity few --affinity positive --resources vm:100", err: invalid(add, "few", "rule is ineffective as there are less than two resources"), code: 255},
			said{line: "ha-manager rules add resource-affinity many --affinity negative --resources vm:100,vm:101,vm:102,vm:103", err: invalid(add, "many", "rule defines more resources than available nodes"), code: 255},
			said{line: "ha-manager rules add resource-affinity both --affinity positive --resources vm:100,vm:101", err: invalid(add, "both", "rule shares two or more resources with a negative resource affinity rule"), code: 255},
			said{line: "ha-manager rules add node-affinity pp --resources vm:100 --nodes pve1:2,pve2:1", err: invalid(add, "pp", "resources are in a resource affinity rule and cannot be in a node affinity rule with multiple priorities"), code: 255},
			said{line: "ha-manager rules add node-affinity one --resources vm:100,vm:101 --nodes pve1", err: invalid(add, "one", "at least one resource is in a negative resource affinity rule and this rule would restrict these to less nodes than available to the resources"), code: 255},
			said{line: "ha-manager rules add node-affinity x --resources vm:104 --nodes pve1", err: "400 Parameter verification failed.\nrule: invalid format - invalid configuration ID 'x'\nha-manager rules add <type> <rule> [OPTIONS]\n", code: 255},
			said{line: "ha-manager rules add node-affinity xx --resources vm:104 --nodes pve1", err: "create ha rule failed: cannot use unmanaged resource(s) vm:104.\n", code: 255},
			said{line: "ha-manager rules add node-affinity xx --resources vm:103 --nodes pve1,pve9", err: "create ha rule failed: cannot use non-existent node(s) pve9.\n", code: 255},
			said{line: "ha-manager rules set node-affinity nosuch --strict 1", err: "update HA rules failed: HA rule 'nosuch' does not exist\n", code: 255},
			said{line: "ha-manager rules set node-affinity n1 --resources vm:102,vm:103 --strict 1"},
			said{line: "ha-manager rules list --resource vm:103 --output-format json | grep -c n1", out: "1\n"},
			said{line: "ha-manager rules list --type resource-affinity --output-format json | grep -c n1", out: "0\n", code: 1},
		)
		// Somebody edits the file: what contradicts is shown and ignored.
		s.must(1, `printf 'node-affinity: n2\n\tnodes pve2\n\tresources vm:102\n' >> /etc/pve/ha/rules.cfg`)
		var rows []map[string]any
		require.NoError(t, json.Unmarshal([]byte(s.must(1, "pvesh get /cluster/ha/rules --output-format json")), &rows))
		byID := map[string]map[string]any{}
		for _, row := range rows {
			byID[row["rule"].(string)] = row
		}
		require.Equal(t, map[string]any{"resources": []any{"resource 'vm:102' is already used in another node affinity rule"}}, byID["n2"]["errors"])
		require.Equal(t, byID["n2"]["errors"], byID["n1"]["errors"])
		require.Nil(t, byID["apart"]["errors"])
		require.Contains(t, s.must(1, "ha-manager rules config"), "ignored (conflicts)")
		s.pass(12 * time.Second)
		require.Contains(t, s.log(1), "Drop rule 'n1', because resource 'vm:102' is already used in another node affinity rule.")
	})
}

func TestMigrationsFollowAffinity(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.managed(1, "vm:101", "")
		s.managed(2, "vm:102", "")
		s.must(1, "ha-manager rules add resource-affinity pair --affinity positive --resources vm:100,vm:101")
		s.must(1, "ha-manager rules add resource-affinity foes --affinity negative --resources vm:101,vm:102")
		s.pass(12 * time.Second)
		s.says(1, said{
			line: "ha-manager migrate vm:101 pve2",
			err:  "cannot migrate resource 'vm:101' to node 'pve2':\n\n- resource 'vm:102' on target node 'pve2' in negative affinity with resource 'vm:101'\n", code: 255,
		})
		require.Equal(t, "migrate vm:101 pve2\n", s.must(1, "cat /etc/pve/ha/crm_commands"))
		s.pass(12 * time.Second)
		require.Contains(t, s.log(1), "crm command 'migrate vm:101 pve2' error - service 'vm:102' on node 'pve2' in negative affinity with service 'vm:101'")
		s.says(1, said{
			line: "ha-manager crm-command migrate vm:100 pve3",
			out:  "also migrate resource 'vm:101' in positive affinity with resource 'vm:100' to target node 'pve3'\n",
		})
		s.wait(1, "vm:100", "pve3, started", time.Minute)
		s.wait(1, "vm:101", "pve3, started", time.Minute)
	})
}

func TestNodeAffinityPlacesAndFailsBack(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.managed(1, "vm:101", " --failback 0")
		s.must(1, "ha-manager rules add node-affinity home --resources vm:100,vm:101 --nodes pve2:2,pve3:1")
		s.wait(1, "vm:100", "pve2, started", time.Minute)
		s.pass(time.Minute)
		require.Equal(t, "service vm:101 (pve1, started)", s.line(1, "service vm:101"))
		s.must(1, "ha-manager migrate vm:101 pve3")
		s.wait(1, "vm:101", "pve3, started", time.Minute)
		s.must(1, "ha-manager migrate vm:100 pve3") // it goes back by itself
		s.pass(time.Minute)
		require.Equal(t, "service vm:100 (pve2, started)", s.line(1, "service vm:100"))
		require.Contains(t, s.guests.did(), "migrate vm:100 online=true pve3>pve2")
		require.Equal(t, "service vm:101 (pve3, started)", s.line(1, "service vm:101"))
	})
}

func TestGroupsOfEight(t *testing.T) {
	inCluster(t, repeat("8.4.1", 3), func(s *site) {
		s.guest(1, "vm:100", true)
		s.says(1,
			said{line: "ha-manager status", out: "quorum OK\n"},
			said{line: "ha-manager groupadd db --nodes pve2:2,pve3 --nofailback 1 --restricted 1"},
			said{line: "ha-manager groupadd db --nodes pve2", err: "create ha group failed: ha group ID 'db' already defined\n", code: 255},
			said{line: "ha-manager groupset nosuch --restricted 1", err: "update ha group failed: no such ha group 'nosuch'\n", code: 255},
			said{line: "ha-manager add vm:100 --group other", err: "HA group 'other' does not exist\n", code: 255},
			said{line: "ha-manager add vm:100 --group db"},
			said{line: "ha-manager groupremove db", err: "delete ha group failed: ha group is used by service 'vm:100'\n", code: 255},
			said{line: "cat /etc/pve/ha/groups.cfg", out: "group: db\n\tnodes pve2:2,pve3\n\tnofailback 1\n\trestricted 1\n\n"},
			said{line: "ha-manager groupconfig", out: "group: db\n\tnodes pve2:2,pve3\n\tnofailback 1\n\trestricted 1\n\n"},
		)
		got := s.sh(1, "ha-manager rules list")
		require.True(t, strings.HasPrefix(got.err, "ERROR: unknown command 'ha-manager rules'\n"), got.err)
		got = s.sh(1, "ha-manager set vm:100 --failback 0")
		require.True(t, strings.HasPrefix(got.err, "400 unable to parse option\n"), got.err)
		got = s.sh(1, "ha-manager crm-command disarm-ha freeze")
		require.True(t, strings.HasPrefix(got.err, "ERROR: unknown command 'ha-manager crm-command disarm-ha'\n"), got.err)
		s.says(1, said{line: "pvesh get /cluster/ha/rules", err: "No 'get' handler defined for '/cluster/ha/rules'\n", code: 255})
		s.wait(1, "vm:100", "pve2, started", time.Minute) // pve1 is not in its group
		require.NotContains(t, s.must(1, "ha-manager status"), "watchdog")
		require.NotContains(t, s.must(1, "ha-manager status"), "fencing")
	})
}

func TestGroupsBecomeRulesWhenAllNodesAreOfNine(t *testing.T) {
	inCluster(t, []string{"8.4.1", "8.4.1", "8.4.1"}, func(s *site) {
		s.must(1, "ha-manager groupadd db --nodes pve2:2,pve3 --nofailback 1 --restricted 1 --comment dbs")
		s.guest(2, "vm:100", true)
		s.must(2, "ha-manager add vm:100 --group db")
		s.wait(1, "vm:100", "pve2, started", time.Minute)
		s.upgrade(1, "9.1.8")
		s.upgrade(3, "9.1.8")
		s.pass(3 * time.Minute)
		require.Contains(t, s.must(1, "cat /etc/pve/ha/groups.cfg"), "group: db")
		s.says(1, said{
			line: "ha-manager rules add node-affinity home --resources vm:100 --nodes pve1",
			err:  "cannot create ha rule: ha groups have not been migrated yet\n", code: 255,
		})
		require.Contains(t, s.must(1, "pvesh get /cluster/ha/rules --output-format json"), `"rule":"ha-group-db"`)
		s.must(1, "ha-manager groupset db --restricted 1") // groups still count

		s.must(1, "ha-manager crm-command node-maintenance enable pve3")
		s.pass(30 * time.Second)
		s.upgrade(2, "9.1.8")
		s.pass(2 * time.Minute)
		require.Contains(t, s.must(1, "cat /etc/pve/ha/groups.cfg"), "group: db") // a node is in maintenance
		s.must(1, "ha-manager crm-command node-maintenance disable pve3")
		s.pass(2 * time.Minute)
		require.NotZero(t, s.sh(1, "cat /etc/pve/ha/groups.cfg").code, s.log(1))
		require.Equal(t, "node-affinity: ha-group-db\n\tcomment dbs\n\tnodes pve2:2,pve3\n\tresources vm:100\n\tstrict 1\n\n", s.must(1, "cat /etc/pve/ha/rules.cfg"))
		require.Equal(t, "vm: 100\n\tfailback 0\n\n", s.must(1, "cat /etc/pve/ha/resources.cfg"))
		require.Contains(t, s.log(1), "ha groups migration successful")
		require.Equal(t, "service vm:100 (pve2, started)", s.line(1, "service"))
	})
}

func TestMaintenanceWithoutResources(t *testing.T) {
	for version, mode := range map[string]string{"8.2.4": "active", "8.4.1": "maintenance", "9.1.8": "maintenance"} {
		t.Run(version, func(t *testing.T) {
			inCluster(t, repeat(version, 2), func(s *site) {
				s.must(1, "ha-manager crm-command node-maintenance enable pve1")
				s.pass(time.Minute)
				require.Contains(t, s.must(1, "cat /etc/pve/nodes/pve1/lrm_status"), `"mode":"`+mode+`"`)
				pending := s.must(1, "cat /etc/pve/ha/crm_commands")
				if mode == "active" {
					require.Equal(t, "enable-node-maintenance pve1\n", pending)
					return
				}
				require.Empty(t, pending)
				require.Contains(t, s.must(1, "cat /etc/pve/ha/manager_status"), `"pve1":"maintenance"`)
				require.Contains(t, s.line(2, "lrm pve1"), "(maintenance mode,")
			})
		})
	}
}
