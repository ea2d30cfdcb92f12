package event

import (
	"encoding/json"
	"slices"

	"github.com/pxrun/pxrun/engine/module"
)

// redactBody returns a copy of the body without secrets. Bodies that hold no free text are returned as they are.
func redactBody(body Body, redact func(string) string) Body {
	switch b := body.(type) {
	case HostConnected:
		b.Error = redact(b.Error)
		return b
	case StepPlanned:
		b.Changes = redactChanges(b.Changes, redact)
		b.Deferred, b.Skipped = redact(b.Deferred), redact(b.Skipped)
		return b
	case ChangeStarted:
		b.Change = redactChange(b.Change, redact)
		return b
	case ChangeDone:
		b.Error = redact(b.Error)
		return b
	case HostDone:
		b.Error = redact(b.Error)
		return b
	case Output:
		b.Line = redact(b.Line)
		return b
	case CommandRan:
		b.Command = redact(b.Command)
		return b
	case Note:
		b.Text = redact(b.Text)
		return b
	case Warning:
		b.Text = redact(b.Text)
		return b
	case UndoRegistered:
		b.Undo = redactUndo(b.Undo, redact)
		return b
	case UndoDone:
		b.Error = redact(b.Error)
		return b
	case BlockPlanned:
		b.Showing = redactShowing(b.Showing, redact)
		return b
	case NodeDone:
		b.Reason = redact(b.Reason)
		return b
	case Paused:
		b.Reason = redact(b.Reason)
		return b
	case module.Moved:
		b.Error = redact(b.Error)
		return b
	case module.Reading:
		b.Saw, b.Want = redact(b.Saw), redact(b.Want)
		return b
	case RunDone:
		b.Summary = b.Summary.redacted(redact)
		return b
	default:
		return body
	}
}

// redacted returns a copy of the summary without secrets.
func (s Summary) redacted(redact func(string) string) Summary {
	s.Steps, s.Left = slices.Clone(s.Steps), slices.Clone(s.Left)
	for i := range s.Steps {
		step := &s.Steps[i]
		step.Reason = redact(step.Reason)
		step.Hosts = slices.Clone(step.Hosts)
		for j := range step.Hosts {
			h := &step.Hosts[j]
			h.Error = redact(h.Error)
			h.Done, h.NotDone = redactAll(h.Done, redact), redactAll(h.NotDone, redact)
		}
	}
	for i := range s.Left {
		s.Left[i] = redactUndo(s.Left[i], redact)
	}
	return s
}

func redactShowing(s module.Showing, redact func(string) string) module.Showing {
	s.Lead, s.Notes = redactAll(s.Lead, redact), redactAll(s.Notes, redact)
	s.Tables = slices.Clone(s.Tables)
	for i := range s.Tables {
		rows := slices.Clone(s.Tables[i].Rows)
		for j := range rows {
			rows[j] = redactAll(rows[j], redact)
		}
		s.Tables[i].Rows = rows
	}
	s.Data = redactValue(s.Data, redact)
	return s
}

func redactAll(texts []string, redact func(string) string) []string {
	texts = slices.Clone(texts)
	for i := range texts {
		texts[i] = redact(texts[i])
	}
	return texts
}

func redactChanges(changes []module.Change, redact func(string) string) []module.Change {
	changes = slices.Clone(changes)
	for i := range changes {
		changes[i] = redactChange(changes[i], redact)
	}
	return changes
}

func redactChange(c module.Change, redact func(string) string) module.Change {
	c.Summary, c.Predicted = redact(c.Summary), redact(c.Predicted)
	c.Before, c.After = redactValue(c.Before, redact), redactValue(c.After, redact)
	if c.Undo != nil {
		undo := redactUndo(*c.Undo, redact)
		c.Undo = &undo
	}
	return c
}

func redactUndo(u module.Undo, redact func(string) string) module.Undo {
	u.Summary = redact(u.Summary)
	u.Command.Argv = redactAll(u.Command.Argv, redact)
	u.Command.Script = redact(u.Command.Script)
	u.Command.Stdin = []byte(redact(string(u.Command.Stdin)))
	return u
}

// redactValue redacts the strings of a JSON-able value, keys included. Types of modules are turned into plain maps and
// slices first.
func redactValue(v any, redact func(string) string) any {
	switch v := v.(type) {
	case nil, bool, int, int64, float64:
		return v
	case string:
		return redact(v)
	case []string:
		return redactAll(v, redact)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = redactValue(v[i], redact)
		}
		return out
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[redact(k)] = redactValue(e, redact)
		}
		return out
	default:
		data, err := json.Marshal(v)
		if err != nil {
			return "(cannot be shown: " + redact(err.Error()) + ")"
		}
		var plain any
		if err := json.Unmarshal(data, &plain); err != nil {
			return "(cannot be shown)"
		}
		return redactValue(plain, redact)
	}
}
