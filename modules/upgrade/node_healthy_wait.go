package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/modules/internal/gates"
)

// waiting is a wait for a node to be well.
type waiting struct {
	t    module.Target
	host string
	args nodeHealthyArgs
	all  []gates.Verdict // of the last look
	told string
	// least is the least that Ceph has lacked so far, in each of its numbers; nil before the first answer. better says that one of them
	// has fallen since that was last asked.
	least  *lacks
	better bool
}

// lacks is what Ceph lacks until all of its placement groups are clean: groups that are not, objects without all their copies, and
// objects that are not where they belong.
type lacks struct{ groups, degraded, misplaced int }

// lacksOf is nil where Ceph gave no answer.
func lacksOf(c *gates.CephFacts) *lacks {
	if c == nil || c.Status == nil {
		return nil
	}
	return &lacks{c.Status.Unclean(), c.Status.PGs.Degraded, c.Status.PGs.Misplaced}
}

// note takes what Ceph lacks now.
func (w *waiting) note(now *lacks) {
	switch {
	case now == nil:
	case w.least == nil:
		w.least = now
	default:
		least := lacks{min(w.least.groups, now.groups), min(w.least.degraded, now.degraded), min(w.least.misplaced, now.misplaced)}
		w.better = w.better || least != *w.least
		w.least = &least
	}
}

func (l lacks) String() string {
	return fmt.Sprintf("%d placement groups not clean, %d objects lack copies, %d are misplaced", l.groups, l.degraded, l.misplaced)
}

// within waits until the verdicts that count are all good, for so long.
func (w *waiting) within(ctx context.Context, limit time.Duration, counts func(gates.Verdict) bool) error {
	bad, err := w.until(ctx, "all is well with "+w.host, limit, counts)
	if err != nil || len(bad) == 0 {
		return err
	}
	return w.refusals(bad, limit, "")
}

// whole waits until Ceph is whole again: as long as it takes, up to a limit, while anything gets better, and not much longer than
// ceph_stalled while nothing does.
func (w *waiting) whole(ctx context.Context) error {
	w.least = nil // what it was while its OSDs came up does not count
	for left := w.args.Ceph; ; {
		window := min(left, w.args.Stalled)
		w.better = false
		bad, err := w.until(ctx, "Ceph is whole again", window, func(gates.Verdict) bool { return true })
		if err != nil || len(bad) == 0 {
			return err
		}
		if left -= window; left <= 0 {
			return w.refusals(bad, w.args.Ceph, "")
		}
		if !w.better && w.least != nil {
			return w.refusals(bad, w.args.Ceph, fmt.Sprintf("; nothing has got better for %s (%s)", window, *w.least))
		}
	}
}

// until waits until the verdicts that count are all good, and gives those that are not when the time is over. What is not good is told
// when it changes.
func (w *waiting) until(ctx context.Context, name string, limit time.Duration, counts func(gates.Verdict) bool) ([]gates.Verdict, error) {
	var last []gates.Verdict
	err := w.t.WaitFor(ctx, module.Condition{
		Name: name, Timeout: limit, Every: 2 * time.Second,
		Check: func(ctx context.Context) error {
			all, bad, lacking := examine(ctx, w.t, w.host, w.args)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			w.all = all
			w.note(lacking)
			last = slices.DeleteFunc(bad, func(v gates.Verdict) bool { return !counts(v) })
			if len(last) == 0 {
				return nil
			}
			text := "waiting: " + strings.Join(texts(last), "; ")
			if text != w.told {
				w.t.Log(w.host, text)
				w.told = text
			}
			return notYetError(text)
		},
	})
	if _, late := errors.AsType[notYetError](err); !late || len(last) == 0 {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, err
	}
	return last, nil
}

// refusals are what is still wrong when the time is over, or nothing gets better.
func (w *waiting) refusals(bad []gates.Verdict, limit time.Duration, stalled string) error {
	var out module.Refusals
	for _, v := range bad {
		argument, saw := "within", v.Saw
		if v.Gate == gates.WellPGs {
			argument, saw = "ceph_within", v.Saw+stalled
			if stalled != "" {
				argument = "ceph_stalled"
			}
		}
		override := fmt.Sprintf("mend it and resume; or a longer %s; or ignore = [%q]", argument, v.Gate)
		if v.Override != "" {
			override = v.Override + "; then resume; or ignore = [\"" + v.Gate + "\"]"
		}
		out = append(out, &module.Refusal{
			Host: w.host, Gate: fmt.Sprintf("%s is well within %s: %s", w.host, limit, v.Gate), Saw: saw, Want: v.Want, Look: v.Look, Override: override,
		})
	}
	return out
}
