package system_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/stretchr/testify/require"
)

// tree describes a directory: path → "mode content", "mode/" or "-> target".
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := os.Lstat(path)
		require.NoError(t, err)
		name, _ := filepath.Rel(dir, path)
		switch {
		case d.IsDir():
			got[name] = fmt.Sprintf("%o/", info.Mode().Perm())
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			require.NoError(t, err)
			got[name] = "-> " + target
		default:
			text, err := os.ReadFile(path)
			require.NoError(t, err)
			got[name] = fmt.Sprintf("%o %s", info.Mode().Perm(), text)
		}
		return nil
	}))
	return got
}

func grow(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, what := range files {
		path := filepath.Join(dir, name)
		if target, ok := strings.CutPrefix(what, "-> "); ok {
			require.NoError(t, os.Symlink(target, path))
			continue
		}
		mode, text, isFile := strings.Cut(what, " ")
		var bits fs.FileMode
		_, err := fmt.Sscanf(strings.TrimSuffix(mode, "/"), "%o", &bits)
		require.NoError(t, err)
		if !isFile {
			require.NoError(t, os.Mkdir(path, bits))
			continue
		}
		require.NoError(t, os.WriteFile(path, []byte(text), bits))
		require.NoError(t, os.Chmod(path, bits))
	}
}

func TestFile(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before map[string]string
		args   string // P is the path of x
		plan   string // summary without the directory; "" for nothing to do
		shown  string // JSON of before and after
		after  map[string]string
	}{
		{"new", nil, `content = "hi\n"`, "create file x", `null "hi\n"`, map[string]string{"x": "644 hi\n"}},
		{"as wanted", map[string]string{"x": "640 hi"}, "content = \"hi\"\nmode = \"0640\"", "", "", map[string]string{"x": "640 hi"}},
		{"other content keeps its mode", map[string]string{"x": "600 a\n"}, `content = "b\n"`, "change content of x", `"a\n" "b\n"`, map[string]string{"x": "600 b\n"}},
		{"same size", map[string]string{"x": "644 a"}, `content = "b"`, "change content of x", `"a" "b"`, map[string]string{"x": "644 b"}},
		{"mode alone", map[string]string{"x": "644 a"}, "content = \"a\"\nmode = \"0600\"", "change mode of x", `{"mode":"0644"} {"mode":"0600"}`, map[string]string{"x": "600 a"}},
		{"content and mode", map[string]string{"x": "644 a"}, "content = \"b\"\nmode = \"0600\"", "change content, mode of x", `{"content":"a","mode":"0644"} {"content":"b","mode":"0600"}`, map[string]string{"x": "600 b"}},
		{"empty content", map[string]string{"x": "644 a"}, `content = ""`, "change content of x", `"a" ""`, map[string]string{"x": "644 "}},
		{"no content, missing", nil, `mode = "0600"`, "create file x", `null {"mode":"0600"}`, map[string]string{"x": "600 "}},
		{"no content, there", map[string]string{"x": "644 a"}, ``, "", "", map[string]string{"x": "644 a"}},
		{"binary is a digest", map[string]string{"x": "644 \x00\x01"}, `content = "b"`, "change content of x", `"2 bytes, sha256 b413f47d13ee" "1 bytes, sha256 3e23e8160039"`, map[string]string{"x": "644 b"}},
		{"secret is masked", map[string]string{"x": "644 old"}, `content = secret.pw`, "change content of x", `"(secret)" "(secret, another one)"`, map[string]string{"x": "644 s3cret-pw"}},
		{"new secret is 0600", nil, `content = secret.pw`, "create file x", `null {"content":"(secret)","mode":"0600"}`, map[string]string{"x": "600 s3cret-pw"}},
		{"backup", map[string]string{"x": "600 a"}, "content = \"b\"\nbackup = true", "change content of x", `"a" "b"`, map[string]string{"x": "600 b", "x.pxrun~": "600 a"}},
		{"directory", nil, "state = \"directory\"\nmode = \"0750\"", "create directory x", `null {"mode":"0750"}`, map[string]string{"x": "750/"}},
		{"directory mode", map[string]string{"x": "755/"}, "state = \"directory\"\nmode = \"0700\"", "change mode of x", `{"mode":"0755"} {"mode":"0700"}`, map[string]string{"x": "700/"}},
		{"link", nil, "state = \"link\"\ntarget = \"y z\"", "link x to y z", `null {"target":"y z"}`, map[string]string{"x": "-> y z"}},
		{"link to elsewhere", map[string]string{"x": "-> a"}, "state = \"link\"\ntarget = \"b\"", "change link of x", `{"state":"link","target":"a"} {"state":"link","target":"b"}`, map[string]string{"x": "-> b"}},
		{"link as wanted", map[string]string{"x": "-> a"}, "state = \"link\"\ntarget = \"a\"", "", "", map[string]string{"x": "-> a"}},
		{"file for link", map[string]string{"x": "-> a"}, "content = \"b\"\nforce = true", "change file of x", `{"state":"link","target":"a"} {"content":"b","state":"file"}`, map[string]string{"x": "644 b"}},
		{"absent", map[string]string{"x": "644 a"}, `state = "absent"`, "remove x", `{"size":1,"state":"file"} null`, map[string]string{}},
		{"absent already", nil, `state = "absent"`, "", "", map[string]string{}},
		{"absent link", map[string]string{"x": "-> a"}, `state = "absent"`, "remove x", `{"state":"link","target":"a"} null`, map[string]string{}},
		{"absent empty directory", map[string]string{"x": "755/"}, `state = "absent"`, "remove x", `{"state":"directory"} null`, map[string]string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target, l := local(t)
			dir := t.TempDir()
			grow(t, dir, tt.before)
			changes := testkit.Converge(t, get(t, "file"), target, fmt.Sprintf("path = %q\n%s", filepath.Join(dir, "x"), tt.args))
			require.Equal(t, tt.after, tree(t, dir))
			if tt.plan == "" {
				require.Empty(t, changes)
				require.Len(t, l.Calls(), 2, "one read for each plan")
				return
			}
			require.Len(t, changes, 1)
			require.Equal(t, tt.plan, strings.ReplaceAll(changes[0].Summary, dir+"/", ""))
			require.Equal(t, tt.shown, asJSON(t, changes[0].Before)+" "+asJSON(t, changes[0].After))
		})
	}
}

