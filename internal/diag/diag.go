// Package diag is the one list of problems that every stage reports into. A problem has a summary without names, a
// detail that says what, why and what to do, and, where it comes from a file, the range to show. The package knows
// nothing of terminals: internal/report prints lists.
package diag

import (
	"cmp"
	"slices"

	"github.com/hashicorp/hcl/v2"
)

// List is a list of problems. It is an alias so that HCL's own diagnostics need no translation.
type List = hcl.Diagnostics

// Range is a place in a source file.
type Range = hcl.Range

// Error makes a list of one error. A zero range means that the problem has no place in a file.
func Error(summary, detail string, at Range) List {
	return List{one(hcl.DiagError, summary, detail, at)}
}

// Warning makes a list of one warning.
func Warning(summary, detail string, at Range) List {
	return List{one(hcl.DiagWarning, summary, detail, at)}
}

func one(severity hcl.DiagnosticSeverity, summary, detail string, at Range) *hcl.Diagnostic {
	d := &hcl.Diagnostic{Severity: severity, Summary: summary, Detail: detail}
	if at != (Range{}) {
		d.Subject = &at
	}
	return d
}

// Sort orders a list by file, byte and text, and drops exact repetitions. hcldec walks maps, so its own order is random.
func Sort(l List) List {
	at := func(d *hcl.Diagnostic) hcl.Range {
		if d.Subject == nil {
			return hcl.Range{}
		}
		return *d.Subject
	}
	sorted := slices.Clone(l)
	slices.SortStableFunc(sorted, func(a, b *hcl.Diagnostic) int {
		return cmp.Or(
			cmp.Compare(at(a).Filename, at(b).Filename),
			cmp.Compare(at(a).Start.Byte, at(b).Start.Byte),
			cmp.Compare(a.Summary, b.Summary),
			cmp.Compare(a.Detail, b.Detail),
		)
	})
	return slices.CompactFunc(sorted, func(a, b *hcl.Diagnostic) bool {
		return a.Severity == b.Severity && at(a) == at(b) && a.Summary == b.Summary && a.Detail == b.Detail
	})
}
