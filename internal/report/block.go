package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
)

// turn tells of hosts whose turn in a rolling block begins and ends, and of guests on their way.
func (t transcript) turn(e event.Event) []string {
	switch b := e.Body.(type) {
	case event.NodeStarted:
		text := fmt.Sprintf("%s %s %s", t.paint(accent, t.pick("▸", ">")), t.paint(strong, e.Host), t.paint(dim, fmt.Sprintf("(%d of %d)", b.Index, b.Of)))
		if b.Takes > 0 {
			text += t.paint(dim, ", about "+Duration(b.Takes))
		}
		return []string{text}
	case event.NodeDone:
		text := fmt.Sprintf("%s %s %s", t.statusSymbol(b.Status), t.paint(strong, e.Host), statusWord(b.Status))
		if b.Reason != "" {
			text += ": " + Clean(b.Reason)
		}
		if b.Duration > 0 {
			text += t.paint(dim, "  "+Duration(b.Duration))
		}
		return []string{t.fit(text, t.Width)}
	case event.Paused:
		text := b.Reason
		if b.Answer != "" {
			text += ": " + b.Answer
		}
		if !b.Until.IsZero() {
			text += " (until " + b.Until.Local().Format("Mon 15:04") + ")"
		}
		return t.remark(event.Event{}, caution, text)
	case event.Continued:
		if b.By == "" {
			return t.remark(e, dim, "goes on")
		}
		return t.remark(e, dim, "approved by "+b.By)
	case module.Moved:
		text := fmt.Sprintf("%s: %s → %s, %s", b.Guest, b.From, b.To, b.Way)
		if b.Error != "" {
			return t.remark(event.Event{}, caution, text+": "+b.Error)
		}
		if b.Took > 0 { // 0 is not known
			text += ", " + Duration(b.Took)
		}
		return t.remark(event.Event{}, dim, text)
	}
	return nil
}

// blocks shows the courses of the rolling blocks.
func (v *planView) blocks() {
	for _, b := range v.plan.Blocks {
		if b.Showing != nil {
			if !strings.HasSuffix(v.String(), "\n\n") {
				v.line("")
			}
			v.WriteString(v.Showing(*b.Showing))
		}
		v.idle(b)
	}
}

// idle names the hosts that a block leaves alone, once for each reason.
func (v *planView) idle(b engine.BlockPlan) {
	byReason := map[string][]string{}
	for _, host := range slices.Sorted(maps.Keys(b.Idle)) {
		byReason[b.Idle[host]] = append(byReason[b.Idle[host]], host)
	}
	for _, reason := range slices.Sorted(maps.Keys(byReason)) {
		v.line("%s %s", v.paint(dim, v.pick("·", "-")), v.paint(dim, "left alone: "+hostList(byReason[reason], 8)+": "+Clean(reason)))
	}
}

// Showing is a showing for people: its tables with the sentences around them.
func (l Look) Showing(s module.Showing) string {
	var b strings.Builder
	sentence := func(r role, text string) {
		for _, line := range wrap(Clean(text), l.Width) {
			b.WriteString(l.paint(r, line) + "\n")
		}
	}
	if s.Title != "" {
		sentence(strong, s.Title)
	}
	for _, text := range s.Lead {
		sentence(plain, text)
	}
	for _, table := range s.Tables {
		b.WriteString("\n")
		if table.Title != "" {
			sentence(strong, table.Title)
		}
		for _, line := range l.table(table) {
			b.WriteString(line + "\n")
		}
	}
	if len(s.Notes) > 0 {
		b.WriteString("\n")
	}
	for _, text := range s.Notes {
		sentence(dim, text)
	}
	b.WriteString("\n")
	return b.String()
}
