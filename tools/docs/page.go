package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
)

const header = "<!-- Generated from the declarations of the modules; do not edit. Run: make docs -->\n"

// pages are all files of the reference, by name.
func pages(all []module.Module) map[string]string {
	files := map[string]string{"README.md": index(all)}
	for _, m := range all {
		files[m.Spec().Name+".md"] = page(m)
	}
	return files
}

func index(all []module.Module) string {
	var b strings.Builder
	b.WriteString(header + "# Modules\n\nWhat a task can do. `pxrun modules show NAME` prints the same pages.\n\n| module | what it does | runs |\n|---|---|---|\n")
	sorted := slices.SortedFunc(slices.Values(all), func(a, b module.Module) int { return strings.Compare(a.Spec().Name, b.Spec().Name) })
	for _, m := range sorted {
		spec := m.Spec()
		fmt.Fprintf(&b, "| [`%s`](%s.md) | %s | %s |\n", spec.Name, spec.Name, spec.Summary, scope(spec.Scope))
	}
	return b.String()
}

func scope(s module.Scope) string {
	if s == module.PerCluster {
		return "once for all hosts of the task"
	}
	return "on each host of the task"
}

func page(m module.Module) string {
	spec := m.Spec()
	var b strings.Builder
	fmt.Fprintf(&b, "%s# %s\n\n%s. It runs %s.", header, spec.Name, spec.Summary, scope(spec.Scope))
	if spec.Risk != module.RiskNone {
		fmt.Fprintf(&b, " Its changes can be %s.", spec.Risk)
	}
	fmt.Fprintf(&b, "\n\n%s\n\n## Arguments\n\n%s", prose(spec.Doc), m.Args().Markdown())
	b.WriteString("\nThe arguments that every task has (`hosts`, `when`, `timeout` and others) are in [the language](../language.md).\n")
	if outputs := m.Outputs(); len(outputs.Fields()) > 0 {
		fmt.Fprintf(&b, "\n## Outputs\n\nIn `task.<name>.results[<host>]` of later tasks:\n\n%s", outputs.OutputsMarkdown())
	}
	return b.String()
}

// prose is the module's page without a title of its own.
func prose(doc string) string {
	doc = strings.TrimSpace(doc)
	if first, rest, ok := strings.Cut(doc, "\n"); ok && strings.HasPrefix(first, "# ") {
		return strings.TrimSpace(rest)
	}
	return doc
}
