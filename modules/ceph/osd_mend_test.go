package ceph

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/stretchr/testify/require"
)

// What a person did to an OSD is told; what broke is mended.
func TestOSDsThatAreDown(t *testing.T) {
	start := []string{"start ceph-osd@0 on pve1"}
	down := func(state string) func(*site) {
		return func(s *site) { s.nodes["pve1"].daemons["osd.0"], s.osds[0].up = state, false }
	}
	also := func(first func(*site), more func(*site)) func(*site) {
		return func(s *site) { first(s); more(s) }
	}
	tests := []struct {
		name  string
		given func(*site)
		more  string // arguments
		plan  []string
		told  string
	}{
		{name: "failed", given: down("failed enabled-runtime"), plan: start},
		{name: "failed, and Ceph has taken it out", given: also(down("failed"), func(s *site) { s.osds[0].in, s.osds[0].state = false, []string{"autoout"} }), plan: start},
		{name: "never came up", given: also(down("inactive"), func(s *site) { s.osds[0].node, s.osds[0].device = "", "" }), plan: start},
		{name: "stopped", given: down("inactive enabled-runtime"), told: "osd.0 is down and left so: ceph-osd@0 was stopped, it did not fail"},
		{name: "stopped, and the runbook wants it", given: down("inactive"), more: "start_stopped = true", plan: start},
		{name: "disabled", given: down("failed disabled"), told: "ceph-osd@0 is disabled"},
		{name: "masked", given: down("inactive masked"), told: "ceph-osd@0 is masked"},
		{name: "failed while a person had it out", given: also(down("failed"), func(s *site) { s.osds[0].in = false }), told: "somebody has taken it out, Ceph did not"},
		{name: "failed under noup", given: also(down("failed"), func(s *site) { s.flags = []string{"noup"} }), told: "cannot come up: noup is set on the whole cluster"},
		{name: "wanted under noup", given: also(down("inactive"), func(s *site) { s.nodeFlags = map[string][]string{"pve1": {"noup"}} }), more: "start_stopped = true", told: "noup is set on pve1 (ceph osd unset-group noup pve1 takes it away)"},
		{name: "failed under its own noup", given: also(down("failed"), func(s *site) { s.osds[0].state = []string{"noup"} }), told: "ceph osd rm-noup 0"},
		{name: "systemd is at it", given: down("activating"), told: "journalctl -u ceph-osd@0"},
		{name: "runs and is not up", given: down("active"), told: "journalctl -u ceph-osd@0"},
		{name: "up and out", given: func(s *site) { s.osds[0].in = false }, told: "osd.0 is out: it gets no data. It is left so"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := made(t)
			tt.given(s)
			tgt := s.target()
			require.Equal(t, append([]string{}, tt.plan...), testkit.Summaries(testkit.Plan(t, cephOSD(), tgt, one(byIDOf("pve1", "sdb"))+tt.more)))
			require.Contains(t, strings.Join(tgt.Warnings(), "\n"), tt.told)
			if tt.told == "" {
				require.Empty(t, tgt.Warnings())
			}
		})
	}
}