func TestFileIsNeverPutInThePlaceOfAnotherKindUnasked(t *testing.T) {
	for _, tt := range []struct{ name, before, args, problem string }{
		{"file on directory", "755/", `content = "a"`, "x is a directory, not a file: remove it first"},
		{"file on directory, forced", "755/", "content = \"a\"\nforce = true", "x is a directory, not a file: remove it first"},
		{"file on link", "-> elsewhere", `content = "a"`, "it points at elsewhere. Write that path, or force = true to replace the link"},
		{"directory on file", "644 a", `state = "directory"`, "x is a file, not a directory: remove it first"},
		{"link on file", "644 a", "state = \"link\"\ntarget = \"b\"", "x is a file, not a link: write force = true to replace it"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target, _ := local(t)
			dir := t.TempDir()
			grow(t, dir, map[string]string{"x": tt.before})
			_, err := testkit.TryPlan(t, get(t, "file"), target, fmt.Sprintf("path = %q\n%s", filepath.Join(dir, "x"), tt.args))
			require.ErrorContains(t, err, tt.problem)
		})
	}
	target, _ := local(t)
	dir := t.TempDir()
	grow(t, dir, map[string]string{"x": "755/"})
	grow(t, filepath.Join(dir, "x"), map[string]string{".hidden": "644 a"})
	_, err := testkit.TryPlan(t, get(t, "file"), target, fmt.Sprintf("path = %q\nstate = \"absent\"", filepath.Join(dir, "x")))
	require.ErrorContains(t, err, "is a directory with something in it")
}

