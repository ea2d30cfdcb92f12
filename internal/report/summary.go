package report

import (
	"fmt"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
	"github.com/pxrun/pxrun/engine/event"
)

// tableHosts is how many hosts without trouble the summary lists one by one.
const tableHosts = 20

// hostTally counts a host's tasks by how they ended.
type hostTally struct {
	host   string
	counts map[event.Status]int
	done   int // changes made
}

func (h hostTally) troubled() bool {
	return h.counts[event.Failed]+h.counts[event.Refused]+h.counts[event.Unreachable]+h.counts[event.Cancelled]+h.counts[event.NotRun] > 0
}

func tally(s event.Summary, order []string) []hostTally {
	byHost := map[string]*hostTally{}
	var tallies []*hostTally
	get := func(host string) *hostTally {
		if byHost[host] == nil {
			byHost[host] = &hostTally{host: host, counts: map[event.Status]int{}}
			tallies = append(tallies, byHost[host])
		}
		return byHost[host]
	}
	for _, host := range order {
		get(host)
	}
	for _, step := range s.Steps {
		for _, h := range step.Hosts {
			t := get(h.Host)
			t.counts[h.Status]++
			t.done += len(h.Done)
		}
	}
	var all []hostTally
	for _, t := range tallies {
		if len(t.counts) > 0 {
			all = append(all, *t)
		}
	}
	return all
}

// summary says what was and was not done, and what to do next.
func (t transcript) summary(e event.Event, b event.RunDone) []string {
	if t.start.Command == "plan" {
		return nil
	}
	tallies := tally(b.Summary, t.hosts)
	if t.start.Command == "" && b.Status == event.Changed { // release: a run without tasks
		return []string{"", t.paint(good, "Done.") + " " + Count(t.restored, "temporary change") + " taken back." + t.paint(dim, fmt.Sprintf("  %s, run %s", Duration(b.Duration), e.Run))}
	}
	if !t.acted && (b.Status == event.OK || b.Status == event.Changed) {
		b.Duration = e.Time.Sub(t.began) // the time went into looking
		return []string{t.verdict(b, tallies)}
	}
	lines := []string{"", t.verdict(b, tallies)}
	lines = append(lines, t.table(tallies)...)
	lines = append(lines, t.notDone(b.Summary)...)
	lines = append(lines, t.left(b.Summary)...)
	return append(lines, t.next(b)...)
}

func (t transcript) verdict(b event.RunDone, tallies []hostTally) string {
	done, on := 0, 0
	for _, h := range tallies {
		done += h.done
		if h.done > 0 {
			on++
		}
	}
	tail := t.paint(dim, fmt.Sprintf("  %s, run %s", Duration(b.Duration), t.run))
	changed := Count(done, "change") + " made on " + Count(on, "host")
	if done == 0 {
		changed = "nothing was changed"
		if t.broken > 0 {
			changed = "no change was completed"
		}
	}
	if t.broken > 0 {
		was := " was"
		if t.broken > 1 {
			was = " were"
		}
		changed += "; " + Count(t.broken, "change") + was + " begun and may be half done"
	}
	switch b.Status {
	case event.OK, event.Changed:
		if done == 0 {
			return t.paint(good, "No changes.") + " Everything is as wanted." + tail
		}
		return t.paint(good, "Done.") + " " + Count(done, "change") + " on " + Count(on, "host") + ", checked." + tail
	default:
		word := statusWord(b.Status)
		return t.paint(statusRole(b.Status), strings.ToUpper(word[:1])+word[1:]+":") + " " + changed + "." + tail
	}
}

