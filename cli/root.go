package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/spf13/cobra"
)

// app is what all commands share: the streams, the global flags, and the redactor of the secrets met so far.
type app struct {
	Streams
	global  globals
	secrets secret.Redactor
	logger  *slog.Logger
	logFile io.Closer
	command string           // as it is written: "lab up"
	typed   <-chan typedLine // a read of the terminal that is under way; those who ask take turns
}

// globals are the flags that every command has.
type globals struct {
	inventory []string
	noColor   bool
	quiet     bool
	verbose   int
	json      bool
	stateDir  string
	log       string
}

// Main runs the command line and returns the exit code.
func Main(args []string, s Streams) int {
	a := &app{Streams: s}
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetIn(s.In)
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) (err error) {
		a.command = commandName(cmd)
		a.logFile, err = a.openLog()
		return err
	}
	cmd, err := root.ExecuteContextC(context.Background())
	if err != nil {
		a.global.json = a.global.json || wantsJSON(args)
		a.fail(cmd, err)
	}
	if a.logFile != nil {
		a.logger.Debug("end", "command", cmd.CommandPath(), "exit", exitCode(err))
		_ = a.logFile.Close()
	}
	return exitCode(err)
}

// wantsJSON looks for --json where the command line itself is wrong and was not read to its end.
func wantsJSON(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--":
			return false
		case "--json", "--json=true":
			return true
		}
	}
	return false
}

// The groups of the overview.
const (
	groupRun   = "run"
	groupFiles = "files"
	groupLook  = "look"
	groupLab   = "lab"
)

func newRootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "pxrun",
		Short: "Run declarative runbooks against Proxmox VE clusters",
		Long: `pxrun reads HCL files that say which Proxmox VE nodes exist and what must be true of them, connects over SSH, shows what
it would change, changes it, and proves that it holds. Nothing is installed on the nodes.

  pxrun plan  site.hcl          what would change; reads only
  pxrun apply site.hcl          make it so; a second run changes nothing
  pxrun apply site.hcl --lab    the same, against a simulated cluster
  pxrun status -i site.hcl      how the cluster is

` + exitHelp(exitOK, exitFailed, exitChanges, exitInvalid, exitUnreachable, exitPartly, exitRefused, exitInterrupted),
		SilenceErrors: true, SilenceUsage: true,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.AddGroup(
		&cobra.Group{ID: groupRun, Title: "Change things:"}, &cobra.Group{ID: groupLook, Title: "Look at things:"},
		&cobra.Group{ID: groupFiles, Title: "Write files:"}, &cobra.Group{ID: groupLab, Title: "Practise:"},
	)
	a.globalFlags(root)
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(commands(a)...)
	root.SetHelpCommand(newHelpCommand())
	root.CompletionOptions.DisableDefaultCmd = true
	wantSubcommands(root)
	completions(a, root)
	return root
}

func (a *app) globalFlags(root *cobra.Command) {
	f := root.PersistentFlags()
	f.StringArrayVarP(&a.global.inventory, "inventory", "i", nil, "`PATH` of a file or folder with the site; may be given more than once")
	f.BoolVar(&a.global.noColor, "no-color", false, "no colours; the environment variable NO_COLOR does the same")
	f.BoolVarP(&a.global.quiet, "quiet", "q", false, "say nothing but warnings and failures")
	f.CountVarP(&a.global.verbose, "verbose", "v", "show what remote commands print; -vv shows every remote command with its time")
	f.BoolVar(&a.global.json, "json", false, "write JSON for programs: one object a line (see docs/events.md)")
	f.StringVar(&a.global.stateDir, "state-dir", "", "`FOLDER` of journals, locks and labs (default $PXRUN_STATE_DIR, else $XDG_STATE_HOME/pxrun)")
	f.StringVar(&a.global.log, "log", "", "write the debug log of pxrun itself to this `FILE`")
}

// stateDir is where journals, locks and labs are kept.
func (a *app) stateDir() (string, error) {
	for _, dir := range []string{a.global.stateDir, a.Env("PXRUN_STATE_DIR")} {
		if dir != "" {
			return filepath.Abs(dir)
		}
	}
	if dir := a.Env("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "pxrun"), nil
	}
	if a.Home == "" {
		return "", invalid("there is no home folder to keep state in; name one with --state-dir")
	}
	return filepath.Join(a.Home, ".local", "state", "pxrun"), nil
}

// look says how reports to Out may look.
func (a *app) look() report.Look { return a.lookOn(a.OutTerminal) }

func (a *app) lookOn(terminal bool) report.Look {
	l := report.Look{Unicode: a.utf8()}
	if terminal {
		l.Color = !a.global.noColor && a.Env("NO_COLOR") == "" && a.Env("TERM") != "dumb"
		l.Width = a.Width()
	}
	return l
}

func (a *app) level() report.Level {
	if a.global.quiet {
		return report.Quiet
	}
	return min(report.Level(a.global.verbose), report.Trace)
}

// fail tells why a command did not succeed. Everything passes the redactor: an error may quote what a host printed.
func (a *app) fail(cmd *cobra.Command, err error) {
	if a.global.json {
		if code := exitCode(err); code != exitChanges {
			_ = report.WriteObject(a.Out, errorObject{"error", commandName(cmd), code, a.secrets.Redact(explain(err))})
		}
		return
	}
	var exit *exitError
	if errors.As(err, &exit) && exit.cause == nil {
		return
	}
	var diagnostics *diagnosticsError
	if errors.As(err, &diagnostics) {
		return // told by whoever read the files
	}
	_, _ = io.WriteString(a.Err, a.lookOn(a.ErrTerminal).Problems([]report.Problem{{Text: a.secrets.Redact(explain(err))}}))
}

// errorObject is the last line of a command that did not succeed, in the JSON form.
type errorObject struct {
	Type    string `json:"type"` // error
	Command string `json:"command"`
	Exit    int    `json:"exit"`
	Error   string `json:"error"`
}

// commandName is the command as it is written: "modules show".
func commandName(cmd *cobra.Command) string {
	return strings.TrimSpace(strings.TrimPrefix(cmd.CommandPath(), cmd.Root().Name()))
}

// explain says in one text why a command did not succeed, what was said before included.
func explain(err error) string {
	var diagnostics *diagnosticsError
	if errors.As(err, &diagnostics) {
		n := 0
		for _, d := range diagnostics.list {
			if d.Severity == hcl.DiagError {
				n++
			}
		}
		return report.Count(n, "problem") + " in the files"
	}
	var exit *exitError
	if errors.As(err, &exit) && exit.cause == nil {
		return exitMeaning(exit.code)
	}
	return transport.Explain(err)
}

// checked is one of cobra's checks of arguments with pxrun's exit code and a hint.
func checked(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return invalid("%w\nSee: %s --help", err, cmd.CommandPath())
		}
		return nil
	}
}
