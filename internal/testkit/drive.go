package testkit

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/zclconf/go-cty/cty"
)

// Args decodes a module's arguments from HCL. Secrets are written secret.<anything>, whose text is "s3cret-<anything>".
func Args(tb testing.TB, m module.Module, src string) any {
	tb.Helper()
	args, problems := TryArgs(tb, m, src)
	if len(problems) > 0 {
		tb.Fatalf("arguments of %s: %s", m.Spec().Name, strings.Join(problems, "\n"))
	}
	return args
}

// TryArgs is Args for arguments that may be wrong. It returns every problem as "path: detail".
func TryArgs(tb testing.TB, m module.Module, src string) (args any, problems []string) {
	tb.Helper()
	file, diags := hclsyntax.ParseConfig([]byte(src), m.Spec().Name+".hcl", hcl.InitialPos)
	if diags.HasErrors() {
		tb.Fatalf("%s", diags)
	}
	v, diags := hcldec.Decode(file.Body, m.Args().Spec(), &hcl.EvalContext{Variables: map[string]cty.Value{"secret": secretsOf(file.Body, m)}})
	for _, d := range diags {
		problems = append(problems, d.Summary+": "+d.Detail)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	args = m.NewArgs()
	for _, e := range m.Args().DecodeIn("testdata", v, args) {
		problems = append(problems, schema.FormatPath(e.Path)+": "+e.Detail)
	}
	return args, problems
}

func secretsOf(body hcl.Body, m module.Module) cty.Value {
	secrets := map[string]cty.Value{}
	for _, ref := range hcldec.Variables(body, m.Args().Spec()) {
		if len(ref) < 2 || ref.RootName() != "secret" {
			continue
		}
		if step, ok := ref[1].(hcl.TraverseAttr); ok {
			secrets[step.Name] = cty.StringVal("s3cret-" + step.Name).Mark(secret.Mark)
		}
	}
	return cty.ObjectVal(secrets)
}

// Plan plans with connections that refuse to write. It fails the test when a read that Probes announced was not made,
// since then the engine would have fetched it for nothing.
func Plan(tb testing.TB, m module.Module, t *Target, src string) []module.Change {
	tb.Helper()
	changes, err := TryPlan(tb, m, t, src)
	if err != nil {
		tb.Fatalf("plan %s: %v", m.Spec().Name, err)
	}
	return changes
}

// TryPlan is Plan for plans that may fail or be refused.
func TryPlan(tb testing.TB, m module.Module, t *Target, src string) ([]module.Change, error) {
	tb.Helper()
	args := Args(tb, m, src)
	done := t.planning()
	probes := m.Probes(t, args)
	changes, err := m.Plan(tb.Context(), t, args)
	reads := done()
	for _, p := range probes {
		if p.Command.Mutates {
			tb.Errorf("the probe %q mutates", p.Command)
		}
		if err == nil && !contains(reads, p.Command) {
			tb.Errorf("the probe %q was announced and not used", p.Command)
		}
	}
	seen := map[string]bool{}
	for _, c := range changes {
		if c.ID == "" || c.Host == "" || c.Summary == "" || c.Action == "" || c.Apply == nil {
			tb.Errorf("incomplete change: %+v", c)
		}
		if seen[c.ID] {
			tb.Errorf("two changes with the id %q", c.ID)
		}
		seen[c.ID] = true
	}
	return changes, err
}

func contains(reads []transport.Command, c transport.Command) bool {
	for _, r := range reads {
		if SameCommand(r, c) {
			return true
		}
	}
	return false
}

// SameCommand reports whether the answer to one read is the answer to the other.
func SameCommand(a, b transport.Command) bool {
	return reflect.DeepEqual(a.Argv, b.Argv) && a.Script == b.Script && string(a.Stdin) == string(b.Stdin) && len(a.Env) == len(b.Env) &&
		(len(a.Env) == 0 || reflect.DeepEqual(a.Env, b.Env))
}

// Apply makes changes one after the other.
func Apply(ctx context.Context, t *Target, changes []module.Change) error {
	for _, c := range changes {
		if err := c.Apply(ctx, t); err != nil {
			return fmt.Errorf("%s: %s: %w", c.Host, c.Summary, err)
		}
	}
	return nil
}

// Converge plans, applies, and plans again: the second plan must have nothing left but imperative changes. It returns
// the first plan.
func Converge(tb testing.TB, m module.Module, t *Target, src string) []module.Change {
	tb.Helper()
	first := Plan(tb, m, t, src)
	if err := Apply(tb.Context(), t, first); err != nil {
		tb.Fatalf("apply %s: %v", m.Spec().Name, err)
	}
	for _, c := range Plan(tb, m, t, src) {
		if !c.Imperative {
			tb.Errorf("%s is not proved: the second plan still wants to %s (before %v, after %v)", m.Spec().Name, c.Summary, c.Before, c.After)
		}
	}
	return first
}

// Read gives a module's outputs.
func Read(tb testing.TB, m module.Module, t *Target, src string) any {
	tb.Helper()
	out, err := m.Read(tb.Context(), t, Args(tb, m, src))
	if err != nil {
		tb.Fatalf("read %s: %v", m.Spec().Name, err)
	}
	m.Outputs().Encode(out)
	return out
}

// Summaries are what people are shown of a plan.
func Summaries(changes []module.Change) []string {
	texts := []string{}
	for _, c := range changes {
		texts = append(texts, c.Summary)
	}
	return texts
}