func TestFileMakesParentsOnlyWhenToldTo(t *testing.T) {
	target, _ := local(t)
	dir := t.TempDir()
	args := fmt.Sprintf("path = %q\ncontent = \"x\"\n", filepath.Join(dir, "a/b/c"))
	require.Error(t, testkit.Apply(t.Context(), target, testkit.Plan(t, get(t, "file"), target, args)))
	testkit.Converge(t, get(t, "file"), target, args+"parents = true")
	require.Contains(t, tree(t, dir), "a/b/c")
}

func TestFileFromALargeLocalOneIsStreamedAndShownAsADigest(t *testing.T) {
	target, _ := local(t)
	dir := t.TempDir()
	large := strings.Repeat("0123456789abcdef\n", 100_000)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "source"), []byte(large), 0o600))
	args := fmt.Sprintf("path = %q\nsource = %q", filepath.Join(dir, "x"), filepath.Join(dir, "source"))
	changes := testkit.Converge(t, get(t, "file"), target, args)
	require.Contains(t, asJSON(t, changes[0].After), "1700000 bytes, sha256 ")
	text, err := os.ReadFile(filepath.Join(dir, "x"))
	require.NoError(t, err)
	require.True(t, large == string(text))

	for _, source := range []string{"/nonexistent/x", dir} {
		_, err = testkit.TryPlan(t, get(t, "file"), target, fmt.Sprintf("path = \"/tmp/x\"\nsource = %q", source))
		require.ErrorContains(t, err, "source: ")
	}
}

func TestFileThatChangesBetweenPlanAndApplyIsNotSentHalf(t *testing.T) {
	target, _ := local(t)
	dir := t.TempDir()
	source := filepath.Join(dir, "source")
	require.NoError(t, os.WriteFile(source, []byte(strings.Repeat("x", 100_000)), 0o600))
	changes := testkit.Plan(t, get(t, "file"), target, fmt.Sprintf("path = %q\nsource = %q", filepath.Join(dir, "x"), source))
	require.NoError(t, os.WriteFile(source, []byte(strings.Repeat("x", 90_000)), 0o600))
	require.ErrorContains(t, testkit.Apply(t.Context(), target, changes), "changed while it was sent")
	require.NoFileExists(t, filepath.Join(dir, "x"))
}

func TestFileSetsOwnerAndSpecialModes(t *testing.T) {
	target, _ := local(t)
	dir := t.TempDir()
	args := fmt.Sprintf("path = %q\ncontent = \"x\"\nowner = \"nobody\"\ngroup = \"nogroup\"\nmode = \"4755\"", filepath.Join(dir, "x"))
	changes := testkit.Converge(t, get(t, "file"), target, args)
	require.Contains(t, asJSON(t, changes[0].After), `"mode":"4755","owner":"nobody:nogroup"`)
	info, err := os.Stat(filepath.Join(dir, "x"))
	require.NoError(t, err)
	require.Equal(t, fs.ModeSetuid|0o755, info.Mode())

	args = fmt.Sprintf("path = %q\nowner = \"0\"\nmode = \"4750\"", filepath.Join(dir, "x"))
	changes = testkit.Converge(t, get(t, "file"), target, args)
	require.Equal(t, "change mode, owner of "+filepath.Join(dir, "x"), changes[0].Summary)
	m := get(t, "file")
	out := m.Outputs().Encode(testkit.Read(t, m, target, args))
	require.Equal(t, "root", out.GetAttr("owner").AsString())
	require.Equal(t, "4750", out.GetAttr("mode").AsString())
}

