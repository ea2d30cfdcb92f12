package runbooks_test

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/runbooks"
	"github.com/stretchr/testify/require"
)

func TestFormatGivesTheStandardForm(t *testing.T) {
	for name, c := range map[string]struct{ src, want string }{
		"alignment":            {"locals {\n a=1\n  long = 2\n}", "locals {\n  a    = 1\n  long = 2\n}\n"},
		"empty lines":          {"\n\nlocals {\n\n\n  a = 1\n\n\n\n  b = 2\n\n}\n\n\n\nlocals {\n}\n\n\n", "locals {\n  a = 1\n\n  b = 2\n}\n\nlocals {\n}\n"},
		"line ends":            {"\xef\xbb\xbflocals {\r\n  a = 1   \r\n}\r\n", "locals {\n  a = 1\n}\n"},
		"comments stay":        {"# one  \n/* two\n\n\n  three */\nlocals {\n  a = 1 # b\n}\n", "# one\n/* two\n\n\n  three */\nlocals {\n  a = 1 # b\n}\n"},
		"heredocs stay":        {"locals {\n  a = <<EOT\n\n\nx  \n\n\nEOT\n\n}\n", "locals {\n  a = <<EOT\n\n\nx  \n\n\nEOT\n}\n"},
		"nothing":              {"", "\n"},
		"only a block comment": {"/*\n\n\n*/\n\n\n", "/*\n\n\n*/\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, diags := runbooks.Format([]byte(c.src), "x.hcl")
			require.Empty(t, diags)
			if c.want == "\n" {
				c.want = ""
			}
			require.Equal(t, c.want, strings.TrimLeft(string(got), "\n"))
			again, _ := runbooks.Format(got, "x.hcl")
			require.Equal(t, string(got), string(again), "formatting twice")
		})
	}
}

func TestFormatLeavesFilesWithErrorsAlone(t *testing.T) {
	got, diags := runbooks.Format([]byte("locals {\n a = \n}"), "x.hcl")
	require.Nil(t, got)
	require.True(t, diags.HasErrors())
	require.Equal(t, "x.hcl", diags[0].Subject.Filename)
}

func FuzzFormat(f *testing.F) {
	f.Add("locals {\n\n a=1 # x\n}\n")
	f.Add("a = <<-EOT\n  x\n\n  ${b}\nEOT\n\n\nb {\n\n\n}")
	f.Add("/* a\n\n*/ b = [\n\n1,\n\n]\n")
	f.Fuzz(func(t *testing.T, src string) {
		got, diags := runbooks.Format([]byte(src), "x.hcl")
		if diags.HasErrors() {
			return
		}
		again, diags := runbooks.Format(got, "x.hcl")
		require.Empty(t, diags, "formatted text still parses")
		require.Equal(t, string(got), string(again), "formatting twice changes nothing more")
	})
}
