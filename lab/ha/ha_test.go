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
