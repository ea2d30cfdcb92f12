package testkit

import (
	"regexp"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

var snakeCase = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

// CheckModules is what every declaration must hold to: names, prose, and an example that decodes. That each field has
// a doc is checked where the schema is made.
func CheckModules(t *testing.T, modules []module.Module) {
	t.Helper()
	module.NewRegistry(modules...) // refuses two of one name
	for _, m := range modules {
		spec := m.Spec()
		t.Run(spec.Name, func(t *testing.T) {
			require.Regexp(t, snakeCase, spec.Name)
			require.NotEmpty(t, spec.Summary)
			require.NotContains(t, spec.Summary, "\n")
			require.False(t, strings.HasSuffix(spec.Summary, "."), "the summary ends without a full stop")
			require.NotEmpty(t, spec.Doc)
			for _, f := range append(m.Args().Fields(), m.Args().Blocks()...) {
				require.Regexp(t, snakeCase, f.Name)
				require.NotContains(t, append(common(), "retry"), f.Name, "every task has an argument of this name")
				require.Regexp(t, `^[A-Z].*[.)]$`, f.Doc, "the doc of %s is a sentence", f.Name)
			}
			_, err := m.Args().JSON()
			require.NoError(t, err)
			for _, p := range exampleProblems(t, m) {
				t.Error(p)
			}
		})
	}
}

// exampleProblems decodes the task in the first hcl block of the module's page.
func exampleProblems(t *testing.T, m module.Module) []string {
	t.Helper()
	name := m.Spec().Name
	_, rest, found := strings.Cut(m.Spec().Doc, "```hcl\n")
	example, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		return []string{"the page has no ```hcl example"}
	}
	file, diags := hclsyntax.ParseConfig([]byte(example), name+".md", hcl.InitialPos)
	if diags.HasErrors() {
		return []string{diags.Error()}
	}
	content, _, diags := file.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "task", LabelNames: []string{"module", "name"}}}})
	if diags.HasErrors() {
		return []string{diags.Error()}
	}
	for _, block := range content.Blocks {
		if block.Labels[0] != name {
			continue
		}
		var problems []string
		v, diags := hcldec.Decode(withoutCommon(block.Body), m.Args().Spec(), exampleScope(block.Body, m))
		for _, d := range diags {
			problems = append(problems, d.Error())
		}
		if diags.HasErrors() {
			return problems
		}
		for _, e := range m.Args().Decode(v, m.NewArgs()) {
			problems = append(problems, e.Error())
		}
		return problems
	}
	return []string{"the example has no task \"" + name + "\""}
}

// withoutCommon takes away the arguments that every task has and no module sees.
func withoutCommon(body hcl.Body) hcl.Body {
	schema := &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "retry"}}}
	for _, name := range common() {
		schema.Attributes = append(schema.Attributes, hcl.AttributeSchema{Name: name})
	}
	_, rest, _ := body.PartialContent(schema)
	return rest
}

func common() []string {
	return []string{"hosts", "when", "for_each", "timeout", "tags", "on_failure", "sensitive", "delegate_to", "run_once"}
}

// exampleScope has something for everything that an example may refer to.
func exampleScope(body hcl.Body, m module.Module) *hcl.EvalContext {
	node := func(name string) cty.Value {
		return cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal(name), "address": cty.StringVal("192.0.2.11"), "vars": cty.EmptyObjectVal})
	}
	nodes := map[string]cty.Value{"pve1": node("pve1"), "pve2": node("pve2"), "pve3": node("pve3")}
	lab := map[string]cty.Value{"name": cty.StringVal("lab"), "nodes": cty.TupleVal([]cty.Value{nodes["pve1"], nodes["pve2"], nodes["pve3"]})}
	for name, n := range nodes {
		lab[name] = n
	}
	scope := map[string]cty.Value{
		"cluster": cty.ObjectVal(map[string]cty.Value{"lab": cty.ObjectVal(lab)}),
		"host":    cty.ObjectVal(map[string]cty.Value{"arbiter": node("arbiter"), "bastion": node("bastion")}),
		"self":    node("pve1"),
	}
	named := map[string]map[string]cty.Value{"secret": {}, "var": {}, "local": {}}
	for _, ref := range hcldec.Variables(withoutCommon(body), m.Args().Spec()) {
		values, known := named[ref.RootName()]
		if !known || len(ref) < 2 {
			continue
		}
		if step, ok := ref[1].(hcl.TraverseAttr); ok {
			values[step.Name] = cty.StringVal("example-" + step.Name)
			if ref.RootName() == "secret" {
				values[step.Name] = values[step.Name].Mark(secret.Mark)
			}
		}
	}
	for root, values := range named {
		scope[root] = cty.ObjectVal(values)
	}
	return &hcl.EvalContext{Variables: scope, Functions: map[string]function.Function{"file": someText(), "templatefile": someText(), "jsonencode": someText()}}
}

// someText takes anything and gives a text.
func someText() function.Function {
	return function.New(&function.Spec{
		VarParam: &function.Parameter{Name: "args", Type: cty.DynamicPseudoType, AllowMarked: true, AllowNull: true},
		Type:     function.StaticReturnType(cty.String),
		Impl:     func([]cty.Value, cty.Type) (cty.Value, error) { return cty.StringVal("text"), nil },
	})
}
