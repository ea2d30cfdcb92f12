package report

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/module"
)

// Plan shows what a run would do: one paragraph a task, changes that are alike on several hosts once.
func Plan(w io.Writer, p *engine.Plan, l Look) error {
	v := planView{Look: l, plan: p}
	v.heading()
	for _, t := range p.Tasks {
		v.task(t)
	}
	v.blocks()
	v.problems()
	v.total()
	_, err := io.WriteString(w, v.String())
	return err
}

type planView struct {
	Look
	strings.Builder
	plan *engine.Plan
}

func (v *planView) line(format string, args ...any) {
	fmt.Fprintf(v, format, args...)
	v.WriteByte('\n')
}

func (v *planView) heading() {
	hosts := planHosts(v.plan)
	text := v.paint(strong, "Plan for "+v.plan.Runbook)
	if v.plan.Cluster != "" {
		text += " on cluster " + v.plan.Cluster
	}
	if len(hosts) > 0 {
		text += v.paint(dim, " ("+hostList(hosts, 5)+")")
	}
	v.line("%s\n", text)
}

// planHosts are all hosts of a plan, in the order of the task that has most of them.
func planHosts(p *engine.Plan) []string {
	var hosts []string
	tasks := slices.Clone(p.Tasks)
	slices.SortStableFunc(tasks, func(a, b engine.TaskPlan) int { return len(b.On) - len(a.On) })
	for _, t := range tasks {
		if t.Skipped != "" {
			continue
		}
		for _, host := range t.On {
			if !slices.Contains(hosts, host) {
				hosts = append(hosts, host)
			}
		}
		for _, h := range t.Hosts {
			if h.Host != "" && !slices.Contains(hosts, h.Host) {
				hosts = append(hosts, h.Host)
			}
			for _, c := range h.Changes {
				if c.Host != "" && !slices.Contains(hosts, c.Host) {
					hosts = append(hosts, c.Host)
				}
			}
		}
	}
	return hosts
}

// nameWidth is the column in which the tasks' first remark stands.
func (v *planView) nameWidth() int {
	width := 0
	for _, t := range v.plan.Tasks {
		width = max(width, len(t.Module)+1+len(stepName(t.Step, v.plan.Runbook)))
	}
	return min(width, 40) + 2
}

func (v *planView) task(t engine.TaskPlan) {
	name := stepName(t.Step, v.plan.Runbook)
	title := t.Module + " " + v.paint(strong, name)
	heading := func(mark, remark string) {
		v.line("%s %s%s", mark, pad(title, v.nameWidth()), remark)
	}
	changes := taskChanges(t)
	switch {
	case t.Skipped != "":
		heading(v.paint(dim, v.pick("·", "-")), v.paint(dim, "skipped: "+t.Skipped))
		return
	case t.Deferred != "":
		heading(v.paint(caution, "?"), v.paint(caution, deferredText(t.Deferred)))
		return
	case len(changes) == 0 && hasErrors(t):
		heading(v.paint(bad, v.pick("✗", "x")), v.paint(bad, whyNotPlanned(t)))
	case len(changes) == 0 && len(deferredHosts(t)) == 0:
		heading(v.paint(good, v.pick("✓", "=")), v.paint(dim, "nothing to do"))
		return
	case len(changes) == 0:
		heading(v.paint(caution, "?"), v.paint(caution, "not known yet"))
	default:
		mark, r := symbol(changes[0])
		for _, c := range changes[1:] {
			if other, _ := symbol(c); other != mark {
				mark, r = "~", caution
			}
		}
		heading(v.paint(r, mark), v.paint(dim, Count(len(changes), "change")))
	}
	v.changes(changes)
	v.deferred(t)
	if len(changes) > 0 || len(deferredHosts(t)) > 0 {
		v.line("")
	}
}

func taskChanges(t engine.TaskPlan) []module.Change {
	var changes []module.Change
	for _, h := range t.Hosts {
		for _, c := range h.Changes {
			if c.Host == "" {
				c.Host = h.Host
			}
			changes = append(changes, c)
		}
	}
	return changes
}

func hasErrors(t engine.TaskPlan) bool {
	return slices.ContainsFunc(t.Hosts, func(h engine.HostPlan) bool { return h.Error != "" })
}

// whyNotPlanned names the earlier task if the problem is all that task's, which is told below.
func whyNotPlanned(t engine.TaskPlan) string {
	text := ""
	for _, h := range t.Hosts {
		switch {
		case h.Error == "":
		case h.Follows == "" || text != "" && text != h.Error:
			return "cannot be planned"
		default:
			text = h.Error
		}
	}
	return Clean(text)
}

