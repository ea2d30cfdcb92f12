package cli

import (
	"context"
	"slices"

	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/spf13/pflag"
)

// siteOptions say which files make the site, and the values of its variables.
type siteOptions struct {
	paths    []string
	vars     []string
	varFiles []string
	// secretsOf are the runbooks whose secrets are needed; nil means all.
	secretsOf []string
	// runbook is the runbook that is to be run, args what it is told.
	runbook string
	args    []string
}

func (o *siteOptions) flags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.vars, "var", nil, "set a variable: `NAME=VALUE`; may be given more than once")
	f.StringArrayVar(&o.varFiles, "var-file", nil, "read variables from this `FILE`; may be given more than once")
}

// files are the paths of the command line and of -i, each once; the current folder if there are none.
func (o siteOptions) files(a *app) []string {
	var paths []string
	for _, p := range append(slices.Clone(o.paths), a.global.inventory...) {
		if !slices.Contains(paths, p) {
			paths = append(paths, p)
		}
	}
	if len(paths) == 0 {
		return []string{"."}
	}
	return paths
}

// load reads and checks the site. Problems have been told when it returns an error. Secrets are read only when they are
// going to be used.
func (a *app) load(ctx context.Context, o siteOptions, secrets bool) (*runbooks.Document, error) {
	doc, problems, err := a.read(ctx, o, secrets)
	if err != nil {
		return nil, err
	}
	if err := a.tell(problems); err != nil {
		return nil, err
	}
	return doc, nil
}

// loadForLab reads the secrets too if that is possible: the lab's users have the passwords that the site knows. A lab
// of which nothing needs them starts without.
func (a *app) loadForLab(ctx context.Context, o siteOptions) (*runbooks.Document, error) {
	doc, problems, err := a.read(ctx, o, true)
	if err != nil {
		return nil, err
	}
	if problems.HasErrors() {
		return a.load(ctx, o, false)
	}
	return doc, nil
}

// read reads the site and makes its secrets known to the redactor.
func (a *app) read(ctx context.Context, o siteOptions, secrets bool) (*runbooks.Document, diag.List, error) {
	opts := runbooks.Options{
		VarFiles: o.varFiles, Environ: a.Environ, Modules: registry(), Facts: pve.FactsType(), ResolveSecrets: secrets, SecretsOf: o.secretsOf, Now: a.Now, Version: Version, Home: a.Home,
	}
	if a.InTerminal {
		opts.Prompt = func(_ context.Context, question string) (string, error) { return a.askSecret(question) }
	}
	for _, text := range o.vars {
		v, err := runbooks.ParseAssignment(text)
		if err != nil {
			return nil, nil, invalid("--var: %w", err)
		}
		opts.Vars = append(opts.Vars, v)
	}
	for _, text := range o.args {
		v, err := runbooks.ParseAssignment(text)
		if err != nil {
			return nil, nil, invalid("--arg: %w", err)
		}
		opts.Arguments = append(opts.Arguments, v)
	}
	opts.Runbook = o.runbook
	doc, problems := runbooks.Load(ctx, o.files(a), opts)
	if doc != nil {
		a.secrets.Add(doc.Secrets...)
	}
	return doc, problems, nil
}
