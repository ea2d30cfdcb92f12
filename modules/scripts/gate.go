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
	if len(t.Planned()) > 0 {
		return []module.Change{{
			ID: t.Host().Name + "/gate", Host: t.Host().Name, Action: module.Run, Summary: "ask the gate " + a.name(), Imperative: true,
			Predicted: "earlier tasks are going to change what it looks at", Apply: func(context.Context, module.Target) error { return nil },
		}}, nil
	}
	g := &gate{args: a, script: script, host: t.Host().Name}
	if t.Run() == "" {
		return nil, g.closed(g.ask(ctx, t))
	}
	return nil, g.wait(ctx, t)
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

// gate is one task's question about one host.
type gate struct {
	args   gateArgs
	script *lua.Script
	host   string
}

// errNoVerdict closes a gate whose script forgot to say something.
var errNoVerdict = errors.New("the script ended without pass, retry or fail")

// ask runs the script once. A verdict of fail is no error.
func (g *gate) ask(ctx context.Context, t module.Target) (*lua.Verdict, error) {
	arguments := map[string]lua.Value{}
	for name, text := range g.args.Args {
		arguments[name] = text
	}
	env := environment(t, g.args.Secrets)
	globals := map[string]lua.Value{"args": arguments}
	for _, h := range env.Hosts {
		if h.Name() == g.host {
			globals["self"] = lua.HostValue(h)
		}
	}
	seed := fnv.New64a()
	_, _ = seed.Write([]byte(t.Run()))
	result, err := g.script.Run(ctx, lua.Call{
		Limits: lua.Limits{Time: g.args.Limit}, Seed: seed.Sum64(), API: lua.Declare(env), Globals: globals,
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
func (g *gate) closed(v *lua.Verdict, err error) error {
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
func (g *gate) wait(ctx context.Context, t module.Target) error {
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