func deferredHosts(t engine.TaskPlan) []engine.HostPlan {
	var hosts []engine.HostPlan
	for _, h := range t.Hosts {
		if h.Deferred != "" {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

func (v *planView) changes(changes []module.Change) {
	groups := groupChanges(changes)
	width := 0
	for _, g := range groups {
		width = max(width, len(hostList(g.hosts, 3)))
	}
	for _, g := range groups {
		mark, r := symbol(g.Change)
		hosts := pad(hostList(g.hosts, 3), width)
		text := Clean(g.Summary)
		room := v.Width - 4 - 2 - width - 2
		lines := wrap(text, room)
		v.line("    %s %s  %s", v.paint(r, mark), hosts, lines[0])
		indent := strings.Repeat(" ", 4+2+width+2)
		for _, more := range lines[1:] {
			v.line("%s%s", indent, more)
		}
		for _, note := range changeNotes(g.Change) {
			for _, line := range wrap(note, room) {
				v.line("%s%s", indent, v.paint(caution, line))
			}
		}
		for _, detail := range v.detail(g.Change, room) {
			v.line("%s%s", indent, detail)
		}
	}
}

// changeNotes are what a reader must know beside the change itself.
func changeNotes(c module.Change) []string {
	var notes []string
	switch c.Risk {
	case module.RiskDisruptive:
		notes = append(notes, "interrupts service for a while")
	case module.RiskDestructive:
		notes = append(notes, "cannot be taken back")
	}
	if c.Undo != nil {
		notes = append(notes, "for the time of the run; then: "+Clean(c.Undo.Summary))
	}
	if c.Predicted != "" {
		notes = append(notes, "expected: "+Clean(c.Predicted))
	}
	return notes
}

// deferredText says what must happen before a task can be planned.
func deferredText(reason string) string {
	reason = Clean(reason)
	if strings.HasPrefix(reason, "known after") || strings.HasPrefix(reason, "needs ") {
		return reason
	}
	return "planned later: " + reason
}

func (v *planView) deferred(t engine.TaskPlan) {
	byReason := map[string][]string{}
	var reasons []string
	for _, h := range deferredHosts(t) {
		if _, seen := byReason[h.Deferred]; !seen {
			reasons = append(reasons, h.Deferred)
		}
		byReason[h.Deferred] = append(byReason[h.Deferred], h.Host)
	}
	for _, reason := range reasons {
		hosts := hostList(byReason[reason], 3)
		for i, line := range wrap(deferredText(reason), v.Width-len(hosts)-8) {
			if i == 0 {
				v.line("    %s %s  %s", v.paint(caution, "?"), hosts, line)
				continue
			}
			v.line("%s%s", strings.Repeat(" ", len(hosts)+8), line)
		}
	}
}

// problems lists what kept hosts from being planned, once for each kind of problem.
func (v *planView) problems() {
	var problems []Problem
	add := func(p Problem) {
		if !slices.Contains(problems, p) { // a host that cannot be reached fails every task in the same way
			problems = append(problems, p)
		}
	}
	for _, t := range v.plan.Tasks {
		for _, h := range t.Hosts {
			switch {
			case h.Follows != "": // told with the task that it follows
			case len(h.Refused) > 0:
				for _, r := range h.Refused {
					add(Problem{cmp.Or(r.Host, h.Host), r.Error()})
				}
			case len(h.Away) > 0:
				for _, away := range h.Away {
					add(Problem{Host: away.Host, Text: away.Error})
				}
			case h.Error != "":
				add(Problem{h.Host, h.Error})
			}
		}
	}
	for _, b := range v.plan.Blocks {
		for _, r := range b.Refused {
			add(Problem{r.Host, r.Error()})
		}
		if b.Error != "" && len(b.Refused) == 0 {
			add(Problem{Text: b.Error})
		}
	}
	if len(problems) == 0 {
		return
	}
	if !strings.HasSuffix(v.String(), "\n\n") {
		v.line("")
	}
	v.WriteString(v.Problems(problems))
}

func (v *planView) total() {
	counts := map[module.Action]int{}
	unknown, changes := 0, 0
	for _, t := range v.plan.Tasks {
		if t.Deferred != "" || len(deferredHosts(t)) > 0 {
			unknown++
		}
		for _, c := range taskChanges(t) {
			counts[c.Action]++
			changes++
		}
	}
	if !strings.HasSuffix(v.String(), "\n\n") {
		v.line("")
	}
	if v.plan.Blocked() != nil {
		v.line("%s Mend what is listed above and plan again. Nothing was changed.", v.paint(bad, "This cannot be applied."))
		return
	}
	if changes == 0 && unknown == 0 {
		if v.plan.Empty() {
			v.line("%s Everything is as wanted.", v.paint(strong, "No changes."))
		}
		return
	}
	var parts []string
	for _, kind := range []struct {
		action module.Action
		words  string
	}{{module.Create, "to create"}, {module.Update, "to update"}, {module.Delete, "to delete"}, {module.Run, "to run"}, {module.Reboot, "to reboot"}} {
		if n := counts[kind.action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, kind.words))
		}
	}
	text := strings.Join(parts, ", ")
	if unknown > 0 {
		if text != "" {
			text += "; "
		}
		verb := " is"
		if unknown > 1 {
			verb = " are"
		}
		text += Count(unknown, "task") + verb + " planned when earlier results are known"
	}
	v.line("%s %s.", v.paint(strong, "Plan:"), text)
}
