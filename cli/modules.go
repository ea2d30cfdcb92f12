package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/modules"
	"github.com/spf13/cobra"
)

func registry() module.Registry { return module.NewRegistry(modules.All()...) }

func newModulesCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "modules", Short: "List the built-in modules, or show one", GroupID: groupLook,
		Long: long("Lists what a task can do. \"pxrun modules show NAME\" documents one module: its arguments, outputs and an example.", exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return runModulesList(a) },
	}
	list := &cobra.Command{
		Use: "list", Short: "List the built-in modules",
		Long: long("Lists the built-in modules with one sentence each.", exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error { return runModulesList(a) },
	}
	show := &cobra.Command{
		Use: "show NAME", Short: "Show a module's arguments, outputs and an example",
		Long: long("Shows the documentation of a module, made from its declaration. With --json it prints the JSON schema of its arguments.",
			exitOK),
		Args: checked(cobra.ExactArgs(1)),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return registry().Names(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error { return runModulesShow(a, args[0]) },
	}
	cmd.AddCommand(list, show)
	return cmd
}

// moduleObject is a module in the JSON form of the list.
type moduleObject struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Summary string `json:"summary"`
	Scope   string `json:"scope"`
	Risk    string `json:"risk,omitempty"`
}

func scopeWord(s module.Scope) string {
	if s == module.PerCluster {
		return "cluster"
	}
	return "host"
}

func runModulesList(a *app) error {
	all := registry()
	width := 0
	for _, name := range all.Names() {
		width = max(width, len(name))
	}
	for _, name := range all.Names() {
		m, _ := all.Get(name)
		spec := m.Spec()
		var err error
		if a.global.json {
			err = report.WriteObject(a.Out, moduleObject{"module", spec.Name, spec.Summary, scopeWord(spec.Scope), string(spec.Risk)})
		} else {
			_, err = fmt.Fprintf(a.Out, "%-*s  %s\n", width, name, spec.Summary)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func runModulesShow(a *app, name string) error {
	all := registry()
	m, ok := all.Get(name)
	if !ok {
		return invalid("%q is not a module.%s\nSee: pxrun modules", name, diag.DidYouMean(name, all.Names()))
	}
	if a.global.json {
		return writeModuleSchema(a, m)
	}
	spec := m.Spec()
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n", spec.Name, spec.Summary)
	scope := "Runs on each of the task's hosts."
	if spec.Scope == module.PerCluster {
		scope = "Runs once for all of the task's hosts."
	}
	b.WriteString(scope)
	if spec.Risk != module.RiskNone {
		fmt.Fprintf(&b, " Its changes are %s.", spec.Risk)
	}
	b.WriteString("\n\n" + strings.TrimSpace(prose(spec.Doc)) + "\n")
	describe(&b, "Arguments", m.Args())
	describe(&b, "Outputs", m.Outputs())
	_, err := fmt.Fprint(a.Out, b.String())
	return err
}

func writeModuleSchema(a *app, m module.Module) error {
	text, err := m.Args().JSON()
	if err != nil {
		return err
	}
	spec := m.Spec()
	return report.WriteObject(a.Out, struct {
		moduleObject
		Arguments json.RawMessage `json:"arguments"`
	}{moduleObject{"module", spec.Name, spec.Summary, scopeWord(spec.Scope), string(spec.Risk)}, text})
}

// prose is a module's page without the title, which the heading has said.
func prose(doc string) string {
	doc = strings.TrimSpace(doc)
	if first, rest, ok := strings.Cut(doc, "\n"); ok && strings.HasPrefix(first, "# ") {
		return rest
	}
	return doc
}

// describe lists the attributes and blocks of a schema.
func describe(b *strings.Builder, title string, body *schema.Body) {
	if len(body.Fields())+len(body.Blocks()) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	describeFields(b, "  ", body)
}

// describeFields writes one entry for each field, those of nested blocks and objects indented below theirs.
func describeFields(b *strings.Builder, indent string, body *schema.Body) {
	for _, f := range append(body.Fields(), body.Blocks()...) {
		fmt.Fprintf(b, "%s%s  (%s)\n%s    %s\n", indent, f.Written(), strings.Join(notes(f), ", "), indent, f.Doc)
		if f.Body != nil {
			describeFields(b, indent+"    ", f.Body)
		}
	}
}

// notes are what there is to know about a field besides what it is for.
func notes(f *schema.Field) []string {
	all := []string{f.Type}
	switch {
	case f.Label:
		all = append(all, "label")
	case f.Repeated:
		all = append(all, "any number")
	case f.Required:
		all = append(all, "required")
	case f.Default != "":
		all = append(all, "default "+f.Default)
	}
	if len(f.OneOf) > 0 {
		all = append(all, "one of "+strings.Join(f.OneOf, ", "))
	}
	if limits := f.Limits(); limits != "" {
		all = append(all, limits)
	}
	if f.Example != "" {
		all = append(all, "such as "+f.Example)
	}
	return all
}
