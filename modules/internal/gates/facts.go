package gates

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

// Facts are what the gates are judged by, read at one time.
type Facts struct {
	Node string
	// Proxmox says that the node has Proxmox VE. Err is why it could not be read.
	Proxmox bool
	Err     error
	// States are what the nodes of the cluster say, the node itself included.
	States []pve.NodeState
	// Clocks are what the nodes' clocks said when they were asked, by the nodes' names in the cluster.
	Clocks map[string]time.Time
	// HA is what the HA manager says; nil if no quorate node could tell.
	HA *ha.State
	// Running are the guests whose processes exist on the node, with an error if that could not be told.
	Running    map[int]guest.Kind
	RunningErr error
	// Workers are tasks that run on the node, and migrations elsewhere that lead to it.
	Workers    []Worker
	WorkersErr error
	// Ceph is nil where no Ceph is configured.
	Ceph *CephFacts
	// Own are the node's answers to all reads, those of ReadOptions.Extra included.
	Own map[string]frame.Answer
	// Mons and OSDs are the monitors and OSDs that have a folder on the node, in use or not.
	Mons []string
	OSDs []int
}

// ReadOptions say what is read beyond what the gates need, and what is not.
type ReadOptions struct {
	// Away are nodes that are not asked for what all nodes have alike.
	Away []string
	// Extra is read on the node itself, in the same round trip.
	Extra []frame.Read
	// NoStop leaves out the question whether Ceph bears a stop, NoGuests that for running guests and tasks, NoCeph all of Ceph.
	NoStop, NoGuests, NoCeph bool
}

const (
	readSeconds  = 10
	probeTimeout = 60 * time.Second
)

// membership are the reads by which the nodes are compared.
var membership = func() []frame.Read {
	return slices.DeleteFunc(pve.NodeReads(), func(r frame.Read) bool {
		return !slices.Contains([]string{"id", "pmxcfs", "members", "conf", "localconf", "quorum", "links"}, r.Name)
	})
}()

var (
	cephRead = frame.Read{Name: "ceph_conf", Seconds: readSeconds, Pmxcfs: true, Command: `sh -c 'if [ -e /etc/pve/ceph.conf ]; then echo yes; else stat /etc/pve/local >/dev/null && echo no; fi'`}
	ownReads = []frame.Read{
		{Name: "version", Seconds: readSeconds, Command: `sh -c 'if [ -e /usr/bin/pveversion ]; then echo pve; fi'`},
		{Name: "ceph_dirs", Seconds: readSeconds, Command: `sh -c 'for d in /var/lib/ceph/osd/ceph-* /var/lib/ceph/mon/ceph-*; do if [ -d "$d" ]; then echo "${d#/var/lib/ceph/}"; fi; done'`},
	}
	clockRead  = frame.Read{Name: "clock", Seconds: readSeconds, Command: "date +%s"}
	otherProbe = probe(membership, []frame.Read{clockRead}, taskReads)
	// tellingProbe asks also for what all nodes have alike.
	tellingProbe = probe(membership, []frame.Read{clockRead, cephRead}, taskReads, ha.Reads())
)

func probe(reads ...[]frame.Read) transport.Command {
	return transport.Command{Script: frame.Script(slices.Concat(reads...)...), Timeout: probeTimeout}
}

// witnesses are how many of the others are asked for what all have alike.
const witnesses = 2

// reader collects facts.
type reader struct {
	t    module.Target
	o    ReadOptions
	node string
	mu   sync.Mutex
	f    Facts
	said map[string]map[string]frame.Answer
}

// Read reads everything that the gates rest on: each node in one round trip, then Ceph.
func Read(ctx context.Context, t module.Target, node string, o ReadOptions) Facts {
	r := &reader{t: t, o: o, node: node, f: Facts{Node: node}, said: map[string]map[string]frame.Answer{}}
	names := clusterOf(t, node)
	r.f.States = make([]pve.NodeState, len(names))
	all := pool.New().WithMaxGoroutines(64)
	asked := 0
	for i, name := range names {
		command := otherProbe
		switch {
		case name == node:
			command = probe(membership, []frame.Read{clockRead, cephRead}, taskReads, ownReads, o.Extra)
		case asked < witnesses && !slices.Contains(o.Away, name):
			command = tellingProbe
			asked++
		}
		all.Go(func() { r.f.States[i] = r.ask(ctx, name, command) })
	}
	if !o.NoGuests {
		all.Go(func() { r.running(ctx) })
	}
	all.Wait()
	r.own()
	r.elsewhere(ctx)
	r.clocks()
	if !o.NoCeph {
		r.askCeph(ctx)
	}
	return r.f
}

// clusterOf are the nodes of the cluster that a node is in, by the inventory.
func clusterOf(t module.Target, node string) []string {
	if c := t.Cluster(); c != nil && slices.Contains(c.Nodes, node) {
		return c.Nodes
	}
	if h, ok := t.Site().Host(node); ok && h.Cluster != "" {
		for _, c := range t.Site().Clusters {
			if c.Name == h.Cluster {
				return c.Nodes
			}
		}
	}
	return []string{node}
}

// ask reads one node.
func (r *reader) ask(ctx context.Context, host string, command transport.Command) pve.NodeState {
	failed := func(err error) pve.NodeState {
		return pve.NodeState{Host: host, Err: err, Unread: map[string]string{}}
	}
	conn, err := r.t.Conn(ctx, host)
	if err != nil {
		return failed(err)
	}
	result, err := conn.Run(ctx, command)
	if err != nil {
		return failed(err)
	}
	answers, err := frame.Parse(result.Stdout)
	if err != nil {
		return failed(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said[host] = answers
	return pve.NodeOf(host, answers)
}

func (r *reader) running(ctx context.Context) {
	conn, err := r.t.Conn(ctx, r.node)
	if err != nil {
		r.f.RunningErr = err
		return
	}
	n := guest.ReadNode(ctx, r.node, conn)
	r.f.Running, r.f.RunningErr = n.Running, n.Err
}

// own takes what the node says of itself.
func (r *reader) own() {
	for _, s := range r.f.States {
		if s.Host == r.node {
			r.f.Err = s.Err
		}
	}
	answers := r.said[r.node]
	r.f.Own = answers
	text, why := answers["version"].Found()
	r.f.Proxmox = r.f.Err != nil || why != "" || strings.TrimSpace(string(text)) == "pve"
	r.tasks()
}

// clocks takes the nodes' clocks.
func (r *reader) clocks() {
	r.f.Clocks = map[string]time.Time{}
	for _, s := range r.f.States {
		text, _ := r.said[s.Host]["clock"].Found()
		if seconds, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil {
			r.f.Clocks[nameOf(s)] = time.Unix(seconds, 0)
		}
	}
}

// elsewhere takes what all nodes have alike from a quorate one, the two that were asked for it first.
func (r *reader) elsewhere(ctx context.Context) {
	for pass := range 2 {
		for i, s := range r.f.States {
			if s.Host == r.node || s.Err != nil || !s.Writable || slices.Contains(r.o.Away, s.Host) {
				continue
			}
			if _, told := r.said[s.Host]["ha_time"]; !told {
				if pass == 0 {
					continue
				}
				r.f.States[i] = r.ask(ctx, s.Host, tellingProbe)
			}
			if answers := r.said[s.Host]; r.f.States[i].Err == nil {
				r.f.HA = ha.Of(s.Host, answers)
				return
			}
		}
	}
}
