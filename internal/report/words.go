package report

import (
	"fmt"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/event"
)

// Duration shows how long something took with as much precision as a person wants: 84ms, 4.1s, 2m05s, 1h02m.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0ms"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}

// Count says a number with its noun: "1 host", "3 hosts".
func Count(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "y") && !strings.HasSuffix(noun, "ey"):
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(noun, "y"))
	default:
		return fmt.Sprintf("%d %ss", n, noun)
	}
}

// hostList names a few hosts and counts the rest.
func hostList(hosts []string, most int) string {
	if len(hosts) <= most {
		return strings.Join(hosts, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(hosts[:most], ", "), len(hosts)-most)
}

// statusWord is a status as people read it.
func statusWord(s event.Status) string {
	if s == event.NotRun {
		return "not run"
	}
	return string(s)
}

func statusRole(s event.Status) role {
	switch s {
	case event.OK:
		return good
	case event.Changed, event.Deferred, event.Cancelled, event.Refused:
		return caution
	case event.Failed, event.Unreachable:
		return bad
	default:
		return dim
	}
}

func (l Look) statusSymbol(s event.Status) string {
	var symbol string
	switch s {
	case event.OK:
		symbol = l.pick("✓", "=")
	case event.Changed:
		symbol = l.pick("✓", "+")
	case event.Failed, event.Unreachable:
		symbol = l.pick("✗", "x")
	case event.Refused:
		symbol = l.pick("⊘", "!")
	case event.Cancelled:
		symbol = l.pick("◌", "!")
	case event.Deferred:
		symbol = "?"
	default:
		symbol = l.pick("·", "-")
	}
	return l.paint(statusRole(s), symbol)
}

// stepName is a task's path without the runbook that it is in, which the heading has said.
func stepName(path, runbook string) string {
	return strings.TrimPrefix(path, runbook+"/")
}
