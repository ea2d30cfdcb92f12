package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

// newFile judges /etc/pve/corosync.conf.new, through which the configuration is replaced. It expects in $new what is to be
// written and in $kept where a run keeps a copy of what it writes there. foreign prints how the file differs from the
// configuration, and succeeds, if somebody else's change may be in it. It fails if the file
// - is not there,
// - is the beginning, or all, of what is to be written or of what an earlier run was writing when it was cut off,
// - or holds what is in force or what was in force before, and nobody has touched it for ten minutes.
const newFile = `f=/etc/pve/corosync.conf
whole() { cat "$1" 2>/dev/null; echo x; }
version() { sed -n 's/^ *config_version: *\([0-9][0-9]*\) *$/\1/p' "$1" | head -n 1; }
foreign() {
	[ -e "$f.new" ] || return 1
	left=$(whole "$f.new")
	left=${left%x}
	own=$(whole "$kept")
	case $new in "$left"*) return 1 ;; esac
	case ${own%x} in "$left"*) return 1 ;; esac
	if [ $(($(date +%s) - $(stat -c %Y "$f.new"))) -gt 600 ]; then
		if cmp -s "$f" "$f.new"; then return 1; fi
		v=$(version "$f.new")
		if [ -n "$v" ] && [ "$v" -lt "$(version "$f")" ]; then return 1; fi
	fi
	diff -u "$f" "$f.new"
	return 0
}
`

// keptNew is the copy of what a run writes into corosync.conf.new, by which the next one knows it.
const keptNew = confBackups + "/corosync.conf.new"

// newScript is newFile for a plan: it exits 3 with the difference if the file is somebody else's.
const newScript = "# look at corosync.conf.new\n" + newFile + `kept=$1
new=$(cat; echo x)
new=${new%x}
if foreign; then exit 3; fi
`

// checkNew refuses to change anything while somebody else's corosync.conf.new is there. next is what would be written.
func (v *linkView) checkNew(ctx context.Context, t module.Target, next string) error {
	host := v.members[0].Host
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return err
	}
	c := transport.Command{Script: newScript, Argv: []string{keptNew}, Stdin: []byte(next), Timeout: 20 * time.Second}
	r, err := conn.Run(ctx, c)
	if err != nil {
		return fmt.Errorf("%s: look at /etc/pve/corosync.conf.new: %w", host, err)
	}
	switch r.Exit {
	case 0:
		return nil
	case 3:
		v.refuse(host, "/etc/pve/corosync.conf.new is there and is not of an earlier run: somebody else is changing the configuration. It differs from the one in force:\n"+strings.TrimRight(r.Out(), "\n"),
			"no such file", "diff -u /etc/pve/corosync.conf /etc/pve/corosync.conf.new", "finish that change, with mv, or take it back: rm /etc/pve/corosync.conf.new")
		return nil
	}
	return fmt.Errorf("%s: look at /etc/pve/corosync.conf.new: %w", host, r.Err(c))
}
