package runbooks

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/adhocore/gronx"
	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/secret"
)

// Schedule runs a runbook at certain times.
type Schedule struct {
	Name     string
	Runbook  string
	Cluster  string // "" for the runbook's own
	Cron     string
	Timezone string // "" for that of the machine
	// Window is how long after its start a run may begin something disruptive; 0 for any time.
	Window time.Duration
	Range  diag.Range
}

// Notify tells somebody about runs.
type Notify struct {
	Name string
	// URL is where to, as shoutrrr writes it. Secret, since most services put a token into it.
	URL secret.String
	// On are the moments of runs that are told: see event.Moments.
	On    []string
	Range diag.Range
}

// ModuleDecl is a module that the files declare, written in Lua.
type ModuleDecl struct {
	Name   string
	Source string // path of the Lua file
	Range  diag.Range
}

var (
	scheduleSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{
		{Name: "runbook", Required: true}, {Name: "cluster"}, {Name: "cron", Required: true}, {Name: "timezone"}, {Name: "window"},
	}}
	notifySchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "url", Required: true}, {Name: "on"}}}
	moduleSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "source", Required: true}}}
)

func (l *loader) loadSchedules() {
	for _, name := range l.decls.schedules.order {
		b := l.decls.schedules.byName[name]
		content, diags := contentOf(b, scheduleSchema)
		l.report(diags)
		s := Schedule{Name: name, Range: b.DefRange}
		if attr, ok := content.Attributes["runbook"]; ok {
			s.Runbook = l.runbookReference(attr)
		}
		if attr, ok := content.Attributes["cluster"]; ok {
			if c := l.clusterReference(attr); c != nil {
				s.Cluster = c.name
			}
		}
		a := l.attributes(content, scope{})
		if at, ok := a.text("cron", &s.Cron); ok && !gronx.IsValid(s.Cron) {
			l.report(diag.Error("Invalid cron expression", fmt.Sprintf("%q is no cron expression such as \"0 2 * * SUN\": minute, hour, day of month, month, day of week.", s.Cron), at))
		}
		if at, ok := a.text("timezone", &s.Timezone); ok {
			if _, err := time.LoadLocation(s.Timezone); err != nil {
				l.report(diag.Error("Unknown time zone", fmt.Sprintf("%q is no time zone such as \"Europe/Berlin\" or \"UTC\".", s.Timezone), at))
			}
		}
		a.duration("window", &s.Window)
		l.schedules = append(l.schedules, s)
	}
}

func (l *loader) runbookReference(attr *hcl.Attribute) string {
	t, diags := hcl.AbsTraversalForExpr(attr.Expr)
	name, ok := "", false
	if !diags.HasErrors() && t.RootName() == "runbook" && len(t) == 2 {
		name, ok = step(t, 1)
	}
	if !ok {
		l.report(diag.Error("Invalid runbook", "The runbook of a schedule is written runbook = runbook.<name>.", attr.Expr.Range()))
		return ""
	}
	l.report(l.checkStep(t, "runbook", append(slices.Clone(l.decls.runbooks.order), stockNames()...)))
	return name
}

func (l *loader) loadNotifies() {
	for _, name := range l.decls.notifies.order {
		b := l.decls.notifies.byName[name]
		content, diags := contentOf(b, notifySchema)
		l.report(diags)
		n := Notify{Name: name, On: []string{"failed", "refused", "unreachable", event.MomentPaused, event.MomentLeftover}, Range: b.DefRange}
		a := l.attributes(content, scope{})
		a.secretText("url", &n.URL)
		if at, ok := a.texts("on", &n.On); ok {
			for _, word := range n.On {
				if !slices.Contains(event.Moments(), word) {
					l.report(diag.Error("Invalid value", fmt.Sprintf("on lists moments of runs: %s, not %q.%s", either(event.Moments()), word, diag.DidYouMean(word, event.Moments())), at))
				}
			}
		}
		l.notifies = append(l.notifies, n)
	}
}

func (l *loader) declareModules() {
	for _, name := range l.decls.modules.order {
		b := l.decls.modules.byName[name]
		content, diags := contentOf(b, moduleSchema)
		l.report(diags)
		if _, builtIn := l.opts.Modules.Get(name); builtIn {
			l.report(diag.Error("Duplicate module", fmt.Sprintf("%q is the name of a built-in module.", name), b.LabelRanges[0]))
		}
		m := ModuleDecl{Name: name, Range: b.DefRange}
		if at, ok := l.attributes(content, scope{constant: true}).text("source", &m.Source); ok {
			dir := filepath.Dir(l.src.open(b.DefRange.Filename))
			m.Source = fileReader{dir: dir, home: l.around.home}.locate(m.Source)
			if info, err := os.Stat(m.Source); err != nil || !info.Mode().IsRegular() {
				l.report(diag.Error("No such file", fmt.Sprintf("The source of the module %q is not a file.", name), at))
			}
		}
		l.modules = append(l.modules, m)
	}
}
