package cluster

import (
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
)

// leftOut refuses a change of the cluster as a whole while --limit leaves out hosts that it changes too: half of it would be
// worse than none.
func leftOut(t module.Target, gate string, hosts []string) *module.Refusal {
	out := slices.DeleteFunc(slices.Clone(hosts), t.Selected)
	if len(out) == 0 {
		return nil
	}
	return &module.Refusal{
		Gate: gate, Saw: strings.Join(out, ", ") + " left out by --limit", Want: "every host that this changes in the run: " + strings.Join(hosts, ", "),
		Override: "run it without --limit, or leave this task out with --skip-tags",
	}
}
