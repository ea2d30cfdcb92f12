package machine

import (
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/pxrun/pxrun/lab/vfs"
)

// prepareExpansion ties word expansion to this shell.
func (s *shell) prepareExpansion() {
	s.cfg = expand.Config{
		Env: shellEnv{s}, CmdSubst: s.commandSubstitution, ReadDir2: s.readDir, NoUnset: s.opts.nounset,
	}
	if s.opts.noglob {
		s.cfg.ReadDir2 = nil
	}
}

// expansionError carries a failed expansion out of the expander.
type expansionError struct{ text string }

func (e expansionError) Error() string { return e.text }

// fields expands words to arguments. ok is false after a failed expansion, which was reported and ends the shell.
func (s *shell) fields(words []*syntax.Word) (fields []string, ok bool) {
	fields, simple := literalFields(words)
	var err error
	if !simple {
		fields, err = expand.Fields(&s.cfg, s.withoutBraces(words)...)
	}
	for i := range fields {
		fields[i] = plainBytes(fields[i])
	}
	if err == nil && tooMany(fields) {
		err = expansionError{"Argument list too long"}
	}
	return fields, s.expanded(err)
}

// literalFields spares words without anything to expand the expander.
func literalFields(words []*syntax.Word) ([]string, bool) {
	fields := make([]string, 0, len(words))
	for _, w := range words {
		if len(w.Parts) != 1 {
			return nil, false
		}
		switch part := w.Parts[0].(type) {
		case *syntax.Lit:
			if strings.ContainsAny(part.Value, "\\*?[~{") {
				return nil, false
			}
			fields = append(fields, part.Value)
		case *syntax.SglQuoted:
			if part.Dollar {
				return nil, false
			}
			fields = append(fields, part.Value)
		default:
			return nil, false
		}
	}
	return fields, true
}

// withoutBraces hides braces from the expander, for dash does not expand them.
func (s *shell) withoutBraces(words []*syntax.Word) []*syntax.Word {
	if s.lang == syntax.LangBash {
		return words
	}
	out := words
	for i, w := range words {
		for j, part := range w.Parts {
			lit, ok := part.(*syntax.Lit)
			if !ok || !strings.ContainsRune(lit.Value, '{') {
				continue
			}
			if &out[0] == &words[0] {
				out = append([]*syntax.Word(nil), words...)
			}
			copied := *out[i]
			copied.Parts = append([]syntax.WordPart(nil), copied.Parts...)
			hidden := *lit
			hidden.Value = hideBraces(lit.Value)
			copied.Parts[j] = &hidden
			out[i] = &copied
		}
	}
	return out
}

