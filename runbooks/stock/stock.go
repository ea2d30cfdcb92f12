// Package stock holds the runbooks that pxrun brings along, as they would stand in a site's own files.
package stock

import (
	"embed"
	"regexp"
	"slices"
	"strings"
)

//go:embed *.hcl
var files embed.FS

// Names are the built-in runbooks.
func Names() []string {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".hcl"))
	}
	slices.Sort(names)
	return names
}

// Source is the text of a built-in runbook.
func Source(name string) ([]byte, bool) {
	text, err := files.ReadFile(name + ".hcl")
	return text, err == nil
}

var description = regexp.MustCompile(`(?m)^  description = "([^"]*)"$`)

// Description is the one sentence about a built-in runbook.
func Description(name string) string {
	text, _ := Source(name)
	if found := description.FindSubmatch(text); found != nil {
		return string(found[1])
	}
	return ""
}
