package system

import (
	"context"
	"fmt"
	"io/fs"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
)

// fileWork is what has to be done to one path.
type fileWork struct {
	action  module.Action
	risk    module.Risk
	replace bool // the thing itself: created, overwritten, removed
	content bool // of an existing file
	mode    bool
	owner   bool
}

func (w fileWork) nothing() bool { return w == (fileWork{}) }

// compareFile decides. It refuses to put one kind of thing in the place of another unless it was told to.
func compareFile(have state, a fileArgs, want content) (fileWork, error) {
	if a.State == "absent" {
		return removal(have, a)
	}
	if have.kind == "absent" {
		return fileWork{action: module.Create, replace: true, content: want.given}, nil
	}
	if have.kind != a.State {
		if have.kind == "directory" || a.State == "directory" || have.kind == "other" || !a.Force {
			return fileWork{}, fmt.Errorf("%s is a %s, not a %s%s", a.Path, have.kind, a.State, forceHint(have, a))
		}
		w := fileWork{action: module.Update, replace: true, content: want.given}
		if have.kind == "file" {
			w.risk = lossOf(a)
		}
		return w, nil
	}
	w := fileWork{
		replace: a.State == "link" && have.target != a.Target,
		content: want.given && (have.size != want.size || have.sum != want.sum),
		mode:    a.Mode != 0 && a.Mode != have.mode,
		owner:   a.Owner != "" && a.Owner != have.owner && a.Owner != have.uid || a.Group != "" && a.Group != have.group && a.Group != have.gid,
	}
	if w.replace || w.content || w.mode || w.owner {
		w.action = module.Update
	}
	return w, nil
}

func removal(have state, a fileArgs) (fileWork, error) {
	switch {
	case have.kind == "absent":
		return fileWork{}, nil
	case have.kind == "directory" && have.full:
		return fileWork{}, fmt.Errorf("%s is a directory with something in it, and is not removed: empty it first", a.Path)
	}
	w := fileWork{action: module.Delete, replace: true}
	if have.kind == "file" {
		w.risk = lossOf(a)
	}
	return w, nil
}

// lossOf is the risk of doing away with what was there.
func lossOf(a fileArgs) module.Risk {
	if a.Backup {
		return module.RiskNone
	}
	return module.RiskDestructive
}

func forceHint(have state, a fileArgs) string {
	if have.kind == "directory" || a.State == "directory" || have.kind == "other" {
		return ": remove it first"
	}
	if have.kind == "link" {
		return fmt.Sprintf(": it points at %s. Write that path, or force = true to replace the link", have.target)
	}
	return ": write force = true to replace it"
}

func (w fileWork) summary(a fileArgs) string {
	switch {
	case w.action == module.Delete:
		return "remove " + a.Path
	case w.action == module.Create && a.State == "link":
		return "link " + a.Path + " to " + a.Target
	case w.action == module.Create:
		return "create " + a.State + " " + a.Path
	}
	var what []string
	for _, part := range []struct {
		on   bool
		name string
	}{{w.replace, a.State}, {w.content && !w.replace, "content"}, {w.mode, "mode"}, {w.owner, "owner"}} {
		if part.on {
			what = append(what, part.name)
		}
	}
	return "change " + strings.Join(what, ", ") + " of " + a.Path
}

// shown gives what people see: a diff of texts when nothing but the content differs, else one line for each property.
func (w fileWork) shown(ctx context.Context, t module.Target, have state, a fileArgs, want content) (before, after any, err error) {
	if w.action == module.Delete {
		return orNone(w.properties(have, a, content{})), nil, nil
	}
	if !w.content {
		return orNone(w.properties(have, a, want)), orNone(w.wanted(have, a, want)), nil
	}
	old, err := w.oldText(ctx, t, have, a, want)
	if err != nil {
		return nil, nil, err
	}
	beforeMap, afterMap := w.properties(have, a, want), w.wanted(have, a, want)
	if !want.secret && want.text != nil && showable(want.text) && (old != nil || have.kind != "file") {
		if old != nil {
			beforeMap["content"] = string(old)
		}
		afterMap["content"] = string(want.text)
	}
	if len(afterMap) == 1 && (have.kind == "file" || have.kind == "absent") {
		return beforeMap["content"], afterMap["content"], nil
	}
	return orNone(beforeMap), afterMap, nil
}

func orNone(m map[string]any) any {
	if len(m) == 0 {
		return nil
	}
	return m
}

// oldText fetches what is overwritten, where that can be shown. A file that changed since its digest was read is not
// worth an error: it is planned anew before anything is done.
func (w fileWork) oldText(ctx context.Context, t module.Target, have state, a fileArgs, want content) ([]byte, error) {
	if want.secret || want.text == nil || !showable(want.text) || have.kind != "file" || have.size > diffLimit {
		return nil, nil
	}
	r, err := run(ctx, t, transport.Command{Argv: []string{"cat", a.Path}})
	if err != nil {
		return nil, fmt.Errorf("read %s for the diff: %w", a.Path, err)
	}
	if !showable(r.Stdout) {
		return nil, nil
	}
	return append([]byte{}, r.Stdout...), nil
}

// properties are those of what is there, as far as they will change.
func (w fileWork) properties(have state, a fileArgs, want content) map[string]any {
	m := map[string]any{}
	if w.replace && have.kind != "absent" {
		m["state"] = have.kind
		if have.target != "" {
			m["target"] = have.target
		}
		if have.kind == "file" {
			m["size"] = have.size
		}
	}
	if w.content && have.kind == "file" {
		m["content"] = digest(have.size, have.sum)
		if want.secret {
			m["content"] = secret.Masked
		}
	}
	if w.mode {
		m["mode"] = schema.FormatMode(have.mode)
	}
	if w.owner {
		m["owner"] = have.owner + ":" + have.group
	}
	return m
}

// wanted are the properties that a change brings.
func (w fileWork) wanted(have state, a fileArgs, want content) map[string]any {
	m := map[string]any{}
	if w.replace && have.kind != "absent" {
		m["state"] = a.State
	}
	if w.replace && a.Target != "" {
		m["target"] = a.Target
	}
	if w.content {
		m["content"] = digest(want.size, want.sum)
		if want.secret {
			m["content"] = "(secret, another one)"
			if w.replace {
				m["content"] = secret.Masked
			}
		}
	}
	if mode := a.newMode(w, want); mode != 0 && (w.mode || w.replace) {
		m["mode"] = schema.FormatMode(mode)
	}
	if (w.owner || w.replace) && (a.Owner != "" || a.Group != "") {
		m["owner"] = a.Owner + ":" + a.Group
	}
	return m
}

// newMode is the mode that is set: the one that was written, and for a new secret one that only the owner can read.
func (a fileArgs) newMode(w fileWork, want content) fs.FileMode {
	if a.Mode == 0 && w.replace && want.secret && !onPmxcfs(a.Path) {
		return 0o600
	}
	return a.Mode
}
