package upgrade

import (
	"testing"

	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/stretchr/testify/require"
)

// Maintenance is in effect when the HA manager says so; the agent's word is enough only where there is no service.
func TestMaintenanceIsInEffect(t *testing.T) {
	t.Parallel()
	services := map[string]ha.Service{"vm:100": {Node: "pve2", State: "started"}}
	for name, test := range map[string]struct {
		services  map[string]ha.Service
		requested bool
		pending   []string
		manager   string
		agent     string
		want      string
	}{
		"both say so":                            {services, true, nil, "maintenance", "maintenance", ""},
		"the manager says so":                    {services, true, nil, "maintenance", "active", ""},
		"only the agent does":                    {services, true, nil, "online", "maintenance", "the HA manager has pve2 as online, its agent in mode maintenance"},
		"only the agent does, and no service is": {nil, true, nil, "online", "maintenance", ""},
		"neither does":                           {nil, true, nil, "online", "active", "the HA manager has pve2 as online"},
		"it was dropped":                         {services, false, nil, "online", "active", "took the command and does nothing"},
		"it waits":                               {services, false, []string{"enable-node-maintenance pve2"}, "online", "active", "still waits for the HA master"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &ha.State{
				Manager: &ha.Manager{Master: "pve1", Nodes: map[string]string{"pve2": test.manager}, Services: test.services},
				LRMs:    map[string]ha.LRM{"pve2": {Mode: test.agent}}, Pending: test.pending,
			}
			if test.requested {
				s.Manager.Maintenance = []string{"pve2"}
			}
			err := (&evacuation{node: "pve2"}).entered(s)
			if test.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.want)
		})
	}
}
