// Package ipmi reads what ipmitool prints on a node about the node's own management controller.
package ipmi

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
)

// lan prints the network settings of the node's own controller: those of the channel that ipmitool takes by itself, and of the
// others (there are eight numbers) as long as none has the address in question. What hangs once is not asked again.
const lan = `command -v ipmitool >/dev/null 2>&1 || { echo "ipmitool is not installed there" >&2; exit 3; }
[ -e /dev/ipmi0 ] || [ -e /dev/ipmi/0 ] || [ -e /dev/ipmidev/0 ] || { echo "/dev/ipmi0 is not there (kernel modules ipmi_si and ipmi_devintf)" >&2; exit 3; }
found=
said=
for channel in '' 1 2 3 4 5 6 7 8; do
	# shellcheck disable=SC2086
	out=$(timeout -k 2 15 ipmitool lan print $channel 2>&1 </dev/null); rc=$?
	if [ "$rc" -eq 0 ]; then
		found=1
		printf '%s\n' "$out"
		case "$out
" in *": $1
"*) exit 0;; esac
	elif [ -z "$channel" ]; then
		said=$out
	fi
	[ "$rc" -lt 124 ] || { said="ipmitool lan print hangs"; break; }
done
[ -n "$found" ] || { printf '%s\n' "$said" >&2; exit 3; }`

// LAN asks a node for the addresses of its own management controller. It exits 3 with a reason on standard error when it cannot
// tell.
func LAN(address netip.Addr) transport.Command {
	return transport.Command{Script: lan, Argv: []string{address.String()}, Timeout: 45 * time.Second}
}

// ParseLAN finds the addresses in the output of ipmitool lan print, of one channel or several. A channel without an address
// (0.0.0.0) has none.
func ParseLAN(out []byte) []netip.Addr {
	var all []netip.Addr
	for line := range strings.Lines(string(out)) {
		key, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(key) != "IP Address" {
			continue
		}
		a, err := netip.ParseAddr(strings.TrimSpace(value))
		if err == nil && !a.IsUnspecified() && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all
}
