package upgrade

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/transport"
)

// restart restarts a node once: everything that speaks against it is read anew, right before.
func restart(ctx context.Context, t module.Target, host string, args rebootArgs) error {
	s, err := readStart(ctx, t, host)
	if err != nil {
		return err
	}
	if s.sent != nil && t.Run() != "" && s.sent.Run == t.Run() && s.sent.BootID != s.BootID {
		return cameBack(t, host, s.sent.Kernel, s.sent.Expect, s.Running) // between the plan and now
	}
	o := gateOptionsOf(ctx, t, host, args)
	o.Settle = args.Wait
	refusals, _, err := mayGoDown(ctx, t, host, o)
	if err != nil {
		return err
	}
	if len(refusals) > 0 {
		return refusals
	}
	stopping := guestsOn(ctx, t, host)
	expect := s.Next()
	if err := send(ctx, t, host, s, expect, o.Stay); err != nil {
		return err
	}
	t.Log(host, "it restarts")
	took, err := waitForStart(ctx, t, host, s.BootID, args.Return)
	if err != nil {
		return err
	}
	now, err := readStart(ctx, t, host)
	if err != nil {
		return err
	}
	t.Record(host, module.Phase{Name: "reboot", Took: took})
	recordDowntime(ctx, t, host, stopping, took)
	return cameBack(t, host, s.Running, expect, now.Running)
}

// cameBack judges the kernel of a node that has been restarted.
func cameBack(t module.Target, host, before, expect, running string) error {
	if before != running {
		t.Record(host, module.Version{Package: "kernel", Before: before, After: running})
	}
	if expect != "" && expect != running {
		return fmt.Errorf("%s came back, and runs kernel %s instead of %s\n  look: uname -r; proxmox-boot-tool kernel list; proxmox-boot-tool status; journalctl -b -1 -e\n  next: if it hung on %s and was switched off and on, find out why (its console, journalctl -b -1); else %s", host, running, expect, expect, bootLoaderHelp)
	}
	module.Tell(t, host, "it is back on kernel "+running)
	return nil
}

// sendScript restarts the node ($1: the boot id that it must still have) in two seconds, so that this command ends in order. The
// note comes first. Both follow the node's HA shutdown policy, and guests are shut down in order (reference §7.5).
const sendScript = `set -e
here() {
	for f in /run/qemu-server/*.pid; do
		[ -e "$f" ] || continue
		p= c=
		read -r p <"$f" || :
		if [ -n "$p" ]; then read -r c <"/proc/$p/comm" || :; fi
		f=${f##*/}
		if [ "$c" = kvm ]; then echo "vm:${f%.pid}"; fi
	done 2>/dev/null
	for d in /sys/fs/cgroup/lxc/[0-9]*; do if [ -d "$d" ]; then echo "ct:${d##*/}"; fi; done
}
[ "$(cat /proc/sys/kernel/random/boot_id)" = "$1" ] || { echo "the node has been restarted meanwhile" >&2; exit 1; }
for g in $(here); do
	case " $5 " in *" $g "*) ;; *) echo "$g has come to run on it" >&2; exit 1;; esac
done
umask 077
mkdir -p ` + notesDir + `
f=` + sentFile + `
printf 'run %s\nboot_id %s\nkernel %s\nexpect %s\nat %s\n' "$2" "$1" "$3" "$4" "$(date +%s.%N)" >"$f.new"
sync
mv "$f.new" "$f"
systemctl is-active --quiet pxrun-reboot.timer || systemd-run --quiet --collect --unit=pxrun-reboot --on-active=2 systemctl reboot`

func send(ctx context.Context, t module.Target, host string, s start, expect string, stay []string) error {
	err := runOn(ctx, t, host, "restart", transport.Command{
		Script: sendScript, Argv: []string{s.BootID, t.Run(), s.Running, expect, strings.Join(stay, " ")}, Mutates: true, Timeout: time.Minute,
	})
	if _, lost := errors.AsType[*transport.LostError](err); lost {
		return nil // whether it restarts is seen from outside
	}
	return err
}

// askTimeout bounds the question whether a node is back.
const askTimeout = 20 * time.Second

// startProbe asks for the identity of the running system and for the clock.
var startProbe = transport.Command{Script: `cat /proc/sys/kernel/random/boot_id; date +%s.%N; sed -n 's/^at //p' ` + sentFile, Timeout: askTimeout}

// watch is what was seen of a node that restarts.
type watch struct {
	down bool
	last string // how the last question ended
}

// waitForStart waits until the node answers with another boot id. It gives the time since the command, by the node's own clock.
func waitForStart(ctx context.Context, t module.Target, host, before string, limit time.Duration) (time.Duration, error) {
	var w watch
	var took time.Duration
	err := t.WaitFor(ctx, module.Condition{
		Name: host + " is back from its restart", Timeout: limit, Every: 500 * time.Millisecond,
		Check: func(ctx context.Context) error {
			id, since, err := askStart(ctx, t, host)
			switch {
			case err != nil:
				if !w.down {
					t.Log(host, "it is down")
				}
				w.down, w.last = true, firstOf(err.Error())
				return notYetError("it does not answer: " + w.last)
			case id == before:
				return notYetError("it has not gone down yet")
			}
			took = since
			return nil
		},
	})
	if _, late := errors.AsType[notYetError](err); err != nil && (!late || ctx.Err() != nil) {
		return 0, fmt.Errorf("%s restarts, and was not waited for: %w", host, err)
	}
	if err != nil {
		return 0, lostNode(ctx, t, host, w, limit)
	}
	return took, nil
}

