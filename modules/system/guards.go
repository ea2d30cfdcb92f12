package system

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
)

// guards say when there is nothing to run. They are read before, and again after: what ran and left its guard open has
// failed.
type guards struct {
	Creates string `hcl:"creates,optional" doc:"Nothing is run when this path exists on the host; the run must make it."`
	Removes string `hcl:"removes,optional" doc:"Nothing is run when this path does not exist on the host; the run must remove it."`
	Unless  string `hcl:"unless,optional" doc:"Shell text that changes nothing: nothing is run when it succeeds, and it must succeed after the run."`
	OnlyIf  string `hcl:"only_if,optional" doc:"Shell text that changes nothing: nothing is run unless it succeeds."`
}

func (g guards) validate() error {
	var errs []error
	for name, p := range map[string]string{"creates": g.Creates, "removes": g.Removes} {
		if p != "" && !path.IsAbs(p) {
			errs = append(errs, schema.At(name, errors.New("it must be an absolute path")))
		}
	}
	return errors.Join(errs...)
}

// proving reports whether a guard can tell after the run that it was done.
func (g guards) proving() bool { return g.Creates != "" || g.Removes != "" || g.Unless != "" }

type guard struct {
	name string
	read transport.Command
	// closed says whether a read that succeeded (or failed) means that there is nothing to do.
	closedBy bool
}

func (g guards) list() []guard {
	var all []guard
	if g.Creates != "" {
		all = append(all, guard{"creates", exists(g.Creates), true})
	}
	if g.Removes != "" {
		all = append(all, guard{"removes", exists(g.Removes), false})
	}
	if g.Unless != "" {
		all = append(all, guard{"unless", transport.Command{Script: g.Unless}, true})
	}
	if g.OnlyIf != "" {
		all = append(all, guard{"only_if", transport.Command{Script: g.OnlyIf}, false})
	}
	return all
}

func (g guards) reads() []transport.Command {
	var cs []transport.Command
	for _, one := range g.list() {
		cs = append(cs, one.read)
	}
	return cs
}

// due reports whether there is something to run. A guard that could not be run at all says neither: that is an error,
// unless an earlier task of the plan may mend it, which foretells in predicted.
func (g guards) due(ctx context.Context, t module.Target) (due bool, predicted string, err error) {
	results, err := lookAll(ctx, t, g.reads())
	if err != nil {
		return false, "", err
	}
	due = true
	for i, one := range g.list() {
		r := results[i]
		if r.Exit >= 126 {
			if earlier := plannedHere(t); earlier != "" {
				predicted = fmt.Sprintf("the guard %s cannot be run yet; an earlier task may mend that: %s", one.name, earlier)
				continue
			}
			return false, "", fmt.Errorf("the guard %s could not be run: %w", one.name, r.Err(one.read))
		}
		if (r.Exit == 0) == one.closedBy {
			due = false
		}
	}
	if !due {
		predicted = ""
	}
	return due, predicted, nil
}

// plannedHere is what an earlier task of the plan will do to the host, and "" if none will do anything.
func plannedHere(t module.Target) string {
	for _, p := range t.Planned() {
		if p.Host == t.Host().Name {
			return p.Summary
		}
	}
	return ""
}
