// Package moves takes one guest to another node and follows it to where it truly is: by its own migration, or by the HA manager.
// What a task of Proxmox VE says is not believed; what counts is where the guest is in the end (reference §1.2, §6.2, §6.5).
package moves

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/detach"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/members"
)

// Move is one guest on its way.
type Move struct {
	// Guest is the guest as it was when the move was decided. Move is how it goes.
	Guest guest.Guest
	guest.Move
	// Mine is a guest that is on its way already, by a job of an earlier run.
	Mine bool
	// Actor is the node on which the cluster is read.
	Actor   string
	Options guest.Options
	// Shutdown is how long a container may take to shut down, Timeout how long the whole move may take.
	Shutdown, Timeout time.Duration
	// Network is what the data goes over; the zero value is the datacenter's choice. Bwlimit is in KiB a second.
	Network netip.Prefix
	Bwlimit int
	// EndStalled says that a live move which does not end in time is ended, in order, instead of being left to itself.
	EndStalled bool
	// Frozen is, after a live move, how long the machine stood still at its end, as the migration's log says; 0 if it does not.
	Frozen time.Duration

	running bool // when it set out
}

// StallError is a live move that did not come to its end in time, since the machine writes memory faster than the network
// carries. It was ended, and the machine runs where it was.
type StallError struct {
	Guest    string
	After    time.Duration
	Progress string // the last that the migration said
}

func (e *StallError) Error() string {
	return fmt.Sprintf("%s did not arrive within %s and the move was ended; the last that it said: %s", e.Guest, e.After, e.Progress)
}

// landTime is how long the state may lag behind the end of a migration's task: the config is there at once, a container
// starts afterwards.
const landTime = 2 * time.Minute

// settledLooks are how often a guest must be seen where it came from after a task that ended well before that is believed: the
// config has moved when the task ends, and the node that is asked hears of it at once.
const settledLooks = 6

// Refused says why a guest cannot move any more: gates that closed since the move was decided.
func (m *Move) Refused() module.Refusals {
	var out module.Refusals
	for _, r := range m.Reasons {
		override := r.Override
		if override == "" {
			override = "leave the guest out"
		}
		out = append(out, &module.Refusal{
			Host: m.Guest.Node, Gate: fmt.Sprintf("move %s to %s", m.Guest, m.Target), Saw: r.Saw, Want: r.Want, Look: r.Look, Override: override,
		})
	}
	return out
}

// Run reads the guest again, moves it if nothing has come in its way, and follows it to where it truly is.
func (m *Move) Run(ctx context.Context, t module.Target) error {
	site, err := Again(ctx, t, m.Actor, m.Guest.Node, m.Target)
	if err != nil {
		return err
	}
	g, there := site.Guest(m.Guest.ID)
	switch {
	case !there:
		return fmt.Errorf("%s does not exist any more", m.Guest)
	case g.Node == m.Target:
		t.Log(g.Node, fmt.Sprintf("%s is on %s already", g, m.Target))
		return nil
	case g.Node != m.Guest.Node:
		return fmt.Errorf("%s is on %s now, and was on %s when this was planned: plan again", g, g.Node, m.Guest.Node)
	}
	o := m.Options
	o.Mine = UnderWay(ctx, t, []guest.Guest{g})[g.ID]
	m.Guest, m.Move, m.Mine = g, guest.CanMove(site, g, m.Target, o), o.Mine
	if refusals := m.Refused(); len(refusals) > 0 {
		return refusals
	}
	m.running, _ = site.Runs(g)
	switch {
	case m.Mine:
		return m.follow(ctx, t)
	case m.ByHA:
		return m.byHA(ctx, t, site)
	}
	return m.byHand(ctx, t)
}

// jobName is the name of the job that moves a guest.
func jobName(id int) string { return fmt.Sprintf("migrate-%d", id) }

// UnderWay finds the guests that are locked by a migration which a run of pxrun began and which is still at work.
func UnderWay(ctx context.Context, t module.Target, guests []guest.Guest) map[int]bool {
	out := map[int]bool{}
	for _, g := range guests {
		if g.Lock != "migrate" {
			continue
		}
		if active, err := jobActive(ctx, t, g); err == nil && active {
			out[g.ID] = true
		}
	}
	return out
}

func jobActive(ctx context.Context, t module.Target, g guest.Guest) (bool, error) {
	conn, err := t.Conn(ctx, g.Node)
	if err != nil {
		return false, err
	}
	r, err := conn.Run(ctx, transport.Command{Argv: []string{"systemctl", "is-active", detach.Unit(g.Node, jobName(g.ID))}})
	return err == nil && r.Out() == "active", err
}

