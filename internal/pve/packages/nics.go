package packages

import (
	"path"
	"slices"
	"strings"
)

// nicsRead shows the network cards, what names are pinned to cards, and what the configuration of the network says.
const nicsRead = `sh -c 'for d in /sys/class/net/*; do if [ -e "$d/device" ]; then echo "card ${d##*/}"; fi; done
for f in /etc/systemd/network/*.link /usr/local/lib/systemd/network/*.link; do if [ -f "$f" ]; then sed -n "s/^ *Name *= */name /p" "$f"; fi; done
for f in /etc/network/interfaces /etc/network/interfaces.d/*; do if [ -f "$f" ]; then sed "s/^/conf /" "$f"; fi; done; true'`

// nicsOf are the cards that the configuration of the network names and whose names nothing pins: a new kernel may find them elsewhere,
// and name them otherwise. Names that the kernel gives by their order (eth0) are meant too.
func nicsOf(text string) []string {
	var cards, pinned, used []string
	for line := range strings.Lines(text) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch kind {
		case "card":
			cards = append(cards, rest)
		case "name":
			pinned = append(pinned, strings.TrimSpace(rest))
		case "conf":
			if rest = strings.TrimSpace(rest); !strings.HasPrefix(rest, "#") {
				used = append(used, strings.Fields(rest)...)
			}
		}
	}
	var out []string
	for _, card := range cards {
		named := slices.ContainsFunc(used, func(word string) bool { return word == card || strings.HasPrefix(word, card+".") })
		if named && !slices.Contains(pinned, card) {
			out = append(out, card)
		}
	}
	slices.Sort(out)
	return out
}

// newKernel reports whether the upgrade brings a kernel.
func (s State) newKernel() bool {
	return slices.ContainsFunc(s.Upgrade.Installs, func(p Change) bool {
		for _, pattern := range []string{"proxmox-kernel-[0-9]*", "pve-kernel-[0-9]*", "proxmox-default-kernel"} {
			if ok, _ := path.Match(pattern, p.Name); ok {
				return true
			}
		}
		return false
	})
}

// nicWarning says that a new kernel may rename cards; "" if it cannot.
func (s State) nicWarning() string {
	if len(s.Loose) == 0 || !s.newKernel() {
		return ""
	}
	return "a new kernel comes, and nothing pins the names of " + strings.Join(s.Loose, ", ") + " to their cards: if it names them otherwise, the node comes back without its network " +
		"(look: ls /etc/systemd/network /usr/local/lib/systemd/network; pin them with pve-network-interface-pinning, or a .link file each)"
}
