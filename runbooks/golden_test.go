package runbooks_test

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/rogpeppe/go-internal/txtar"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

// archiveCase is one txtar file: the files of a site, "options" (lines such as --var a=b), and what is expected.
type archiveCase struct {
	archive *txtar.Archive
	dir     string
	opts    runbooks.Options
	paths   []string
}

func readCase(t *testing.T, file string) *archiveCase {
	t.Helper()
	a, err := txtar.ParseFile(file)
	require.NoError(t, err)
	c := &archiveCase{archive: a, dir: t.TempDir(), opts: runbooks.Options{Modules: testModules(), Facts: testFacts, Now: func() time.Time {
		return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	}}}
	c.opts.BaseDir = c.dir
	for _, f := range a.Files {
		switch f.Name {
		case "want":
		case "options":
			c.readOptions(t, f.Data)
		default:
			path := filepath.Join(c.dir, f.Name)
			require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
			require.NoError(t, os.WriteFile(path, f.Data, 0o644))
			if filepath.Ext(f.Name) == ".hcl" && filepath.Dir(f.Name) == "." {
				c.paths = append(c.paths, f.Name)
			}
		}
	}
	return c
}

func (c *archiveCase) readOptions(t *testing.T, text []byte) {
	t.Helper()
	for line := range strings.Lines(string(text)) {
		flag, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch flag {
		case "":
		case "--var":
			a, err := runbooks.ParseAssignment(value)
			require.NoError(t, err)
			c.opts.Vars = append(c.opts.Vars, a)
		case "--var-file":
			c.opts.VarFiles = append(c.opts.VarFiles, value)
		case "env":
			c.opts.Environ = append(c.opts.Environ, value)
		case "version":
			c.opts.Version = value
		case "secrets":
			c.opts.ResolveSecrets = true
		default:
			t.Fatalf("unknown option %q", flag)
		}
	}
}

func (c *archiveCase) load(t *testing.T) (*runbooks.Document, diag.List) {
	t.Helper()
	return runbooks.Load(context.Background(), c.paths, c.opts)
}

// compare holds a text against the section "want" of the archive.
func (c *archiveCase) compare(t *testing.T, file, got string) {
	t.Helper()
	got = strings.ReplaceAll(got, c.dir, "DIR")
	if *update {
		files := c.archive.Files[:0:0]
		for _, f := range c.archive.Files {
			if f.Name != "want" {
				files = append(files, f)
			}
		}
		c.archive.Files = append(files, txtar.File{Name: "want", Data: []byte(got)})
		require.NoError(t, os.WriteFile(file, txtar.Format(c.archive), 0o644))
		return
	}
	var want string
	for _, f := range c.archive.Files {
		if f.Name == "want" {
			want = string(f.Data)
		}
	}
	require.Equal(t, want, got)
}

func cases(t *testing.T, pattern string, run func(t *testing.T, file string, c *archiveCase)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern, "*.txtar"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			run(t, file, readCase(t, file))
		})
	}
}

// show prints diagnostics with the text that they point at.
func show(diags diag.List, files map[string]*hcl.File) string {
	var b bytes.Buffer
	for _, d := range diags {
		kind := "error"
		if d.Severity == hcl.DiagWarning {
			kind = "warning"
		}
		fmt.Fprintf(&b, "%s: %s\n", kind, d.Summary)
		if d.Subject != nil {
			fmt.Fprintf(&b, "  at %s:%d,%d", d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column)
			if f := files[d.Subject.Filename]; f != nil && d.Subject.CanSliceBytes(f.Bytes) {
				text, _, more := strings.Cut(string(d.Subject.SliceBytes(f.Bytes)), "\n")
				if more {
					text += " …"
				}
				fmt.Fprintf(&b, " %s", text)
			}
			b.WriteByte('\n')
		}
		s := bufio.NewScanner(strings.NewReader(d.Detail))
		for s.Scan() {
			fmt.Fprintf(&b, "  %s\n", s.Text())
		}
	}
	return b.String()
}

func TestProblemsAreFoundInOneGo(t *testing.T) {
	cases(t, "problems", func(t *testing.T, file string, c *archiveCase) {
		doc, diags := c.load(t)
		require.NotEmpty(t, diags)
		c.compare(t, file, show(diags, doc.Files))
	})
}
