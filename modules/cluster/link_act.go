package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/transport"
)

// confTimeout bounds replacing corosync.conf: a lock that a killed holder left is free after two minutes.
const confTimeout = 4 * time.Minute

// confBackups is where the configuration is kept that is replaced.
const confBackups = "/var/backups/pxrun"

// confScript replaces the cluster's corosync.conf by standard input, as a whole, under the lock that Proxmox's own tools
// take. $1 is the digest of the file that it must still be, $2 that of the new one, $3 where the old one is kept, $4 where a
// copy of the new one is kept while it is on its way: what a run that was cut off has left behind is known by it.
const confScript = `# replace corosync.conf
cd / || exit 1
kept=$4
` + newFile + `l=/etc/pve/priv/lock/file-corosync_conf
say() { echo "$1" >&2; exit 1; }
sum() { sha256sum <"$1" | cut -d ' ' -f 1; }
new=$(cat; echo x)
new=${new%x}
mkdir -p /etc/pve/priv/lock 2>/dev/null
n=0
until mkdir "$l" 2>/dev/null; do
	n=$((n + 1))
	[ "$n" -lt 130 ] || say "somebody holds the lock $l"
	touch -d @0 "$l" 2>/dev/null
	sleep 1
done
trap 'rmdir "$l" 2>/dev/null' EXIT
[ "$(sum "$f")" = "$1" ] || say "$f was changed by somebody else meanwhile"
if foreign >&2; then say "$f.new is there and is not of an earlier run: somebody else is changing the configuration"; fi
mkdir -p "${3%/*}" && cat "$f" >"$3" && [ "$(sum "$3")" = "$1" ] || say "the old file could not be kept as $3"
if [ -e "$f.new" ]; then cat "$f.new" >"$kept.found" && rm -f "$f.new"; fi
printf '%s' "$new" >"$kept" || say "$kept could not be written"
printf '%s' "$new" >"$f.new" || { rm -f "$f.new"; say "$f.new could not be written"; }
[ "$(sum "$f.new")" = "$2" ] || { rm -f "$f.new"; say "$f.new was not written whole"; }
mv "$f.new" "$f" || { rm -f "$f.new"; say "$f could not be replaced"; }
rm -f "$kept"
`

// applyLink makes one link different. Everything is looked at again first; what is not as it should be stops it with the
// old file in place.
func applyLink(ctx context.Context, t module.Target, args corosyncLinkArgs, w linkWork) error {
	v, err := readLinks(ctx, t, args)
	if err != nil {
		return err
	}
	if v.conf == nil {
		return fmt.Errorf("no node is a member of cluster %q any more (look: pvecm status)", v.cluster)
	}
	if !v.still(w) {
		return v.settle(ctx, t, v.conf, "")
	}
	if len(v.refusals) == 0 {
		v.gate(w)
	}
	v.fits(w)
	if len(v.refusals) == 0 {
		if err := v.measure(ctx, t, []linkWork{w}); err != nil {
			return err
		}
	}
	if len(v.refusals) > 0 {
		return v.refusals
	}
	next, err := v.conf.WithLink(w.edit)
	if err != nil {
		return err
	}
	host := v.members[0].Host
	backup := fmt.Sprintf("%s/corosync.conf.%d", confBackups, v.conf.Version)
	if err := replaceConf(ctx, t, host, v.members[0].ConfSum, next.Text(), backup, next.Version); err != nil {
		return err
	}
	return v.settle(ctx, t, next, fmt.Sprintf("the old file is %s on %s; to go back: copy it to /etc/pve/corosync.conf.new, set config_version to %d there, and mv it to /etc/pve/corosync.conf", backup, host, next.Version+1))
}

// still reports whether the work has not been done in the meantime.
func (v *linkView) still(w linkWork) bool {
	for _, now := range v.work() {
		if now.kind == w.kind && now.edit.Link == w.edit.Link {
			return true
		}
	}
	return len(v.refusals) > 0
}

func replaceConf(ctx context.Context, t module.Target, host, oldSum, text, backup string, version int) error {
	sum := sha256.Sum256([]byte(text))
	job := module.Job{Name: "corosync-conf-" + strconv.Itoa(version), Timeout: confTimeout, Command: transport.Command{
		Script: confScript, Argv: []string{oldSum, hex.EncodeToString(sum[:]), backup, keptNew}, Stdin: []byte(text), Mutates: true,
	}}
	result, err := t.Detach(ctx, host, job)
	if err == nil && result.Exit != 0 {
		err = fmt.Errorf("exit %d: %s", result.Exit, strings.TrimSpace(string(result.Stderr)))
	}
	if err != nil {
		return fmt.Errorf("%s: replace /etc/pve/corosync.conf: %w; the old configuration is in place", host, err)
	}
	return nil
}

// settle waits until every node runs the configuration and is connected by each of its links.
func (v *linkView) settle(ctx context.Context, t module.Target, conf *pve.CorosyncConf, wayBack string) error {
	err := t.WaitFor(ctx, module.Condition{
		Name: fmt.Sprintf("every node runs version %d of corosync's configuration and is connected on all links", conf.Version), Timeout: v.args.QuorumTimeout, Every: time.Second,
		Check: func(ctx context.Context) error {
			return unmet(settledLinks(pve.ReadCluster(ctx, hostsOf(v.members), pve.Options{}, t.Conn), conf))
		},
	})
	if err != nil && wayBack != "" {
		return fmt.Errorf("%w\n  %s", err, wayBack)
	}
	return err
}
