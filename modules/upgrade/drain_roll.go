package upgrade

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/rolling"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
)

// roll proves the whole run on one snapshot, or says which node is next.
func (d drainer) roll(ctx context.Context, t module.Target, r module.Roll) (module.Course, error) {
	w, err := look(ctx, t, "", slices.Concat(r.Away, r.Failed))
	if err != nil {
		return module.Course{}, err
	}
	clean := leftOver(r)
	r.Away = slices.Concat(r.Away, clean)
	s, err := d.whole(ctx, t, w, r)
	if err != nil {
		return module.Course{}, err
	}
	p := rolling.Prove(s)
	c := module.Course{Order: p.Order, Next: p.Next, Why: p.Why, Takes: map[string]time.Duration{}, Showing: showingOf(p)}
	for node, seconds := range p.Takes() {
		c.Takes[node] = time.Duration(seconds * float64(time.Second))
	}
	c.Order = slices.Concat(clean, c.Order)
	if !r.Planning && len(clean) > 0 {
		// They take nothing away, and give back what the others need.
		c.Next, c.Why = clean[:1], ""
		return c, nil
	}
	blocks := p.Blocks
	if !r.Planning {
		blocks = standing(p, len(r.Away) > 0)
	}
	c.Refusals = refusalsOf(fmt.Sprintf("rolling %q", r.Block), blocks)
	if len(c.Refusals) > 0 && !r.Planning && len(r.Away) > 0 {
		// What is under way goes on to its end; it is read again then.
		c.Why, c.Next, c.Refusals = c.Refusals.Error(), nil, nil
	}
	if len(c.Next) == 0 && c.Why == "" {
		c.Why = "no node may go: " + strings.Join(p.Summary(), " ")
	}
	return c, nil
}

// leftOver are the hosts on which a run has left something that is only to be cleared up: they count as out, and are not emptied again.
func leftOver(r module.Roll) []string {
	var out []string
	for _, h := range r.Hosts {
		if h.CleanUp && !slices.Contains(slices.Concat(r.Away, r.Done, r.Failed), h.Name) {
			out = append(out, h.Name)
		}
	}
	return out
}

// standing are the blocks that stand against the next node: what may come later is proved again when it is later.
func standing(p rolling.Proof, beside bool) []rolling.Block {
	if len(p.Next) > 0 {
		return p.Against(p.Next[0])
	}
	if beside {
		return nil // Why says what keeps others from beginning beside those that are away
	}
	return p.Blocks
}

// whole is the situation of a block.
func (d drainer) whole(ctx context.Context, t module.Target, w *world, r module.Roll) (rolling.Situation, error) {
	args := drainArgs{Policy: "block", Containers: "block", BringHome: "never", Reserve: "2GiB"}
	var left []string
	for _, h := range r.Hosts {
		if a, ok := h.Args.(*drainArgs); ok && a != nil {
			args = *a
		}
		if !slices.Contains(r.Done, h.Name) && h.Idle == "" {
			left = append(left, h.Name)
		}
	}
	s := d.situation(w, args, "", r.Away)
	s.Nodes, s.Failed, s.Done, s.Canary = nil, r.Failed, r.Done, r.Canary
	s.Max = rolling.Limit{Count: r.MaxUnavailable, PerSite: r.PerSite}
	if r.Percent > 0 {
		s.Max = rolling.Limit{Percent: r.Percent, PerSite: r.PerSite}
	}
	s.Own = d.own(w, args)
	var asked []string
	for _, name := range left {
		if !slices.Contains(r.Away, name) && !slices.Contains(r.Failed, name) {
			asked = append(asked, name)
		}
	}
	s.Ceph = w.cephFacts(ctx, t, asked, slices.Concat(r.Away, r.Failed), args.Accept)
	if err := ctx.Err(); err != nil {
		return s, err
	}
	for _, h := range r.Hosts {
		if slices.Contains(r.Done, h.Name) {
			continue
		}
		n := rolling.Node{Name: h.Name, Work: workOf(h), Idle: h.Idle, Canary: slices.Contains(args.Canary, h.Name)}
		if host, ok := t.Site().Host(h.Name); ok {
			n.Site = siteOf(host)
		}
		s.Nodes = append(s.Nodes, n)
	}
	alike(s.Nodes)
	return s, nil
}

