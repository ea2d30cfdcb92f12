package scripts

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/lua"
)

//go:embed gate.md
var gateDoc string

type gateArgs struct {
	Script  schema.Path              `hcl:"script" doc:"The Lua file, relative to the folder of the file that names it."`
	Within  time.Duration            `hcl:"within,optional" default:"5m" min:"0s" doc:"How long a run asks again when the script says retry."`
	Limit   time.Duration            `hcl:"limit,optional" default:"1m" min:"1s" doc:"How long the script may take each time."`
	Args    map[string]string        `hcl:"args,optional" doc:"What the script finds in its global args."`
	Secrets map[string]secret.String `hcl:"secrets,optional" doc:"What the script gets from secret(name)."`
}

func newGate() module.Module {
	return module.Define(module.Spec{
		Name: "gate", Summary: "Ask a Lua script whether the run may go on", Doc: gateDoc,
	}, module.Funcs[gateArgs, struct{}]{Plan: planGate})
}

// planGate asks while a task is performed, too: then a gate that is closed for now is asked again.
func planGate(ctx context.Context, t module.Target, a gateArgs) ([]module.Change, error) {
	script, err := a.compile()
	if err != nil {
		return nil, err
	}
	g := newQuestion(t, a, script)
	if len(t.Planned()) > 0 {
		return g.later("earlier tasks are going to change what it looks at"), nil
	}
	if t.Run() != "" {
		return nil, g.wait(ctx, t)
	}
	v, err := g.ask(ctx, t)
	if err == nil && v.Outcome == lua.Retry {
		t.Warn(g.host, fmt.Sprintf("the gate %s is closed for now: %s; the run will wait for it up to %s", a.name(), v.Reading, a.Within))
		return g.later("it is closed for now"), nil
	}
	return nil, g.closed(v, err)
}

// later stands in a plan for a question that only the run can have answered.
func (g *question) later(why string) []module.Change {
	return []module.Change{{
		ID: g.host + "/gate", Host: g.host, Action: module.Run, Summary: "ask the gate " + g.args.name(), Imperative: true, Predicted: why,
		Apply: g.wait,
	}}
}

func (a gateArgs) name() string { return filepath.Base(string(a.Script)) }

func (a gateArgs) compile() (*lua.Script, error) {
	path := string(a.Script)
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("gate: %w", err)
	}
	script, problems := lua.New(lua.Folder(a.modules())).Compile(path, src)
	if problems.HasErrors() {
		return nil, fmt.Errorf("gate: %w", problems)
	}
	return script, nil
}

// modules is the folder of what the script requires: lua/ beside the script's folder, or else beside the script.
func (a gateArgs) modules() string {
	dir := filepath.Dir(string(a.Script))
	above := filepath.Join(filepath.Dir(dir), "lua")
	if info, err := os.Stat(above); err == nil && info.IsDir() {
		return above
	}
	return filepath.Join(dir, "lua")
}

// question is what one task asks about one host.
type question struct {
	args    gateArgs
	script  *lua.Script
	host    string
	api     *lua.API
	globals map[string]lua.Value
}

func newQuestion(t module.Target, a gateArgs, script *lua.Script) *question {
	env := environment(t, a.Secrets)
	arguments := map[string]lua.Value{}
	for name, text := range a.Args {
		arguments[name] = text
	}
	g := &question{args: a, script: script, host: t.Host().Name, api: lua.Declare(env), globals: map[string]lua.Value{"args": arguments}}
	for _, h := range env.Hosts {
		if h.Name() == g.host {
			g.globals["self"] = lua.HostValue(h)
		}
	}
	return g
}

// errNoVerdict closes a gate whose script forgot to say something.
var errNoVerdict = errors.New("the script ended without pass, retry or fail")

// ask runs the script once. A verdict of fail is no error.
func (g *question) ask(ctx context.Context, t module.Target) (*lua.Verdict, error) {
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(t.Run()))
	result, err := g.script.Run(ctx, lua.Call{
		Limits: lua.Limits{Time: g.args.Limit}, Seed: seed.Sum64(), API: g.api, Globals: g.globals,
		Print: func(line string) { t.Log(g.host, line) },
	})
	if err == nil && result.Verdict == nil {
		err = errNoVerdict
	}
	if err != nil {
		t.Record(g.host, module.Reading{Gate: g.args.name(), Saw: err.Error(), Want: "pass"})
		return nil, err
	}
	t.Record(g.host, module.Reading{Gate: g.args.name(), Saw: result.Verdict.Reading, Want: "pass", OK: result.Verdict.Outcome == lua.Pass})
	return result.Verdict, nil
}

// closed is the refusal of a gate that did not say pass; nil if it did.
func (g *question) closed(v *lua.Verdict, err error) error {
	r := &module.Refusal{
		Host: g.host, Gate: "the gate " + g.args.name(), Want: "that the script says pass", Look: "read " + string(g.args.Script),
		Override: "leave the task out with `when`, or change the script",
	}
	switch {
	case err != nil:
		if _, ok := errors.AsType[*lua.Error](err); !ok && !errors.Is(err, errNoVerdict) {
			return err
		}
		r.Saw = err.Error()
	case v.Outcome == lua.Pass:
		return nil
	default:
		r.Saw = string(v.Outcome) + ": " + v.Reading
	}
	return r
}

// The pauses between two questions when the script names none.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// wait asks until the gate is open, says fail, or the time is over.
func (g *question) wait(ctx context.Context, t module.Target) error {
	pause, waited := firstPause, time.Duration(0)
	for {
		began := time.Now()
		v, err := g.ask(ctx, t)
		waited += time.Since(began)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		closed := g.closed(v, err)
		if closed == nil || err != nil || v.Outcome == lua.Fail {
			return closed
		}
		next := pause
		if v.After > 0 {
			next = v.After
		}
		if waited >= g.args.Within {
			return closed
		}
		next = min(next, g.args.Within-waited)
		t.Log(g.host, fmt.Sprintf("%s: %s; asked again in %s", g.args.name(), v.Reading, next))
		if err := t.Sleep(ctx, next); err != nil {
			return err
		}
		waited += next
		pause = min(2*pause, lastPause)
	}
}
