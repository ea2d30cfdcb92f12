package ceph

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed ceph_crush.md
var crushDoc string

// crushSettings say where hosts stand, in ceph_crush and in the crush block of ceph_init.
type crushSettings struct {
	Kind  string                   `hcl:"kind,optional" default:"datacenter" oneof:"chassis rack row pdu pod room datacenter zone region" doc:"What the hosts stand in: the kind of the buckets."`
	Hosts map[inventory.Ref]string `hcl:"locations" min:"1" doc:"The name of the bucket by host. Hosts that are left out stay where they are." example:"{ pve1 = \"north\", pve2 = \"south\" }"`
}

// Validate checks what can be checked without a node.
func (a *crushSettings) Validate() error { return a.validate("") }

func (a *crushSettings) validate(at string) error {
	var errs []error
	for host, bucket := range a.Hosts {
		where := fmt.Sprintf("%slocations[%q]", at, host)
		_, node := a.Hosts[inventory.Ref(bucket)]
		switch {
		case checkCrushName(bucket) != nil:
			errs = append(errs, schema.At(where, checkCrushName(bucket)))
		case node || bucket == "default":
			errs = append(errs, schema.At(where, fmt.Errorf("%q is the name of a host or of the root: names in the CRUSH map are given once", bucket)))
		}
	}
	return errors.Join(errs...)
}

func cephCrush() module.Module {
	return module.Define(module.Spec{
		Name: "ceph_crush", Summary: "Place hosts in datacenters, rooms or racks of the CRUSH map", Doc: crushDoc, Scope: module.PerCluster,
	}, module.Funcs[crushSettings, cephOut]{
		Probes: func(t module.Target, _ crushSettings) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args crushSettings) ([]module.Change, error) {
			w, err := look(ctx, t)
			if err != nil {
				return nil, err
			}
			return w.done(t, w.crush(args))
		},
		Read: func(ctx context.Context, t module.Target, _ crushSettings) (cephOut, error) { return outputs(ctx, t) },
	})
}

// placement is what is going to be moved: hosts into buckets, which are made or hung below the root first.
type placement struct {
	kind string
	// make are buckets that do not exist, hang those that hang nowhere yet.
	make, hang []string
	hosts      []string          // in the inventory's order
	to         map[string]string // bucket by host
}

// crush plans the places of hosts. All of them move in one change: each step on its own would have data copied that the next
// one copies again.
func (w *world) crush(a crushSettings) []module.Change {
	const gate = "place hosts in the CRUSH map"
	if !w.answers(gate) {
		return nil
	}
	p := placement{kind: a.Kind, to: map[string]string{}}
	before, after := map[string]any{}, map[string]any{}
	for host := range a.Hosts {
		if !slices.Contains(w.nodes, string(host)) {
			w.errs = append(w.errs, fmt.Errorf("%s is not a node of cluster %q in the inventory", host, w.name))
		}
	}
	for _, host := range w.nodes {
		bucket, named := a.Hosts[inventory.Ref(host)]
		_, there := w.Map.Bucket(host)
		if !named || !there && w.will.osds[host] == 0 || w.Map.Under(host, a.Kind) == bucket {
			continue // a host without OSDs has no place yet
		}
		if !w.bucketFor(&p, bucket, gate) {
			continue
		}
		p.hosts = append(p.hosts, host)
		p.to[host], after[host] = bucket, a.Kind+" "+bucket
		if b, ok := w.Map.Bucket(host); ok {
			before[host] = w.placeOf(b)
		}
	}
	w.beside(a)
	if len(p.hosts) == 0 || len(w.refusals) > 0 {
		return nil
	}
	c := module.Change{
		ID: w.actor() + "/" + kindCrush + "/" + a.Kind, Host: w.actor(), Action: module.Update, Summary: p.summary(), Before: before, After: after,
	}
	if len(before) > 0 && !w.mayMove(&c, p, gate) {
		return nil
	}
	actor := c.Host
	c.Apply = func(ctx context.Context, t module.Target) error { return p.move(ctx, t, actor) }
	return w.plan([]module.Change{c})
}

func (p placement) summary() string {
	in := map[string][]string{}
	var buckets []string
	for _, host := range p.hosts {
		bucket := p.to[host]
		if in[bucket] == nil {
			buckets = append(buckets, bucket)
		}
		in[bucket] = append(in[bucket], host)
	}
	parts := make([]string, len(buckets))
	for i, b := range buckets {
		parts[i] = strings.Join(in[b], ", ") + " in " + p.kind + " " + b
	}
	return "place hosts in the CRUSH map: " + strings.Join(parts, "; ")
}

