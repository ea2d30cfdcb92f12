package runbooks_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/pxrun/pxrun/runbooks"
	"github.com/stretchr/testify/require"
)

func TestDigestChangesWithWhatAPlanRestsOn(t *testing.T) {
	const src = `variable "v" { default = "a" }
variable "hidden" {
  default   = "a"
  sensitive = true
}
secret "s" { env = "S" }
locals { text = file("text.txt") }
` + usesSecret
	files := func(site, text string) map[string]string {
		return map[string]string{"site.hcl": site, "text.txt": text}
	}
	digest := func(files map[string]string, key string, env string, vars ...runbooks.Assignment) string {
		doc, diags := loadFiles(t, files, runbooks.Options{ResolveSecrets: true, Environ: []string{"S=" + env}, Vars: vars})
		require.Empty(t, show(diags, doc.Files))
		return doc.Digest([]byte(key))
	}
	base := digest(files(src, "t"), "key", "x")
	require.Len(t, base, 64)
	require.NotEqual(t, base, digest(files(src+"# more\n", "t"), "key", "x"))
	require.NotEqual(t, base, digest(files(src, "t"), "key", "y"), "another secret")
	require.NotEqual(t, base, digest(files(src, "t"), "other key", "x"))
	require.NotEqual(t, base, digest(files(src, "t"), "key", "x", runbooks.Assignment{Name: "v", Value: "b"}))
	require.NotEqual(t, base, digest(files(src, "t"), "key", "x", runbooks.Assignment{Name: "hidden", Value: "b"}))
	require.NotEqual(t, base, digest(files(src, "u"), "key", "x"), "a file that is read")
	require.Equal(t, base, digest(files(src, "t"), "key", "x"))
	require.Equal(t, digest(files(src, "t"), "", "x"), digest(files(src, "t"), "", "y"), "without a key, secrets are left out")
}

func TestDigestChangesWithNestedArguments(t *testing.T) {
	digest := func(size, nodes string) string {
		doc, diags := loadFiles(t, map[string]string{"site.hcl": `host "web" { address = "198.51.100.21" }
variable "nodes" { type = map(number) }
runbook "site" {
  hosts = [host.web]
  task "ceph_init" "s" {
    network = "x"
    scores  = var.nodes
    pool "vm" { size = ` + size + ` }
  }
}`}, runbooks.Options{Modules: testModules(), Vars: []runbooks.Assignment{{Name: "nodes", Value: nodes}}})
		require.Empty(t, show(diags, doc.Files))
		return doc.Digest([]byte("key"))
	}
	base := digest("3", "{ web = 1 }")
	require.Equal(t, base, digest("3", "{ web = 1 }"))
	require.NotEqual(t, base, digest("4", "{ web = 1 }"))
	require.NotEqual(t, base, digest("3", "{ web = 2 }"))
}

func TestDigestDoesNotDependOnHowTheFilesAreNamed(t *testing.T) {
	site := filepath.Join(t.TempDir(), "site")
	require.NoError(t, os.Mkdir(site, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(site, "site.hcl"), []byte(`locals { text = file("text.txt") }`), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(site, "text.txt"), []byte("t"), 0o600))
	digest := func(base, path string) string {
		doc, diags := runbooks.Load(context.Background(), []string{path}, runbooks.Options{BaseDir: base})
		require.Empty(t, diags)
		return doc.Digest([]byte("key"))
	}
	want := digest("", site)
	require.Equal(t, want, digest(site, "."))
	require.Equal(t, want, digest(site, "site.hcl"))
	require.Equal(t, want, digest(filepath.Dir(site), "site"))
	t.Chdir(filepath.Dir(site))
	require.Equal(t, want, digest("", "site"))
	require.Equal(t, want, digest("", "./site/site.hcl"))
}
