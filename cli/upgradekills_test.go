package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// upgradeSite is the example of a rolling upgrade on nodes with guests of several kinds, with updates to be had.
func upgradeSite(t *testing.T, binary string) *site {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "examples", "rolling-upgrade", "site.hcl"))
	require.NoError(t, err)
	folder := t.TempDir()
	path := filepath.Join(folder, "site.hcl")
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(string(text), `"5m"`, `"0s"`, 1)), 0o600))
	s := &site{process{t, filepath.Join(folder, "state"), binary}, example{runbook: "weekly"}, path}
	t.Cleanup(s.down)
	s.must("lab", "up", path, "--detach", "-q", "--speed", exampleSpeed)
	s.must("apply", "form", "-i", path, "--lab", "--auto-approve")
	for _, guest := range []string{
		"pve1 101 name=web memory=1024 disk=shared:8 running=1", "pve1 102 name=worker disk=local-lvm:4 running=1 tags=worker",
		"pve2 103 name=big memory=2048 disk=shared:8 running=1", "pve2 201 type=lxc name=box disk=shared:8 running=1", "pve3 105 name=off disk=local-lvm:8",
	} {
		s.must(append([]string{"lab", "guest", "add", "-i", path}, strings.Fields(guest)...)...)
	}
	s.must("lab", "updates", "add", "-i", path, "release")
	return s
}

// upgraded is what is true when all nodes are through: every guest runs where it did, and nothing is left.
func (s *site) upgraded(guests string) {
	s.t.Helper()
	s.settled()
	require.Equal(s.t, guests, s.must("lab", "guest", "list", "-i", s.path))
	out := s.must("exec", "-i", s.path, "prod", "--lab", "--", "pveversion; uname -r; dpkg --audit; ls /var/lib/pxrun/rolling.json 2>/dev/null; ls /etc/pve/qemu-server | wc -l >/dev/null")
	require.Contains(s.t, out, "✓ pve1, pve2, pve3\n")
	require.Contains(s.t, out, "6.17.4-1-pve")
	require.NotContains(s.t, out, "rolling.json")
	ha := s.must("exec", "-i", s.path, "pve1", "--lab", "--", "ha-manager status")
	require.NotContains(s.t, ha, "maintenance")
	require.Contains(s.t, ha, "vm:100 (pve1, started)")
}

// TestUpgradeIsKilledAtEveryChange upgrades a cluster, each run being killed when its next change begins, or is done, and
// resumed: it must always come to the same end.
func TestUpgradeIsKilledAtEveryChange(t *testing.T) {
	if testing.Short() {
		t.Skip("some dozen runs")
	}
	binary := swift()
	for name, moment := range map[string]string{"killed_when_started": "change_started", "killed_when_done": "change_done"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := upgradeSite(t, binary)
			guests := s.must("lab", "guest", "list", "-i", s.path)
			kills := s.killAtEach(moment)
			require.GreaterOrEqual(t, kills, 12)
			s.upgraded(guests)
			require.Contains(t, s.must("release"), "Nothing is left in place", "what was taken back right before a kill is crossed off")
			out, _ := s.run("status", "-i", s.path, "--lab")
			require.NotContains(t, out, "Left in place")
			require.NotContains(t, out, "out of service")
			t.Logf("%d kills", kills)
		})
	}
}
