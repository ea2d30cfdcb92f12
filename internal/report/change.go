package report

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"charm.land/lipgloss/v2"
	udiff "github.com/aymanbagabas/go-udiff"
	"github.com/charmbracelet/x/ansi"
	"github.com/pxrun/pxrun/engine/module"
)

// diffLines is how many lines of one diff are shown before the rest is only counted.
const diffLines = 60

// symbol is one character for what a change does: + create, ~ update, - delete, > run, ! reboot.
func symbol(c module.Change) (string, role) {
	switch c.Action {
	case module.Create:
		return "+", good
	case module.Delete:
		return "-", bad
	case module.Run:
		return ">", accent
	case module.Reboot:
		return "!", bad
	default:
		return "~", caution
	}
}

// changeGroup is one change that is the same on several hosts.
type changeGroup struct {
	module.Change
	hosts []string
}

// groupChanges puts changes together that differ in nothing but the host. Order is that of the first of each group.
func groupChanges(changes []module.Change) []changeGroup {
	var groups []changeGroup
	at := map[string]int{}
	for _, c := range changes {
		key := fmt.Sprintf("%s\x00%s\x00%s\x00%s\x00%s\x00%s", c.Action, c.Risk, c.Summary, c.Predicted, compact(c.Before), compact(c.After))
		if i, seen := at[key]; seen {
			groups[i].hosts = append(groups[i].hosts, c.Host)
			continue
		}
		at[key] = len(groups)
		groups = append(groups, changeGroup{c, []string{c.Host}})
	}
	return groups
}

func compact(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%T", v)
	}
	return string(b)
}

// detail shows what is different: a diff of texts, old → new of single values, one line for each key of an object.
// Long values are wrapped to the room.
func (l Look) detail(c module.Change, room int) []string {
	before, after := jsonValue(c.Before), jsonValue(c.After)
	if before == nil && after == nil {
		return nil
	}
	oldText, oldIsText := before.(string)
	newText, newIsText := after.(string)
	if (oldIsText || before == nil) && (newIsText || after == nil) && strings.Contains(oldText+newText, "\n") {
		return l.textDiff(oldText, newText)
	}
	oldKeys, oldIsObject := before.(map[string]any)
	newKeys, newIsObject := after.(map[string]any)
	if (oldIsObject || before == nil) && (newIsObject || after == nil) {
		return l.objectDiff(oldKeys, newKeys, room)
	}
	return hang(l.arrow(before, after), room, 2)
}

// jsonValue brings structs and typed maps into the few shapes that detail shows.
func jsonValue(v any) any {
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	var plain any
	if err := json.Unmarshal(b, &plain); err != nil {
		return nil
	}
	return plain
}

func (l Look) textDiff(before, after string) []string {
	unified := udiff.Unified("before", "after", before, after)
	lines := strings.Split(strings.TrimSuffix(unified, "\n"), "\n")
	var shown []string
	for i, line := range lines {
		if strings.HasPrefix(line, "--- ") || strings.HasPrefix(line, "+++ ") {
			continue
		}
		if len(shown) == diffLines {
			shown = append(shown, l.paint(dim, fmt.Sprintf("(%s more)", Count(len(lines)-i, "line"))))
			break
		}
		shown = append(shown, l.diffLine(Clean(line)))
	}
	return shown
}

func (l Look) diffLine(line string) string {
	switch {
	case strings.HasPrefix(line, "+"):
		return l.paint(good, line)
	case strings.HasPrefix(line, "-"):
		return l.paint(bad, line)
	case strings.HasPrefix(line, "@@"), strings.HasPrefix(line, `\`):
		return l.paint(dim, line)
	default:
		return line
	}
}

func (l Look) objectDiff(before, after map[string]any, room int) []string {
	keys := slices.Collect(maps.Keys(after))
	for key := range before {
		if _, both := after[key]; !both {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	width := 0
	for _, key := range keys {
		width = max(width, len(key))
	}
	var lines []string
	for _, key := range keys {
		was, had := before[key]
		is, has := after[key]
		if had && has && compact(was) == compact(is) {
			continue
		}
		wasText, isText, multi := texts(was, is)
		if multi {
			lines = append(lines, Clean(key)+":")
			for _, line := range l.textDiff(wasText, isText) {
				lines = append(lines, "  "+line)
			}
			continue
		}
		lines = append(lines, hang(pad(Clean(key)+":", width+1)+" "+l.arrow(was, is), room, width+2)...)
	}
	return lines
}

// texts reports whether two values are texts of which one has several lines.
func texts(before, after any) (was, is string, multi bool) {
	was, wasText := before.(string)
	is, isText := after.(string)
	if (!wasText && before != nil) || (!isText && after != nil) {
		return "", "", false
	}
	return was, is, strings.Contains(was+is, "\n")
}

func (l Look) arrow(before, after any) string {
	to := " " + l.pick("→", "->") + " "
	switch {
	case before == nil:
		return l.paint(good, show(after))
	case after == nil:
		return l.paint(bad, show(before)) + to + l.paint(dim, "nothing")
	default:
		return l.paint(dim, show(before)) + to + show(after)
	}
}

func show(v any) string {
	switch v := v.(type) {
	case string:
		return Clean(v)
	case []any:
		words := make([]string, len(v))
		for i := range v {
			words[i] = show(v[i])
		}
		return "[" + strings.Join(words, ", ") + "]"
	}
	return Clean(compact(v))
}

// hang wraps a styled line to the room; what follows is indented.
func hang(line string, room, indent int) []string {
	if room-indent < 20 || lipgloss.Width(line) <= room {
		return []string{line}
	}
	lines := strings.Split(ansi.Wordwrap(line, room, ""), "\n")
	if len(lines) == 1 {
		return lines
	}
	wrapped := lines[:1]
	rest := ansi.Wordwrap(strings.Join(lines[1:], " "), room-indent, "")
	for next := range strings.SplitSeq(rest, "\n") {
		wrapped = append(wrapped, strings.Repeat(" ", indent)+next)
	}
	return wrapped
}
