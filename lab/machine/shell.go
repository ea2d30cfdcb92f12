package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"

	"github.com/pxrun/pxrun/lab/vfs"
)

// shell is one shell process or subshell. It behaves as dash: the grammar is parsed and words are expanded by mvdan's
// packages; commands, descriptors, jobs and traps are done here, for they belong to the simulated machine.
type shell struct {
	m    *Machine
	proc *Proc // identity of the shell process
	ctx  context.Context
	view *vfs.View
	cfg  expand.Config

	name   string // $0
	params []string
	vars   map[string]variable
	funcs  map[string]*syntax.Stmt
	locals []map[string]variable // one for each running function: what to restore
	files  descriptors
	dir    string
	opts   options
	lang   syntax.LangVariant

	pid     int // $$, the same in subshells
	status  int
	line    uint
	jobs    []*shellJob
	lastJob int // $!
	jobNo   int

	traps    map[string]string
	signals  *signalBox
	inTrap   bool
	interact bool

	// What a break, continue, return or exit is unwinding to.
	breaks, continues int
	returning         bool
	exiting           bool
	loops             int
	calls             int
	lenient           int // > 0: a failing command does not end a shell with -e
	keepFiles         bool
	substStatus       int // exit status of the last command substitution
	depth             int // of nested shells, functions and sources
}

// variable is a shell variable.
type variable struct {
	value              string
	set                bool
	exported, readonly bool
}

// options are the shell's single-letter settings.
type options struct {
	errexit, nounset, xtrace, noclobber, noglob, noexec, allexport, pipefail bool
}

// shellOptions names them by letter and by long name.
var shellOptions = []struct {
	letter byte
	name   string
	field  func(*options) *bool
}{
	{'e', "errexit", func(o *options) *bool { return &o.errexit }},
	{'f', "noglob", func(o *options) *bool { return &o.noglob }},
	{'n', "noexec", func(o *options) *bool { return &o.noexec }},
	{'u', "nounset", func(o *options) *bool { return &o.nounset }},
	{'x', "xtrace", func(o *options) *bool { return &o.xtrace }},
	{'C', "noclobber", func(o *options) *bool { return &o.noclobber }},
	{'a', "allexport", func(o *options) *bool { return &o.allexport }},
	{0, "pipefail", func(o *options) *bool { return &o.pipefail }},
}

// maxDepth bounds recursion, so that a script that calls itself fails as it would on a real machine.
const maxDepth = 400

// Shell runs a script with sh, as `sh -c script` does but with the given Proc's streams, environment and arguments
// (Argv[1:] are $1 and on). It returns the exit status.
func (m *Machine) Shell(ctx context.Context, script string, p Proc) int {
	name, args := "sh", []string(nil)
	if len(p.Argv) > 0 {
		name, args = p.Argv[0], p.Argv[1:]
	}
	p.Argv = append([]string{"/bin/sh", "-c", script, name}, args...)
	return m.Exec(ctx, p)
}

// runShell is the program sh (and dash and bash).
func runShell(ctx context.Context, p *Proc) int {
	s := newShell(ctx, p)
	s.name = p.Argv[0]
	script, err := s.arguments(p.Args())
	if err != nil {
		p.Errorf("0: %v", err)
		return 2
	}
	return s.main(script)
}

func newShell(ctx context.Context, p *Proc) *shell {
	s := &shell{
		m: p.Machine, proc: p, ctx: ctx, dir: p.Dir, files: p.files.clone(), vars: make(map[string]variable, len(p.Env)+8),
		lang: syntax.LangPOSIX, pid: p.pid, signals: newSignalBox(), depth: depthOf(ctx) + 1,
	}
	if strings.HasSuffix(p.Argv[0], "bash") {
		s.lang = syntax.LangBash
	}
	s.ctx = context.WithValue(ctx, depthKey{}, s.depth)
	for name, value := range p.Env {
		if syntax.ValidName(name) {
			s.vars[name] = variable{value: value, set: true, exported: true}
		}
	}
	if _, ok := s.vars["PATH"]; !ok {
		s.vars["PATH"] = variable{value: defaultPath, set: true}
	}
	s.vars["IFS"] = variable{value: " \t\n", set: true}
	s.vars["OPTIND"] = variable{value: "1", set: true}
	s.vars["PS4"] = variable{value: "+ ", set: true}
	s.vars["PPID"] = variable{value: "1", set: true}
	s.setPWD()
	view := *p.view
	s.view = &view
	s.prepareExpansion()
	return s
}

