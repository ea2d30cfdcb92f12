package system

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
)

//go:embed command.md
var commandDoc string

// Limits of commands whose task has no timeout.
const (
	attachedLimit = 10 * time.Minute
	detachedLimit = 6 * time.Hour
)

type commandArgs struct {
	Run      string            `hcl:"run,optional" doc:"Shell text for the host's sh. Give either this or argv." example:"systemctl reset-failed"`
	Argv     []string          `hcl:"argv,optional" doc:"A program and its arguments, which no shell reads. Give either this or run."`
	Stdin    secret.Text       `hcl:"stdin,optional" doc:"What the command reads from its standard input; may be secret."`
	Env      map[string]string `hcl:"env,optional" doc:"Variables added to the environment."`
	Dir      string            `hcl:"dir,optional" doc:"The directory on the host to run in."`
	OKExit   []int             `hcl:"ok_exit,optional" doc:"The exit statuses that mean success." default:"[0]" min:"1"`
	ReadOnly bool              `hcl:"read_only,optional" doc:"The command changes nothing: it is run for its output, and never counts as a change." default:"false"`
	Detach   bool              `hcl:"detach,optional" doc:"Run it as a systemd unit that survives a lost connection and is found again by a later run." default:"false"`
	guards
}

type commandResult struct {
	Stdout string `hcl:"stdout" doc:"What a read_only command printed, without the last newline; empty for others."`
	Exit   int    `hcl:"exit" doc:"The exit status of a read_only command; 0 for others."`
}

// Validate checks what the tags can't say.
func (a commandArgs) Validate() error {
	errs := []error{a.guards.validate()}
	if (a.Run == "") == (len(a.Argv) == 0) {
		errs = append(errs, errors.New("give either run or argv"))
	}
	if len(a.Argv) > 0 && a.Argv[0] == "" {
		errs = append(errs, schema.At("argv[0]", errors.New("the program has no name")))
	}
	if a.Dir != "" && !path.IsAbs(a.Dir) {
		errs = append(errs, schema.At("dir", errors.New("it must be an absolute path")))
	}
	if a.ReadOnly && (a.Detach || a.guards != (guards{})) {
		errs = append(errs, schema.At("read_only", errors.New("a command that changes nothing takes neither detach nor guards")))
	}
	return errors.Join(errs...)
}

func newCommand() module.Module {
	return module.Define(module.Spec{
		Name: "command", Summary: "Run a command on each host", Doc: commandDoc,
	}, module.Funcs[commandArgs, commandResult]{
		Probes: func(t module.Target, a commandArgs) []module.Probe { return probesOf(t, a.reads()...) },
		Plan:   planCommand,
		Read:   readCommand,
	})
}

func planCommand(ctx context.Context, t module.Target, a commandArgs) ([]module.Change, error) {
	if a.ReadOnly {
		return nil, nil
	}
	due, predicted, err := a.due(ctx, t)
	if err != nil || !due {
		return nil, err
	}
	host := t.Host().Name
	return []module.Change{{
		ID: host + "/run", Host: host, Summary: "run " + a.name(), Action: module.Run, Imperative: !a.proving(), Predicted: predicted,
		Apply: func(ctx context.Context, t module.Target) error {
			return perform(ctx, t, a.command(), a.name(), a.Detach, a.OKExit)
		},
	}}, nil
}

func readCommand(ctx context.Context, t module.Target, a commandArgs) (commandResult, error) {
	if !a.ReadOnly {
		return commandResult{}, nil
	}
	c := a.command()
	c.Timeout = limit(ctx, attachedLimit)
	r, err := look(ctx, t, c)
	if err != nil {
		return commandResult{}, err
	}
	if !slices.Contains(a.OKExit, r.Exit) {
		return commandResult{}, failed(r, a.name())
	}
	return commandResult{Stdout: r.Out(), Exit: r.Exit}, nil
}

func (a commandArgs) name() string {
	if a.Run != "" {
		return oneLine(a.Run)
	}
	return oneLine(strings.Join(a.Argv, " "))
}

// command is what is run. In a directory of its own it needs a shell to go there.
func (a commandArgs) command() transport.Command {
	c := transport.Command{Argv: a.Argv, Script: a.Run, Env: a.Env}
	if a.Stdin.Given() {
		c.Stdin = []byte(a.Stdin.Reveal())
	}
	if a.Dir == "" {
		return c
	}
	if a.Run != "" {
		c.Script, c.Argv = "cd \"$1\" || exit 1; shift\n"+a.Run, []string{a.Dir}
		return c
	}
	c.Script, c.Argv = `cd "$1" || exit 1; shift; exec "$@"`, append([]string{a.Dir}, a.Argv...)
	return c
}

// perform runs a command that changes things, attached or as a job. Errors call it by the name.
func perform(ctx context.Context, t module.Target, c transport.Command, name string, detach bool, ok []int) error {
	c.Mutates, c.Timeout = true, limit(ctx, attachedLimit)
	var r transport.Result
	var err error
	if detach {
		c.Timeout = 0
		r, err = t.Detach(ctx, t.Host().Name, module.Job{Name: "command-" + fingerprint(c), Command: c, Timeout: limit(ctx, detachedLimit)})
	} else {
		r, err = look(ctx, t, c)
	}
	if err != nil {
		return err
	}
	if !slices.Contains(ok, r.Exit) {
		return failed(r, name)
	}
	return nil
}

// failed is the error of a status that is not wanted, which may be 0.
func failed(r transport.Result, name string) error {
	if r.Exit == 0 {
		return fmt.Errorf("%s: exit 0 is not among the statuses that mean success", name)
	}
	return &transport.ExitError{Command: name, Exit: r.Exit, Stdout: string(r.Stdout), Stderr: string(r.Stderr)}
}

// fingerprint names the same work with the same name.
func fingerprint(c transport.Command) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q", c.Argv, c.Script, c.Stdin)
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		fmt.Fprintf(h, " %q=%q", k, c.Env[k])
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
