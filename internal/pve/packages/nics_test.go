package packages

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCardsWhoseNamesAreNotPinned(t *testing.T) {
	t.Parallel()
	const conf = "conf auto lo\nconf iface enp1s0 inet manual\nconf auto vmbr0\nconf \tbridge-ports enp1s0\nconf # enp4s0 is spare\nconf auto enp2s0.40\n"
	const cards = "card enp1s0\ncard enp2s0\ncard enp4s0\ncard nic0\n"
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"nothing is known": {"", nil},
		"none is pinned":   {cards + conf, []string{"enp1s0", "enp2s0"}},
		"one is":           {cards + "name enp1s0\n" + conf, []string{"enp2s0"}},
		"all in use are":   {cards + "name nic0\n" + "conf auto nic0\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, test.want, nicsOf(test.text))
		})
	}
	s := State{Loose: []string{"enp1s0"}}
	require.Empty(t, s.Warnings(Limits{}), "no kernel comes")
	s.Upgrade.Installs = []Change{{Name: "pve-manager"}}
	require.Empty(t, s.Warnings(Limits{}), "no kernel comes")
	s.Upgrade.Installs = append(s.Upgrade.Installs, Change{Name: "proxmox-kernel-6.17.4-1-pve-signed"})
	require.Len(t, s.Warnings(Limits{}), 1)
	require.Contains(t, s.Warnings(Limits{})[0], "nothing pins the names of enp1s0 to their cards")
}