type depthKey struct{}

func depthOf(ctx context.Context) int {
	n, _ := ctx.Value(depthKey{}).(int)
	return n
}

// arguments reads sh's command line and returns the script; nil is standard input.
func (s *shell) arguments(args []string) (*string, error) {
	var command, fromStdin bool
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		if arg == "--login" || arg == "--norc" || arg == "--noprofile" || arg == "--posix" {
			continue
		}
		for i := 1; i < len(arg); i++ {
			switch c := arg[i]; c {
			case 'c':
				command = true
			case 's':
				fromStdin = true
			case 'l':
			case 'i':
				s.interact = true
			case 'o':
				if len(args) == 0 {
					return nil, errors.New("Illegal option -o")
				}
				if !s.setOption(args[0], arg[0] == '-') {
					return nil, fmt.Errorf("Illegal option -o %s", args[0])
				}
				args = args[1:]
			default:
				if !s.setOption(string(c), arg[0] == '-') {
					return nil, fmt.Errorf("Illegal option -%c", c)
				}
			}
		}
	}
	switch {
	case command:
		if len(args) == 0 {
			return nil, errors.New("-c requires an argument")
		}
		script := args[0]
		if len(args) > 1 {
			s.name, s.params = args[1], args[2:]
		}
		return &script, nil
	case fromStdin || len(args) == 0:
		s.params = args
		return nil, nil
	}
	content, err := s.view.ReadFile(vfs.Clean(s.dir, args[0]))
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %s", args[0], openReason(err))
	}
	s.name, s.params = args[0], args[1:]
	script := string(content)
	return &script, nil
}

// main runs a script to its end, the EXIT trap included.
func (s *shell) main(script *string) int {
	defer s.files.release()
	if s.depth > maxDepth {
		s.complain("Maximum shell depth reached")
		return 2
	}
	s.listen()
	defer s.unlisten()
	if s.interact || script == nil && s.proc.TTY {
		s.interact = true
		s.signals.set("INT", "", true)
		s.prompt("PS1", "# ")
	}
	if script == nil {
		s.source(nil)
	} else {
		s.sourceText(*script)
	}
	s.exiting = false
	s.runExitTrap()
	return s.status
}

// sourceText runs a script that is there as a whole.
func (s *shell) sourceText(text string) {
	if !s.interact {
		if list, ok := s.m.scripts.parse(s.lang, text); ok {
			s.runList(list)
			return
		}
	}
	s.source(strings.NewReader(text))
}

// source parses and runs commands, each complete line as soon as it has been read. A nil script is standard input,
// of which no byte beyond the line is taken: commands may read what follows.
func (s *shell) source(script io.Reader) {
	in := &scriptReader{shell: s, from: script}
	parser := syntax.NewParser(syntax.Variant(s.lang))
	over := false // the parser may call once more after it was told to stop
	parser.InteractiveSeq(in)(func(stmts []*syntax.Stmt, err error) bool {
		if over {
			return false
		}
		over = !s.parsed(parser, in, stmts, err)
		return !over
	})
}

// parsed handles what the parser has found; false ends the script.
func (s *shell) parsed(parser *syntax.Parser, in *scriptReader, stmts []*syntax.Stmt, err error) bool {
	if err != nil {
		if !s.gone() {
			s.syntaxError(err, in.ended)
		}
		return false
	}
	if parser.Incomplete() {
		if s.interact {
			s.prompt("PS2", "> ")
		}
		return true
	}
	s.runList(stmts)
	if s.unwinding() {
		return false
	}
	if s.interact {
		s.prompt("PS1", "# ")
	}
	return true
}

// syntaxError prints what dash says and makes the shell exit with status 2.
func (s *shell) syntaxError(err error, atEnd bool) {
	text := err.Error()
	var parse syntax.ParseError
	if errors.As(err, &parse) {
		text = parse.Text
		s.line = parse.Pos.Line()
	}
	switch {
	case strings.Contains(text, "without closing quote") || strings.Contains(text, "closing quote"):
		text = "Unterminated quoted string"
	case strings.Contains(text, "unclosed here-document"):
		text = "end of file unexpected"
	case atEnd && (strings.Contains(text, "must end with") || strings.Contains(text, "must be followed") || strings.Contains(text, "reached EOF")):
		text = "end of file unexpected"
	}
	s.complain("Syntax error: %s", text)
	s.status, s.exiting = 2, true
}

