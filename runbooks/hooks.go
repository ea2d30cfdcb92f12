package runbooks

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/diag"
)

var hookStepsSchema = &hcl.BodySchema{Blocks: stepBlocks}

// betweenNodes is the point between two hosts of a rolling block.
const betweenNodes = "between_nodes"

// hooksAt are the hooks of the files for a point of a runbook.
func (l *loader) hooksAt(runbook, point string) []*hcl.Block {
	var found []*hcl.Block
	for _, b := range l.decls.hooks {
		if b.Labels[0] == runbook && b.Labels[1] == point {
			found = append(found, b)
		}
	}
	return found
}

// hooked builds the steps of the hooks for some points. They see what the steps there see, and files of their own folder.
func (bu *builder) hooked(p position, points ...string) ([]engine.Step, map[string]taskInfo) {
	var steps []engine.Step
	made := map[string]taskInfo{}
	for _, point := range points {
		again := slices.Contains(bu.points, point)
		bu.points = append(bu.points, point)
		for _, b := range bu.l.hooksAt(bu.hooksOf, point) {
			if again {
				bu.l.report(diag.Error("Ambiguous point", fmt.Sprintf("Several tasks of the runbook %q have the point %q. Name one of them instead of its module.", bu.hooksOf, point), b.LabelRanges[1]))
				continue
			}
			content, diags := contentOf(b, hookStepsSchema)
			bu.l.report(diags)
			own := *bu
			env := *bu.l.newEnvironment(b.DefRange.Filename, bu.cluster)
			env.tasks, env.base.Variables["arg"] = bu.env.tasks, bu.env.base.Variables["arg"]
			own.env = &env
			more, done := own.steps(content.Blocks, p)
			bu.checks = own.checks
			steps = append(steps, more...)
			for name, info := range done {
				made[name] = info
			}
			p = p.with(done)
		}
	}
	return steps, made
}

// pointsOf are the names of the places around a task: by its module and by its own name.
func pointsOf(when string, b *hcl.Block) []string {
	if b.Labels[0] == b.Labels[1] {
		return []string{when + b.Labels[0]}
	}
	return []string{when + b.Labels[0], when + b.Labels[1]}
}

// collectHooks lists the tasks of the runbook's hooks with its own.
func (bu *builder) collectHooks() {
	for _, b := range bu.l.decls.hooks {
		if b.Labels[0] == bu.hooksOf {
			content, _, _ := b.Body.PartialContent(hookStepsSchema)
			bu.collectTasks(content.Blocks)
		}
	}
}

// hooksDone reports hooks for points that the runbook does not have.
func (bu *builder) hooksDone() {
	for _, b := range bu.l.decls.hooks {
		if b.Labels[0] != bu.hooksOf || slices.Contains(bu.points, b.Labels[1]) {
			continue
		}
		hint := suggestion(b.Labels[1], bu.points)
		if len(bu.points) == 0 {
			hint = " Only rolling blocks have such points, and it has none."
		}
		bu.l.report(diag.Error("Unknown point", fmt.Sprintf("The runbook %q has no point %q.%s", bu.hooksOf, b.Labels[1], hint), b.LabelRanges[1]))
	}
}

// checkHooks reports hooks for runbooks that do not exist. Those of built-in runbooks that this document does not use are
// checked where they are used.
func (l *loader) checkHooks() {
	for _, b := range l.decls.hooks {
		if _, ok := l.callable(b.Labels[0]); !ok {
			known := append(slices.Clone(l.decls.runbooks.order), stockNames()...)
			l.report(diag.Error("Unknown runbook", fmt.Sprintf("There is no runbook %q.%s", b.Labels[0], suggestion(b.Labels[0], known)), b.LabelRanges[0]))
		}
		if !strings.HasPrefix(b.Labels[1], "before_") && !strings.HasPrefix(b.Labels[1], "after_") && b.Labels[1] != betweenNodes {
			l.report(diag.Error("Unknown point", fmt.Sprintf("%q is no point of a runbook: these are before_<task>, after_<task> and %s.", b.Labels[1], betweenNodes), b.LabelRanges[1]))
		}
	}
}
