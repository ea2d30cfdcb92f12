package ha_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestNoMoreWorkersRunAtOnceThanAllowed(t *testing.T) {
	for setting, want := range map[string]int{"": 4, "max_workers: 2": 2} {
		t.Run(setting, func(t *testing.T) {
			inCluster(t, nines(3), func(s *site) {
				s.must(1, "echo '"+setting+"' >> /etc/pve/datacenter.cfg")
				const guests = 10
				for i := range guests {
					s.guest(1, fmt.Sprintf("vm:%d", 100+i), true)
					s.must(1, fmt.Sprintf("ha-manager add %d", 100+i))
				}
				s.pass(30 * time.Second)
				s.must(1, "ha-manager crm-command node-maintenance enable pve1")
				s.pass(3 * time.Minute)
				status := s.must(2, "ha-manager status")
				require.NotContains(t, status, "(pve1, ")
				require.Equal(t, want, s.guests.peak)
				onTwo := 0
				for i := range guests {
					if s.guests.Running("pve2", fmt.Sprintf("vm:%d", 100+i)) {
						onTwo++
					}
				}
				require.Equal(t, guests/2, onTwo, "they are spread")
			})
		})
	}
}

func TestMigratePolicyWaitsWithoutLimit(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.must(1, "echo 'ha: shutdown_policy=migrate' >> /etc/pve/datacenter.cfg")
		s.managed(1, "vm:100", "")
		s.must(1, "ha-manager rules add node-affinity only1 --resources vm:100 --nodes pve1 --strict 1")
		s.must(1, "systemctl reboot")
		s.pass(15 * time.Minute)
		require.True(t, s.machines[0].Up())
		require.True(t, s.guests.Running("pve1", "vm:100"))
		require.Equal(t, "deactivating\n", s.sh(1, "systemctl is-active pve-ha-lrm").out)
	}) // and closing the lab does not wait for it
}

func TestShortOutageOfPmxcfsIsBorneALongOneIsNot(t *testing.T) {
	inCluster(t, nines(3), func(s *site) {
		s.managed(1, "vm:100", "")
		boot := s.machines[0].BootID()
		s.must(1, "systemctl stop pve-cluster")
		s.pass(20 * time.Second)
		s.must(1, "systemctl start pve-cluster")
		s.pass(5 * time.Minute)
		require.Equal(t, boot, s.machines[0].BootID(), s.log(1))
		require.Equal(t, "service vm:100 (pve1, started)", s.line(2, "service"))
		s.must(1, "systemctl stop pve-cluster")
		s.pass(90 * time.Second)
		require.False(t, s.machines[0].Up())
	})
}

func TestRemovedStateIsIgnored(t *testing.T) {
	inCluster(t, nines(2), func(s *site) {
		s.managed(1, "vm:100", "")
		s.must(1, "ha-manager set vm:100 --state ignored")
		require.Equal(t, "service vm:100 (pve1, ignored)", s.line(1, "service"))
		s.pass(15 * time.Second)
		s.guests.set("vm:100", "")
		s.pass(time.Minute)
		require.False(t, s.guests.Running("pve1", "vm:100"))
		require.NotContains(t, s.must(1, "cat /etc/pve/ha/manager_status"), "vm:100")
	})
}
