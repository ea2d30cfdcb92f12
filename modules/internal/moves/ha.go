package moves

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
	"github.com/pxrun/pxrun/modules/internal/members"
)

// How long the HA manager may take to take a command up: its master looks every ten seconds, its node's manager too, and a
// new master takes two minutes to come up when one has died (reference §5.5).
const takeUpTime = 3 * time.Minute

// byHA asks the HA manager and follows the guest. Its command ends well whatever becomes of it; what it refuses is only in the
// journal of its master (reference §5.5).
func (m *Move) byHA(ctx context.Context, t module.Target, w *guest.Site) error {
	sid := m.Guest.SID()
	since := m.clock(ctx, t, w)
	if !slices.ContainsFunc(w.HA.Pending, func(line string) bool { return strings.HasPrefix(line, "migrate "+sid+" ") }) {
		argv := []string{"ha-manager", "migrate", sid, m.Target}
		if _, err := members.Run(ctx, t, m.Actor, strings.Join(argv, " "), transport.Command{Argv: argv, Timeout: time.Minute}); err != nil {
			return err // what it says of rules counts, although the command is queued all the same
		}
	}
	f := &following{m: m, since: since}
	if err := t.WaitFor(ctx, module.Condition{Name: "the HA manager takes up the move of " + sid, Timeout: takeUpTime, Check: func(ctx context.Context) error {
		return f.takenUp(ctx, t)
	}}); err != nil {
		return f.explain(ctx, t, err)
	}
	if f.arrived {
		return nil
	}
	if err := t.WaitFor(ctx, module.Condition{Name: fmt.Sprintf("the HA manager has moved %s to %s", sid, m.Target), Timeout: m.Timeout, Every: 2 * time.Second, Check: func(ctx context.Context) error {
		return f.there(ctx, t)
	}}); err != nil {
		return f.explain(ctx, t, err)
	}
	return nil
}

// clock is the time by the clock of the CRM's master, for its journal; 0 if it cannot be told.
func (m *Move) clock(ctx context.Context, t module.Target, w *guest.Site) int64 {
	conn, err := t.Conn(ctx, w.HA.Manager.Master)
	if err != nil {
		return 0
	}
	r, err := conn.Run(ctx, transport.Command{Argv: []string{"date", "+%s"}})
	if err != nil {
		return 0
	}
	seconds, _ := strconv.ParseInt(r.Out(), 10, 64)
	return seconds
}

// following is a guest on its way under the HA manager's hand.
type following struct {
	m       *Move
	since   int64
	master  string
	moving  bool
	arrived bool
}

// state reads what the HA manager does with the guest. arrived is set when it is done.
func (f *following) state(ctx context.Context, t module.Target) (w *guest.Site, g guest.Guest, err error) {
	m := f.m
	if w, err = Again(ctx, t, m.Actor, m.Guest.Node, m.Target); err != nil {
		return nil, g, err
	}
	if w.HA.Manager != nil {
		f.master = w.HA.Manager.Master
	}
	g, ok := w.Guest(m.Guest.ID)
	if !ok {
		return nil, g, fmt.Errorf("%s has no config on any node", m.Guest)
	}
	service := g.Managed.Service
	f.arrived = m.judge(w).done && service.Node == m.Target && (service.State == "started" || service.State == "stopped")
	f.moving = f.moving || service.State == "migrate" || service.State == "relocate" || service.Node == m.Target || g.Node == m.Target
	return w, g, nil
}

// takenUp waits until the guest is on its way. A refusal in the journal ends the wait.
func (f *following) takenUp(ctx context.Context, t module.Target) error {
	w, g, err := f.state(ctx, t)
	switch {
	case err != nil:
		return err
	case f.arrived || f.moving:
		return nil
	case slices.ContainsFunc(w.HA.Pending, func(line string) bool { return strings.Contains(line, g.SID()+" ") }):
		return errors.New("the command still waits for the HA manager's master (look: ha-manager status)")
	}
	if refused := f.journal(ctx, t, isRefusal); len(refused) > 0 {
		return module.Fatal(fmt.Errorf("the HA manager took the command and refused it: %s", strings.Join(refused, "; ")))
	}
	return fmt.Errorf("the HA manager took the command and does nothing: %s is %s on %s", g, g.Managed.Service.State, g.Managed.Service.Node)
}

