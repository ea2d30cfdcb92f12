package runbooks_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func loadFiles(t testing.TB, files map[string]string, o runbooks.Options) (*runbooks.Document, diag.List) {
	t.Helper()
	o.BaseDir = t.TempDir()
	for name, text := range files {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(o.BaseDir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(o.BaseDir, name), []byte(text), 0o600))
	}
	if len(o.Modules.Names()) == 0 {
		o.Modules = testModules()
	}
	return runbooks.Load(context.Background(), []string{"."}, o)
}

func TestFilesThatAreNoSourceAreRefusedQuickly(t *testing.T) {
	large := strings.Repeat("# a comment that goes on and on\n", 10<<20/32)
	for name, c := range map[string]struct{ text, want string }{
		"10 MB":                    {large, "File too large"},
		"NUL byte":                 {"locals {\n  a = \"\x00\"\n}", "Not a text file"},
		"UTF-16":                   {"\xff\xfel\x00o\x00", "Not UTF-8"},
		"invalid UTF-8":            {"locals { a = \"\xc3\x28\" }", "Invalid character encoding"},
		"deep brackets":            {"locals { a = " + strings.Repeat("[", 100000), "Nested too deeply"},
		"deep parentheses":         {"locals { a = " + strings.Repeat("(", 100000), "Nested too deeply"},
		"deep blocks":              {strings.Repeat("a {\n", 100000), "Nested too deeply"},
		"deep templates":           {"locals { a = " + strings.Repeat(`"${`, 100000), "Nested too deeply"},
		"many operators":           {"locals { a = " + strings.Repeat("!", 100000) + "true }", "Expression too long"},
		"many operators over many": {"locals { a = (1\n" + strings.Repeat("+ 1\n", 100000) + ") }", "Expression too long"},
		"many indexes":             {"locals { a = b" + strings.Repeat("[0]", 100000) + " }", "Expression too long"},
		"many conditionals":        {"locals { a = " + strings.Repeat("true ? 1 : ", 20000) + "2 }", "Expression too long"},
		"many directives":          {"locals { a = \"" + strings.Repeat("%{ if true }", 20000) + "\" }", "Expression too long"},
		"huge number":              {"locals { a = \"${1e999999999}\" }", "Number too large"},
	} {
		t.Run(name, func(t *testing.T) {
			doc, diags := load(t, c.text, runbooks.Options{})
			require.True(t, diags.HasErrors())
			require.Equal(t, c.want, diags[0].Summary)
			require.NotNil(t, doc)
		})
	}
}

func TestManyLinesAreNoDepth(t *testing.T) {
	var b strings.Builder
	b.WriteString("locals {\n")
	for i := range 5000 {
		fmt.Fprintf(&b, "  l%d = [%d - 1, { a = -%d }]\n", i, i, i)
	}
	b.WriteString("}\n")
	_, diags := load(t, b.String(), runbooks.Options{})
	require.Empty(t, diags)
}

func TestPathsAreFilesOrFolders(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	write("site/b.hcl", `host "b" { address = "192.0.2.2" }`)
	write("site/a.hcl", `host "a" { address = "192.0.2.1" }`)
	write("site/.hidden.hcl", `broken`)
	write("site/note.txt", `broken`)
	write("site/inner/c.hcl", `broken`)
	write("one.hcl", "\xef\xbb\xbfhost \"c\" {\r\n  address = \"192.0.2.3\"\r\n}\r\n")
	write("empty/x.txt", "")

	doc, diags := runbooks.Load(context.Background(), []string{"one.hcl", "site", "site/a.hcl"}, runbooks.Options{BaseDir: dir})
	require.Empty(t, diags)
	require.Equal(t, []string{"one.hcl", "site/a.hcl", "site/b.hcl"}, doc.Names)
	var names []string
	for _, h := range doc.Site.Hosts {
		names = append(names, h.Name)
	}
	require.Equal(t, []string{"c", "a", "b"}, names)
	require.Empty(t, doc.DefaultRunbook())

	for path, want := range map[string]string{"missing": "No such file", "empty": "Empty folder"} {
		_, diags := runbooks.Load(context.Background(), []string{path}, runbooks.Options{BaseDir: dir})
		require.Len(t, diags, 1)
		require.Equal(t, want, diags[0].Summary)
	}
	_, diags = runbooks.Load(context.Background(), nil, runbooks.Options{})
	require.Equal(t, "No files", diags[0].Summary)
}

