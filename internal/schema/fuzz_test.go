package schema_test

import (
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"pgregory.net/rapid"
)

// anyValue draws a value of any type, known or not, null or not, marked or not.
func anyValue(depth int) *rapid.Generator[cty.Value] {
	return rapid.Custom(func(t *rapid.T) cty.Value {
		kinds := 9
		if depth > 0 {
			kinds = 14
		}
		var v cty.Value
		switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
		case 0:
			v = cty.StringVal(rapid.SampledFrom([]string{"", "x", "2m", "-1s", "0644", "99999", "192.0.2.1", "192.0.2.0/24", "present", "\xff"}).Draw(t, "text"))
		case 1:
			v = cty.NumberIntVal(rapid.Int64().Draw(t, "int"))
		case 2:
			v = cty.NumberFloatVal(rapid.Float64Range(-1e300, 1e300).Draw(t, "float"))
		case 3:
			v = cty.BoolVal(rapid.Bool().Draw(t, "bool"))
		case 4:
			v = cty.NullVal(cty.DynamicPseudoType)
		case 5:
			v = cty.DynamicVal
		case 6:
			v = cty.UnknownVal(cty.List(cty.String))
		case 7:
			v = cty.PositiveInfinity
		case 8:
			v = cty.NullVal(cty.Map(cty.String))
		case 9:
			v = cty.TupleVal(rapid.SliceOfN(anyValue(depth-1), 0, 3).Draw(t, "tuple"))
		case 10, 11:
			v = cty.ObjectVal(anyAttributes(t, depth))
		case 12:
			v = cty.SetVal([]cty.Value{cty.StringVal("a"), cty.UnknownVal(cty.String)})
		default:
			v = cty.MapVal(map[string]cty.Value{"name": cty.StringVal("x").Mark(secret.Mark), "size": cty.NullVal(cty.String)})
		}
		switch rapid.IntRange(0, 5).Draw(t, "mark") {
		case 0:
			v = v.Mark(secret.Mark)
		case 1:
			v = v.Mark("another")
		}
		return v
	})
}

func anyAttributes(t *rapid.T, depth int) map[string]cty.Value {
	names := []string{"unknown", "device", "attempts", "size", "min_size"}
	for _, f := range append(body.Fields(), body.Blocks()...) {
		names = append(names, f.Name)
	}
	return rapid.MapOfN(rapid.SampledFrom(names), anyValue(depth-1), 0, 6).Draw(t, "attributes")
}

func TestDecodeNeverPanicsAndNeverShowsASecret(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := cty.ObjectVal(anyAttributes(t, 3))
		if rapid.Bool().Draw(t, "odd root") {
			v = anyValue(3).Draw(t, "root")
		}
		var into everything
		errs := body.Decode(v, &into)
		for _, e := range errs {
			_ = schema.FormatPath(e.Path)
		}
		if len(errs) == 0 {
			body.Encode(into)
		}
	})
}

func FuzzDecodeHCL(f *testing.F) {
	for _, seed := range []string{
		`name = "x"`, "name = secret.pw", "pool \"a\" {\n size = 1\n}", "disks = [{device = 1}]", "nodes = cluster.nodes",
		"name = null", "retry {}", `env = { (secret.pw) = "x" }`, `links = [for n in cluster.nodes : n.name]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, src string) {
		file, _ := hclsyntax.ParseConfig([]byte(src), "site.hcl", hcl.InitialPos)
		v, _ := hcldec.Decode(file.Body, body.Spec(), evalContext())
		var into everything
		for _, e := range body.Decode(v, &into) {
			require.NotContains(t, e.Error(), "hunter2!")
			body.RangeOf(file.Body, e.Path)
		}
	})
}