// there waits until the guest has arrived. One that is back where it came from has failed.
func (f *following) there(ctx context.Context, t module.Target) error {
	_, g, err := f.state(ctx, t)
	switch service := g.Managed.Service; {
	case err != nil:
		return err
	case f.arrived:
		return nil
	case service.State == "error":
		return module.Fatal(fmt.Errorf("the HA manager has %s in state error on %s", g, service.Node))
	case service.Node == f.m.Guest.Node && (service.State == "started" || service.State == "stopped") && g.Lock == "" && g.Node == f.m.Guest.Node:
		return module.Fatal(fmt.Errorf("the HA manager tried and failed: %s is %s on %s again", g, service.State, service.Node))
	default:
		return fmt.Errorf("%s is in state %s on %s (look: ha-manager status)", g, service.State, service.Node)
	}
}

// explain adds what journal and task log say to a failure.
func (f *following) explain(ctx context.Context, t module.Target, err error) error {
	if ctx.Err() != nil {
		return err
	}
	said := f.journal(ctx, t, func(string) bool { return true })
	if task := f.task(ctx, t); task != "" {
		said = append(said, "the migration's task: "+task)
	}
	if len(said) == 0 {
		return fmt.Errorf("%w\nLook: ha-manager status; journalctl -u pve-ha-crm on %s", err, f.master)
	}
	return fmt.Errorf("%w\nThe HA manager says (journalctl -u pve-ha-crm on %s):\n  %s", err, f.master, strings.Join(said, "\n  "))
}

// isRefusal reports whether a line of the CRM's journal says that it does not do what it was told.
func isRefusal(line string) bool {
	return strings.Contains(line, "crm command error") || strings.Contains(line, "ignore ") || strings.Contains(line, "ignoring ") || strings.Contains(line, "' error - ")
}

// journal reads what the CRM's master has written about the guest since the command was sent.
func (f *following) journal(ctx context.Context, t module.Target, wanted func(string) bool) []string {
	conn, err := t.Conn(ctx, f.master)
	if err != nil {
		return nil
	}
	argv := []string{"journalctl", "-u", "pve-ha-crm", "--no-pager", "-q", "-o", "cat", "-n", "200"}
	if f.since > 0 {
		argv = append(argv, "--since", "@"+strconv.FormatInt(f.since, 10))
	}
	r, err := conn.Run(ctx, transport.Command{Argv: argv})
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(r.Stdout)) {
		if line = strings.TrimSpace(line); strings.Contains(line, f.m.Guest.SID()) && wanted(line) {
			out = append(out, line)
		}
	}
	const most = 5
	if len(out) > most {
		out = out[len(out)-most:]
	}
	return out
}

// task is how the last migration's task on the source ended, if it did not end well.
func (f *following) task(ctx context.Context, t module.Target) string {
	conn, err := t.Conn(ctx, f.m.Guest.Node)
	if err != nil {
		return ""
	}
	const script = `id=$(grep -E ":(qmigrate|vzmigrate):$1:" /var/log/pve/tasks/index | tail -n 1 | cut -d' ' -f1)
[ -n "$id" ] || exit 0
start=$(echo "$id" | cut -d: -f5)
tail -n 60 "/var/log/pve/tasks/${start#"${start%?}"}/$id"`
	r, err := conn.Run(ctx, transport.Command{Script: script, Argv: []string{strconv.Itoa(f.m.Guest.ID)}})
	if err != nil || r.Exit != 0 || strings.Contains(string(r.Stdout), "TASK OK") || len(r.Stdout) == 0 {
		return ""
	}
	var lines Tail
	lines.Add(string(r.Stdout))
	return Because(slices.DeleteFunc(lines.Text(), func(line string) bool { return strings.HasPrefix(line, "TASK ") }))
}
