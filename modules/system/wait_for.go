package system

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
)

//go:embed wait_for.md
var waitForDoc string

type waitForArgs struct {
	Port    int           `hcl:"port,optional" doc:"A TCP port that must take connections, seen from the host." min:"1" max:"65535"`
	Address string        `hcl:"address,optional" doc:"The address or name that the port is on." default:"127.0.0.1"`
	Path    string        `hcl:"path,optional" doc:"A path on the host that must exist."`
	Service string        `hcl:"service,optional" doc:"A systemd unit that must be active."`
	Command string        `hcl:"command,optional" doc:"Shell text that changes nothing and must succeed."`
	Gone    bool          `hcl:"gone,optional" doc:"Wait for the opposite: none of them may hold any more." default:"false"`
	Every   time.Duration `hcl:"every,optional" doc:"The longest pause between two looks." default:"2s" min:"100ms"`
}

// Validate checks what the tags can't say.
func (a waitForArgs) Validate() error {
	var errs []error
	if a.Port == 0 && a.Path == "" && a.Service == "" && a.Command == "" {
		errs = append(errs, errors.New("give at least one of port, path, service and command"))
	}
	if a.Path != "" && !path.IsAbs(a.Path) {
		errs = append(errs, schema.At("path", errors.New("it must be an absolute path")))
	}
	if a.Service != "" && !unitName.MatchString(a.Service) {
		errs = append(errs, schema.At("service", fmt.Errorf("%q is no name of a unit", a.Service)))
	}
	if strings.HasPrefix(a.Address, "-") || a.Address == "" {
		errs = append(errs, schema.At("address", errors.New("it must be an address or a name")))
	}
	return errors.Join(errs...)
}

// waitLimit is how long a task without a timeout waits.
const waitLimit = 5 * time.Minute

func newWaitFor() module.Module {
	return module.Define(module.Spec{
		Name: "wait_for", Summary: "Wait until a port, path, service or command is as wanted", Doc: waitForDoc,
	}, module.Funcs[waitForArgs, struct{}]{
		Probes: func(t module.Target, a waitForArgs) []module.Probe { return probesOf(t, reads(a.looks())...) },
		Plan:   planWaitFor,
	})
}

func planWaitFor(ctx context.Context, t module.Target, a waitForArgs) ([]module.Change, error) {
	err := a.holds(ctx, t)
	if err == nil {
		return nil, nil
	}
	if missing, ok := errors.AsType[*notYet](err); !ok || missing.never {
		return nil, err
	}
	host := t.Host().Name
	return []module.Change{{
		ID: host + "/wait", Host: host, Summary: "wait until " + a.String(), Action: module.Run,
		Apply: func(ctx context.Context, t module.Target) error { return a.wait(ctx, t) },
	}}, nil
}

// wait looks until it holds. The end of a wait in vain tells what was seen last, whichever limit ended it.
func (a waitForArgs) wait(ctx context.Context, t module.Target) error {
	var last *notYet
	err := t.WaitFor(ctx, module.Condition{
		Name: a.String(), Timeout: limit(ctx, waitLimit), Every: a.Every,
		Check: func(ctx context.Context) error {
			err := a.holds(ctx, t)
			if missing, ok := errors.AsType[*notYet](err); ok {
				last = missing
				if missing.never {
					return module.Fatal(err)
				}
			}
			return err
		},
	})
	if err != nil && last != nil && !strings.Contains(err.Error(), last.text) {
		return fmt.Errorf("%w (%s)", err, last.text)
	}
	return err
}

// openPort tries a connection. 99 says that the host has no program to try one with.
const openPort = `# try a port
if command -v nc >/dev/null 2>&1; then nc -z -w 3 "$1" "$2"
elif command -v bash >/dev/null 2>&1; then timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$1" "$2"
else exit 99; fi
`

// cannotLook is the status of openPort when it has nothing to look with.
const cannotLook = 99

type condition struct {
	name, opposite string
	read           transport.Command
}

func (a waitForArgs) looks() []condition {
	var all []condition
	if a.Port != 0 {
		at := fmt.Sprintf("port %d of %s", a.Port, a.Address)
		all = append(all, condition{at + " answers", at + " is closed", transport.Command{Script: openPort, Argv: []string{a.Address, strconv.Itoa(a.Port)}}})
	}
	if a.Path != "" {
		all = append(all, condition{a.Path + " exists", a.Path + " is gone", exists(a.Path)})
	}
	if a.Service != "" {
		all = append(all, condition{a.Service + " is active", a.Service + " is not active", transport.Command{Argv: []string{"systemctl", "is-active", "--quiet", a.Service}}})
	}
	if a.Command != "" {
		all = append(all, condition{oneLine(a.Command) + " succeeds", oneLine(a.Command) + " fails", transport.Command{Script: a.Command}})
	}
	return all
}

func reads(cs []condition) []transport.Command {
	commands := make([]transport.Command, len(cs))
	for i, c := range cs {
		commands[i] = c.read
	}
	return commands
}

// String is what is waited for, as a clause.
func (a waitForArgs) String() string {
	var parts []string
	for _, c := range a.looks() {
		if a.Gone {
			parts = append(parts, c.opposite)
		} else {
			parts = append(parts, c.name)
		}
	}
	return strings.Join(parts, " and ")
}

// notYet is a condition that does not hold; never says that waiting will not mend it.
type notYet struct {
	text  string
	never bool
}

func (e *notYet) Error() string { return e.text }

// holds looks once.
func (a waitForArgs) holds(ctx context.Context, t module.Target) error {
	all := a.looks()
	results, err := lookAll(ctx, t, reads(all))
	if err != nil {
		return err
	}
	for i, c := range all {
		r := results[i]
		if a.Port != 0 && i == 0 && r.Exit == cannotLook {
			return &notYet{t.Host().Name + ": a port can't be tried without nc or bash on the host", true}
		}
		if (r.Exit == 0) != a.Gone {
			continue
		}
		text := "not yet: " + c.name
		if a.Gone {
			text = "still: " + c.name
		}
		if said := strings.TrimSpace(string(r.Stderr)); said != "" {
			text += " (" + oneLine(said) + ")"
		}
		return &notYet{text: text}
	}
	return nil
}
