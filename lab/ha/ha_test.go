package ha_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestIdleStackShowsOnlyQuorum(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.pass(time.Minute)
		require.Equal(t, "quorum OK\nfencing standby (CRM watchdog standby)\n", s.must(1, "ha-manager status"))
		require.Contains(t, s.must(1, "cat /etc/pve/nodes/pve2/lrm_status"), `{"mode":"active","results":{},"state":"wait_for_agent_lock","timestamp":`)
		require.NotZero(t, s.sh(1, "cat /etc/pve/ha/manager_status").code)
	})
}

func TestAddStartsAStoppedGuest(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.guest(1, "vm:100", false)
		require.Empty(t, s.must(1, "ha-manager add vm:100"))
		require.Equal(t, "service vm:100 (pve1, queued)", s.line(1, "service"))
		took := s.wait(1, "vm:100", "pve1, started", time.Minute)
		require.Less(t, took, 45*time.Second)
		require.Equal(t, []string{"start vm:100 pve1"}, s.guests.did())
		t.Log(took, s.must(1, "ha-manager status --verbose 1"))
	})
}

// managed puts a running guest under the HA manager and waits until that has taken it over.
func (s *site) managed(node int, sid string, options string) {
	s.t.Helper()
	s.guest(node, sid, true)
	s.must(node, "ha-manager add "+sid+options)
	s.wait(node, sid, s.machines[node-1].Name()+", started", time.Minute)
}

func TestPowerCutRecoversElsewhere(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		require.Contains(t, s.line(2, "master"), "master pve2 (active")
		require.NoError(t, s.machines[1].FS.WriteFile(config("pve1", "vm:100"), []byte("lock: migrate\nmemory: 512\n[snap]\nlock: backup\n"), 0o640))
		s.machines[0].PowerOff()
		fence := s.wait(2, "vm:100", "pve1, fence", 2*time.Minute)
		require.GreaterOrEqual(t, fence, 50*time.Second)
		require.LessOrEqual(t, fence, 80*time.Second)
		require.Contains(t, s.line(2, "lrm pve1"), "(old timestamp - dead?, watchdog standby,")
		require.Contains(t, s.must(2, "cat /etc/pve/ha/manager_status"), `"pve1":"fence"`)
		rest := s.wait(2, "vm:100", "pve2, started", 3*time.Minute)
		require.GreaterOrEqual(t, fence+rest, 120*time.Second)
		require.LessOrEqual(t, fence+rest, 180*time.Second)
		require.Equal(t, "memory: 512\n[snap]\nlock: backup\n", s.must(2, "cat /etc/pve/qemu-server/100.conf"))
		require.Contains(t, s.log(2), "removed leftover lock 'migrate' from recovered service 'vm:100' to allow its start.")
		require.Contains(t, s.must(2, "cat /etc/pve/ha/manager_status"), `"pve1":"unknown"`)

		s.machines[0].PowerOn()
		s.pass(3 * time.Minute)
		require.Equal(t, "service vm:100 (pve2, started)", s.line(1, "service"))
		require.Contains(t, s.line(1, "lrm pve1"), "(idle, watchdog standby,")
		require.Contains(t, s.must(2, "cat /etc/pve/ha/manager_status"), `"pve1":"online"`)
	})
}

func TestDeadMasterCostsTwoMinutesMore(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.machines[1].PowerOff() // the master
		s.pass(100 * time.Second)
		require.Contains(t, s.line(1, "master"), "master pve2 (old timestamp - dead?,")
		require.Equal(t, "fencing standby (CRM watchdog standby)", s.line(1, "fencing"))
		s.pass(40 * time.Second)
		require.NotContains(t, s.line(1, "master"), "pve2")
		require.Contains(t, s.line(1, "master"), "(active,")
		require.Equal(t, "service vm:100 (pve1, started)", s.line(1, "service"))
	})
}

func TestStoppedMasterHandsOverAtOnce(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.must(2, "systemctl stop pve-ha-crm")
		s.pass(11 * time.Second)
		require.NotContains(t, s.line(1, "master"), "pve2")
		require.Contains(t, s.line(1, "master"), "(active,")
	})
}