// follow waits for the end of a migration that an earlier run began, and judges by where the guest is then.
func (m *Move) follow(ctx context.Context, t module.Target) error {
	source := m.Guest
	if source.Kind == guest.CT {
		m.running = false // it may be down for its restart: whether it ran before is not known
	}
	err := t.WaitFor(ctx, module.Condition{Name: fmt.Sprintf("the migration of %s has ended", source), Timeout: m.Timeout, Every: 2 * time.Second, Check: func(ctx context.Context) error {
		active, err := jobActive(ctx, t, source)
		if err == nil && active {
			err = errors.New("it is at work (look: " + m.look() + ")")
		}
		return err
	}})
	if err != nil {
		return err
	}
	return m.settle(ctx, t, nil)
}

// command is what moves the guest, on the node that it is on.
func (m *Move) command() []string {
	id := strconv.Itoa(m.Guest.ID)
	argv := []string{m.Guest.Kind.Tool(), "migrate", id, m.Target}
	add := func(name, value string) { argv = append(argv, name, value) }
	storage := "--targetstorage"
	switch {
	case m.Guest.Kind == guest.CT:
		storage = "--target-storage"
		if m.running {
			add("--restart", "1")
			add("--timeout", strconv.Itoa(int(m.Shutdown.Seconds())))
		}
	case m.running:
		add("--online", "1")
		if len(m.Copied) > 0 {
			add("--with-local-disks", "1")
		}
	}
	if where := storageOption(m.Options.Storages); where != "" && len(m.Copied) > 0 {
		add(storage, where)
	}
	if m.Network.IsValid() && m.Guest.Kind == guest.VM {
		add("--migration_network", m.Network.String())
	}
	if m.Bwlimit > 0 {
		add("--bwlimit", strconv.Itoa(m.Bwlimit))
	}
	return argv
}

// storageOption is a map of storages as qm takes it.
func storageOption(storages map[string]string) string {
	var parts []string
	for _, from := range slices.Sorted(maps.Keys(storages)) {
		if from == "" {
			return storages[from]
		}
		parts = append(parts, from+":"+storages[from])
	}
	return strings.Join(parts, ",")
}

// byHand runs the migration apart from the connection and judges by where the guest is then: a task can fail although the
// guest has moved, and end well although it has not (reference §1.2, §6.2).
func (m *Move) byHand(ctx context.Context, t module.Target) error {
	c := transport.Command{Argv: m.command(), Mutates: true}
	var lines Tail
	c.Output = func(_ transport.Stream, line string) { lines.Add(line) }
	var r transport.Result
	err := members.WhileSeen(ctx, t, []string{m.Actor}, m.Guest.Node, func(ctx context.Context) (err error) {
		r, err = t.Detach(ctx, m.Guest.Node, module.Job{Name: jobName(m.Guest.ID), Command: c, Timeout: m.Timeout})
		return err
	})
	lines.Add(string(r.Stdout))
	lines.Add(string(r.Stderr))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var failed error
	var lost *members.LostError
	switch {
	case errors.As(err, &lost):
		return fmt.Errorf("%s was on %s: whether it runs is not known, and only what is under HA is started elsewhere: %w", m.Guest, m.Guest.Node, err)
	case err != nil && m.EndStalled && m.running && m.Guest.Kind == guest.VM:
		if stalled := m.end(ctx, t, lines.Text()); stalled != nil {
			return stalled
		}
		failed = err // it ended by itself meanwhile
	case err != nil:
		failed = fmt.Errorf("%w\nA migration that is at work is not cut off. Look: %s; systemctl status 'pxrun-*' on %s", err, m.look(), m.Guest.Node)
	case r.Exit != 0:
		failed = fmt.Errorf("%s: exit %d: %s", strings.Join(c.Argv[:2], " "), r.Exit, Because(lines.Text()))
	}
	m.Frozen = frozen(lines.Text())
	return m.settle(ctx, t, failed)
}

// downtime is how QEMU's migration tells at its end for how long the machine stood still.
var downtime = regexp.MustCompile(`downtime (\d+) ms`)

func frozen(lines []string) time.Duration {
	for _, line := range slices.Backward(lines) {
		if found := downtime.FindStringSubmatch(line); found != nil && strings.Contains(line, "average migration speed") {
			ms, _ := strconv.Atoi(found[1])
			return time.Duration(ms) * time.Millisecond
		}
	}
	return 0
}

