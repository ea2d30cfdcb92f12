package system

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
)

// prepare makes room: the directory above (when $2 is yes) and a copy of what will be lost (when $3 is yes).
const prepare = `# make room for a file
set -e
if [ "$2" = yes ]; then mkdir -p "$(dirname "$1")"; fi
if [ "$3" = yes ] && [ -f "$1" ]; then cp -p "$1" "$1.pxrun~"; fi
`

// apply brings a path into its state, in as few commands as it can.
func (w fileWork) apply(ctx context.Context, t module.Target, a fileArgs, want content) error {
	if a.Parents && w.action == module.Create || a.Backup && (w.content || w.replace) {
		if err := a.change(ctx, t, prepare, a.Path, yes(a.Parents && w.action == module.Create), yes(a.Backup)); err != nil {
			return err
		}
	}
	switch {
	case w.action == module.Delete:
		return a.change(ctx, t, `if [ -d "$1" ] && [ ! -L "$1" ]; then rmdir "$1"; else rm -f "$1"; fi`, a.Path)
	case a.State == "link" && w.replace:
		// A link is made beside its path and renamed, so that the path is never missing.
		if err := a.change(ctx, t, `rm -f "$1.pxrun-new" && ln -s "$2" "$1.pxrun-new" && mv -fT "$1.pxrun-new" "$1"`, a.Path, a.Target); err != nil {
			return err
		}
	case a.State == "directory" && w.replace:
		if err := a.change(ctx, t, `mkdir "$1"`, a.Path); err != nil {
			return err
		}
	case w.content || w.replace:
		return w.put(ctx, t, a, want)
	}
	return w.permissions(ctx, t, a, a.Mode)
}

// put sends the content, with mode and owner in the same step: a secret is never readable by others for a moment.
func (w fileWork) put(ctx context.Context, t module.Target, a fileArgs, want content) error {
	conn, err := t.Conn(ctx, t.Host().Name)
	if err != nil {
		return err
	}
	from, err := want.open()
	if err != nil {
		return err
	}
	defer from.Close() //nolint:errcheck // only read
	mode := a.newMode(w, want)
	f := transport.File{Path: a.Path, Mode: mode.Perm(), Owner: a.Owner, Group: a.Group, Content: from, Size: want.size}
	if err := conn.Put(ctx, f); err != nil {
		return fmt.Errorf("write %s: %w", a.Path, err)
	}
	if mode != mode.Perm() { // set-user-id and its like are lost by a change of owner, so they come last
		return a.change(ctx, t, `chmod "$2" "$1"`, a.Path, schema.FormatMode(mode))
	}
	return nil
}

// permissions sets owner and mode of what already has its content.
func (w fileWork) permissions(ctx context.Context, t module.Target, a fileArgs, mode fs.FileMode) error {
	owner, bits := "", ""
	if (w.owner || w.replace) && (a.Owner != "" || a.Group != "") {
		owner = a.Owner
		if a.Group != "" {
			owner += ":" + a.Group
		}
	}
	if (w.mode || w.replace || owner != "") && mode != 0 {
		bits = schema.FormatMode(mode)
	}
	if owner == "" && bits == "" {
		return nil
	}
	return a.change(ctx, t, "set -e\nif [ -n \"$2\" ]; then chown -h \"$2\" \"$1\"; fi\nif [ -n \"$3\" ]; then chmod \"$3\" \"$1\"; fi\n", a.Path, owner, bits)
}

func (a fileArgs) change(ctx context.Context, t module.Target, script string, args ...string) error {
	if _, err := run(ctx, t, transport.Command{Script: script, Argv: args, Mutates: true}); err != nil {
		return fmt.Errorf("%s: %w", a.Path, err)
	}
	return nil
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