// table has a row for each host and a column for each outcome that occurred.
func (t transcript) table(tallies []hostTally) []string {
	columns := []event.Status{event.Changed, event.OK, event.Skipped, event.Failed, event.Refused, event.Unreachable, event.Cancelled, event.NotRun}
	columns = slices.DeleteFunc(columns, func(s event.Status) bool {
		return s != event.Changed && s != event.OK && !slices.ContainsFunc(tallies, func(h hostTally) bool { return h.counts[s] > 0 })
	})
	hidden := 0
	if len(tallies) > tableHosts {
		shown := slices.DeleteFunc(slices.Clone(tallies), func(h hostTally) bool { return !h.troubled() })
		hidden = len(tallies) - len(shown)
		tallies = shown
	}
	width := 4
	for _, h := range tallies {
		width = max(width, lipgloss.Width(h.host))
	}
	var head strings.Builder
	head.WriteString("  " + pad("tasks", width))
	for _, s := range columns {
		fmt.Fprintf(&head, "  %*s", max(len(statusWord(s)), 4), statusWord(s))
	}
	lines := []string{"", t.paint(dim, head.String()+"    time")}
	for _, h := range tallies {
		lines = append(lines, t.row(h, columns, max(width, 5)))
	}
	if hidden > 0 {
		lines = append(lines, t.paint(dim, fmt.Sprintf("  and %s without trouble", Count(hidden, "host"))))
	}
	return lines
}

func (t transcript) row(h hostTally, columns []event.Status, width int) string {
	var row strings.Builder
	row.WriteString("  " + pad(h.host, width))
	for _, s := range columns {
		text, r := t.pick("–", "-"), dim
		if n := h.counts[s]; n > 0 {
			text, r = fmt.Sprint(n), statusRole(s)
			if s == event.OK {
				r = plain
			}
		}
		columns := max(len(statusWord(s)), 4)
		row.WriteString("  " + strings.Repeat(" ", max(columns-lipgloss.Width(text), 0)) + t.paint(r, text))
	}
	fmt.Fprintf(&row, "  %6s", Duration(t.times[h.host]))
	return row.String()
}

// notDone lists what was planned and did not happen. Hosts with the same list share a line.
func (t transcript) notDone(s event.Summary) []string {
	var lines []string
	for _, step := range s.Steps {
		name := stepName(step.Step, t.start.Runbook)
		hosts := map[string][]string{}
		var texts []string
		for _, h := range step.Hosts {
			for _, text := range notDoneTexts(h) {
				if hosts[text] == nil {
					texts = append(texts, text)
				}
				hosts[text] = append(hosts[text], h.Host)
			}
		}
		if len(step.Hosts) == 0 && step.Status == event.NotRun {
			texts, hosts = []string{step.Reason}, map[string][]string{step.Reason: {"not run"}}
		}
		for _, text := range texts {
			line := fmt.Sprintf("  %s  %s", t.paint(strong, name), hostList(hosts[text], 4))
			if text != "" {
				line += ": " + Clean(text)
			}
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return nil
	}
	return append([]string{"", "Not done:"}, lines...)
}

func notDoneTexts(h event.HostSummary) []string {
	if len(h.NotDone) > 0 {
		return h.NotDone
	}
	if h.Status == event.NotRun {
		return []string{""}
	}
	return nil
}

func (t transcript) left(s event.Summary) []string {
	if len(s.Left) == 0 {
		return nil
	}
	lines := []string{"", t.paint(caution, "Left in place:")}
	for _, undo := range s.Left {
		lines = append(lines, fmt.Sprintf("  %s  %s", undo.Host, Clean(undo.Summary)))
	}
	return append(lines, "  Take it back with: pxrun release "+t.run)
}

// abandoned reports whether a run ended before its first task: its plan could not be made, was stale, or nobody wanted
// it. There is nothing to go on with then; what to do instead stands in the error.
func abandoned(s event.Summary) bool {
	return len(s.Steps) > 0 && !slices.ContainsFunc(s.Steps, func(step event.StepSummary) bool {
		return step.Status != event.NotRun || step.Reason == "" || len(step.Hosts) > 0
	})
}

func (t transcript) next(b event.RunDone) []string {
	switch b.Status {
	case event.OK, event.Changed, event.Skipped:
		return nil
	}
	if t.run == "" || t.start.Command == "exec" || abandoned(b.Summary) {
		return nil
	}
	lines := []string{"", "Next: mend the cause, then  " + t.paint(accent, "pxrun resume "+t.run)}
	if b.Status == event.Cancelled {
		lines[1] = "Next: go on with  " + t.paint(accent, "pxrun resume "+t.run)
	}
	if t.Logs != nil {
		lines = append(lines, "Logs: "+t.Logs(t.run))
	}
	return lines
}
