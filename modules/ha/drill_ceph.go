package ha

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

// cephWithout asks Ceph whether everything goes on without a node: its OSDs, all at once, and its monitor. HEALTH_OK says
// nothing about that (reference §8.6). A node that is not in the CRUSH map has no OSDs (status 2), and a monitor is asked
// about only where it is one: for an unknown name Ceph says yes. What is not answered counts as no.
const cephWithout = `[ -e /etc/pve/ceph.conf ] || exit 0
why() { printf '%s\n' "$1" | grep -m 1 '^Error' || printf '%s\n' "$1" | head -n 1 | cut -c 1-200; } # the rest is a page of JSON
q() { timeout -k 2 15 ceph --connect-timeout 10 "$@" 2>&1; }
ids=$(q osd ls-tree "$1"); rc=$?
case $rc in
0) ;;
2) ids=;;
*) echo "ceph osd ls-tree: $ids"; exit 1;;
esac
if [ -n "$ids" ]; then
	# shellcheck disable=SC2086
	out=$(q osd ok-to-stop $ids) || { echo "ceph osd ok-to-stop: $(why "$out")"; exit 1; }
fi
mons=$(q mon dump) || { echo "ceph mon dump: $mons"; exit 1; }
case $mons in
*"mon.$1"*) out=$(q mon ok-to-stop "$1") || { echo "ceph mon ok-to-stop: $(why "$out")"; exit 1; };;
esac`

// cephBears refuses to cut off a node without which placement groups would stop or the monitors lose their quorum.
func cephBears(ctx context.Context, t module.Target, watcher, node string) *module.Refusal {
	refuse := func(saw string) *module.Refusal {
		return &module.Refusal{
			Host: node, Gate: "cut " + node + " off", Saw: saw, Want: "Ceph to serve all data without the node",
			Look:     fmt.Sprintf("ceph osd ok-to-stop $(ceph osd ls-tree %s); ceph mon ok-to-stop %s", node, node),
			Override: "bring Ceph to full redundancy first: size 3 and min_size 2 over three hosts",
		}
	}
	conn, err := t.Conn(ctx, watcher)
	if err != nil {
		return refuse(err.Error())
	}
	r, err := conn.Run(ctx, transport.Command{Script: cephWithout, Argv: []string{node}, Timeout: 75 * time.Second})
	if err != nil {
		return refuse(err.Error())
	}
	if r.Exit != 0 {
		return refuse(strings.TrimSpace(string(r.Stdout) + string(r.Stderr)))
	}
	return nil
}
