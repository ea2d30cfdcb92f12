package event_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// every is one event of each kind with all of its fields.
func every() []event.Event {
	undo := module.Undo{Host: "pve1", Summary: "leave maintenance", Command: transport.Command{
		Argv: []string{"ha-manager", "crm-command"}, Stdin: []byte("y\n"), Timeout: time.Minute, Mutates: true,
	}}
	change := module.Change{
		ID: "pve1/join", Host: "pve1", Summary: "join pve1", Action: module.Run, Risk: module.RiskDisruptive,
		Before: map[string]any{"votes": 1.0}, After: "a\nb\n", Predicted: "it rests on create", Imperative: true, Undo: &undo, Undoes: []string{"pve1/m"},
	}
	summary := event.Summary{
		Steps: []event.StepSummary{{
			Step: "site/members", Module: "node_join", Status: event.Failed, Reason: "pve2 failed",
			Hosts: []event.HostSummary{{Host: "pve1", Status: event.Changed, Done: []string{"join"}, NotDone: []string{"verify"}, Error: "no"}},
		}},
		Left: []module.Undo{undo},
	}
	bodies := []event.Body{
		event.RunStarted{Command: "apply", Runbook: "site", Cluster: "lab", Tasks: 2, Hosts: []string{"pve1"}},
		event.HostConnected{Address: "192.0.2.11", Duration: time.Millisecond, Error: "refused"},
		event.StepStarted{Index: 1, Module: "node_join", Hosts: []string{"pve1"}, Planning: true},
		event.StepPlanned{Changes: []module.Change{change}, Deferred: "later", Skipped: "never"},
		event.ChangeStarted{Change: change},
		event.ChangeDone{ID: "pve1/join", Duration: time.Second, Error: "exit 1"},
		event.HostDone{Status: event.Failed, Changed: 1, Error: "exit 1", Duration: time.Second},
		event.StepDone{Status: event.Failed, Duration: time.Second},
		event.Output{Stream: "stdout", Line: "copy corosync auth key"},
		event.Dropped{Lines: 3},
		event.CommandRan{Command: "true", Exit: 1, Mutates: true, Cached: true, Duration: time.Millisecond},
		event.Note{Text: "fine"},
		event.Warning{Text: "careful"},
		event.UndoRegistered{ID: "pve1/m", Undo: undo},
		event.UndoDone{ID: "pve1/m", Of: "01OLD", Error: "no"},
		event.BlockPlanned{Block: "nodes", Order: []string{"pve2"}, Showing: module.Showing{
			Title: "Rolling", Lead: []string{"All fits."}, Notes: []string{"It may change."}, Data: map[string]any{"votes": 2.0},
			Tables: []module.Table{{Title: "Moves", Columns: []module.Column{{Name: "GB", Right: true}}, Rows: [][]string{{"4"}}, Marks: map[int]string{0: "warn"}}},
		}},
		event.NodeStarted{Block: "nodes", Index: 1, Of: 3, Takes: time.Minute},
		event.NodeDone{Block: "nodes", Status: event.Failed, Reason: "no quorum", Duration: time.Minute},
		event.Paused{Block: "nodes", Reason: "before pve2", Answer: "pxrun approve 01RUN", Until: time.Date(2026, 11, 22, 5, 0, 0, 0, time.UTC)},
		event.Continued{Block: "nodes", By: "ann"},
		module.Moved{Guest: "vm 100 (web)", From: "pve1", To: "pve2", Way: "live", Why: "drain", Took: time.Second, Error: "aborted"},
		module.Downtime{Guest: "vm 100 (web)", How: "live", Took: 68 * time.Millisecond, Least: true},
		module.Votes{Present: 2, Needed: 2, Expected: 3, Device: 1},
		module.Reading{Gate: "quorum", Saw: "2 of 3 votes", Want: "2", OK: true, Override: "ignore", Who: "ann"},
		module.Version{Package: "pve-manager", Before: "9.0.11", After: "9.1.1"},
		module.Phase{Name: "drain", Took: time.Minute},
		module.KeptFile{Path: "/etc/issue", New: "/etc/issue.dpkg-dist"},
		event.Interrupted{Count: 1},
		event.RunDone{Status: event.Failed, Summary: summary, Duration: time.Minute},
	}
	var all []event.Event
	for i, b := range bodies {
		all = append(all, event.Event{
			Seq: uint64(i + 1), Time: time.Date(2026, 11, 22, 1, 2, 3, 4e6, time.UTC), Run: "01RUN", Step: "site/members", Host: "pve1", Body: b,
		})
	}
	return all
}

