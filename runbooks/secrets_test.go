package runbooks_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/stretchr/testify/require"
)

const usesSecret = `
host "h" {
  address = "192.0.2.1"
  ssh { password = secret.s }
}
runbook "r" {
  hosts = host.h
  task "command" "c" {
    run   = "x"
    token = secret.s
  }
}
`

// seal encrypts a text for an identity.
func seal(t *testing.T, text string, armored bool, to ...age.Recipient) string {
	t.Helper()
	var out bytes.Buffer
	var w = struct{ close func() error }{func() error { return nil }}
	dst := &out
	if armored {
		a := armor.NewWriter(dst)
		enc, err := age.Encrypt(a, to...)
		require.NoError(t, err)
		_, err = enc.Write([]byte(text))
		require.NoError(t, err)
		require.NoError(t, enc.Close())
		w.close = a.Close
	} else {
		enc, err := age.Encrypt(dst, to...)
		require.NoError(t, err)
		_, err = enc.Write([]byte(text))
		require.NoError(t, err)
		require.NoError(t, enc.Close())
	}
	require.NoError(t, w.close())
	return out.String()
}

func TestSecretsAreReadFromTheirSource(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	passphrase, err := age.NewScryptRecipient("open sesame")
	require.NoError(t, err)
	passphrase.SetWorkFactor(10)
	files := map[string]string{
		"plain.txt":   "hunter2\n",
		"two.txt":     "line one\nline two\n\n",
		"key.txt":     "# a key\n" + id.String() + "\n",
		"sealed.age":  seal(t, "hunter2\n", false, id.Recipient()),
		"armored.age": seal(t, "hunter2", true, id.Recipient()),
		"locked.txt":  seal(t, id.String(), false, passphrase),
		"sub/key.txt": id.String(),
	}
	for name, c := range map[string]struct{ block, env, want string }{
		"env":                             {`env = "S"`, "S=hunter2", "hunter2"},
		"file":                            {`file = "plain.txt"`, "", "hunter2"},
		"only one newline is taken":       {`file = "two.txt"`, "", "line one\nline two\n"},
		"shell command":                   {`command = "printf '%s\n' hunter2 | cat"`, "PATH=/usr/bin:/bin", "hunter2"},
		"words of a command":              {`command = ["printf", "%s", "a  b"]`, "PATH=/usr/bin:/bin", "a  b"},
		"command in the file's folder":    {`command = "cat plain.txt"`, "PATH=/usr/bin:/bin", "hunter2"},
		"age with an identity":            {"age_file = \"sealed.age\"\n  identity = \"key.txt\"", "", "hunter2"},
		"age, armored, environment":       {`age_file = "armored.age"`, "PXRUN_AGE_IDENTITY=key.txt", "hunter2"},
		"age, identity with a passphrase": {"age_file = \"armored.age\"\n  identity = \"locked.txt\"", "", "hunter2"},
	} {
		t.Run(name, func(t *testing.T) {
			all := map[string]string{"site.hcl": fmt.Sprintf("secret \"s\" {\n  %s\n}\n", c.block) + usesSecret}
			for n, text := range files {
				all[n] = text
			}
			doc, diags := loadFiles(t, all, runbooks.Options{ResolveSecrets: true, Environ: []string{c.env},
				Prompt: func(_ context.Context, question string) (string, error) {
					require.Contains(t, question, "locked.txt")
					return "open sesame", nil
				}})
			require.Empty(t, show(diags, doc.Files))
			h, _ := doc.Site.Host("h")
			require.Equal(t, c.want, h.SSH.Password.Reveal())
			rb, _ := doc.Runbook("r")
			require.Equal(t, c.want, argsOf[commandArgs](t, rb, "c", "h", nil).Token.Reveal())
			require.Len(t, doc.Secrets, 1)
			require.Equal(t, c.want, doc.Secrets[0].Reveal())
		})
	}
}

