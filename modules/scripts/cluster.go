package scripts

import (
	"context"
	"fmt"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/health"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/lua"
)

// cluster tells scripts what `pxrun status` reads.
type cluster struct {
	wanted  *inventory.Cluster
	site    *inventory.Site
	connect func(ctx context.Context, host string) (transport.Conn, error)
}

func (c *cluster) Name() string { return c.wanted.Name }

// report reads and judges. A cluster of which nothing could be read is an error: a gate must not take silence for calm.
func (c *cluster) report(ctx context.Context) (health.Report, error) {
	r := health.Judge(health.Read(ctx, c.wanted.Nodes, c.connect), pve.WantedCluster(c.wanted, c.site))
	if err := ctx.Err(); err != nil {
		return r, context.Cause(ctx)
	}
	for _, n := range r.Nodes {
		if n.Error == "" {
			return r, nil
		}
	}
	if len(r.Nodes) > 0 {
		return r, fmt.Errorf("no node of cluster %s can tell: %s: %s", c.wanted.Name, r.Nodes[0].Name, r.Nodes[0].Error)
	}
	return r, fmt.Errorf("no node of cluster %s can tell", c.wanted.Name)
}

func votes(r health.Report) map[string]lua.Value {
	return map[string]lua.Value{
		"quorate": r.Quorate, "total": r.Votes.Total, "expected": r.Votes.Expected, "needed": r.Votes.Quorum, "bearable": r.Votes.Bearable,
	}
}

func (c *cluster) Votes(ctx context.Context) (map[string]lua.Value, error) {
	r, err := c.report(ctx)
	if err != nil {
		return nil, err
	}
	return votes(r), nil
}

func ceph(r health.Report) map[string]lua.Value {
	if r.Ceph == nil {
		return nil
	}
	s := r.Ceph
	return map[string]lua.Value{
		"health": s.Health, "checks": s.Complains, "mons": s.Mons, "mons_in_quorum": s.InQuorum, "osds": s.OSDs, "osds_up": s.Up, "osds_in": s.In,
		"pgs": s.PGs, "pgs_not_clean": s.NotClean, "total": s.Bytes, "used": s.Used,
	}
}

func (c *cluster) Ceph(ctx context.Context) (map[string]lua.Value, error) {
	r, err := c.report(ctx)
	if err != nil {
		return nil, err
	}
	return ceph(r), nil
}

func managed(r health.Report) map[string]lua.Value {
	if r.HA == nil {
		return nil
	}
	states := map[string]lua.Value{}
	for name, n := range r.HA.States {
		states[name] = n
	}
	return map[string]lua.Value{
		"master": r.HA.Master, "resources": r.HA.Resources, "states": states, "maintenance": r.HA.Maintenance, "age": r.HA.Age.Seconds(),
	}
}

func (c *cluster) HA(ctx context.Context) (map[string]lua.Value, error) {
	r, err := c.report(ctx)
	if err != nil {
		return nil, err
	}
	return managed(r), nil
}

func (c *cluster) Snapshot(ctx context.Context) (map[string]lua.Value, error) {
	r, err := c.report(ctx)
	if err != nil {
		return nil, err
	}
	nodes, findings := []lua.Value{}, []lua.Value{}
	for _, n := range r.Nodes {
		nodes = append(nodes, map[string]lua.Value{
			"name": n.Name, "online": n.Online, "quorate": n.Quorate, "version": n.PVE, "kernel": n.Kernel, "votes": n.Votes, "guests": n.Guests, "error": n.Error,
		})
	}
	for _, f := range r.Findings {
		findings = append(findings, map[string]lua.Value{
			"severity": string(f.Severity), "node": f.Node, "check": f.Check, "saw": f.Saw, "remedy": f.Remedy,
		})
	}
	all := map[string]lua.Value{"votes": votes(r), "nodes": nodes, "findings": findings}
	if s := ceph(r); s != nil {
		all["ceph"] = s
	}
	if s := managed(r); s != nil {
		all["ha"] = s
	}
	return all, nil
}

// Guests asks the first node that answers and is quorate; what a node without quorum remembers may be long past.
func (c *cluster) Guests(ctx context.Context) ([]map[string]lua.Value, error) {
	var last error
	for _, node := range c.wanted.Nodes {
		site, err := c.ask(ctx, node)
		if err != nil {
			last = err
			continue
		}
		guests := []map[string]lua.Value{}
		for _, g := range site.Guests {
			guests = append(guests, told(g))
		}
		return guests, nil
	}
	return nil, fmt.Errorf("no node of cluster %s can tell its guests: %w", c.wanted.Name, last)
}

func (c *cluster) ask(ctx context.Context, node string) (*guest.Site, error) {
	conn, err := c.connect(ctx, node)
	if err != nil {
		return nil, err
	}
	site, err := guest.Read(ctx, node, conn)
	switch {
	case err != nil:
		return nil, err
	case !site.Quorate:
		return nil, fmt.Errorf("%s has no quorum", node)
	}
	return site, nil
}

func told(g guest.Guest) map[string]lua.Value {
	kind := "vm"
	if g.Kind != guest.VM {
		kind = "ct"
	}
	return map[string]lua.Value{
		"id": g.ID, "kind": kind, "name": g.Name, "node": g.Node, "status": g.Status, "tags": g.Tags, "pool": g.Pool, "lock": g.Lock,
		"template": g.Template, "ha": g.ByHA(), "memory": g.Memory, "cores": g.Cores,
	}
}