// complain prints an error in dash's form, with the script's name and the line.
func (s *shell) complain(format string, args ...any) {
	f := s.files.get(2)
	if f == nil || f.w == nil {
		return
	}
	line := s.line
	if line == 0 {
		line = 1
	}
	text := fmt.Sprintf(format, args...)
	if s.bash() {
		fmt.Fprintf(s.writer(2), "%s: line %d: %s\n", s.name, line, bashWording(text))
		return
	}
	fmt.Fprintf(s.writer(2), "%s: %d: %s\n", s.name, line, text)
}

// bash reports whether the shell was started as bash, whose messages and some statuses differ from dash's.
func (s *shell) bash() bool { return s.lang == syntax.LangBash }

// bashWording turns dash's messages into bash's.
func bashWording(text string) string {
	if name, ok := strings.CutSuffix(text, ": not found"); ok {
		return name + ": command not found"
	}
	for _, verb := range []string{"cannot create ", "cannot open "} {
		if rest, ok := strings.CutPrefix(text, verb); ok {
			rest = strings.Replace(rest, ": Directory nonexistent", ": No such file or directory", 1)
			if strings.HasSuffix(rest, ": No such file") {
				rest += " or directory"
			}
			return rest
		}
	}
	if rest, ok := strings.CutPrefix(text, "cd: can't cd to "); ok {
		return "cd: " + rest + ": No such file or directory"
	}
	if rest, ok := strings.CutPrefix(text, "Syntax error: "); ok {
		return "syntax error: " + rest
	}
	return text
}

// writer is a descriptor to write to, bound to the shell's life.
func (s *shell) writer(n int) io.Writer {
	f := s.files.get(n)
	if f == nil || f.w == nil {
		return io.Discard
	}
	return boundWriter{ctx: s.ctx, w: f.w}
}

func (s *shell) reader(n int) io.Reader {
	f := s.files.get(n)
	if f == nil || f.r == nil {
		return eofReader{}
	}
	return bindReader(s.ctx, f.r)
}

func (s *shell) prompt(name, fallback string) {
	text := fallback
	if v, ok := s.vars[name]; ok && v.set {
		text = v.value
	} else if name == "PS1" {
		user := "root"
		if v := s.vars["USER"]; v.set {
			user = v.value
		}
		mark := "#"
		if s.proc.UID != 0 {
			mark = "$"
		}
		dir := s.dir
		if home := s.vars["HOME"].value; home != "" && (dir == home || strings.HasPrefix(dir, home+"/")) {
			dir = "~" + dir[len(home):]
		}
		text = fmt.Sprintf("%s@%s:%s%s ", user, s.m.Name(), dir, mark)
	}
	io.WriteString(s.writer(2), text)
}

// subshell is a copy whose changes the shell does not see. Release its files.
func (s *shell) subshell() *shell {
	c := *s
	c.vars = make(map[string]variable, len(s.vars))
	for k, v := range s.vars {
		c.vars[k] = v
	}
	if s.funcs != nil {
		c.funcs = make(map[string]*syntax.Stmt, len(s.funcs))
		for k, v := range s.funcs {
			c.funcs[k] = v
		}
	}
	c.files = s.files.clone()
	c.jobs = nil
	c.locals = nil
	c.traps = nil
	for name, action := range s.traps {
		if action == "" { // ignored signals stay ignored
			if c.traps == nil {
				c.traps = map[string]string{}
			}
			c.traps[name] = action
		}
	}
	c.interact = false
	c.depth++
	view := *s.view
	c.view = &view
	c.prepareExpansion()
	return &c
}

// gone reports whether the shell was ended from outside.
func (s *shell) gone() bool { return s.ctx.Err() != nil }

// unwinding reports whether the current list must not go on.
func (s *shell) unwinding() bool {
	return s.exiting || s.returning || s.breaks > 0 || s.continues > 0
}

func (s *shell) umask() fs.FileMode { return s.view.Umask }

// openReason is dash's wording of an open error.
func openReason(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "No such file"
	}
	return Reason(err)
}