// alike fills in the versions that a node will have and that are not known, where those of another are: their repositories are the same.
// Taken for newer, guests could not go back to the others.
func alike(nodes []rolling.Node) {
	var qemu, manager string
	for _, n := range nodes {
		qemu, manager = newest(qemu, n.Work.QEMU), newest(manager, n.Work.Manager)
	}
	for i := range nodes {
		w := &nodes[i].Work
		if nodes[i].Idle != "" || w.Packages == 0 && !w.Unsure {
			continue
		}
		w.QEMU, w.Manager = cmp.Or(w.QEMU, qemu), cmp.Or(w.Manager, manager)
	}
}

func newest(a, b string) string {
	if b != "" && (a == "" || pve.CompareVersions(b, a) > 0) {
		return b
	}
	return a
}

// own is where pxrun itself runs.
func (d drainer) own(w *world, args drainArgs) rolling.Own {
	own := rolling.Own{Allow: args.AllowOwn}
	if id := d.ownBootID(); id != "" {
		for _, s := range w.states {
			if s.BootID == id {
				own.Node = s.Host
			}
		}
	}
	if uuid := d.ownMachine(); uuid != "" {
		for _, g := range w.Site.Guests {
			if g.UUID == strings.ToLower(uuid) {
				own.Guest = g.ID
			}
		}
	}
	return own
}

// siteOf is the place that a host stands in: vars = { site = "a" } in the inventory.
func siteOf(h inventory.Host) string {
	v, ok := h.Vars["site"]
	if !ok || v.IsNull() || !v.IsKnown() || v.IsMarked() || v.Type() != cty.String {
		return ""
	}
	return v.AsString()
}

// workOf is what the other tasks of the block would do on a node.
func workOf(h module.RollHost) rolling.Work {
	w := rolling.Work{Reboot: rolling.No}
	if h.Unknown != "" {
		w.Reboot, w.Why = rolling.Perhaps, h.Unknown
	}
	for _, c := range h.Work {
		switch {
		case c.Module == "upgrade" && c.Action != module.Reboot:
			after, _ := c.After.(map[string]any)
			for name, version := range after {
				switch to, _ := version.(string); name {
				case "effects", "restart":
				case "pve-qemu-kvm":
					w.Packages, w.QEMU = w.Packages+1, to
				case "pve-manager":
					w.Packages, w.Manager = w.Packages+1, to
				default:
					w.Packages++
				}
			}
			w.Packages = max(w.Packages, 1)
			w.Unsure = w.Unsure || c.Predicted != ""
		case c.Action == module.Reboot && c.Predicted != "":
			w.Reboot = rolling.Perhaps // when it is known is said once, below the tables
		case c.Action == module.Reboot:
			w.Reboot, w.Why = rolling.Yes, c.Summary
		}
	}
	return w
}

// showingOf is a proof for people and programs.
func showingOf(p rolling.Proof) *module.Showing {
	s := &module.Showing{Title: "Course of the run", Lead: p.Summary(), Notes: slices.Concat(p.Warnings, p.MayChange), Data: p}
	for _, t := range p.Tables() {
		table := module.Table{Title: t.Title, Rows: t.Rows, Marks: t.Marks}
		for _, c := range t.Columns {
			table.Columns = append(table.Columns, module.Column{Name: c.Name, Right: c.Right})
		}
		s.Tables = append(s.Tables, table)
	}
	return s
}

// ownMachine is the identity of the machine that pxrun runs on, as its board tells it.
func ownMachine(read func(string) ([]byte, error)) func() string {
	return func() string {
		text, err := read("/sys/class/dmi/id/product_uuid")
		if err != nil {
			return "" // a container, or not allowed to know
		}
		return strings.TrimSpace(string(text))
	}
}
