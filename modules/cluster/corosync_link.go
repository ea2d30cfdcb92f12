package cluster

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/sourcegraph/conc/pool"
)

//go:embed corosync_link.md
var corosyncLinkDoc string

type corosyncLinkArgs struct {
	Links         []int         `hcl:"links,optional" doc:"The numbers of the links that are looked at (default: all)." each_min:"0" each_max:"7" example:"[1]"`
	Remove        bool          `hcl:"remove,optional" default:"false" doc:"Whether links are removed that the inventory does not have. Without it they are only told."`
	MaxRTT        time.Duration `hcl:"max_rtt,optional" default:"5ms" min:"0s" doc:"The round trip time on a new link from which it is refused."`
	Cluster       string        `hcl:"cluster,optional" doc:"The name of the cluster, where cluster_create gave it another one than the inventory." example:"\"lab\""`
	QuorumTimeout time.Duration `hcl:"quorum_timeout,optional" default:"2m" min:"10s" doc:"How long the nodes may take to have the new configuration and to be connected by it."`
}

// Validate checks the name.
func (a *corosyncLinkArgs) Validate() error {
	if a.Cluster != "" && pve.CheckClusterName(a.Cluster) != nil {
		return schema.At("cluster", pve.CheckClusterName(a.Cluster))
	}
	return nil
}

func (a *corosyncLinkArgs) wants(link int) bool {
	return len(a.Links) == 0 || slices.Contains(a.Links, link)
}

type corosyncLinkOut struct {
	Version int      `hcl:"version" doc:"The version of the configuration."`
	Links   []string `hcl:"links" doc:"The links with their addresses, one line each."`
}

func corosyncLink() module.Module {
	return module.Define(module.Spec{
		Name: "corosync_link", Summary: "Add and change the cluster's links, one at a time, as the inventory has them", Doc: corosyncLinkDoc, Scope: module.PerCluster, Risk: module.RiskDisruptive,
	}, module.Funcs[corosyncLinkArgs, corosyncLinkOut]{
		Probes: func(t module.Target, _ corosyncLinkArgs) []module.Probe { return probes(t) },
		Plan:   planLinks,
		Read: func(ctx context.Context, t module.Target, args corosyncLinkArgs) (corosyncLinkOut, error) {
			var out corosyncLinkOut
			if t.Cluster() == nil {
				return out, errNoCluster
			}
			states, err := readAll(ctx, t, t.Cluster().Nodes)
			if err != nil {
				return out, err
			}
			conf := pve.NewestConf(pve.MembersOf(states, clusterName(t, args.Cluster)))
			if conf == nil {
				return out, nil
			}
			out.Version = conf.Version
			for _, n := range conf.LinkNumbers() {
				out.Links = append(out.Links, fmt.Sprintf("link %d: %s", n, strings.Join(addressesOf(conf, n), " ")))
			}
			return out, nil
		},
	})
}

// addressesOf lists the addresses of a link in the order of the nodes' names.
func addressesOf(conf *pve.CorosyncConf, link int) []string {
	var list []string
	for _, name := range conf.Names() {
		n, _ := conf.Node(name)
		list = append(list, n.Links[link])
	}
	return list
}

func planLinks(ctx context.Context, t module.Target, args corosyncLinkArgs) ([]module.Change, error) {
	if t.Cluster() == nil {
		return nil, errNoCluster
	}
	v, err := readLinks(ctx, t, args)
	if err != nil {
		return nil, err
	}
	if v.conf == nil {
		return nil, nil // cluster_create and node_join take the links from the same inventory
	}
	work := v.work()
	for _, w := range v.warnings {
		t.Warn("", w)
	}
	if len(work) == 0 && len(v.refusals) == 0 {
		return nil, nil
	}
	if r := leftOut(t, "change corosync's links", t.Cluster().Nodes); r != nil && len(work) > 0 {
		v.refusals = append(v.refusals, r)
	}
	if len(v.refusals) == 0 {
		v.gate(work[0]) // the later ones are looked at when it is their turn
		for _, w := range work {
			v.fits(w)
		}
	}
	if len(v.refusals) == 0 {
		next, err := v.conf.WithLink(work[0].edit)
		if err != nil {
			return nil, err
		}
		if err := v.checkNew(ctx, t, next.Text()); err != nil {
			return nil, err
		}
	}
	if len(v.refusals) == 0 {
		if err := v.measure(ctx, t, work); err != nil {
			return nil, err
		}
	}
	if len(v.refusals) > 0 {
		return nil, v.refusals
	}
	changes := make([]module.Change, len(work))
	for i, w := range work {
		changes[i] = v.change(w)
	}
	return changes, nil
}

func readLinks(ctx context.Context, t module.Target, args corosyncLinkArgs) (*linkView, error) {
	states, err := readAll(ctx, t, t.Cluster().Nodes)
	if err != nil {
		return nil, err
	}
	v := &linkView{args: args, cluster: clusterName(t, args.Cluster), wanted: pve.WantedCluster(t.Cluster(), t.Site()), states: states}
	v.refusals = refusedReads(states)
	v.members = pve.MembersOf(states, v.cluster)
	v.conf = pve.NewestConf(v.members)
	return v, nil
}

// change makes one piece of work the engine's.
func (v *linkView) change(w linkWork) module.Change {
	host := v.members[0].Host
	c := module.Change{
		ID: fmt.Sprintf("%s/link%d-%s", host, w.edit.Link, w.kind), Host: host, Action: module.Update, Risk: module.RiskDisruptive, Summary: w.summary(),
		Before: w.before, After: w.after,
		Apply: func(ctx context.Context, t module.Target) error { return applyLink(ctx, t, v.args, w) },
	}
	switch w.kind {
	case linkAdd:
		c.Action, c.Risk = module.Create, module.RiskNone
	case linkRemove:
		c.Action = module.Delete
	}
	return c
}

// measure tries the addresses that are new, from every node to every other: whether they answer, how fast, and whether
// whole packets get through.
func (v *linkView) measure(ctx context.Context, t module.Target, work []linkWork) error {
	asked := map[string][]question{}
	for _, w := range work {
		for _, q := range v.questions(w) {
			asked[q.from] = append(asked[q.from], q.question)
		}
	}
	answers, errs := make([]string, len(v.members)), make([]error, len(v.members))
	p := pool.New().WithMaxGoroutines(64)
	for i, m := range v.members {
		if len(asked[m.Host]) > 0 {
			p.Go(func() { answers[i], errs[i] = askNetwork(ctx, t, m.Host, asked[m.Host]) })
		}
	}
	p.Wait()
	limits := preflightArgs{WarnRTT: min(pve.WarnRTT, v.args.MaxRTT), FailRTT: v.args.MaxRTT}
	for i, m := range v.members {
		if errs[i] != nil {
			return errs[i]
		}
		for _, found := range judgeNetwork(m.Host, asked[m.Host], answers[i], limits) {
			if found.warn {
				t.Warn(m.Host, found.saw)
				continue
			}
			v.refuse(m.Host, found.saw, found.want, found.look, found.cure)
		}
	}
	return nil
}
