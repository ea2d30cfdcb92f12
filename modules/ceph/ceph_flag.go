package ceph

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed ceph_flag.md
var flagDoc string

// hostFlags are those that can be set on a part of the CRUSH map.
var hostFlags = []string{"noout", "noin", "noup", "nodown"}

type flagArgs struct {
	Flag      string         `hcl:"flag,optional" default:"noout" oneof:"noout noin noup nodown norebalance norecover nobackfill noscrub nodeep-scrub notieragent pause" doc:"The flag."`
	Node      inventory.Refs `hcl:"node,optional" doc:"The one node whose OSDs it is for (default: the whole cluster). Possible for noout, noin, noup and nodown." example:"cluster.lab.pve1"`
	Ensure    string         `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether the flag shall be set or not."`
	Temporary bool           `hcl:"temporary,optional" doc:"Whether the flag is for the time of this run: it is taken back when the run is aborted, and by pxrun release. A flag that was set before is left alone."`
}

// Validate checks what belongs together.
func (a *flagArgs) Validate() error {
	switch {
	case len(a.Node) > 1:
		return schema.At("node", fmt.Errorf("one node, or none for the whole cluster; %d are given", len(a.Node)))
	case len(a.Node) == 1 && !slices.Contains(hostFlags, a.Flag):
		return schema.At("node", fmt.Errorf("%s is for the whole cluster; of one node there are %s", a.Flag, strings.Join(hostFlags, ", ")))
	case a.Temporary && a.Ensure == "absent":
		return schema.At("temporary", errors.New("only a flag that is set can be temporary"))
	}
	return nil
}

func cephFlag() module.Module {
	return module.Define(module.Spec{
		Name: "ceph_flag", Summary: "Set or take back a flag such as noout, for the cluster or one node", Doc: flagDoc, Scope: module.PerCluster,
	}, module.Funcs[flagArgs, cephOut]{
		Probes: func(t module.Target, _ flagArgs) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args flagArgs) ([]module.Change, error) {
			w, err := look(ctx, t)
			if err != nil {
				return nil, err
			}
			return w.done(t, w.flag(args))
		},
		Read: func(ctx context.Context, t module.Target, _ flagArgs) (cephOut, error) { return outputs(ctx, t) },
	})
}

// flag plans one flag.
func (w *world) flag(a flagArgs) []module.Change {
	gate := "set " + a.Flag
	if !w.answers(gate) {
		return nil
	}
	where, host := "the cluster", ""
	if len(a.Node) == 1 {
		host = a.Node[0]
		where = host
		if !w.bucket(host, gate) {
			return nil
		}
	}
	set := func(m *ceph.OSDMap) bool {
		if host != "" {
			return m.HasOn(host, a.Flag)
		}
		return m.Has(a.Flag) || a.Flag == "pause" && m.Has("pauserd") && m.Has("pausewr")
	}
	wanted := a.Ensure != "absent"
	if set(w.Map) == wanted && w.Map != nil {
		return nil
	}
	actor := w.actorBesides(host)
	id := kindFlag + "/" + a.Flag
	if host != "" {
		id += "/" + host
	}
	c := module.Change{
		ID: actor + "/" + id, Host: actor, Action: module.Create, Summary: fmt.Sprintf("set %s on %s", a.Flag, where),
		Before: map[string]any{a.Flag: !wanted}, After: map[string]any{a.Flag: wanted},
	}
	if !wanted {
		c.Action, c.Summary = module.Delete, fmt.Sprintf("take %s back on %s", a.Flag, where)
		c.Undoes = []string{c.ID}
	}
	if a.Flag == "pause" && wanted {
		c.Risk = module.RiskDisruptive // all reads and writes stop
	}
	if a.Temporary {
		c.Undo = &module.Undo{Host: actor, Summary: fmt.Sprintf("take %s back on %s", a.Flag, where), Command: transport.Command{
			Argv: append([]string{"timeout", "-k", "2", "30", "ceph", "--connect-timeout", "10"}, flagCommand(a.Flag, host, false)...), Mutates: true, Timeout: quickTimeout,
		}, Anywhere: true}
	}
	c.Apply = func(ctx context.Context, t module.Target) error {
		if err := tell(ctx, t, actor, flagCommand(a.Flag, host, wanted)...); err != nil {
			return err
		}
		return await(ctx, t, c.Summary, actor, quickTimeout, func(now *ceph.Cluster) string {
			if set(now.Map) != wanted {
				return fmt.Sprintf("ceph osd dump shows %s = %v", a.Flag, !wanted)
			}
			return ""
		})
	}
	return []module.Change{c}
}

func flagCommand(flag, host string, set bool) []string {
	verb := "unset"
	if set {
		verb = "set"
	}
	if host == "" {
		return []string{"osd", verb, flag}
	}
	return []string{"osd", verb + "-group", flag, host}
}

// bucket refuses a node that has no bucket in the CRUSH map: setting a flag on it would do nothing.
func (w *world) bucket(host, gate string) bool {
	if w.Map == nil || w.will.osds[host] > 0 {
		return true
	}
	if !slices.ContainsFunc(w.Map.OSDs, func(o ceph.OSD) bool { return o.Host == host }) {
		w.refuse(host, gate, "the CRUSH map has no OSDs on a host "+host, "a host of the CRUSH map", "ceph osd tree", "leave node out for the whole cluster")
		return false
	}
	return true
}