func TestFileRefusesWhatTheClusterHangsOn(t *testing.T) {
	for _, path := range []string{
		"/etc/corosync/corosync.conf", "/etc/pve/corosync.conf", "/etc/pve/corosync.conf.new", "/etc/corosync/authkey", "/etc/pve/priv/authorized_keys",
		"/etc/pve/priv/lock/x", "/please-remove-proxmox-ve", "/var/lib/pve-cluster/config.db",
	} {
		target := testkit.NewTarget(t, "pve1", testkit.NewConn(t, "pve1")) // answers nothing: a refusal needs no read
		args := testkit.Args(t, get(t, "file"), fmt.Sprintf("path = %q\nstate = \"absent\"", path))
		_, err := get(t, "file").Plan(t.Context(), target, args)
		requireRefusal(t, err, "refused: change "+path)
	}
	target := testkit.NewTarget(t, "pve1", testkit.NewConn(t, "pve1"))
	for _, path := range []string{"nodes/pve1/qemu-server/100.conf", "local/lxc/101.conf", "qemu-server/100.conf"} {
		_, err := get(t, "file").Plan(t.Context(), target, testkit.Args(t, get(t, "file"), "path = \"/etc/pve/"+path+"\"\nstate = \"absent\""))
		requireRefusal(t, err, "qm destroy")
	}
}

func TestFileInPmxcfsIsPutWithoutModeAndOwner(t *testing.T) {
	conn := testkit.NewConn(t, "pve1").OnOutput("sha256sum", "absent\n")
	target := testkit.NewTarget(t, "pve1", conn)
	changes := testkit.Plan(t, get(t, "file"), target, "path = \"/etc/pve/notes.txt\"\ncontent = secret.x")
	require.NoError(t, testkit.Apply(t.Context(), target, changes))
	put := conn.Files()["/etc/pve/notes.txt"]
	require.Equal(t, "s3cret-x", put.Text)
	require.Zero(t, put.Mode)
	require.Empty(t, put.Owner)
	require.Empty(t, conn.Mutations(), "no chmod, no chown")
}

func TestTemplateRendersAndHidesWhatIsSecret(t *testing.T) {
	target, _ := local(t)
	dir := t.TempDir()
	source := filepath.Join(dir, "x.tmpl")
	require.NoError(t, os.WriteFile(source, []byte("name ${name}\n%{ for s in servers ~}\nserver ${s}\n%{ endfor ~}\n"), 0o600))
	args := func(name string) string {
		return fmt.Sprintf("path = %q\nsource = %q\nvars = { name = %s, servers = [\"192.0.2.1\", \"192.0.2.2\"] }", filepath.Join(dir, "x"), source, name)
	}
	changes := testkit.Converge(t, get(t, "template"), target, args(`"pve1"`))
	require.Equal(t, `"name pve1\nserver 192.0.2.1\nserver 192.0.2.2\n"`, asJSON(t, changes[0].After))

	changes = testkit.Converge(t, get(t, "template"), target, args("secret.name"))
	require.NotContains(t, asJSON(t, changes), "s3cret")
	text, err := os.ReadFile(filepath.Join(dir, "x"))
	require.NoError(t, err)
	require.Contains(t, string(text), "name s3cret-name\n")

	_, err = testkit.TryPlan(t, get(t, "template"), target, fmt.Sprintf("path = \"/tmp/x\"\nsource = %q", source))
	require.ErrorContains(t, err, "x.tmpl:1: Unknown variable")
}

func TestRiskOfFileChanges(t *testing.T) {
	target, _ := local(t)
	dir := t.TempDir()
	grow(t, dir, map[string]string{"x": "644 a"})
	risk := func(args string) module.Risk {
		return testkit.Plan(t, get(t, "file"), target, fmt.Sprintf("path = %q\n%s", filepath.Join(dir, "x"), args))[0].Risk
	}
	require.Equal(t, module.RiskDestructive, risk(`state = "absent"`))
	require.Equal(t, module.RiskNone, risk("state = \"absent\"\nbackup = true"))
	require.Equal(t, module.RiskNone, risk(`content = "b"`))
}
