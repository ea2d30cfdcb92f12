// Package stock holds the runbooks that pxrun brings along, as they would stand in a site's own files.
package stock

import (
	"embed"
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
