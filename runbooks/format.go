package runbooks

import (
	"bytes"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/pxrun/pxrun/internal/diag"
)

// Format gives a file its standard form: HCL's own spacing and alignment, no more than one empty line in a row, none
// at the beginning and end or right inside braces, Unix line ends, one newline at the end. Text inside heredocs and
// comments stays as it is. A file with syntax errors is not changed.
func Format(src []byte, filename string) ([]byte, diag.List) {
	file, diags := parse(src, filename)
	if file == nil || diags.HasErrors() {
		return nil, diag.Sort(diags)
	}
	text := hclwrite.Format(file.Bytes)
	return hclwrite.Format(tidyLines(text, filename)), nil
}

// tidyLines removes needless empty lines and white space at the ends of lines, outside of heredocs.
func tidyLines(src []byte, filename string) []byte {
	fixed, opens, closes := linesOf(src, filename)
	var out []string
	lines := strings.Split(string(src), "\n")
	for i, line := range lines {
		if fixed[i+1] {
			out = append(out, line)
			continue
		}
		line = strings.TrimRight(line, " \t\r")
		if line == "" {
			afterOpen := i > 0 && opens[i]
			beforeClose := closes[nextText(lines, i)+1]
			if len(out) == 0 || out[len(out)-1] == "" && !fixed[i] || afterOpen || beforeClose {
				// Keep the knowledge that the line before was an opening one.
				opens[i+1] = afterOpen
				continue
			}
		}
		out = append(out, line)
	}
	return append(bytes.TrimRight([]byte(strings.Join(out, "\n")), "\n"), '\n')
}

// nextText is the index of the next line with something on it; len(lines) if there is none.
func nextText(lines []string, i int) int {
	for i < len(lines) && strings.TrimSpace(lines[i]) == "" {
		i++
	}
	return i
}

// linesOf tells by line number (from 1) which lines are inside of heredocs or comments of several lines, which end with
// an opening brace, and which begin with a closing one.
func linesOf(src []byte, filename string) (fixed, opens, closes map[int]bool) {
	fixed, opens, closes = map[int]bool{}, map[int]bool{}, map[int]bool{}
	tokens, _ := hclsyntax.LexConfig(src, filename, hcl.InitialPos)
	heredoc, first := 0, 0
	for i, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenOHeredoc:
			if heredoc == 0 {
				first = t.Range.Start.Line
			}
			heredoc++
		case hclsyntax.TokenCHeredoc:
			if heredoc--; heredoc == 0 {
				for n := first; n <= t.Range.End.Line; n++ {
					fixed[n] = true
				}
			}
		case hclsyntax.TokenComment:
			for n := t.Range.Start.Line; n < t.Range.End.Line && bytes.HasPrefix(t.Bytes, []byte("/*")); n++ {
				fixed[n], fixed[n+1] = true, true
			}
		case hclsyntax.TokenOBrace:
			if i+1 < len(tokens) && tokens[i+1].Type == hclsyntax.TokenNewline {
				opens[t.Range.Start.Line] = true
			}
		case hclsyntax.TokenCBrace:
			if i > 0 && tokens[i-1].Type == hclsyntax.TokenNewline {
				closes[t.Range.Start.Line] = true
			}
		}
	}
	return fixed, opens, closes
}