func hideBraces(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			b.WriteString(text[i : i+2])
			i++
		case text[i] == '{':
			b.WriteString(`\{`)
		default:
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

// literal expands one word without splitting, as in an assignment.
func (s *shell) literal(w *syntax.Word) (string, bool) {
	if w == nil {
		return "", true
	}
	text, err := expand.Literal(&s.cfg, w)
	return plainBytes(text), s.expanded(err)
}

// document expands a here-document's body.
func (s *shell) document(r *syntax.Redirect) (string, bool) {
	if r.Hdoc == nil {
		return "", true
	}
	if quotedDelimiter(r.Word) {
		text := r.Hdoc.Lit()
		if r.Op == syntax.DashHdoc {
			text = stripTabs(text)
		}
		return plainBytes(text), true
	}
	word := r.Hdoc
	if r.Op == syntax.DashHdoc {
		word = wordWithoutTabs(word)
	}
	text, err := expand.Document(&s.cfg, word)
	return plainBytes(text), s.expanded(err)
}

func quotedDelimiter(w *syntax.Word) bool {
	for _, part := range w.Parts {
		switch part := part.(type) {
		case *syntax.Lit:
			if strings.Contains(part.Value, `\`) {
				return true
			}
		case *syntax.SglQuoted, *syntax.DblQuoted:
			return true
		}
	}
	return false
}

func stripTabs(text string) string {
	lines := strings.SplitAfter(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimLeft(lines[i], "\t")
	}
	return strings.Join(lines, "")
}

// wordWithoutTabs takes the tabs off the beginnings of a document's lines, which only literal parts hold.
func wordWithoutTabs(w *syntax.Word) *syntax.Word {
	copied := *w
	copied.Parts = make([]syntax.WordPart, len(w.Parts))
	atStart := true
	for i, part := range w.Parts {
		lit, ok := part.(*syntax.Lit)
		if !ok {
			copied.Parts[i], atStart = part, false
			continue
		}
		lines := strings.SplitAfter(lit.Value, "\n")
		for j := range lines {
			if j > 0 || atStart {
				lines[j] = strings.TrimLeft(lines[j], "\t")
			}
		}
		stripped := *lit
		stripped.Value = strings.Join(lines, "")
		copied.Parts[i], atStart = &stripped, strings.HasSuffix(lit.Value, "\n")
	}
	return &copied
}

// pattern expands a word of a case item.
func (s *shell) pattern(w *syntax.Word) (string, bool) {
	text, err := expand.Pattern(&s.cfg, w)
	return plainBytes(text), s.expanded(err)
}

// arithmetic evaluates an expression.
func (s *shell) arithmetic(x syntax.ArithmExpr) (int, bool) {
	n, err := expand.Arithm(&s.cfg, x)
	return n, s.expanded(err)
}

// expanded reports a failed expansion: dash exits with 2.
func (s *shell) expanded(err error) bool {
	if err == nil {
		return true
	}
	if s.gone() || s.exiting {
		s.exiting = true
		return false
	}
	var unset expand.UnsetParameterError
	switch {
	case errors.As(err, &unset):
		name := ""
		if unset.Node.Param != nil {
			name = unset.Node.Param.Value
		}
		text := unset.Message
		switch {
		case unset.Node.Exp == nil:
			text = "parameter not set"
		case text == "" || text == "parameter null or not set":
			text = "parameter not set or null"
			if unset.Node.Exp.Op == syntax.ErrorUnset {
				text = "parameter not set"
			}
		}
		s.complain("%s: %s", name, text)
	case strings.Contains(err.Error(), "division by zero"):
		s.complain("arithmetic expression: division by zero: %q", "")
	default:
		s.complain("%v", err)
	}
	s.status, s.exiting = 2, true
	return false
}

// commandSubstitution runs $( ) and writes its output. It waits for all that hold the output open.
func (s *shell) commandSubstitution(w io.Writer, c *syntax.CmdSubst) error {
	sub := s.subshell()
	sub.lenient = 0
	out := newCapture()
	sub.files.set(1, out.file())
	sub.run(c.Stmts)
	s.substStatus = sub.status
	sub.files.release()
	content, err := out.wait(s.ctx)
	if err != nil {
		return err
	}
	_, err = w.Write(content)
	return err
}

func (s *shell) readDir(path string) ([]fs.DirEntry, error) {
	list, err := s.view.ReadDir(vfs.Clean(s.dir, path))
	if err != nil {
		return nil, err
	}
	entries := make([]fs.DirEntry, len(list))
	for i := range list {
		entries[i] = dirEntry{list[i]}
	}
	return entries, nil
}

// dirEntry makes an Info an fs.DirEntry.
type dirEntry struct{ i vfs.Info }

func (d dirEntry) Name() string               { return d.i.Name }
func (d dirEntry) IsDir() bool                { return d.i.Mode.IsDir() }
func (d dirEntry) Type() fs.FileMode          { return d.i.Mode.Type() }
func (d dirEntry) Info() (fs.FileInfo, error) { return fileInfo{d.i}, nil }

// fileInfo makes an Info an fs.FileInfo.
type fileInfo struct{ i vfs.Info }

func (f fileInfo) Name() string       { return f.i.Name }
func (f fileInfo) Size() int64        { return f.i.Size }
func (f fileInfo) Mode() fs.FileMode  { return f.i.Mode }
func (f fileInfo) ModTime() time.Time { return f.i.ModTime }
func (f fileInfo) IsDir() bool        { return f.i.Mode.IsDir() }
func (f fileInfo) Sys() any           { return f.i }

// shellEnv shows the shell's variables and parameters to the expander.
type shellEnv struct{ s *shell }

var _ expand.WriteEnviron = shellEnv{}

func str(value string) expand.Variable {
	return expand.Variable{Set: true, Kind: expand.String, Str: value}
}

// Get implements expand.Environ.
func (e shellEnv) Get(name string) expand.Variable {
	s := e.s
	if len(name) == 1 || name[0] >= '0' && name[0] <= '9' {
		if v, ok := s.special(name); ok {
			return v
		}
	}
	if user, ok := strings.CutPrefix(name, "HOME "); ok {
		if u, ok := s.m.User(user); ok {
			return str(u.Home)
		}
		return expand.Variable{}
	}
	if name == "LINENO" {
		return str(strconv.Itoa(int(s.line)))
	}
	v, ok := s.vars[name]
	if !ok || !v.set {
		if name == "PWD" {
			return str(s.dir)
		}
		return expand.Variable{Exported: v.exported, ReadOnly: v.readonly}
	}
	return expand.Variable{Set: true, Kind: expand.String, Str: v.value, Exported: v.exported, ReadOnly: v.readonly}
}

func (s *shell) special(name string) (expand.Variable, bool) {
	switch name {
	case "?":
		return str(strconv.Itoa(s.status)), true
	case "$":
		return str(strconv.Itoa(s.pid)), true
	case "!":
		if s.lastJob == 0 {
			return expand.Variable{}, true
		}
		return str(strconv.Itoa(s.lastJob)), true
	case "#":
		return str(strconv.Itoa(len(s.params))), true
	case "-":
		return str(s.optionLetters()), true
	case "@", "*":
		return expand.Variable{Set: true, Kind: expand.Indexed, List: s.params}, true
	case "0":
		return str(s.name), true
	}
	if n, err := strconv.Atoi(name); err == nil {
		if n > 0 && n <= len(s.params) {
			return str(s.params[n-1]), true
		}
		return expand.Variable{}, true
	}
	return expand.Variable{}, false
}

// Each implements expand.Environ.
func (e shellEnv) Each(f func(string, expand.Variable) bool) {
	for name, v := range e.s.vars {
		if v.set && !f(name, str(v.value)) {
			return
		}
	}
}

// Set implements expand.WriteEnviron: ${x:=…} and assignments in arithmetic.
func (e shellEnv) Set(name string, v expand.Variable) error {
	if !e.s.assign(name, v.String()) {
		return expansionError{name + ": is read only"}
	}
	return nil
}

// assign sets a variable, reporting false for a read-only one.
func (s *shell) assign(name, value string) bool {
	v := s.vars[name]
	if v.readonly {
		return false
	}
	if len(value) > variableLimit {
		s.complain("Out of space")
		s.status, s.exiting = 2, true
		return true
	}
	v.value, v.set = value, true
	if s.opts.allexport {
		v.exported = true
	}
	s.vars[name] = v
	return true
}

// environment is what a program gets.
func (s *shell) environment(extra map[string]string) map[string]string {
	env := make(map[string]string, len(s.vars))
	for name, v := range s.vars {
		if v.exported && v.set {
			env[name] = v.value
		}
	}
	for name, value := range extra {
		env[name] = value
	}
	if _, ok := env["PATH"]; !ok {
		env["PATH"] = s.vars["PATH"].value
	}
	return env
}

func (s *shell) setPWD() {
	v := s.vars["PWD"]
	v.value, v.set = s.dir, true
	s.vars["PWD"] = v
}
