package upgrade

import (
	"testing"

	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/stretchr/testify/require"
)

func TestGuestsThatDoNotRunAnyMore(t *testing.T) {
	t.Parallel()
	l := ledger{Node: "pve1", Guests: []ledgerGuest{{SID: "vm:100", Fate: fateHA, State: "started"}}}
	for name, test := range map[string]struct {
		wanted, state string // as the HA manager is told, and has it
		runs          bool
		want          string
		helped        bool
	}{
		"it runs":                    {"started", "started", true, "", false},
		"given up":                   {"started", "error", false, "vm 100 (web) is in state error on pve2: the HA manager has given it up", false},
		"given up, its process left": {"started", "error", true, "vm 100 (web) is in state error on pve2: the HA manager has given it up", false},
		"being recovered":            {"started", "recovery", false, "vm 100 (web) does not run on pve2", true},
		"somebody has stopped it":    {"stopped", "stopped", false, "", false},
		"not under HA":               {"", "", false, "vm 100 (web) does not run on pve2", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := guest.Guest{ID: 100, Kind: guest.VM, Name: "web", Node: "pve2"}
			site := &guest.Site{Nodes: map[string]*guest.Node{"pve2": {Running: map[int]guest.Kind{}}}}
			if test.wanted != "" {
				g.Managed = guest.Managed{State: test.wanted, Known: true, Service: ha.Service{Node: "pve2", State: test.state}}
			}
			if test.runs {
				site.Nodes["pve2"].Running[100] = guest.VM
			}
			site.Guests = []guest.Guest{g}
			dead := l.dead(site)
			if test.want == "" {
				require.Empty(t, dead)
				return
			}
			require.Len(t, dead, 1)
			require.Equal(t, test.want, dead[0].saw)
			require.Equal(t, test.helped, dead[0].helped)
		})
	}
}
