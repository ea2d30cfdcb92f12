package runbooks

import (
	"bytes"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
)

// explainSyntax makes the parser's complaints about the commonest slips say what to do, and drops those that only follow:
// one quotation mark too few makes a text of every line after it.
func explainSyntax(diags diag.List, src []byte) diag.List {
	if i := slices.IndexFunc(diags, func(d *hcl.Diagnostic) bool { return d.Summary == "Invalid character encoding" }); i >= 0 {
		return clean(diags[i : i+1])
	}
	var better diag.List
	quote := false
	for _, d := range clean(diags) {
		switch d.Summary {
		case "Invalid multi-line string", "Unterminated template string":
			if heredoc := d.Subject != nil && d.Summary == "Unterminated template string" && !quote && emptyAt(src, *d.Subject); heredoc {
				d.Detail = "A text that begins with << ends with its marker on a line of its own. The marker is missing."
				break
			}
			if quote {
				continue
			}
			quote = true
			d.Summary = "Text without end"
			d.Detail = "The quotation mark that opens this text has no other that closes it on the same line. For a text of several lines write \\n in it, or <<-EOT and the lines and EOT."
		case "Missing newline after argument":
			d.Detail = "The argument ends here, and something follows on the same line. A text stands in quotes, and each argument on a line of its own."
		case "Argument or block definition required":
			d.Detail += hintAt(src, d.Subject)
		}
		better = append(better, d)
	}
	return better
}

func emptyAt(src []byte, at hcl.Range) bool { return at.Start.Byte >= len(src) }

// hintAt guesses what a text was meant to be that is no HCL.
func hintAt(src []byte, at *hcl.Range) string {
	if at == nil || at.Start.Byte > len(src) {
		return ""
	}
	switch rest := src[at.Start.Byte:]; {
	case bytes.HasPrefix(rest, []byte("/*")):
		return " This comment has no end: */ is missing."
	case bytes.HasPrefix(rest, []byte("---")), bytes.HasPrefix(rest, []byte("- ")):
		return " This looks like YAML, and pxrun reads HCL: see docs/language.md."
	case bytes.HasPrefix(rest, []byte("{")) && at.Start.Byte == 0:
		return " This looks like JSON, and pxrun reads HCL: see docs/language.md."
	}
	return ""
}
