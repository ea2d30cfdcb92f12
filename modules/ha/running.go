package ha

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

// running tells of each guest whether its process or control group is there.
const running = `for sid in "$@"; do
	id=${sid#*:} state=stopped
	case $sid in
	vm:*) if IFS= read -r p 2>/dev/null <"/run/qemu-server/$id.pid" && [ -d "/proc/$p" ]; then state=running; fi;;
	ct:*) if [ -d "/sys/fs/cgroup/lxc/$id" ]; then state=running; fi;;
	esac
	echo "$sid $state"
done`

// ask has the guests' own nodes say whether they run: what the cluster has heard is up to ten seconds old, and HA starts or
// stops a guest by what is requested when it is added. What no node answers for counts as not known.
func (w *world) ask(ctx context.Context, t module.Target, sids []string) {
	byNode := map[string][]string{}
	for _, sid := range sids {
		if _, managed := w.Resource(sid); managed {
			continue
		}
		if g, there := w.Guest(sid); there && !g.Template {
			byNode[g.Node] = append(byNode[g.Node], sid)
		}
	}
	for node, asked := range byNode {
		said := askNode(ctx, t, node, asked)
		for i, g := range w.Guests {
			if slices.Contains(asked, g.SID) {
				w.Guests[i].Running = said[g.SID]
			}
		}
	}
}

func askNode(ctx context.Context, t module.Target, node string, sids []string) map[string]string {
	said := map[string]string{}
	conn, err := t.Conn(ctx, node)
	if err != nil {
		return said
	}
	r, err := conn.Run(ctx, transport.Command{Script: running, Argv: sids, Timeout: 20 * time.Second})
	if err != nil || r.Exit != 0 {
		return said
	}
	for line := range strings.Lines(string(r.Stdout)) {
		if sid, state, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			said[sid] = state
		}
	}
	return said
}