// notYetError is what a wait has not seen. An error of a wait that is no such one says that it was cut off.
type notYetError string

func (e notYetError) Error() string { return string(e) }

func askStart(ctx context.Context, t module.Target, host string) (id string, since time.Duration, err error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return "", 0, err
	}
	r, err := conn.Run(ctx, startProbe)
	if err == nil {
		err = r.Err(startProbe)
	}
	if err != nil {
		return "", 0, err
	}
	f := strings.Fields(r.Out())
	if len(f) == 0 {
		return "", 0, errors.New("it says nothing")
	}
	if len(f) == 3 {
		now, errNow := seconds(f[1])
		sent, errSent := seconds(f[2])
		if errNow == nil && errSent == nil {
			since = max(now-sent, 0)
		}
	}
	return f[0], since, nil
}

// seconds reads the answer of date +%s.%N.
func seconds(text string) (time.Duration, error) {
	n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
	return time.Duration(n * float64(time.Second)), err
}

func firstOf(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// lostNode tells all that is known of a node that has not come back: what was seen last, what others see, what to do, what is left.
func lostNode(ctx context.Context, t module.Target, host string, w watch, limit time.Duration) error {
	var b strings.Builder
	if !w.down {
		fmt.Fprintf(&b, "%s was told to restart and has not gone down within %s", host, limit)
		b.WriteString("\n  look: systemctl list-jobs; journalctl -e; ha-manager status: a guest that does not shut down, or the HA policy \"migrate\", holds it up")
		b.WriteString("\n  next: end what holds it up; it restarts by itself then")
		return errors.New(b.String())
	}
	fmt.Fprintf(&b, "%s has not come back within %s (return_within)", host, limit)
	fmt.Fprintf(&b, "\n  saw: SSH from here: %s", w.last)
	for _, line := range seenByOthers(ctx, t, host) {
		b.WriteString("\n  saw: " + line)
	}
	b.WriteString("\n  look: its console, or its management controller (fence_device tells the state of the power)")
	b.WriteString("\n  next: switch the power off and on if it hangs; in the boot menu, choose the kernel that ran before if the new one does not come up. Then: pxrun resume, or pxrun release " + host)
	b.WriteString("\n  left: what this run has set for the node (maintenance, noout, pins of kernels, stopped guests) stays until then: pxrun status")
	return errors.New(b.String())
}

// outsideScript pings the addresses of a node and asks whether its port 22 is open, from another node; then what that one's
// cluster says.
const outsideScript = `node=$1; shift
for a in "$@"; do
	if ping -c 1 -W 2 "$a" >/dev/null 2>&1; then p="answers pings"; else p="answers no ping"; fi
	if timeout 5 ssh-keyscan -T 3 "$a" 2>/dev/null | grep -q .; then s="its SSH server talks"; else s="no SSH server talks"; fi
	echo "$a $p, $s"
done
tr -d '\n' </etc/pve/.members | grep -o "\"$node\": *{[^}]*}" | grep -o '"online": *[01]'`

// seenByOthers asks the first other node that answers.
func seenByOthers(ctx context.Context, t module.Target, host string) []string {
	h, ok := t.Site().Host(host)
	c, clustered := t.Site().Cluster(h.Cluster)
	if !ok || !clustered {
		return nil
	}
	args := []string{host, h.Address}
	if h.Node != nil {
		for _, l := range h.Node.Links {
			if a := l.Address.String(); !slices.Contains(args, a) {
				args = append(args, a)
			}
		}
	}
	for _, other := range c.Nodes {
		if other == host {
			continue
		}
		conn, err := t.Conn(ctx, other)
		if err != nil {
			continue
		}
		r, err := conn.Run(ctx, transport.Command{Script: outsideScript, Argv: args, Timeout: time.Minute})
		if err != nil {
			continue
		}
		var out []string
		for line := range strings.Lines(r.Out()) {
			switch line = strings.TrimSpace(line); {
			case strings.HasPrefix(line, `"online"`) && strings.HasSuffix(line, "1"):
				line = "the cluster sees it online"
			case strings.HasPrefix(line, `"online"`):
				line = "the cluster does not see it"
			}
			out = append(out, "from "+other+": "+line)
		}
		return out
	}
	return nil
}

// guestsOn are the guests that run on a node, those that go down with it. It is for the report only.
func guestsOn(ctx context.Context, t module.Target, host string) map[int]guest.Kind {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return nil
	}
	return guest.ReadNode(ctx, host, conn).Running
}

// recordDowntime reports the guests that went down with the node: those that run again, and those that do not yet.
func recordDowntime(ctx context.Context, t module.Target, host string, before map[int]guest.Kind, took time.Duration) {
	if len(before) == 0 {
		return
	}
	now := guestsOn(ctx, t, host)
	for id, kind := range before {
		_, back := now[id]
		how := "stopped"
		if back {
			how = "restarted"
		}
		t.Record(host, module.Downtime{Guest: fmt.Sprintf("%s %d", kind, id), How: how, Took: took, Least: !back})
	}
}

// ownBootID is the identity of the system that pxrun runs on.
func ownBootID(read func(string) ([]byte, error)) func() string {
	return func() string {
		text, err := read("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return "" // no Linux: no node
		}
		return strings.TrimSpace(string(text))
	}
}