// The JSON form is a promise to those who read it.
func TestJSONIsStable(t *testing.T) {
	var lines strings.Builder
	for _, e := range every() {
		line, err := json.Marshal(e)
		require.NoError(t, err)
		lines.Write(append(line, '\n'))

		var back event.Event
		require.NoError(t, json.Unmarshal(line, &back))
		if diff := cmp.Diff(e, back); diff != "" {
			t.Errorf("%s does not come back:\n%s", e.Body.Kind(), diff)
		}
	}
	testkit.Golden(t, "events.jsonl", []byte(lines.String()))
}

func TestEventsOfALaterVersionAreKept(t *testing.T) {
	line := `{"seq":7,"time":"2026-11-22T01:02:03Z","run":"01RUN","type":"from_tomorrow","host":"pve1","color":"blue"}`
	var e event.Event
	require.NoError(t, json.Unmarshal([]byte(line), &e))
	require.Equal(t, "from_tomorrow", e.Body.Kind())
	again, err := json.Marshal(e)
	require.NoError(t, err)
	require.JSONEq(t, line, string(again))
}

// docs/events.md is written by hand; it must name every type and field that exists.
func TestDocsNameEveryTypeAndField(t *testing.T) {
	text, err := os.ReadFile("../../docs/events.md")
	require.NoError(t, err)
	for _, e := range every() {
		kind := e.Body.Kind()
		row := ""
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "| `") && strings.Contains(strings.SplitN(line, "|", 3)[1], "`"+kind+"`") {
				row = line
			}
		}
		require.NotEmpty(t, row, "docs/events.md has no row for %q", kind)
		for _, f := range fields(reflect.TypeOf(e.Body)) {
			require.Contains(t, row, "`"+f+"`", "type %q", kind)
		}
	}
	for _, f := range fields(reflect.TypeFor[module.Change]()) {
		require.Contains(t, string(text), "`"+f+"`", "of a change")
	}
}

func fields(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		if name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ","); name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// collector keeps what it is told. hold, if set, is waited for first.
type collector struct {
	mu   sync.Mutex
	all  []event.Event
	hold chan struct{}
	err  error
}

func (c *collector) Handle(_ context.Context, e event.Event) error {
	if c.hold != nil {
		<-c.hold
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all = append(c.all, e)
	return c.err
}

func (c *collector) Close() error { return nil }

func (c *collector) kinds() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, e := range c.all {
		all = append(all, e.Body.Kind())
	}
	return strings.Join(all, " ")
}

// durable is a collector that counts how often it was asked to be safe.
type durable struct {
	collector
	syncs int
	fail  error
}

func (d *durable) Sync(context.Context) error { d.syncs++; return d.fail }

func TestTheBusMasksSecretsEverywhere(t *testing.T) {
	c := &collector{}
	bus := event.NewBus(event.BusConfig{Sinks: []event.Sink{c}, Redact: func(s string) string { return strings.ReplaceAll(s, "s3cret", "(secret)") }})
	undo := &module.Undo{Summary: "s3cret", Command: transport.Command{Argv: []string{"s3cret"}, Script: "s3cret", Stdin: []byte("s3cret")}}
	change := module.Change{
		Summary: "s3cret", Before: []string{"s3cret"}, After: map[string]any{"k": []any{"s3cret", struct{ X string }{"s3cret"}}}, Predicted: "s3cret", Undo: undo,
	}
	bodies := []event.Body{
		event.HostConnected{Error: "s3cret"}, event.StepPlanned{Changes: []module.Change{change}, Deferred: "s3cret", Skipped: "s3cret"},
		event.ChangeStarted{Change: change}, event.ChangeDone{Error: "s3cret"}, event.HostDone{Error: "s3cret"}, event.Output{Line: "s3cret"},
		event.CommandRan{Command: "s3cret"}, event.Note{Text: "s3cret"}, event.Warning{Text: "s3cret"}, event.UndoRegistered{Undo: *undo},
		event.UndoDone{Error: "s3cret"}, event.RunDone{Summary: event.Summary{
			Steps: []event.StepSummary{{Reason: "s3cret", Hosts: []event.HostSummary{{Error: "s3cret", Done: []string{"s3cret"}, NotDone: []string{"s3cret"}}}}},
			Left:  []module.Undo{*undo},
		}},
	}
	for _, b := range bodies {
		require.NoError(t, bus.Emit(t.Context(), "", "", b))
	}
	for _, e := range c.all {
		text, err := json.Marshal(e)
		require.NoError(t, err)
		require.NotContains(t, string(text), "s3cret", e.Body.Kind())
		require.Contains(t, string(text), "(secret)", e.Body.Kind())
	}
	require.Equal(t, "s3cret", change.Summary, "the caller keeps what it had")
	require.Equal(t, []string{"s3cret"}, undo.Command.Argv)
}

