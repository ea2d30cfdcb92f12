package runbooks

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/runbooks/stock"
)

// stockRunbook finds a built-in runbook and makes its file one of the document's, for excerpts in diagnostics.
func (l *loader) stockRunbook(name string) (*hcl.Block, bool) {
	if b, ok := l.stock[name]; ok {
		return b, true
	}
	text, ok := stock.Source(name)
	if !ok {
		return nil, false
	}
	file := "built-in/" + name + ".hcl"
	parsed, diags := parse(text, file)
	l.report(diags)
	if parsed == nil {
		return nil, false
	}
	l.src.files[file] = parsed
	d, diags := declare([]hcl.Body{parsed.Body})
	l.report(diags)
	b, ok := d.runbooks.get(name)
	if ok {
		l.stock[name] = b
	}
	return b, ok
}

func stockNames() []string { return stock.Names() }

// wanted are the runbooks to build: those of the files, and the built-in one that is to be run.
func (l *loader) wanted() []string {
	names := l.decls.runbooks.order
	if name := l.opts.Runbook; name != "" {
		if _, own := l.decls.runbooks.get(name); !own {
			if _, ok := l.stockRunbook(name); ok {
				return append(names[:len(names):len(names)], name)
			}
		}
	}
	return names
}
