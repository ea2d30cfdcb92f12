package runbooks_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
)

func TestSitesGiveInventoryAndSteps(t *testing.T) {
	cases(t, "sites", func(t *testing.T, file string, c *archiveCase) {
		doc, diags := c.load(t)
		require.Empty(t, show(diags, doc.Files))
		d := &dumper{}
		for _, v := range doc.Variables {
			d.line("variable %s %s from %s", v.Name, v.Type, v.From)
		}
		d.site(doc.Site)
		for _, name := range doc.RunbookNames() {
			rb, diags := doc.Runbook(name)
			require.Empty(t, diags)
			cluster := "none"
			if rb.Cluster != nil {
				cluster = rb.Cluster.Name
			}
			d.line("runbook %s cluster=%s", rb.Name, cluster)
			d.in(func() { d.steps(rb.Site, rb.Steps) })
		}
		for _, s := range doc.Schedules {
			d.line("schedule %s runbook=%s cluster=%s cron=%q %s window=%s", s.Name, s.Runbook, s.Cluster, s.Cron, s.Timezone, s.Window)
		}
		for _, n := range doc.Notifies {
			d.line("notify %s %s %v", n.Name, n.URL, n.On)
		}
		require.NotContains(t, d.text.String(), "hunter2")
		require.NotContains(t, d.text.String(), "s3cret")
		c.compare(t, file, d.text.String())
	})
}

// dumper writes a document as text.
type dumper struct {
	text   strings.Builder
	indent string
}

func (d *dumper) line(format string, args ...any) {
	d.text.WriteString(strings.TrimRight(d.indent+strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\\n"), " ") + "\n")
}

func (d *dumper) in(do func()) {
	outer := d.indent
	d.indent += "  "
	do()
	d.indent = outer
}

func (d *dumper) site(site *inventory.Site) {
	for _, c := range site.Clusters {
		d.line("cluster %s nodes=%v", c.Name, c.Nodes)
	}
	for _, h := range site.Hosts {
		d.line("host %s %s cluster=%q groups=%v vars=%s", h.Name, h.Address, h.Cluster, h.Groups, values(h.Vars))
		d.in(func() {
			if n := h.Node; n != nil {
				d.line("node id=%d votes=%d links=%v osds=%v", n.ID, n.Votes, n.Links, n.OSDs)
			}
			d.line("ssh %+v", h.SSH)
		})
	}
	for _, g := range site.Groups {
		d.line("group %s %v vars=%s", g.Name, g.Hosts, values(g.Vars))
	}
}

func values(m map[string]cty.Value) string {
	if len(m) == 0 {
		return "{}"
	}
	return cty.ObjectVal(m).GoString()
}

func (d *dumper) steps(site *inventory.Site, steps []engine.Step) {
	for _, s := range steps {
		switch s := s.(type) {
		case *engine.Parallel:
			d.line("parallel")
			d.in(func() { d.steps(site, s.Steps) })
		case *engine.Rolling:
			over, unknown, diags := s.Over(engine.Scope{})
			d.line("rolling %s over=%v max=%+v canary=%d soak=%s%s", s.Name, over, s.MaxUnavailable, s.Canary, s.Soak, outcome(unknown, diags))
			d.in(func() { d.steps(site, s.Steps) })
		case *engine.Task:
			d.task(site, s)
		}
	}
}

func (d *dumper) task(site *inventory.Site, t *engine.Task) {
	hosts, unknown, diags := t.Hosts(engine.Scope{})
	d.line("task %s %s hosts=%v%s tags=%v timeout=%s retry=%v on_failure=%s once=%t delegate=%s facts=%t",
		t.Module.Spec().Name, t.Path, hosts, outcome(unknown, diags), t.Tags, t.Timeout, t.Retry, t.OnFailure, t.RunOnce, t.DelegateTo, t.NeedsFacts)
	items := []engine.Item{{}}
	if t.Items != nil {
		items, _, _ = t.Items(engine.Scope{})
	}
	if len(hosts) == 0 {
		hosts = []string{site.Hosts[0].Name}
	}
	d.in(func() {
		for _, name := range hosts {
			h, _ := site.Host(name)
			for i := range items {
				sc := engine.Scope{Host: &h}
				if t.Items != nil {
					sc.Item = &items[i]
				}
				if t.When != nil {
					ok, unknown, diags := t.When(sc)
					d.line("%s when %t%s", name, ok, outcome(unknown, diags))
				}
				args, unknown, diags := t.Args(sc)
				d.line("%s %s %+v%s", name, items[i].Key, args, outcome(unknown, diags))
			}
		}
	})
}

func outcome(u *engine.Unknown, diags diag.List) string {
	text := ""
	if u != nil {
		text = " (" + u.Reason + ")"
	}
	return text + strings.TrimSuffix(show(diags, nil), "\n")
}

// load is a site in one file, for tests that need nothing else.
func load(t testing.TB, src string, o runbooks.Options) (*runbooks.Document, diag.List) {
	t.Helper()
	return loadFiles(t, map[string]string{"site.hcl": src}, o)
}
