package upgrade

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/rolling"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/gates"
)

// stopScript asks Ceph whether it bears that sets of daemons stop. Each argument is a set: its OSDs and monitors, "0 1/pve1 pve2".
// It prints a line for each answer: the set's number, yes or no, and Ceph's word. Sixteen questions are asked at once.
const stopScript = `q() { timeout -k 2 15 ceph --connect-timeout 10 "$@" 2>&1 </dev/null; }
word() { printf '%s\n' "$1" | grep -m 1 '^Error' || printf '%s\n' "$1" | head -n 1 | cut -c 1-200; }
ask() {
	i=$1 what=$2; shift 2
	if out=$(q "$what" ok-to-stop "$@"); then echo "$i yes"; else echo "$i no ceph $what ok-to-stop: $(word "$out")"; fi
}
full() { n=$((n+1)); if [ $((n % 16)) -eq 0 ]; then wait; fi; }
n=1 i=0
( echo "$(q mgr stat -f json | grep '{' | tr -d '\n')" ) &
for set in "$@"; do
	if [ -n "${set%%/*}" ]; then ask "$i" osd ${set%%/*} & full; fi
	if [ -n "${set#*/}" ]; then ask "$i" mon ${set#*/} & full; fi
	i=$((i+1))
done
wait
echo end`

// cephFacts are what a proof wants to know of Ceph: whether it bears that each of the nodes stops, together with those that are
// away.
func (w *world) cephFacts(ctx context.Context, t module.Target, nodes, away, accept []string) *rolling.Ceph {
	if w.ceph == nil && w.silence == "" {
		return nil
	}
	if w.ceph == nil {
		return &rolling.Ceph{Unknown: w.silence}
	}
	c := &rolling.Ceph{OSDs: map[string][]int{}, Monitors: w.monitors(), Quorum: w.ceph.Status.QuorumNames}
	for _, o := range w.ceph.Map.OSDs {
		if node := nodeOf(o); node != "" {
			c.OSDs[node] = append(c.OSDs[node], o.ID)
		}
		if !o.Up || !o.In {
			c.Down = append(c.Down, o.ID)
		}
	}
	if c.Dirty = w.ceph.Status.Clean(); len(away) > 0 {
		c.Dirty = w.ceph.Status.Serving()
	}
	c.Complaints = slices.DeleteFunc(w.ceph.Status.Complaints(), func(check string) bool {
		name, _, _ := strings.Cut(check, ":")
		return gates.Harmless(name, len(away) > 0, accept)
	})
	var sets []string
	var asked [][]string
	for _, node := range nodes {
		group := append([]string{node}, away...)
		var osds, mons []string
		for _, name := range group {
			for _, id := range c.OSDs[name] {
				osds = append(osds, fmt.Sprint(id))
			}
			if slices.Contains(c.Monitors, name) {
				mons = append(mons, name)
			}
		}
		if len(osds)+len(mons) > 0 {
			asked, sets = append(asked, group), append(sets, strings.Join(osds, " ")+"/"+strings.Join(mons, " "))
		}
	}
	w.askStops(ctx, t, c, sets, asked)
	return c
}

// monitors are the nodes with a monitor.
func (w *world) monitors() []string {
	if w.ceph.Conf == nil {
		return w.ceph.Status.QuorumNames
	}
	return w.ceph.Conf.Daemons("mon")
}

func (w *world) askStops(ctx context.Context, t module.Target, c *rolling.Ceph, sets []string, asked [][]string) {
	if len(sets) == 0 {
		return
	}
	conn, err := t.Conn(ctx, w.ceph.From)
	if err != nil {
		c.Unknown = err.Error()
		return
	}
	r, err := conn.Run(ctx, transport.Command{Script: stopScript, Argv: sets, Timeout: time.Duration(1+len(sets)/8) * time.Minute})
	if err != nil {
		c.Unknown = err.Error()
		return
	}
	answers := make([][]rolling.StopAnswer, len(sets)) // one of its OSDs, one of its monitors
	ended := false
	for line := range strings.Lines(r.Out()) {
		line = strings.TrimSpace(line)
		var i int
		var said string
		if n, _ := fmt.Sscanf(line, "%d %s", &i, &said); n == 2 && i < len(asked) {
			_, why, _ := strings.Cut(strings.TrimPrefix(line, fmt.Sprintf("%d %s", i, said)), " ")
			answers[i] = append(answers[i], rolling.StopAnswer{Nodes: asked[i], OK: said == "yes", Said: strings.TrimSpace(why)})
		}
		if _, rest, ok := strings.Cut(line, `"active_name":"`); ok {
			c.Manager, _, _ = strings.Cut(rest, `"`)
		}
		ended = ended || line == "end"
	}
	for i, set := range sets {
		osds, mons, _ := strings.Cut(set, "/")
		questions := min(len(osds), 1) + min(len(mons), 1)
		if len(answers[i]) != questions {
			ended = false
			break
		}
		answer := answers[i][0]
		if questions == 2 && answer.OK {
			answer = answers[i][1] // the one that says no, if there is one
		}
		c.Stop = append(c.Stop, answer)
	}
	if !ended {
		c.Unknown = "Ceph did not answer all questions"
	}
}