// endTime is how long a migration that was told to end may take to clean up behind itself.
const endTime = 3 * time.Minute

// end tells a migration that is still at work to end: qm defers the signal, ends the migration and cleans up (reference §6.1). It
// returns nil if the migration was not at work any more.
func (m *Move) end(ctx context.Context, t module.Target, lines []string) error {
	if active, err := jobActive(ctx, t, m.Guest); err == nil && !active {
		return nil
	}
	conn, err := t.Conn(ctx, m.Guest.Node)
	if err != nil {
		return err
	}
	unit := detach.Unit(m.Guest.Node, jobName(m.Guest.ID))
	kill := transport.Command{Argv: []string{"systemctl", "kill", "--signal=TERM", unit}, Mutates: true, Timeout: 30 * time.Second}
	if r, err := conn.Run(ctx, kill); err != nil {
		return err
	} else if err := r.Err(kill); err != nil {
		return err
	}
	var last verdict
	err = t.WaitFor(ctx, module.Condition{Name: fmt.Sprintf("the migration of %s has ended", m.Guest), Timeout: endTime, Every: 2 * time.Second, Check: func(ctx context.Context) error {
		if active, err := jobActive(ctx, t, m.Guest); err != nil || active {
			return errors.Join(err, errors.New("it is at work (look: "+m.look()+")"))
		}
		site, err := Again(ctx, t, m.Actor, m.Guest.Node, m.Target)
		if err != nil {
			return err
		}
		if last = m.judge(site); !last.final {
			return errors.New(last.text)
		}
		return nil
	}})
	switch {
	case err != nil:
		return err
	case last.done:
		return nil
	}
	progress := "nothing"
	if len(lines) > 0 {
		progress = logTime.ReplaceAllString(lines[len(lines)-1], "")
	}
	return &StallError{Guest: m.Guest.String(), After: m.Timeout, Progress: progress}
}

func (m *Move) look() string {
	return fmt.Sprintf("cat /etc/pve/.vmlist; %s status %d on %s and on %s", m.Guest.Kind.Tool(), m.Guest.ID, m.Guest.Node, m.Target)
}

// settle finds out where the guest is and what became of it. failed is what the task said.
func (m *Move) settle(ctx context.Context, t module.Target, failed error) error {
	// A task that has failed does nothing more: where the guest is now is where it stays, but a start on the target may lag.
	limit := landTime
	if failed != nil {
		limit = landTime / 4
	}
	var last verdict
	same := 0
	err := t.WaitFor(ctx, module.Condition{
		Name: fmt.Sprintf("%s is on %s", m.Guest, m.Target), Timeout: limit,
		Check: func(ctx context.Context) error {
			w, err := Again(ctx, t, m.Actor, m.Guest.Node, m.Target)
			if err != nil {
				return err
			}
			last = m.judge(w)
			if last.final {
				same++
			}
			switch {
			case last.done || last.final && failed != nil:
				return nil
			case same >= settledLooks:
				return module.Fatal(errors.New(last.text))
			}
			return errors.New(last.text)
		},
	})
	switch {
	case last.done && failed == nil:
		return nil
	case last.done:
		if paused := m.paused(ctx, t); paused != nil {
			return fmt.Errorf("%s is on %s and does not run: %w\n%w", m.Guest, m.Target, paused, failed)
		}
		t.Warn(m.Target, fmt.Sprintf("%s has moved to %s and runs as before, although its task failed: %s", m.Guest, m.Target, FirstLine(failed)))
		return nil
	case failed != nil && last.text != "":
		return fmt.Errorf("%w\nNow %s", failed, last.text)
	case failed != nil:
		return errors.Join(failed, err)
	}
	return fmt.Errorf("the task ended well, and yet: %w", err)
}

// verdict is what the state says of a move.
type verdict struct {
	done bool
	// final says that waiting will not change it once the task has ended.
	final bool
	text  string
}