func TestNodeWithoutQuorumResetsItself(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		boot := s.machines[0].BootID()
		s.must(1, "test -d /run/watchdog-mux.active && test -e /run/watchdog-mux.sock")
		s.must(3, "test ! -e /run/watchdog-mux.active")
		s.isolate(1, true)
		s.pass(55 * time.Second)
		require.True(t, s.machines[0].Up())
		s.pass(25 * time.Second)
		require.False(t, s.machines[0].Up(), s.log(1))
		s.wait(2, "vm:100", "pve2, started", 2*time.Minute)
		s.pass(time.Minute)
		require.True(t, s.machines[0].Up())
		require.NotEqual(t, boot, s.machines[0].BootID())
		require.False(t, s.guests.Running("pve1", "vm:100"))
		s.isolate(1, false)
		s.pass(time.Minute)
		require.Equal(t, "service vm:100 (pve2, started)", s.line(1, "service"))
	})
}

func TestNodeWithoutServicesSurvivesTheLossOfQuorum(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.isolate(3, true)
		s.pass(5 * time.Minute)
		require.True(t, s.machines[2].Up())
		require.Equal(t, "quorum No quorum on node 'pve3'!", s.line(3, "quorum"))
		require.Contains(t, s.line(3, "master"), "(old timestamp - dead?,")
	})
}

func TestKilledLRMTakesItsNodeDown(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.must(1, "systemctl kill -s KILL pve-ha-lrm")
		s.pass(90 * time.Second)
		require.Contains(t, s.log(1), "client watchdog expired - disable watchdog updates")
		s.wait(2, "vm:100", "pve1, started", 4*time.Minute) // it was back before anybody fenced it
	})
}

func TestStoppedWatchdogTakesItsNodeDown(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.must(1, "systemctl stop watchdog-mux")
		s.pass(15 * time.Second)
		require.False(t, s.machines[0].Up())
	})
}

func TestMaintenanceMovesServicesAwayAndBack(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.managed(1, "ct:201", "")
		s.guest(1, "vm:102", false)
		s.must(1, "ha-manager add vm:102 --state stopped")
		s.wait(1, "vm:102", "pve1, stopped", time.Minute)

		require.Empty(t, s.must(2, "ha-manager crm-command node-maintenance enable pve1"))
		require.Equal(t, "enable-node-maintenance pve1\n", s.must(1, "cat /etc/pve/ha/crm_commands"))
		s.pass(40 * time.Second)
		require.Contains(t, s.line(2, "lrm pve1"), "(maintenance mode, watchdog active,")
		s.wait(2, "vm:100", "pve3, started", 2*time.Minute)
		s.wait(2, "ct:201", "pve2, started", 2*time.Minute)
		require.Equal(t, "service vm:102 (pve1, stopped)", s.line(2, "service vm:102"))
		status := s.must(2, "cat /etc/pve/ha/manager_status")
		require.Contains(t, status, `"node_request":{"pve1":{"maintenance":1}},"node_status":{"pve1":"maintenance",`)
		require.Contains(t, status, `"maintenance_node":"pve1","node":"pve3","running":1,"state":"started"`)
		require.Empty(t, s.must(2, "cat /etc/pve/ha/crm_commands"))
		did := s.guests.did()
		require.Contains(t, did, "migrate vm:100 online=true pve1>pve3")
		require.Contains(t, did, "migrate ct:201 online=false pve1>pve2")
		require.Contains(t, did, "start ct:201 pve2")
		require.NotContains(t, did, "start vm:100 pve3") // it moved live

		s.must(2, "ha-manager crm-command node-maintenance enable pve1")
		s.pass(20 * time.Second)
		require.Contains(t, s.log(2), "ignoring crm command - node pve1 is already in maintenance state")

		s.must(2, "ha-manager crm-command node-maintenance disable pve1")
		s.wait(2, "vm:100", "pve1, started", 2*time.Minute)
		s.wait(2, "ct:201", "pve1, started", 2*time.Minute)
		status = s.must(2, "cat /etc/pve/ha/manager_status")
		require.Contains(t, status, `"node_request":{"pve1":{}},`)
		require.NotContains(t, status, "maintenance_node")
	})
}

