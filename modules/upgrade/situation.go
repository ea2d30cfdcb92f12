package upgrade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/rolling"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/gates"
	"github.com/pxrun/pxrun/modules/internal/moves"
)

// world is a cluster as it is now, for those that empty its nodes and fill them again.
type world struct {
	*guest.Site
	states []pve.NodeState
	// actor is the node on which commands for the cluster are run and files of /etc/pve are read.
	actor string
	ceph  *ceph.Cluster // nil without Ceph
	// silence is why Ceph, which is there, says nothing.
	silence string
}

// look reads the cluster. Nodes that are away are asked nothing; the actor is another than avoid if there is one.
func look(ctx context.Context, t module.Target, avoid string, away []string) (*world, error) {
	if t.Cluster() == nil {
		return nil, errNoCluster
	}
	names := t.Cluster().Nodes
	asked := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(away, n) })
	w := &world{states: pve.ReadCluster(ctx, asked, pve.Options{}, t.Conn)}
	for _, name := range w.actors(avoid, away) {
		site, err := moves.ReadFrom(ctx, t, name)
		if err != nil {
			continue
		}
		w.Site, w.actor = site, name
		moves.AskNodes(ctx, t, site, asked)
		w.askCeph(ctx, t, avoid)
		return w, nil
	}
	return nil, module.Refusals{{
		Host: avoid, Gate: "look at the guests", Saw: w.noActor(), Want: "a quorate node whose /etc/pve answers", Look: "pvecm status; ls /etc/pve/nodes", Override: "bring absent nodes back",
	}}
}

// actors are the nodes that may act, the best first.
func (w *world) actors(avoid string, away []string) []string {
	var out, last []string
	for _, s := range w.states {
		switch {
		case s.Err != nil || !s.Writable || slices.Contains(away, s.Host):
		case s.Host == avoid:
			last = append(last, s.Host)
		default:
			out = append(out, s.Host)
		}
	}
	return append(out, last...)
}

func (w *world) noActor() string {
	var failed []error
	for _, s := range w.states {
		if s.Err != nil {
			failed = append(failed, s.Err)
		}
	}
	return errors.Join(append(failed, errors.New("no node that answers is quorate and tells all of its guests"))...).Error()
}

// askCeph reads Ceph's state from the first node that has a way to it.
func (w *world) askCeph(ctx context.Context, t module.Target, avoid string) {
	for _, name := range w.actors(avoid, nil) {
		conn, err := t.Conn(ctx, name)
		if err != nil {
			w.silence = err.Error()
			continue
		}
		c, err := ceph.ReadCluster(ctx, name, conn)
		switch {
		case err != nil:
			w.silence = err.Error()
			continue
		case c.Conf == nil && len(c.Unread) == 0:
			w.silence = ""
			return // no Ceph
		case !c.Answers:
			w.silence = c.Silence
			if why := c.Unread["conf"]; why != "" {
				w.silence = "whether there is any cannot be told: " + why
			}
			if !strings.Contains(c.Silence, "no connection") {
				return
			}
			continue
		}
		w.ceph, w.silence = c, ""
		return
	}
}

// ballot is who votes.
func (w *world) ballot() pve.Ballot {
	conf := pve.NewestConf(w.states)
	if conf == nil {
		return pve.Ballot{}
	}
	device := conf.Device != nil
	for _, s := range w.states {
		if s.Quorum == nil {
			continue
		}
		device = device && s.Quorum.Device != nil
		for _, m := range s.Quorum.Members {
			device = device && m.Casting()
		}
	}
	return pve.BallotOf(conf, w.Online, device)
}

// nodeOf is the node that an OSD runs on: where it last started, else the bucket of the CRUSH map, which mostly bears its name.
func nodeOf(o ceph.OSD) string { return cmp.Or(o.NodeName, o.Host) }

// buckets are the hosts of the CRUSH map that a node's OSDs hang in; none if it has no OSD.
func (w *world) buckets(node string) []string {
	var out []string
	if w.ceph == nil {
		return nil
	}
	for _, o := range w.ceph.Map.OSDs {
		if nodeOf(o) == node && o.Host != "" && !slices.Contains(out, o.Host) {
			out = append(out, o.Host)
		}
	}
	slices.Sort(out)
	return out
}

// nooutSet reports whether noout is set for all of some hosts of the CRUSH map.
func (w *world) nooutSet(buckets []string) bool {
	return w.ceph != nil && !slices.ContainsFunc(buckets, func(b string) bool { return !slices.Contains(w.ceph.Map.NodeFlags[b], "noout") })
}

// stopScript asks Ceph whether it bears that sets of daemons stop. Each argument is a set: its OSDs and monitors, "0 1/pve1 pve2".
// It prints one line for each: its number, yes or no, and Ceph's word. Eight are asked at once.
const stopScript = `q() { timeout -k 2 15 ceph --connect-timeout 10 "$@" 2>&1 </dev/null; }
word() { printf '%s\n' "$1" | grep -m 1 '^Error' || printf '%s\n' "$1" | head -n 1 | cut -c 1-200; }
i=0
for set in "$@"; do
	(
		said=yes why=
		if [ -n "${set%%/*}" ]; then out=$(q osd ok-to-stop ${set%%/*}) || { said=no; why="ceph osd ok-to-stop: $(word "$out")"; }; fi
		if [ -n "${set#*/}" ] && [ "$said" = yes ]; then out=$(q mon ok-to-stop ${set#*/}) || { said=no; why="ceph mon ok-to-stop: $(word "$out")"; }; fi
		printf '%s %s %s\n' "$i" "$said" "$why"
	) &
	i=$((i+1))
	[ $((i % 8)) -ne 0 ] || wait
done
wait
q mgr stat -f json | grep '{' | tr -d '\n'; echo; echo end`

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
	ended := false
	for line := range strings.Lines(r.Out()) {
		line = strings.TrimSpace(line)
		var i int
		var said string
		if n, _ := fmt.Sscanf(line, "%d %s", &i, &said); n == 2 && i < len(asked) {
			_, why, _ := strings.Cut(strings.TrimPrefix(line, fmt.Sprintf("%d %s", i, said)), " ")
			c.Stop = append(c.Stop, rolling.StopAnswer{Nodes: asked[i], OK: said == "yes", Said: strings.TrimSpace(why)})
		}
		if _, rest, ok := strings.Cut(line, `"active_name":"`); ok {
			c.Manager, _, _ = strings.Cut(rest, `"`)
		}
		ended = ended || line == "end"
	}
	if !ended {
		c.Unknown = "Ceph did not answer all questions"
	}
}
