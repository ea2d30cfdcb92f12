package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/event"
)

// transcript turns events into the lines that stay on a terminal: one paragraph for each task that ended.
type transcript struct {
	Options
	*tracker
}

// lines returns what is to be written for an event that the tracker has seen, each line without its end.
func (t transcript) lines(e event.Event, s *stepState) []string {
	switch b := e.Body.(type) {
	case event.StepStarted:
		return t.opening(b)
	case event.HostConnected:
		return t.connection(e, b)
	case event.StepDone:
		if s == nil || s.planning {
			return nil
		}
		return t.ended(s, b)
	case event.Warning:
		return t.remark(e, caution, b.Text)
	case event.Note:
		if t.Level >= Verbose || b.Result {
			return t.remark(e, dim, b.Text)
		}
	case event.Output:
		if t.Level >= Verbose {
			return []string{t.paint(dim, pad(e.Host, 8)+" "+t.pick("│", "|")) + " " + t.fit(Clean(b.Line), t.Width-12)}
		}
	case event.Dropped:
		if t.Level >= Verbose {
			return t.remark(e, dim, Count(b.Lines, "line")+" of output left out here; the log file has them")
		}
	case event.CommandRan:
		if t.Level >= Trace {
			return []string{t.Command(e.Host, b)}
		}
	case event.UndoDone:
		return t.undone(e, b)
	case event.Interrupted:
		if t.planning {
			return t.remark(e, caution, "Interrupted while planning; nothing was changed.")
		}
		if b.Count == 1 {
			return t.remark(e, caution, "Interrupted: finishing what is under way, then stopping. Interrupt again to stop now.")
		}
		return t.remark(e, bad, "Interrupted again: stopping now.")
	case event.RunDone:
		return t.summary(e, b)
	default:
		if lines := t.turn(e); lines != nil {
			return append(t.opening(event.StepStarted{}), lines...)
		}
	}
	return nil
}

// opening is the heading of what is done, before its first task.
func (t transcript) opening(b event.StepStarted) []string {
	if b.Planning || t.acted || t.start.Command == "" {
		return nil
	}
	t.acted = true
	run := t.start
	text := t.paint(strong, strings.ToUpper(run.Command[:1])+run.Command[1:]+" "+run.Runbook)
	if run.Cluster != "" {
		text += " on cluster " + run.Cluster
	}
	return []string{"", text + t.paint(dim, fmt.Sprintf(" (%s, %s)", Count(len(run.Hosts), "host"), Count(run.Tasks, "task"))), ""}
}

func (t transcript) connection(e event.Event, b event.HostConnected) []string {
	if b.Error != "" || t.Level < Trace {
		return nil
	}
	return []string{t.Connected(e.Host, b)}
}

func (t transcript) remark(e event.Event, r role, text string) []string {
	if e.Host != "" {
		text = e.Host + ": " + text
	}
	lines := wrap(Clean(text), t.Width-4)
	for i, line := range lines {
		mark := " "
		if i == 0 {
			mark = t.paint(r, "!")
			if r == dim {
				mark = t.paint(dim, t.pick("·", "-"))
			}
		}
		lines[i] = mark + " " + line
	}
	return lines
}

func (t transcript) undone(e event.Event, b event.UndoDone) []string {
	what := cmp.Or(b.Summary, b.ID)
	e.Host = cmp.Or(b.About, e.Host)
	if b.Error == "" {
		return t.remark(e, dim, "taken back: "+what)
	}
	return t.remark(e, bad, "could not be taken back: "+what+": "+b.Error)
}

// ended is the paragraph of a task: how it ended, what was changed, what went wrong.
func (t transcript) ended(s *stepState, b event.StepDone) []string {
	name := s.module + " " + t.paint(strong, stepName(s.path, t.start.Runbook))
	line := fmt.Sprintf("%s %s  %s", t.statusSymbol(b.Status), pad(name, 32), t.outcome(s, b))
	lines := []string{line + t.paint(dim, "  "+Duration(b.Duration))}
	for _, g := range groupChanges(s.made) {
		t.sortHosts(g.hosts)
		mark, r := symbol(g.Change)
		lines = append(lines, fmt.Sprintf("    %s %s  %s", t.paint(r, mark), hostList(g.hosts, 4), t.fit(Clean(g.Summary), t.Width-10-len(hostList(g.hosts, 4)))))
	}
	if len(s.problems) > 0 {
		inner := t.Look
		if inner.Width > 0 {
			inner.Width -= 4
		}
		slices.SortStableFunc(s.problems, func(a, b Problem) int { return t.place(a.Host) - t.place(b.Host) })
		text := strings.TrimSuffix(inner.Problems(s.problems), "\n")
		for line := range strings.SplitSeq(text, "\n") {
			lines = append(lines, "    "+line)
		}
	}
	return lines
}

// sortHosts brings hosts into the order of the run, whichever came first.
func (t transcript) sortHosts(hosts []string) {
	slices.SortStableFunc(hosts, func(a, b string) int { return t.place(a) - t.place(b) })
}

func (t transcript) place(host string) int { return slices.Index(t.hosts, host) }

func (t transcript) outcome(s *stepState, b event.StepDone) string {
	if len(s.outcome) == 0 {
		text := statusWord(b.Status)
		if s.reason != "" {
			text += ": " + Clean(s.reason)
		}
		return t.paint(statusRole(b.Status), text)
	}
	var parts []string
	for _, status := range s.outcomes() {
		text := statusWord(status)
		if len(s.hosts) > 1 {
			text = fmt.Sprintf("%d %s", s.outcome[status], text)
		}
		parts = append(parts, t.paint(statusRole(status), text))
	}
	return strings.Join(parts, ", ")
}

// since shows for how long something has been going on: 0:07, 12:34.
func since(began, now time.Time) string {
	d := max(now.Sub(began), 0)
	return fmt.Sprintf("%d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}