func TestMaintenanceSurvivesAReboot(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.must(2, "ha-manager crm-command node-maintenance enable pve1")
		s.wait(2, "vm:100", "pve2, started", 2*time.Minute)
		boot := s.machines[0].BootID()
		s.must(1, "systemctl reboot")
		s.pass(3 * time.Minute)
		require.NotEqual(t, boot, s.machines[0].BootID())
		require.Contains(t, s.line(2, "lrm pve1"), "(maintenance mode,")
		require.Contains(t, s.must(2, "cat /etc/pve/ha/manager_status"), `"pve1":"maintenance"`)
		require.Equal(t, "service vm:100 (pve2, started)", s.line(2, "service"))
	})
}

func TestMaintenanceWithNowhereToGoWaitsForever(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.must(1, "ha-manager rules add node-affinity only1 --resources vm:100 --nodes pve1 --strict 1")
		s.must(2, "ha-manager crm-command node-maintenance enable pve1")
		s.pass(5 * time.Minute)
		require.Equal(t, "service vm:100 (pve1, started)", s.line(2, "service"))
		require.Contains(t, s.must(2, "cat /etc/pve/ha/manager_status"), `"pve1":"maintenance"`)
		require.True(t, s.guests.Running("pve1", "vm:100"))
	})
}

func TestFailedMigrationReturnsAndMaintenanceTriesAgain(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.guests.failing("migrate vm:100", true)
		s.must(1, "ha-manager migrate vm:100 pve3")
		s.wait(1, "vm:100", "pve1, migrate", 30*time.Second)
		s.wait(1, "vm:100", "pve1, started", time.Minute)
		require.Contains(t, s.log(1), "service 'vm:100' - migration failed (exit code 1)")

		s.must(2, "ha-manager crm-command node-maintenance enable pve1")
		s.pass(3 * time.Minute)
		tries := 0
		for _, one := range s.guests.did() {
			if one == "migrate vm:100 online=true pve1>pve2" {
				tries++
			}
		}
		require.Greater(t, tries, 3)
		s.guests.failing("migrate vm:100", false)
		s.wait(2, "vm:100", "pve2, started", 2*time.Minute)
	})
}

func TestRebootFreezesAndStartsAgainOnTheSameNode(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.must(1, "systemctl reboot")
		s.wait(2, "vm:100", "pve1, freeze", time.Minute)
		require.Contains(t, s.line(2, "lrm pve1"), "(restart mode,")
		s.pass(20 * time.Second)
		require.False(t, s.machines[0].Up())
		s.wait(2, "vm:100", "pve1, started", 3*time.Minute)
		require.Equal(t, []string{"stop vm:100 pve1", "start vm:100 pve1"}, s.guests.did())
	})
}

func TestShutdownPolicies(t *testing.T) {
	for _, c := range []struct {
		policy, how string
		state       string // after four minutes
		moved       bool   // before the node went down
	}{
		{policy: "", how: "poweroff", state: "pve2, started"},
		{policy: "conditional", how: "poweroff", state: "pve2, started"},
		{policy: "freeze", how: "poweroff", state: "pve1, freeze"},
		{policy: "failover", how: "poweroff", state: "pve2, started"},
		{policy: "migrate", how: "poweroff", state: "pve2, started", moved: true},
		{policy: "migrate", how: "reboot", state: "pve1, started", moved: true},
	} {
		t.Run(c.policy+" "+c.how, func(t *testing.T) {
			inCluster(t, nines(3), func(s *site) {
				if c.policy != "" {
					s.must(1, "echo 'ha: shutdown_policy="+c.policy+"' >> /etc/pve/datacenter.cfg")
				}
				s.managed(1, "vm:100", "")
				s.must(1, "systemctl "+c.how)
				if c.moved {
					s.wait(2, "vm:100", "pve2, started", 2*time.Minute)
				}
				s.pass(4 * time.Minute)
				require.Equal(t, "service vm:100 ("+c.state+")", s.line(2, "service"), s.log(1))
				first := s.guests.did()[0]
				if c.moved {
					require.Equal(t, "migrate vm:100 online=true pve1>pve2", first)
				} else {
					require.Equal(t, "stop vm:100 pve1", first)
				}
				require.NotContains(t, s.log(1), "watchdog expired")
			})
		})
	}
}

