package runbooks_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/runbooks"
)

// largeSite has 100 hosts and a runbook of 20 tasks, half of which depend on the host.
func largeSite() string {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, "host \"h%d\" {\n  address = \"10.0.%d.%d\"\n  vars    = { n = %d, site = \"a\" }\n}\n", i, i/250, i%250+1, i)
	}
	b.WriteString("runbook \"large\" {\n  hosts = \"all\"\n")
	for i := range 20 {
		run := fmt.Sprintf("echo %d", i)
		if i%2 == 0 {
			run += " ${self.name} ${self.vars.n}"
		}
		fmt.Fprintf(&b, "  task \"command\" \"t%d\" {\n    run   = \"%s\"\n    words = [\"a\", \"b\"]\n    when  = self.name != \"h5\"\n  }\n", i, run)
	}
	b.WriteString("}\n")
	return b.String()
}

func BenchmarkLoad(b *testing.B) {
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "site.hcl"), []byte(largeSite()), 0o600); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, diags := runbooks.Load(context.Background(), []string{dir}, runbooks.Options{Modules: testModules()}); diags.HasErrors() {
			b.Fatal(diags)
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	doc, diags := load(b, largeSite(), runbooks.Options{})
	if diags.HasErrors() {
		b.Fatal(diags)
	}
	rb, _ := doc.Runbook("large")
	for b.Loop() {
		for _, s := range rb.Steps {
			t := s.(*engine.Task)
			for i := range rb.Site.Hosts {
				sc := engine.Scope{Host: &rb.Site.Hosts[i]}
				if _, _, diags := t.When(sc); diags.HasErrors() {
					b.Fatal(diags)
				}
				if _, _, diags := t.Args(sc); diags.HasErrors() {
					b.Fatal(diags)
				}
			}
		}
	}
}