func TestCarriageReturnsDoNotReachScripts(t *testing.T) {
	doc, diags := load(t, "runbook \"r\" {\r\n  hosts = \"h\"\r\n  task \"command\" \"c\" {\r\n    run = <<EOT\r\na\r\nb\r\nEOT\r\n  }\r\n}\r\nhost \"h\" { address = \"192.0.2.1\" }\r\n", runbooks.Options{})
	require.Empty(t, diags)
	rb, _ := doc.Runbook("r")
	require.Equal(t, "a\nb\n", argsOf[commandArgs](t, rb, "c", "h", nil).Run)
}

func TestUnknownRunbookIsSuggested(t *testing.T) {
	doc, diags := load(t, `host "h" { address = "192.0.2.1" }
runbook "upgrade" {
  hosts = host.h
  task "command" "c" { run = "true" }
}`, runbooks.Options{})
	require.Empty(t, diags)
	require.Equal(t, "upgrade", doc.DefaultRunbook())
	_, diags = doc.Runbook("upgarde")
	require.Equal(t, `There is no runbook "upgarde". Did you mean "upgrade"?`, diags[0].Detail)
}

func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"problems", "sites"} {
		files, _ := filepath.Glob(filepath.Join("testdata", pattern, "*.txtar"))
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			_, site, _ := strings.Cut(string(text), ".hcl --\n")
			site, _, _ = strings.Cut(site, "\n-- ")
			f.Add(site)
			f.Add(site[:len(site)/2])
		}
	}
	for _, seed := range []string{
		"", "{", "}", "locals {\n a = a\n}", "locals { a = { for k, v in local.b : k => v... } }", "ssh { jump = [[[]]] }",
		`cluster "a" { node "b" { links = null } }`, `runbook "r" { parallel { parallel { } } }`, `variable "v" { type = list(object({a=optional(any,{})})) }`,
		`host "h" { address = cluster.x.y[0].z }`, `group "g" { hosts = [null, [], {}] }`, `secret "s" { command = [] }`,
		`runbook "r" { rolling "x" { over = task.a.results } }`, `locals { a = templatefile("x", null) }`, `locals { b = cidrsubnets("10.0.0.0/8", 40, -1) }`,
		`locals { c = lookup({}, null, null), d = coalesce() }`, `pxrun { required_version = "" }`,
		`host "h" { address = "192.0.2.1" }
runbook "r" {
  hosts = host.h
  task "command" "c" {
    for_each = toset(["a"])
    run = "${each.value} ${self.facts[task.d]} ${jsonencode(self)}"
    when = [for x in task : x]
  }
}`,
	} {
		f.Add(seed)
	}
	modules := testModules()
	f.Fuzz(func(t *testing.T, src string) {
		file := filepath.Join(t.TempDir(), "site.hcl")
		require.NoError(t, os.WriteFile(file, []byte(src), 0o600))
		doc, diags := runbooks.Load(context.Background(), []string{file}, runbooks.Options{Modules: modules})
		require.NotNil(t, doc)
		if !diags.HasErrors() {
			require.NotEmpty(t, doc.Digest(nil))
		}
	})
}

func TestEndlessProblemsAreCutShort(t *testing.T) {
	_, diags := load(t, strings.Repeat("nonsense {}\n", 500), runbooks.Options{})
	require.Len(t, diags, 101)
	require.Equal(t, "There are 400 more problems, which are not shown.", diags[100].Detail)
	require.True(t, diags.HasErrors())
}

func TestATextThatIsNotUTF8IsToldOnce(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "latin1.hcl"), []byte("locals { name = \"M\xfcller\" }\n"), 0o600))
	_, diags := runbooks.Load(t.Context(), []string{dir}, runbooks.Options{})
	require.Len(t, diags, 1)
	require.Contains(t, diags[0].Detail, "UTF-8")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "latin1.hcl"), nil, 0o600))
	_, diags = runbooks.Load(t.Context(), []string{dir}, runbooks.Options{})
	require.Len(t, diags, 1)
	require.Equal(t, "Empty site", diags[0].Summary)
	require.False(t, diags.HasErrors())
}