func TestSecretsThatCannotBeRead(t *testing.T) {
	id, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	other, err := age.GenerateX25519Identity()
	require.NoError(t, err)
	files := map[string]string{
		"empty.txt": "\n", "sealed.age": seal(t, "hunter2", false, id.Recipient()), "other.txt": other.String(), "bad.txt": "hunter2",
	}
	for name, c := range map[string]struct{ block, want string }{
		"no variable":    {`env = "S"`, `The secret "s" cannot be read: the environment variable S is not set.`},
		"no file":        {`file = "nothing.txt"`, `no such file or directory`},
		"empty":          {`file = "empty.txt"`, `The secret "s" was read, but there is nothing in it.`},
		"failing":        {`command = "echo hunter2 >&2; exit 3"`, `its command ended with status 3; run it by hand to see why`},
		"no program":     {`command = ["no-such-program"]`, `its command did not run`},
		"hanging":        {"command = \"sleep 60\"\n  timeout = \"50ms\"", `its command did not end within 50ms`},
		"no identity":    {`age_file = "sealed.age"`, `there is no age identity in ~/.config/pxrun/age.txt; name its file`},
		"wrong identity": {"age_file = \"sealed.age\"\n  identity = \"other.txt\"", `did not match any of the recipients`},
		"no key":         {"age_file = \"sealed.age\"\n  identity = \"bad.txt\"", `bad.txt holds no age identity`},
	} {
		t.Run(name, func(t *testing.T) {
			all := map[string]string{"site.hcl": fmt.Sprintf("secret \"s\" {\n  %s\n}\n", c.block) + usesSecret}
			for n, text := range files {
				all[n] = text
			}
			doc, diags := loadFiles(t, all, runbooks.Options{ResolveSecrets: true, Environ: []string{"PATH=/usr/bin:/bin"}})
			text := show(diags, doc.Files)
			require.Len(t, diags, 1, text)
			require.Contains(t, text, c.want)
			require.NotContains(t, text, "hunter2\n")
			require.Contains(t, text, "site.hcl:2")
		})
	}
}

func TestSecretsAreReadOnlyWhenAskedForAndUsed(t *testing.T) {
	src := `secret "s" { command = "echo x >> ran" }
secret "unused" { command = "echo x >> ran" }
` + usesSecret
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "site.hcl"), []byte(src), 0o600))
	o := runbooks.Options{Modules: testModules(), BaseDir: dir, Environ: []string{"PATH=/usr/bin:/bin"}}
	doc, diags := runbooks.Load(context.Background(), []string{"site.hcl"}, o)
	require.Empty(t, diags)
	require.NoFileExists(t, filepath.Join(dir, "ran"))
	require.Empty(t, doc.Secrets)
	rb, _ := doc.Runbook("r")
	_, unknown, _ := findTask(rb.Steps, "c").Args(scopeOf(t, rb, "h", nil))
	require.NotNil(t, unknown, "a secret that was not read is not known")

	o.ResolveSecrets = true
	_, _ = runbooks.Load(context.Background(), []string{"site.hcl"}, o)
	ran, err := os.ReadFile(filepath.Join(dir, "ran"))
	require.NoError(t, err)
	require.Equal(t, "x\n", string(ran))
}

func TestSecretsOfOtherRunbooksAreLeftAlone(t *testing.T) {
	files := map[string]string{"site.hcl": `
secret "here" { env = "HERE" }
secret "there" { env = "THERE" }
host "h" { address = "192.0.2.1" }
runbook "one" {
  task "command" "c" {
    hosts = [host.h]
    run   = "true"
    token = secret.here
  }
}
runbook "two" {
  task "command" "c" {
    hosts = [host.h]
    run   = "true"
    token = secret.there
  }
}`}
	o := runbooks.Options{ResolveSecrets: true, Environ: []string{"HERE=word"}}
	_, diags := loadFiles(t, files, o)
	require.True(t, diags.HasErrors(), "all runbooks' secrets are wanted")

	o.SecretsOf = []string{"one"}
	doc, diags := loadFiles(t, files, o)
	require.Empty(t, diags)
	require.Len(t, doc.Secrets, 1)

	o.SecretsOf, o.Environ = []string{}, nil
	doc, diags = loadFiles(t, files, o)
	require.Empty(t, diags)
	require.Empty(t, doc.Secrets)
}

func TestAPromptThatIsRefusedIsAnError(t *testing.T) {
	r, err := age.NewScryptRecipient("x")
	require.NoError(t, err)
	r.SetWorkFactor(10)
	files := map[string]string{
		"site.hcl":   "secret \"s\" {\n  age_file = \"locked.txt\"\n  identity = \"locked.txt\"\n}\n" + usesSecret,
		"locked.txt": seal(t, "x", false, r),
	}
	for want, prompt := range map[string]func(context.Context, string) (string, error){
		"there is no terminal to ask for it": nil,
		"no, thank you":                      func(context.Context, string) (string, error) { return "", errors.New("no, thank you") },
		"does not open with this passphrase": func(context.Context, string) (string, error) { return "wrong", nil },
	} {
		_, diags := loadFiles(t, files, runbooks.Options{ResolveSecrets: true, Prompt: prompt})
		require.Len(t, diags, 1)
		require.Contains(t, diags[0].Detail, want)
	}
}

func TestLoadEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "site.hcl"), []byte(`secret "s" { command = "sleep 60" }`+usesSecret), 0o600))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	start := time.Now()
	_, diags := runbooks.Load(ctx, []string{"site.hcl"}, runbooks.Options{BaseDir: dir, Modules: testModules(), ResolveSecrets: true, Environ: []string{"PATH=/usr/bin:/bin"}})
	require.True(t, diags.HasErrors())
	require.Less(t, time.Since(start), 20*time.Second)
}