// placeOf says where a bucket hangs: "datacenter a", "root default", or nowhere.
func (w *world) placeOf(b ceph.Bucket) string {
	if parent, ok := w.Map.Bucket(b.Parent); ok {
		return parent.Kind + " " + parent.Name
	}
	return "nowhere"
}

// bucketFor sees to the bucket that a host shall be in.
func (w *world) bucketFor(p *placement, name, gate string) bool {
	b, there := w.Map.Bucket(name)
	switch {
	case slices.Contains(p.make, name), slices.Contains(p.hang, name):
	case !there:
		p.make = append(p.make, name)
	case b.Kind != p.kind:
		w.refuse("", gate, fmt.Sprintf("there is a %s %s in the CRUSH map", b.Kind, name), "a "+p.kind+" of that name, or none", "ceph osd tree", "choose another name")
		return false
	case b.Parent == "":
		p.hang = append(p.hang, name)
	case w.Map.Under(name, "root") != "default":
		w.refuse("", gate, fmt.Sprintf("%s %s hangs below %s", b.Kind, name, w.placeOf(b)), "one below the root default, where rules look", "ceph osd tree", "ceph osd crush move "+name+" root=default, if it is meant")
		return false
	}
	return true
}

// beside tells of hosts with OSDs that rules over the buckets would not find.
func (w *world) beside(a crushSettings) {
	var out []string
	for host := range w.Map.Hosts("") {
		if a.Hosts[inventory.Ref(host)] == "" && w.Map.Under(host, a.Kind) == "" {
			out = append(out, host)
		}
	}
	if len(out) > 0 {
		slices.Sort(out)
		w.warn("", "%s: OSDs there are in no %s, so that rules over a %s never use them", strings.Join(out, ", "), a.Kind, a.Kind)
	}
}

// mayMove judges a move of hosts that have OSDs already: data goes after them.
func (w *world) mayMove(c *module.Change, p placement, gate string) bool {
	if why := w.LostByMoving(p.to, p.kind); why != "" {
		w.refuse("", gate, why, "places for every copy", "ceph osd tree; ceph osd pool ls detail", "place the hosts otherwise, or give these pools another rule first")
		return false
	}
	if !slices.ContainsFunc(w.Map.Pools, func(p ceph.Pool) bool { return !strings.HasPrefix(p.Name, ".") }) {
		return true
	}
	c.Risk = module.RiskDisruptive
	w.warn("", "hosts that move in the CRUSH map take data with them: most copies get other places and are copied over Ceph's network, %s are used. Guests go on, slower; ceph -s shows how far it is",
		ceph.Bytes(w.Status.PGs.Used))
	if why := w.Status.Clean(); why != "" {
		w.warn("", "Ceph is not clean: %s. Better let it get so before hosts are moved", why)
	}
	return true
}

// servingTimeout is how long placement groups may take to agree on their new places. Copying goes on afterwards.
const servingTimeout = 5 * time.Minute

// move makes what is missing and moves the hosts, the ones right after the others.
func (p placement) move(ctx context.Context, t module.Target, actor string) error {
	before, err := readCluster(ctx, t, actor)
	if err != nil {
		return err
	}
	var commands [][]string
	for _, b := range p.make {
		if _, there := before.Map.Bucket(b); !there {
			commands = append(commands, []string{"osd", "crush", "add-bucket", b, p.kind})
		}
	}
	for _, b := range append(slices.Clone(p.make), p.hang...) {
		commands = append(commands, []string{"osd", "crush", "move", b, "root=default"})
	}
	for _, host := range p.hosts {
		commands = append(commands, []string{"osd", "crush", "move", host, p.kind + "=" + p.to[host]})
	}
	for _, c := range commands {
		if err := tell(ctx, t, actor, c...); err != nil {
			return err
		}
	}
	err = await(ctx, t, "the hosts are in their places", actor, quickTimeout, func(c *ceph.Cluster) string {
		for _, host := range p.hosts {
			if now := c.Map.Under(host, p.kind); now != p.to[host] {
				return fmt.Sprintf("%s is in %s %q (look: ceph osd tree)", host, p.kind, now)
			}
		}
		return ""
	})
	if err != nil || before.Status.Serving() != "" {
		return err
	}
	return awaitHealth(ctx, t, actor, servingTimeout, false)
}
