package system

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/pxrun/pxrun/engine/module"
)

//go:embed pause.md
var pauseDoc string

type pauseArgs struct {
	Duration time.Duration `hcl:"duration,optional" doc:"How long to wait." example:"2m"`
	Prompt   string        `hcl:"prompt,optional" doc:"A yes/no question for the person at the terminal; no ends the run."`
}

// Validate checks what the tags can't say.
func (a pauseArgs) Validate() error {
	if (a.Duration == 0) == (a.Prompt == "") {
		return errors.New("give either duration or prompt")
	}
	return nil
}

func newPause() module.Module {
	return module.Define(module.Spec{
		Name: "pause", Summary: "Wait for a time, or for a person's consent", Doc: pauseDoc, Scope: module.PerCluster,
	}, module.Funcs[pauseArgs, struct{}]{Plan: planPause})
}

func planPause(_ context.Context, t module.Target, a pauseArgs) ([]module.Change, error) {
	c := module.Change{ID: "pause", Host: t.Host().Name, Action: module.Run, Imperative: true}
	if a.Prompt != "" {
		c.Summary = "ask: " + a.Prompt
		c.Apply = func(ctx context.Context, t module.Target) error { return t.Approve(ctx, a.Prompt) }
	} else {
		c.Summary = fmt.Sprintf("wait for %s", a.Duration)
		c.Apply = func(ctx context.Context, t module.Target) error { return t.Sleep(ctx, a.Duration) }
	}
	return []module.Change{c}, nil
}
