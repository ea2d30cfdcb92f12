package schema_test

import (
	"testing"

	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
)

func TestRenderTemplate(t *testing.T) {
	vars := cty.ObjectVal(map[string]cty.Value{
		"name":  cty.StringVal("pve1"),
		"nodes": cty.TupleVal([]cty.Value{cty.StringVal("a"), cty.StringVal("b")}),
		"pw":    cty.StringVal("hunter2!").Mark(secret.Mark),
		"n":     cty.NumberIntVal(3),
	})
	for _, tt := range []struct{ name, src, want, problem string }{
		{"values", "host ${upper(name)}\n", "host PVE1\n", ""},
		{"loop", "%{ for n in nodes ~}\nserver ${n}\n%{ endfor ~}\n", "server a\nserver b\n", ""},
		{"a number alone", "${n}", "3", ""},
		{"plain text", "no variables, $${kept}", "no variables, ${kept}", ""},
		{"unknown name", "a\n${nme}", "", `motd:2: Unknown variable`},
		{"cut off", "${name", "", "motd:1: "},
		{"a list alone", "${nodes}", "", "motd: the template gives a list, not a text"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := schema.RenderTemplate("motd", tt.src, vars)
			if tt.problem != "" {
				require.ErrorContains(t, err, tt.problem)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.want, got.Reveal())
			require.False(t, got.Sensitive())
		})
	}
	got, err := schema.RenderTemplate("motd", "pw=${pw}", vars)
	require.NoError(t, err)
	require.True(t, got.Sensitive())
	require.Equal(t, "pw=hunter2!", got.Reveal())
	require.NotContains(t, got.String(), "hunter2!")
}

func TestMarkdownAndJSONDescribeEveryField(t *testing.T) {
	page := body.Markdown()
	text, err := body.JSON()
	require.NoError(t, err)
	for _, f := range append(body.Fields(), body.Blocks()...) {
		require.Contains(t, page, "| `"+f.Name+"` | "+f.Type+" |")
		require.Contains(t, string(text), `"`+f.Name+`": {`)
	}
	require.Contains(t, page, "| `count` | whole number | default `3` | How many. From 1 to 32. |")
	require.Contains(t, page, "### Block `pool \"<name>\"`")
	require.Contains(t, page, "### Objects of `disks`")
	require.Contains(t, string(text), `"default": 3,`)
	require.Contains(t, string(text), `"default": "2m",`)
	require.Contains(t, string(text), `"required": [
    "name"
  ]`)
}