// judge reads a verdict off the state.
func (m *Move) judge(s *guest.Site) verdict {
	g, there := s.Guest(m.Guest.ID)
	if !there {
		return verdict{text: m.Guest.String() + " has no config on any node"}
	}
	runsAt := func(node string) (runs, known bool) {
		n := s.Nodes[node]
		if n == nil || n.Err != nil {
			return false, false
		}
		_, runs = n.Running[g.ID]
		return runs, true
	}
	here, hereKnown := runsAt(m.Target)
	stillThere, _ := runsAt(m.Guest.Node)
	switch {
	case g.Node == m.Target && g.Lock == "migrate":
		return verdict{text: fmt.Sprintf("%s is on %s and still locked (migrate). If no migration is at work any more: %s unlock %d on %s", g, m.Target, g.Kind.Tool(), g.ID, m.Target)}
	case g.Node == m.Target && !hereKnown:
		return verdict{text: fmt.Sprintf("%s is on %s, which does not say whether it runs there", g, m.Target)}
	case g.Node == m.Target && m.running && !here:
		return verdict{text: fmt.Sprintf("%s is on %s and does not run there", g, m.Target)}
	case g.Node == m.Target && stillThere:
		return verdict{text: fmt.Sprintf("%s is on %s, and a process of it is still on %s", g, m.Target, m.Guest.Node)}
	case g.Node == m.Target:
		return verdict{done: true, final: true}
	case g.Node != m.Guest.Node:
		return verdict{final: true, text: fmt.Sprintf("%s is on %s", g, g.Node)}
	case g.Lock == "migrate":
		return verdict{final: true, text: fmt.Sprintf("%s is on %s and locked (migrate). If no migration is at work any more: see that it does not run on %s (qm status %d there, qm stop %d if it waits there), then %s unlock %d on %s",
			g, g.Node, m.Target, g.ID, g.ID, g.Kind.Tool(), g.ID, g.Node)}
	case m.running && stillThere:
		return verdict{final: true, text: fmt.Sprintf("%s runs on %s as before", g, g.Node)}
	case m.running:
		return verdict{text: fmt.Sprintf("%s is on %s and does not run. Start it there: %s start %d", g, g.Node, g.Kind.Tool(), g.ID)}
	}
	return verdict{final: true, text: fmt.Sprintf("%s is on %s as before", g, g.Node)}
}

// paused is why a machine that arrived by a failed task does not run, if it does not: it may have been left waiting.
func (m *Move) paused(ctx context.Context, t module.Target) error {
	if m.Guest.Kind != guest.VM || !m.running {
		return nil
	}
	conn, err := t.Conn(ctx, m.Target)
	if err != nil {
		return err
	}
	r, err := conn.Run(ctx, transport.Command{Argv: []string{"qm", "status", strconv.Itoa(m.Guest.ID), "--verbose"}})
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(r.Stdout)) {
		if state, ok := strings.CutPrefix(strings.TrimSpace(line), "qmpstatus:"); ok {
			if state = strings.TrimSpace(state); state != "running" {
				return fmt.Errorf("QEMU says %s (look: qm status %d --verbose; to go on: qm resume %d)", state, m.Guest.ID, m.Guest.ID)
			}
			return nil
		}
	}
	return errors.New("its state cannot be read")
}

// Tail keeps the end of what a command printed.
type Tail struct{ kept []string }

func (l *Tail) Add(text string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			l.kept = append(l.kept, line)
		}
	}
	const most = 200
	if over := len(l.kept) - most; over > 0 {
		l.kept = l.kept[over:]
	}
}

func (l *Tail) Text() []string { return l.kept }

var (
	logTime  = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d `)
	aborted  = regexp.MustCompile(`^migration aborted \(duration [0-9:]+\): `)
	problems = regexp.MustCompile(`^migration finished with problems`)
)

// Because finds in the log of a migration why it failed. Lines that only say that it did are left out, and so is what the
// node's QEMU has to say about everything.
func Because(lines []string) string {
	var causes, remote []string
	last := "it said nothing"
	for _, line := range lines {
		line = logTime.ReplaceAllString(line, "")
		text, isError := strings.CutPrefix(line, "ERROR: ")
		text = aborted.ReplaceAllString(text, "")
		switch {
		case isError && !problems.MatchString(text) && !slices.Contains(causes, text):
			causes = append(causes, text)
		case strings.HasPrefix(line, "can't migrate ") && !slices.Contains(causes, line):
			causes = append(causes, line)
		case strings.HasPrefix(line, "[") && strings.Contains(line, "] "):
			remote = append(remote, line)
		}
		if line != "migration aborted" && line != "migration problems" {
			last = line
		}
	}
	if len(causes) == 0 {
		return last
	}
	const most = 3
	if len(remote) > most {
		remote = remote[len(remote)-most:]
	}
	return strings.Join(append(causes, remote...), "; ")
}

func FirstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