func TestOnlyWhatResumeReliesOnIsFlushed(t *testing.T) {
	d := &durable{}
	bus := event.NewBus(event.BusConfig{Sinks: []event.Sink{d}})
	emit := func(b event.Body) int {
		before := d.syncs
		require.NoError(t, bus.Emit(t.Context(), "", "", b))
		return d.syncs - before
	}
	require.Equal(t, 0, emit(event.RunStarted{}))
	require.Equal(t, 1, emit(event.UndoRegistered{}))
	require.Equal(t, 1, emit(event.ChangeStarted{}))
	require.Equal(t, 0, emit(event.ChangeDone{}))
	require.Equal(t, 0, emit(event.StepDone{}))
	require.Equal(t, 1, emit(event.RunDone{}))
	d.fail = errors.New("no space left on device")
	require.ErrorIs(t, bus.Emit(t.Context(), "", "", event.ChangeStarted{}), d.fail)
}

func TestABrokenTerminalStopsNothing(t *testing.T) {
	c := &collector{err: errors.New("broken pipe")}
	bus := event.NewBus(event.BusConfig{Sinks: []event.Sink{c}})
	require.NoError(t, bus.Emit(t.Context(), "", "", event.ChangeStarted{}))
	require.ErrorContains(t, bus.Close(), "broken pipe")
	require.Error(t, bus.Emit(t.Context(), "", "", event.Note{}))
}

func TestEverySinkSeesTheSameOrder(t *testing.T) {
	a, b := &collector{}, &collector{}
	buffered := event.Buffered(b, 3)
	bus := event.NewBus(event.BusConfig{Sinks: []event.Sink{a, buffered}})
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 50 {
				_ = bus.Emit(context.Background(), "", "", event.Note{Text: "x"})
			}
		})
	}
	wait.Wait()
	require.NoError(t, bus.Close())
	require.Equal(t, a.all, b.all)
	for i, e := range a.all {
		require.EqualValues(t, i+1, e.Seq)
	}
	require.Len(t, a.all, 400)
}

func TestASlowReaderLosesOutputAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{hold: make(chan struct{})}
		s := event.Buffered(c, 2)
		say := func(b event.Body) { require.NoError(t, s.Handle(t.Context(), event.Event{Host: "pve1", Body: b})) }
		say(event.Note{})
		synctest.Wait() // the sink holds the first event
		say(event.Output{Line: "1"})
		say(event.Output{Line: "2"})
		say(event.Output{Line: "3"})
		say(event.Output{Line: "4"})
		done := make(chan struct{})
		go func() {
			defer close(done)
			say(event.HostDone{}) // waits for room
		}()
		synctest.Wait()
		close(c.hold)
		<-done
		require.NoError(t, s.Close())
		require.Equal(t, "note output output dropped host_done", c.kinds())
		require.Equal(t, event.Dropped{Lines: 2}, c.all[3].Body)
	})
}

func TestFold(t *testing.T) {
	change := func(id string) module.Change { return module.Change{ID: id, Host: "a"} }
	at := time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC)
	var events []event.Event
	say := func(b event.Body) {
		at = at.Add(time.Second)
		events = append(events, event.Event{Time: at, Run: "01A", Step: "site/x", Host: "a", Body: b})
	}
	say(event.RunStarted{Runbook: "site", Hosts: []string{"a"}})
	say(event.UndoRegistered{ID: "m"})
	say(event.ChangeStarted{Change: change("m")})
	say(event.ChangeDone{ID: "m"})
	say(event.ChangeStarted{Change: change("x")})
	say(event.ChangeDone{ID: "x", Error: "exit 1"})
	say(event.ChangeStarted{Change: change("y")})
	h := event.Fold(events)
	require.Equal(t, "y", h.Unknown[0].Change.ID)
	require.Len(t, h.Unknown, 1)
	require.Equal(t, "m", h.Pending[0].ID)
	require.Equal(t, 1, h.Changes)
	require.False(t, h.Ended)

	say(event.RunStarted{Runbook: "site"})
	say(event.UndoDone{ID: "m", Error: "no"})
	say(event.UndoDone{ID: "z", Of: "01B"})
	h = event.Fold(events)
	require.Empty(t, h.Unknown, "the attempt that follows has read the host again")
	require.Len(t, h.Pending, 1, "what could not be taken back is still there")
	require.Equal(t, []event.Undone{{Run: "01B", Host: "a", ID: "z"}}, h.Undone)

	say(event.UndoDone{ID: "m"})
	say(event.RunDone{Status: event.OK})
	h = event.Fold(events)
	require.Empty(t, h.Pending)
	require.True(t, h.Ended)
	require.Equal(t, at.Add(-12*time.Second), h.Started.Add(-time.Second))
}
