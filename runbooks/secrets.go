package runbooks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"filippo.io/age"
	"filippo.io/age/armor"
	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
)

// Limits of reading a secret.
const (
	maxSecret            = 1 << 20
	secretCommandTimeout = 30 * time.Second
)

var secretSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{
	{Name: "env"}, {Name: "file"}, {Name: "command"}, {Name: "age_file"}, {Name: "identity"}, {Name: "timeout"}, {Name: "description"},
}}

var secretSources = []string{"env", "file", "command", "age_file"}

// secretDecl is a secret block.
type secretDecl struct {
	name    string
	block   *hcl.Block
	content *hcl.BodyContent
	source  string // which of secretSources it has
	at      hcl.Range
}

// declareSecrets reads the secret blocks as far as that is possible without reading the secrets.
func (l *loader) declareSecrets() {
	for _, name := range l.decls.secrets.order {
		b := l.decls.secrets.byName[name]
		content, diags := contentOf(b, secretSchema)
		l.report(diags)
		s := &secretDecl{name: name, block: b, content: content, at: b.DefRange}
		var given []string
		for _, source := range secretSources {
			if attr, ok := content.Attributes[source]; ok {
				given, s.source, s.at = append(given, source), source, attr.Expr.Range()
			}
		}
		if len(given) != 1 && !diags.HasErrors() {
			why := "it has none"
			if len(given) > 1 {
				why = "it has " + enumerate(given)
			}
			l.report(diag.Error("One source needed", fmt.Sprintf("A secret is read from one of env, file, command and age_file; %s.", why), b.DefRange))
			s.source = ""
		}
		l.secretBy[name] = s
	}
}

// checkSecrets evaluates what the blocks say where to read, so that mistakes show even in secrets that nothing uses.
func (l *loader) checkSecrets() {
	for _, name := range l.decls.secrets.order {
		s := l.secretBy[name]
		l.secretSource(s)
		var d time.Duration
		l.attributes(s.content, constantScope).duration("timeout", &d)
	}
}

var constantScope = scope{constant: true}

// secretSource evaluates the attribute that says where the secret is: words of a command, or one text.
func (l *loader) secretSource(s *secretDecl) []string {
	a := l.attributes(s.content, constantScope)
	if s.source == "" {
		return nil
	}
	v, at, ok := a.value(s.source)
	if !ok {
		return nil
	}
	words, diags := textList(s.source, v, at)
	isList := !v.Type().IsPrimitiveType()
	switch {
	case diags.HasErrors():
		l.report(diags)
		return nil
	case s.source != "command" && isList:
		a.wrong(s.source, at, "a text", v)
		return nil
	case len(words) == 0 || words[0] == "":
		l.report(diag.Error("Empty source", fmt.Sprintf("%s is empty.", s.source), at))
		return nil
	case s.source == "command" && !isList:
		return []string{"sh", "-c", words[0]}
	}
	return words
}

// secretValue reads a secret, or gives an unknown in its place.
func (l *loader) secretValue(s *secretDecl) cty.Value {
	unknown := cty.UnknownVal(cty.String).Mark(secret.Mark)
	words := l.secretSource(s)
	if len(words) == 0 || !l.opts.ResolveSecrets {
		return unknown
	}
	a := l.attributes(s.content, constantScope)
	timeout, identity := secretCommandTimeout, ""
	a.duration("timeout", &timeout)
	a.text("identity", &identity)
	r := secretReader{around: l.around, dir: filepath.Dir(l.src.open(s.block.DefRange.Filename)), timeout: timeout, prompt: l.opts.Prompt}
	if l.optional {
		r.prompt = nil
	}
	raw, err := r.read(l.ctx, s.source, words, identity)
	if err != nil && l.optional {
		return unknown
	}
	if err == nil && !utf8.Valid(raw) {
		err = errors.New("it is no UTF-8 text")
	}
	if err != nil {
		l.report(diag.Error("Secret not read", fmt.Sprintf("The secret %q cannot be read: %v.", s.name, err), s.at))
		return unknown
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
	if text == "" {
		l.report(diag.Error("Secret is empty", fmt.Sprintf("The secret %q was read, but there is nothing in it.", s.name), s.at))
		return unknown
	}
	l.hidden.addText(text)
	l.secretText[s.name] = secret.New(text)
	return cty.StringVal(text).Mark(secret.Mark)
}

// secretReader reads secrets from this machine. None of its errors holds what it read.
type secretReader struct {
	around  surroundings
	dir     string
	timeout time.Duration
	prompt  func(ctx context.Context, question string) (string, error)
}

func (r secretReader) read(ctx context.Context, source string, words []string, identity string) ([]byte, error) {
	switch source {
	case "env":
		text, ok := r.around.env[words[0]]
		if !ok {
			return nil, fmt.Errorf("the environment variable %s is not set", words[0])
		}
		return []byte(text), nil
	case "file":
		return r.readFile(words[0])
	case "command":
		return r.run(ctx, words)
	default:
		return r.decrypt(ctx, words[0], identity)
	}
}

func (r secretReader) locate(p string) string {
	return fileReader{dir: r.dir, home: r.around.home}.locate(p)
}

func (r secretReader) readFile(p string) ([]byte, error) {
	f, err := os.Open(r.locate(p))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(raw) > maxSecret {
		err = fmt.Errorf("%s is larger than %d KiB", p, maxSecret>>10)
	}
	return raw, err
}

// run runs a program on this machine and takes what it prints.
func (r secretReader) run(ctx context.Context, argv []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...) //nolint:gosec // running this command is what the file asks for
	cmd.Dir = r.dir
	for name, value := range r.around.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.WaitDelay = time.Second // for children that keep the pipes open
	out := &capped{limit: maxSecret}
	cmd.Stdout = out
	err := cmd.Run()
	switch exit := (*exec.ExitError)(nil); {
	case ctx.Err() != nil && errors.Is(ctx.Err(), context.DeadlineExceeded):
		return nil, fmt.Errorf("its command did not end within %s", r.timeout)
	case errors.As(err, &exit):
		// What it printed may hold the secret, so it is not shown.
		return nil, fmt.Errorf("its command ended with status %d; run it by hand to see why", exit.ExitCode())
	case err != nil:
		return nil, fmt.Errorf("its command did not run: %w", err)
	case out.over:
		return nil, fmt.Errorf("its command printed more than %d KiB", maxSecret>>10)
	}
	return out.Bytes(), nil
}

