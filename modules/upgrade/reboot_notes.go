package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/gates"
)

// sentNote is what pxrun writes on a node right before it asks for the restart: a run that goes on after a crash sees by it that
// the restart has happened.
type sentNote struct {
	Run    string
	BootID string // of the system that was ended
	Kernel string // that ran
	Expect string // the kernel that the next start was to take
	At     string // seconds since 1970, by the node's clock
}

// pinNote is what pxrun writes before it pins kernels.
type pinNote struct {
	BootID   string // of the system that ran then
	Old, New string
	Before   string // what was pinned for all starts before; "" for nothing
}

// Notes are lines "key value", so that a shell can read them too.
const (
	notesDir = "/var/lib/pxrun"
	sentFile = pve.RestartNote
	pinsFile = notesDir + "/kernel-pin"
)

// notesProbe prints both notes, each under its own heading.
var notesProbe = transport.Command{
	Script: `for f in "$@"; do echo "# $f"; if [ -e "$f" ]; then cat "$f" || exit 1; fi; done`, Argv: []string{sentFile, pinsFile}, Timeout: 20 * time.Second,
}

// parseNotes reads what notesProbe printed. A note without a boot id is none: it was never finished.
func parseNotes(text string) (*sentNote, *pinNote) {
	notes := map[string]map[string]string{}
	var current map[string]string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "# "); ok {
			current = map[string]string{}
			notes[name] = current
			continue
		}
		if key, value, ok := strings.Cut(line, " "); ok && current != nil {
			current[key] = value
		}
	}
	var sent *sentNote
	var pins *pinNote
	if n := notes[sentFile]; n["boot_id"] != "" {
		sent = &sentNote{Run: n["run"], BootID: n["boot_id"], Kernel: n["kernel"], Expect: n["expect"], At: n["at"]}
	}
	if n := notes[pinsFile]; n["boot_id"] != "" && n["new"] != "" {
		pins = &pinNote{BootID: n["boot_id"], Old: n["old"], New: n["new"], Before: n["before"]}
	}
	return sent, pins
}

// sentRead reads the first note beside other things.
var sentRead = frame.Read{Name: "sent", Seconds: 10, Command: `sh -c 'echo "# ` + sentFile + `"; if [ -e ` + sentFile + ` ]; then cat ` + sentFile + `; fi'`}

// kernelOf judges whether a node that this run has restarted runs the kernel that was to come. known is false where the run has
// restarted nothing.
func kernelOf(f gates.Facts, run string) (v gates.Verdict, known bool) {
	sent, _ := parseNotes(string(f.Own["sent"].Text))
	i := slices.IndexFunc(f.States, func(s pve.NodeState) bool { return s.Host == f.Node })
	if sent == nil || i < 0 || f.Err != nil {
		return v, false
	}
	s := f.States[i]
	if by, since, yes := s.GoingDown(); yes && by != run {
		v = gates.Verdict{Reading: module.Reading{Gate: checkKernel, Saw: fmt.Sprintf("run %s told it to restart %s ago, and it has not gone down yet", by, since.Round(time.Second)),
			Want: "no restart under way"}, Look: "cat " + sentFile + "; systemctl list-jobs"}
		return v, true
	}
	if run == "" || sent.Run != run {
		return v, false
	}
	v = gates.Verdict{Reading: module.Reading{Gate: checkKernel, Saw: "it runs " + s.Kernel, Want: "kernel " + sent.Expect + " after a restart", OK: true}, Look: "uname -r; proxmox-boot-tool kernel list"}
	switch {
	case s.BootID == sent.BootID:
		v.OK, v.Saw = false, "it has not restarted since this run told it to"
	case sent.Expect != "" && s.Kernel != sent.Expect:
		v.OK, v.Override = false, bootLoaderHelp
	}
	return v, true
}

// pinScript pins $2, the kernel that runs, for all starts and $3 for the next one. The running kernel comes first: should this be cut
// off in between, the next start takes the kernel that is known to work. Nothing counts on an EFI system partition before a refresh.
// What a person has pinned for all starts is noted, to be put back.
const pinScript = `set -e
d=` + notesDir + ` f=` + pinsFile + `
[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || { echo "the node has been restarted meanwhile" >&2; exit 1; }
command -v proxmox-boot-tool >/dev/null || { echo "proxmox-boot-tool is not there: no fallback kernel can be pinned" >&2; exit 1; }
for k in "$2" "$3"; do [ -e "/boot/vmlinuz-$k" ] || { echo "kernel $k is not in /boot" >&2; exit 1; }; done
before=
[ ! -s /etc/kernel/proxmox-boot-pin ] || before=$(head -n 1 /etc/kernel/proxmox-boot-pin)
umask 077
mkdir -p "$d"
printf 'boot_id %s\nold %s\nnew %s\nbefore %s\n' "$1" "$2" "$3" "$before" >"$f.new"
sync
mv "$f.new" "$f"
proxmox-boot-tool kernel pin "$2"
proxmox-boot-tool kernel pin "$3" --next-boot
proxmox-boot-tool refresh
[ "$(head -n 1 /etc/kernel/proxmox-boot-pin)" = "$2" ] && [ "$(head -n 1 /etc/kernel/next-boot-pin)" = "$3" ]`

// unpinScript takes the pins back, if they still are those that pxrun has set.
const unpinScript = `f=` + pinsFile + `
[ -e "$f" ] || exit 0
get() { sed -n "s/^$1 //p" "$f"; }
old=$(get old) before=$(get before)
if [ "$(head -n 1 /etc/kernel/proxmox-boot-pin 2>/dev/null)" = "$old" ]; then
	proxmox-boot-tool kernel unpin || exit 1
	if [ -n "$before" ] && [ -e "/boot/vmlinuz-$before" ]; then proxmox-boot-tool kernel pin "$before" || exit 1; fi
	proxmox-boot-tool refresh || exit 1
fi
rm -f "$f"`

// bootToolTimeout bounds commands that copy kernels to ESPs or run update-grub.
const bootToolTimeout = 5 * time.Minute

func unpinUndo(host string) *module.Undo {
	return &module.Undo{
		Host: host, Summary: "take the pins of kernels on " + host + " back: the next start takes the newest again",
		Command: transport.Command{Script: unpinScript, Mutates: true, Timeout: bootToolTimeout},
	}
}

func pinKernels(ctx context.Context, t module.Target, host, bootID, old, next string) error {
	return runOn(ctx, t, host, "pin kernels", transport.Command{Script: pinScript, Argv: []string{bootID, old, next}, Mutates: true, Timeout: bootToolTimeout})
}

func unpinKernels(ctx context.Context, t module.Target, host string) error {
	return runOn(ctx, t, host, "take the pins of kernels back", transport.Command{Script: unpinScript, Mutates: true, Timeout: bootToolTimeout})
}

// runOn runs a command on a host and tells what it printed last if it fails.
func runOn(ctx context.Context, t module.Target, host, what string, c transport.Command) error {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return err
	}
	r, err := conn.Run(ctx, c)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", host, what, err)
	}
	if r.Exit != 0 {
		said := strings.TrimSpace(string(r.Stderr))
		if said == "" {
			said = strings.TrimSpace(string(r.Stdout))
		}
		return errors.New(host + ": " + what + ": " + said[strings.LastIndexByte(said, '\n')+1:])
	}
	return nil
}
