package upgrade

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/modules/internal/moves"
	"github.com/sourcegraph/conc"
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

// look reads the cluster. Nodes that are away are asked nothing; the actor is another than avoid if there is one. Everything is
// asked at once, of the node that will do for it as long as it is well; should it turn out not to be, another is asked.
func look(ctx context.Context, t module.Target, avoid string, away []string) (*world, error) {
	if t.Cluster() == nil {
		return nil, errNoCluster
	}
	names := t.Cluster().Nodes
	asked := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return slices.Contains(away, n) })
	w := &world{}
	first := likely(asked, avoid)
	var site *guest.Site
	var nodes map[string]*guest.Node
	var told world // what Ceph told
	settled := false
	var all conc.WaitGroup
	all.Go(func() { w.states = pve.ReadCluster(ctx, asked, pve.Options{Brief: true}, t.Conn) })
	all.Go(func() {
		all := guest.Site{Nodes: map[string]*guest.Node{}}
		all.ReadNodes(ctx, asked, t.Conn)
		nodes = all.Nodes
	})
	if first != "" {
		all.Go(func() { site, _ = moves.ReadFrom(ctx, t, first) })
		all.Go(func() { settled = told.askCeph(ctx, t, []string{first}) })
	}
	all.Wait()
	for _, name := range w.actors(avoid, away) {
		if name != first || site == nil {
			var err error
			if site, err = moves.ReadFrom(ctx, t, name); err != nil {
				continue
			}
		}
		w.Site, w.actor = site, name
		w.takeNodes(nodes)
		if w.ceph, w.silence = told.ceph, told.silence; name != first || !settled {
			w.askCeph(ctx, t, w.actors(avoid, nil))
		}
		return w, nil
	}
	return nil, module.Refusals{{
		Host: avoid, Gate: "look at the guests", Saw: w.noActor(), Want: "a quorate node whose /etc/pve answers", Look: "pvecm status; ls /etc/pve/nodes", Override: "bring absent nodes back",
	}}
}

// likely is the node that will be the actor if all are well.
func likely(asked []string, avoid string) string {
	for _, name := range asked {
		if name != avoid {
			return name
		}
	}
	return avoid
}

// takeNodes takes what nodes told of themselves, but for those that the cluster does not see.
func (w *world) takeNodes(nodes map[string]*guest.Node) {
	for name, n := range nodes {
		if w.Online(name) {
			w.Nodes[name] = n
		}
	}
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

// askCeph reads Ceph's state from the first of some nodes that has a way to it. It reports whether others need not be asked.
func (w *world) askCeph(ctx context.Context, t module.Target, nodes []string) bool {
	for _, name := range nodes {
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
			return true // no Ceph
		case !c.Answers:
			w.silence = c.Silence
			if why := c.Unread["conf"]; why != "" {
				w.silence = "whether there is any cannot be told: " + why
			}
			if !strings.Contains(c.Silence, "no connection") {
				return true
			}
			continue
		}
		w.ceph, w.silence = c, ""
		return true
	}
	return false
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

// nooutSet reports whether noout is set for a host of the CRUSH map.
func (w *world) nooutSet(bucket string) bool {
	return w.ceph != nil && w.ceph.Map.HasOn(bucket, "noout")
}