// capped keeps the first bytes that are written to it.
type capped struct {
	bytes.Buffer
	limit int
	over  bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.Len()+len(p) > c.limit {
		c.over = true
		return len(p), nil
	}
	return c.Buffer.Write(p)
}

// identityVariable names the environment variable with the file of the age identity.
const identityVariable = "PXRUN_AGE_IDENTITY"

func (r secretReader) decrypt(ctx context.Context, path, identity string) ([]byte, error) {
	sealed, err := r.readFile(path)
	if err != nil {
		return nil, err
	}
	identities, err := r.identities(ctx, identity)
	if err != nil {
		return nil, err
	}
	var from io.Reader = bytes.NewReader(sealed)
	if bytes.HasPrefix(bytes.TrimSpace(sealed), []byte(armor.Header)) {
		from = armor.NewReader(from)
	}
	plain, err := age.Decrypt(from, identities...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	raw, err := io.ReadAll(io.LimitReader(plain, maxSecret+1))
	if err == nil && len(raw) > maxSecret {
		err = fmt.Errorf("%s holds more than %d KiB", path, maxSecret>>10)
	}
	return raw, err
}

// identities reads the age identity: from the attribute, the environment, or the usual place.
func (r secretReader) identities(ctx context.Context, path string) ([]age.Identity, error) {
	switch {
	case path != "":
	case r.around.env[identityVariable] != "":
		path = r.around.env[identityVariable]
	case r.around.env["XDG_CONFIG_HOME"] != "":
		path = filepath.Join(r.around.env["XDG_CONFIG_HOME"], "pxrun", "age.txt")
	default:
		path = "~/.config/pxrun/age.txt"
	}
	raw, err := r.readFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no age identity in %s; name its file with identity = \"…\" in the secret or with %s", path, identityVariable)
	}
	if err != nil {
		return nil, err
	}
	encrypted := bytes.HasPrefix(raw, []byte("age-encryption.org/")) || bytes.HasPrefix(bytes.TrimSpace(raw), []byte(armor.Header))
	if encrypted {
		if raw, err = r.unlock(ctx, path, raw); err != nil {
			return nil, err
		}
	}
	identities, err := age.ParseIdentities(bytes.NewReader(raw))
	if err != nil {
		// The cause could quote a line of the key.
		return nil, fmt.Errorf("%s holds no age identity: a line AGE-SECRET-KEY-1… is expected", path)
	}
	return identities, nil
}

func (r secretReader) unlock(ctx context.Context, path string, sealed []byte) ([]byte, error) {
	if r.prompt == nil {
		return nil, fmt.Errorf("the age identity %s has a passphrase, and there is no terminal to ask for it", path)
	}
	passphrase, err := r.prompt(ctx, fmt.Sprintf("Passphrase of the age identity %s: ", path))
	if err != nil {
		return nil, err
	}
	id, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return nil, err
	}
	var from io.Reader = bytes.NewReader(sealed)
	if bytes.HasPrefix(bytes.TrimSpace(sealed), []byte(armor.Header)) {
		from = armor.NewReader(from)
	}
	plain, err := age.Decrypt(from, id)
	if err != nil {
		return nil, fmt.Errorf("the age identity %s does not open with this passphrase", path)
	}
	return io.ReadAll(io.LimitReader(plain, maxSecret))
}