func TestRestartedLRMFreezesItsServicesMeanwhile(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.must(1, "systemctl restart pve-ha-lrm")
		require.True(t, s.guests.Running("pve1", "vm:100"))
		require.Contains(t, s.log(1), "service 'vm:100': state changed from 'started' to 'freeze'")
		s.wait(1, "vm:100", "pve1, started", time.Minute)
		require.Empty(t, s.guests.did())
	})
}

func TestFailedStartsAreRetriedRelocatedAndGivenUp(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.guest(1, "vm:100", false)
		s.guests.failing("start vm:100", true)
		s.must(1, "ha-manager add vm:100 --max_restart 2 --max_relocate 1")
		s.wait(1, "vm:100", "pve2, error", 5*time.Minute)
		require.Equal(t, []string{
			"start vm:100 pve1", "start vm:100 pve1", "start vm:100 pve1", "migrate vm:100 online=true pve1>pve2",
			"start vm:100 pve2", "start vm:100 pve2", "start vm:100 pve2",
		}, s.guests.did())

		got := s.sh(1, "ha-manager set vm:100 --state started")
		require.Equal(t, "service 'vm:100' in error state, must be disabled and fixed first\n", got.err)
		s.guests.failing("start vm:100", false)
		s.must(1, "ha-manager set vm:100 --state disabled")
		require.Equal(t, "service vm:100 (pve2, clearing error flag)", s.line(1, "service"))
		s.wait(1, "vm:100", "pve2, disabled", time.Minute)
		s.must(1, "ha-manager set vm:100 --state started")
		s.wait(1, "vm:100", "pve2, started", time.Minute)
	})
}

func TestStopCommandStopsAndRemembers(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		require.NotZero(t, s.sh(1, "ha-manager crm-command stop vm:100").code)
		s.must(1, "ha-manager crm-command stop vm:100 0")
		s.wait(1, "vm:100", "pve1, stopped", time.Minute)
		require.Equal(t, "vm: 100\n\tstate stopped\n\n", s.must(1, "cat /etc/pve/ha/resources.cfg"))
		s.must(1, "ha-manager set vm:100 --state enabled")
		s.wait(1, "vm:100", "pve1, started", time.Minute)
		require.Contains(t, s.must(1, "cat /etc/pve/ha/resources.cfg"), "state enabled")
	})
}

func TestGuestThatStopsIsStartedAgain(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.managed(1, "vm:100", "")
		s.guests.set("vm:100", "")
		s.pass(40 * time.Second)
		require.True(t, s.guests.Running("pve1", "vm:100"))
	})
}

func TestRefusedCommandsAreOnlyInTheJournal(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.machines[2].PowerOff()
		s.pass(20 * time.Second)
		s.must(1, "ha-manager migrate vm:100 pve3")
		s.must(1, "ha-manager migrate vm:100 pve1")
		s.must(1, "ha-manager crm-command node-maintenance enable pve3")
		s.must(1, "ha-manager crm-command node-maintenance disable pve2")
		s.must(1, "echo 'migrate vm:999 pve2' >> /etc/pve/ha/crm_commands")
		s.pass(15 * time.Second)
		log := s.must(2, "journalctl -u pve-ha-crm --no-pager")
		require.Contains(t, log, "crm command error - node not online: migrate vm:100 pve3")
		require.Contains(t, log, "ignore crm command - service already on target node: migrate vm:100 pve1")
		require.Contains(t, log, "crm command error - node not online: enable-node-maintenance pve3")
		require.Contains(t, log, "clearing maintenance of node pve2 requested, but it's in state online")
		require.Contains(t, log, "crm command error - no such service: migrate vm:999 pve2")
		require.Equal(t, "service vm:100 (pve1, started)", s.line(1, "service"))
	})
}

