// Package pvetool holds what all of Proxmox's command line tools share: how they read options, how they fail, their worker
// tasks, their section configs, and the paths of pvesh.
package pvetool

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// Exit statuses of Proxmox's tools: the error number that perl happens to hold, or 255.
const (
	ExitNoEntry = 2
	ExitAccess  = 13
	ExitKilled  = 137
	ExitDie     = 255
)

// Option describes one option of a Proxmox command.
type Option struct {
	Kind  Kind
	Check func(string) string // "" or what is wrong
}

// Kind is what an option takes.
type Kind int

// The kinds.
const (
	String Kind = iota
	Int
	Bool // the value may be left out
)

// Options are parsed arguments.
type Options struct {
	Positional []string
	Values     map[string]string
}

// Is reports whether a boolean option is set.
func (o Options) Is(name string) bool { return o.Values[name] == "1" }

// Int is the value of an option as a number, 0 if it is none.
func (o Options) Int(name string) int {
	n, _ := strconv.Atoi(o.Values[name])
	return n
}

// ParamError is a refusal of arguments: "400 …" and, for checked values, a line for each.
type ParamError struct {
	Head  string
	Lines []string
}

func (e *ParamError) Error() string {
	return "400 " + e.Head + "\n" + strings.Join(append(e.Lines, ""), "\n")
}

// Parse reads arguments as Proxmox's command line handler does: options anywhere, with one or two dashes;
// a boolean takes the next word as its value unless it begins with a dash.
func Parse(args []string, known map[string]Option) (Options, *ParamError) {
	o := Options{Values: map[string]string{}}
	var unknown, wrong []string
	for i := 0; i < len(args); i++ {
		name, isOption := strings.CutPrefix(args[i], "-")
		if !isOption || args[i] == "-" {
			o.Positional = append(o.Positional, args[i])
			continue
		}
		name, value, inline := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		def, ok := known[name]
		if !ok {
			unknown = append(unknown, name)
			continue
		}
		if !inline {
			switch {
			case i+1 < len(args) && !strings.HasPrefix(args[i+1], "-"):
				i++
				value = args[i]
			case def.Kind == Bool:
				value = "1"
			default:
				unknown = append(unknown, name)
				continue
			}
		}
		normal, problem := def.Normalise(value)
		if problem != "" {
			wrong = append(wrong, name+": "+problem)
		}
		o.Values[name] = normal
	}
	if len(unknown) > 0 {
		return o, &ParamError{Head: "unable to parse option"}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return o, &ParamError{Head: "Parameter verification failed.", Lines: wrong}
	}
	return o, nil
}

// Normalise brings a value into the form that is stored, or says what is wrong with it.
func (d Option) Normalise(value string) (normal, problem string) {
	switch d.Kind {
	case Bool:
		switch strings.ToLower(value) {
		case "1", "on", "yes", "true":
			return "1", ""
		case "0", "off", "no", "false":
			return "0", ""
		}
		return value, fmt.Sprintf("type check ('boolean') failed - got '%s'", value)
	case Int:
		if _, err := strconv.Atoi(value); err != nil {
			return value, fmt.Sprintf("type check ('integer') failed - got '%s'", value)
		}
	}
	if d.Check != nil {
		return value, d.Check(value)
	}
	return value, ""
}

// AtLeast checks that a number is not too low.
func AtLeast(low int) func(string) string {
	return func(value string) string {
		if n, _ := strconv.Atoi(value); n < low {
			return fmt.Sprintf("value must have a minimum value of %d", low)
		}
		return ""
	}
}

// Usage prints a parameter error with the command's synopsis and returns the exit status.
func Usage(p *machine.Proc, err *ParamError, synopsis string) int {
	fmt.Fprint(p.Stderr, err.Error(), synopsis, "\n")
	return ExitDie
}

// Die prints an error as perl does and returns the exit status.
func Die(p *machine.Proc, code int, format string, args ...any) int {
	fmt.Fprintf(p.Stderr, format+"\n", args...)
	return code
}

// Run executes another program of the machine in the name of p. Nil streams are empty. As in all of Proxmox's tools, PATH
// is theirs, not the caller's.
func Run(ctx context.Context, p *machine.Proc, stdout, stderr io.Writer, argv ...string) int {
	env := maps.Clone(p.Env)
	if env == nil {
		env = map[string]string{}
	}
	env["PATH"] = "/sbin:/bin:/usr/sbin:/usr/bin"
	return p.Machine.Exec(ctx, machine.Proc{
		Argv: argv, Env: env, Dir: "/", UID: p.UID, Stdout: stdout, Stderr: stderr, Tag: p.Tag,
	})
}

// Output runs a program and returns what it printed on stdout.
func Output(ctx context.Context, p *machine.Proc, argv ...string) (string, int) {
	var out bytes.Buffer
	code := Run(ctx, p, &out, io.Discard, argv...)
	return out.String(), code
}
