package runbooks

import (
	"fmt"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
)

// Document is what a set of files says.
type Document struct {
	// Site is the inventory.
	Site *inventory.Site
	// Files are the sources by name, for excerpts in diagnostics.
	Files map[string]*hcl.File
	// Names are the files in the order in which they were read.
	Names []string
	// Variables are in the files' order.
	Variables []*Variable
	// Secrets are the values that must never be shown: secrets that were read, and what is in
	// sensitive variables and was given to sensitive().
	Secrets []secret.String
	// Runbooks describe the runbooks in the files' order; Runbook gives one.
	Runbooks  []RunbookInfo
	Schedules []Schedule
	Notifies  []Notify
	// ModuleDecls are the modules that the files declare.
	ModuleDecls []ModuleDecl

	built []*engine.Runbook
	reads map[string][32]byte
	base  string // the folder that relative paths start at
	// secretText are the secrets that were read, by name.
	secretText map[string]secret.String
}

// RunbookInfo describes a runbook for lists.
type RunbookInfo struct {
	Name, Description string
	// Cluster is the name of its cluster, or "".
	Cluster string
	// Tasks are the names of its tasks in order, Tags all tags that they bear.
	Tasks, Tags []string
	// Arguments are what it may be told. BuiltIn ones come with pxrun.
	Arguments []Argument
	BuiltIn   bool

	known bool // its arguments were given, as far as they were
	Range diag.Range
}

func (l *loader) document() *Document {
	return &Document{
		Site: l.site, Files: l.src.files, Names: l.src.names(), Variables: l.variables, Secrets: l.hidden.list(),
		Runbooks: l.infos, Schedules: l.schedules, Notifies: l.notifies, ModuleDecls: l.modules, built: l.runbooks,
		reads: l.around.seen.snapshot(), secretText: l.secretText, base: l.src.base,
	}
}

// RunbookNames lists the runbooks in the files' order.
func (d *Document) RunbookNames() []string {
	return valuesOf(d.Runbooks, func(r RunbookInfo) string { return r.Name })
}

// DefaultRunbook is the first runbook of the files; "" if they hold none.
func (d *Document) DefaultRunbook() string {
	if len(d.Runbooks) == 0 {
		return ""
	}
	return d.Runbooks[0].Name
}

// Runbook returns the runbook of a name, ready to run.
func (d *Document) Runbook(name string) (*engine.Runbook, diag.List) {
	i := slices.IndexFunc(d.built, func(rb *engine.Runbook) bool { return rb.Name == name })
	if i < 0 {
		return nil, diag.Error("Unknown runbook", fmt.Sprintf("There is no runbook %q.%s", name, suggestion(name, d.RunbookNames())), diag.Range{})
	}
	for _, a := range d.Runbooks[i].Arguments {
		if a.Default == cty.NilVal && !d.Runbooks[i].known {
			return nil, diag.Error("Missing argument", fmt.Sprintf("The runbook %q needs the argument %q: %s. Name the runbook and give it with --arg %s=…", name, a.Name, a.Description, a.Name), d.Runbooks[i].Range)
		}
	}
	return d.built[i], nil
}