func TestFaultsCutIntoTheWorkOfTheLRM(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.managed(1, "vm:100", "")
		s.at("pve1", "ha:migrate", errText("no such logical volume"))
		s.must(1, "ha-manager migrate vm:100 pve2")
		s.wait(1, "vm:100", "pve1, migrate", 30*time.Second)
		s.wait(1, "vm:100", "pve1, started", time.Minute)
		require.Contains(t, s.log(1), "pve-ha-lrm: no such logical volume")
		require.Empty(t, s.guests.did())
	})
}

type errText string

func (e errText) Error() string { return string(e) }

func TestIdleNodesAndMastersLetGo(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.must(1, "ha-manager remove vm:100")
		require.Equal(t, "service vm:100 (pve1, deleting)", s.line(1, "service"))
		s.pass(12 * time.Second)
		require.Empty(t, s.line(1, "service"))
		require.True(t, s.guests.Running("pve1", "vm:100"))
		s.pass(9 * time.Minute)
		require.Contains(t, s.line(1, "lrm pve1"), "(active,")
		s.pass(2 * time.Minute)
		require.Contains(t, s.line(1, "lrm pve1"), "(idle,")
		require.Contains(t, s.line(1, "master"), "(active,")
		s.pass(6 * time.Minute)
		require.Contains(t, s.line(1, "master"), "(idle,")
		s.must(1, "test ! -e /run/watchdog-mux.active")
	})
}

func TestDisarmLetsGoOfAllWatchdogs(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		require.Empty(t, s.must(1, "ha-manager crm-command disarm-ha freeze"))
		s.pass(30 * time.Second)
		require.Equal(t, "fencing disarmed, resource mode: freeze (CRM watchdog released)", s.line(1, "fencing"))
		require.Contains(t, s.line(1, "master"), ") - disarmed, resource mode: freeze")
		require.Contains(t, s.line(1, "lrm pve1"), "(disarm mode, watchdog released,")
		for node := range 3 {
			s.must(node+1, "test ! -e /run/watchdog-mux.active")
		}
		// Now corosync may be away on all nodes for as long as it takes.
		for node := range 3 {
			s.must(node+1, "systemctl stop corosync")
		}
		s.pass(5 * time.Minute)
		for node := range 3 {
			require.True(t, s.machines[node].Up())
			s.must(node+1, "systemctl start corosync")
		}
		s.pass(3 * time.Minute)
		s.must(1, "ha-manager crm-command node-maintenance enable pve1")
		s.pass(15 * time.Second)
		require.Contains(t, s.log(1), "ignoring maintenance command for node pve1 - HA stack is disarmed")
		s.must(1, "ha-manager crm-command arm-ha")
		s.pass(30 * time.Second)
		require.Equal(t, "fencing armed (CRM watchdog active)", s.line(1, "fencing"))
		require.Contains(t, s.line(1, "lrm pve1"), "(active, watchdog active,")
		require.Equal(t, "service vm:100 (pve1, started)", s.line(1, "service"))
		require.Empty(t, s.guests.did())
	})
}

func TestDisarmWaitsForServicesOnTheirWay(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		s.must(1, "ha-manager migrate vm:100 pve3")
		s.wait(1, "vm:100", "pve1, migrate", 30*time.Second)
		s.must(1, "ha-manager crm-command disarm-ha ignore")
		s.pass(10 * time.Second)
		require.Equal(t, "fencing disarming, resource mode: ignore (CRM watchdog active)", s.line(1, "fencing"))
		require.Equal(t, "service vm:100 (pve1, ignore)", s.line(1, "service"))
		s.pass(time.Minute)
		require.Equal(t, "fencing disarmed, resource mode: ignore (CRM watchdog released)", s.line(1, "fencing"))
		require.True(t, s.guests.Running("pve3", "vm:100"))
	})
}
