package system

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
)

//go:embed assert.md
var assertDoc string

type assertArgs struct {
	That    []bool `hcl:"that" doc:"The conditions, all of which must be true." min:"1"`
	Message string `hcl:"message,optional" doc:"What to tell when one is false: what must hold, and what to do."`
}

func newAssert() module.Module {
	return module.Define(module.Spec{
		Name: "assert", Summary: "Refuse to go on unless conditions hold", Doc: assertDoc,
	}, module.Funcs[assertArgs, struct{}]{Plan: planAssert})
}

func planAssert(_ context.Context, t module.Target, a assertArgs) ([]module.Change, error) {
	var wrong []string
	for i, ok := range a.That {
		if !ok {
			wrong = append(wrong, strconv.Itoa(i+1))
		}
	}
	if len(wrong) == 0 {
		return nil, nil
	}
	want := a.Message
	if want == "" {
		want = "every condition of the task to be true"
	}
	noun := "condition "
	if len(wrong) > 1 {
		noun = "conditions "
	}
	return nil, &module.Refusal{
		Host: t.Host().Name, Gate: "an assertion of the runbook", Saw: fmt.Sprintf("%s%s of %d: false", noun, strings.Join(wrong, ", "), len(a.That)),
		Want: want, Override: "change the runbook, or what it asserts",
	}
}
