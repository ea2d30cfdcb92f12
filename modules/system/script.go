package system

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strconv"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
)

//go:embed script.md
var scriptDoc string

type scriptArgs struct {
	Source      schema.Path       `hcl:"source,optional" doc:"A local file that holds the script. Give either this or content."`
	Content     secret.Text       `hcl:"content,optional" doc:"The script itself; may be secret. Give either this or source."`
	Args        []string          `hcl:"args,optional" doc:"The script's arguments."`
	Interpreter []string          `hcl:"interpreter,optional" doc:"The program on the host that reads the script, with its options." default:"[\"/bin/sh\"]" min:"1"`
	Env         map[string]string `hcl:"env,optional" doc:"Variables added to the environment."`
	Dir         string            `hcl:"dir,optional" doc:"The directory on the host to run in." default:"/"`
	OKExit      []int             `hcl:"ok_exit,optional" doc:"The exit statuses that mean success." default:"[0]" min:"1"`
	Detach      bool              `hcl:"detach,optional" doc:"Run it as a systemd unit that survives a lost connection and is found again by a later run." default:"false"`
	guards
}

// Validate checks what the tags can't say.
func (a scriptArgs) Validate() error {
	errs := []error{a.guards.validate()}
	if (a.Source == "") == !a.Content.Given() {
		errs = append(errs, errors.New("give either source or content"))
	}
	if !path.IsAbs(a.Dir) {
		errs = append(errs, schema.At("dir", errors.New("it must be an absolute path")))
	}
	return errors.Join(errs...)
}

func newScript() module.Module {
	return module.Define(module.Spec{
		Name: "script", Summary: "Run a local script on each host", Doc: scriptDoc,
	}, module.Funcs[scriptArgs, struct{}]{
		Probes: func(t module.Target, a scriptArgs) []module.Probe { return probesOf(t, a.reads()...) },
		Plan:   planScript,
	})
}

func planScript(ctx context.Context, t module.Target, a scriptArgs) ([]module.Change, error) {
	text, err := a.text()
	if err != nil {
		return nil, err
	}
	due, predicted, err := a.due(ctx, t)
	if err != nil || !due {
		return nil, err
	}
	host := t.Host().Name
	return []module.Change{{
		ID: host + "/run", Host: host, Summary: "run " + a.name(), Action: module.Run, Imperative: !a.proving(), Predicted: predicted,
		Apply: func(ctx context.Context, t module.Target) error {
			return perform(ctx, t, a.command(text), a.name(), a.Detach, a.OKExit)
		},
	}}, nil
}

func (a scriptArgs) text() ([]byte, error) {
	if a.Source == "" {
		return []byte(a.Content.Reveal()), nil
	}
	text, err := os.ReadFile(string(a.Source))
	if err != nil {
		return nil, fmt.Errorf("script: %w", err)
	}
	return text, nil
}

func (a scriptArgs) name() string {
	switch {
	case a.Source != "":
		return "the script " + filepath.Base(string(a.Source))
	case a.Content.Sensitive():
		return "a secret script"
	default:
		return "the script: " + oneLine(a.Content.Reveal())
	}
}

// runScript writes its input to a file that only its user can read, runs it and removes it: a script may hold secrets,
// which must not stand in an argument list. One that a lost connection has cut off is not run. Arguments: the script's
// size, directory, number of the interpreter's words, those words, the script's arguments. They are brought into their
// order by turning the list around itself.
const runScript = `# run a script from standard input
umask 077
f=$(mktemp) || exit 1
trap 'rm -f "$f"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
cat >"$f" || exit 1
if [ "$(wc -c <"$f")" -ne "$1" ]; then echo "the script did not arrive whole" >&2; exit 1; fi
shift
umask 022
cd "$1" || exit 1
n=$2
shift 2
rest=$(($# - n))
while [ "$n" -gt 0 ]; do set -- "$@" "$1"; shift; n=$((n - 1)); done
set -- "$@" "$f"
while [ "$rest" -gt 0 ]; do set -- "$@" "$1"; shift; rest=$((rest - 1)); done
"$@" </dev/null
`

func (a scriptArgs) command(text []byte) transport.Command {
	argv := append([]string{strconv.Itoa(len(text)), a.Dir, strconv.Itoa(len(a.Interpreter))}, a.Interpreter...)
	return transport.Command{Script: runScript, Argv: append(argv, a.Args...), Stdin: text, Env: a.Env}
}
