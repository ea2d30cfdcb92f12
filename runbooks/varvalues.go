package runbooks

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// given is a value for a variable and where it comes from.
type given struct {
	value cty.Value
	from  string
	at    diag.Range
}

// environPrefix is what the name of an environment variable that sets a variable begins with.
const environPrefix = "PXRUN_VAR_"

// setVariables declares the variables and gives each its value: --var over --var-file over the environment over the
// default.
func setVariables(decls *named, o Options, src *sources, functions map[string]function.Function) ([]*Variable, diag.List) {
	var (
		vars  []*Variable
		diags diag.List
	)
	for _, name := range decls.order {
		v, more := declareVariable(decls.byName[name], functions)
		diags = append(diags, more...)
		v.wrong = more.HasErrors()
		vars = append(vars, v)
	}
	values := fromEnvironment(vars, o, &diags)
	for _, file := range o.VarFiles {
		for name, g := range readVarFile(file, src, functions, &diags) {
			if !slices.Contains(decls.order, name) {
				diags = append(diags, unknownVariable(name, g, decls.order)...)
				continue
			}
			values[name] = g
		}
	}
	for _, a := range o.Vars {
		i := slices.Index(decls.order, a.Name)
		if i < 0 {
			diags = append(diags, unknownVariable(a.Name, given{from: "--var"}, decls.order)...)
			continue
		}
		val, more := vars[i].parseText(a.Value, "--var", "--var "+a.Name)
		diags = append(diags, more...)
		if !more.HasErrors() {
			values[a.Name] = given{value: val, from: "--var"}
		}
	}
	for _, v := range vars {
		diags = append(diags, v.choose(values, functions)...)
	}
	return vars, diags
}

// choose takes the given value or the default. A variable that is wrong or missing becomes DynamicVal, so that what
// uses it is not reported as well.
func (v *Variable) choose(values map[string]given, functions map[string]function.Function) diag.List {
	v.Value = cty.DynamicVal
	g, ok := values[v.Name]
	switch {
	case ok:
	case v.Default != cty.NilVal:
		g = given{value: v.Default, from: "default", at: v.Range}
	case v.wrong:
		return nil
	default:
		return diag.Error("Variable not set", fmt.Sprintf("Variable %q has no default, so it needs a value: --var %s=…, a line %s = … in a file "+
			"given with --var-file, or %s%s in the environment.", v.Name, v.Name, v.Name, environPrefix, v.Name), v.Range)
	}
	return v.accept(g, functions)
}

func unknownVariable(name string, g given, known []string) diag.List {
	return diag.Error("Unknown variable", fmt.Sprintf("%s sets variable %q, which no file declares.%s", g.from, name, diag.DidYouMean(name, known)), g.at)
}

// fromEnvironment reads PXRUN_VAR_x. Those that match no variable are left alone: the environment may serve many sites.
func fromEnvironment(vars []*Variable, o Options, diags *diag.List) map[string]given {
	values, env := map[string]given{}, o.environment()
	for _, v := range vars {
		text, ok := env[environPrefix+v.Name]
		if !ok {
			continue
		}
		val, more := v.parseText(text, environPrefix+v.Name, environPrefix+v.Name)
		*diags = append(*diags, more...)
		if !more.HasErrors() {
			values[v.Name] = given{value: val, from: environPrefix + v.Name}
		}
	}
	return values
}

func readVarFile(name string, src *sources, functions map[string]function.Function, diags *diag.List) map[string]given {
	text, more := readLimited(name, src.open(name))
	if text == nil {
		*diags = append(*diags, more...)
		return nil
	}
	if strings.EqualFold(filepath.Ext(name), ".json") {
		return parseVarJSON(name, text, diags)
	}
	file, more := parse(text, name)
	*diags = append(*diags, more...)
	if file == nil {
		return nil
	}
	src.files[name] = file
	attrs, more := file.Body.JustAttributes()
	*diags = append(*diags, more...)
	values := map[string]given{}
	for _, a := range attrs {
		val, more := a.Expr.Value(&hcl.EvalContext{Functions: functions})
		if len(a.Expr.Variables()) > 0 {
			more = diag.Error("Value not constant", "A file of variables holds constants: they cannot refer to other values.", a.Expr.Range())
		}
		*diags = append(*diags, more...)
		if !more.HasErrors() {
			values[a.Name] = given{val, name, a.Expr.Range()}
		}
	}
	return values
}

func parseVarJSON(name string, text []byte, diags *diag.List) map[string]given {
	at := diag.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos}
	fail := func(why string) map[string]given {
		*diags = append(*diags, diag.Error("Invalid JSON", fmt.Sprintf("%q does not hold one JSON object of variables: %s.", name, why), at)...)
		return nil
	}
	t, err := ctyjson.ImpliedType(text)
	if err != nil {
		return fail(err.Error())
	}
	if !t.IsObjectType() {
		return fail("it is a " + t.FriendlyName())
	}
	val, err := ctyjson.Unmarshal(text, t)
	if err != nil {
		return fail(err.Error())
	}
	values := map[string]given{}
	if val.IsNull() {
		return values
	}
	for key, v := range val.AsValueMap() {
		values[key] = given{v, name, at}
	}
	return values
}
