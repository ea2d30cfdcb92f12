package journal_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"
)

// clock is a time that moves a second with each look.
type clock struct{ at time.Time }

func (c *clock) now() time.Time {
	c.at = c.at.Add(time.Second)
	return c.at
}

func newStore(t *testing.T) *journal.Store {
	t.Helper()
	c := &clock{time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC)}
	return &journal.Store{Dir: filepath.Join(t.TempDir(), "state"), Now: c.now}
}

func create(t *testing.T, s *journal.Store) *journal.Run {
	t.Helper()
	r, err := s.Create(journal.Meta{Command: "apply", Runbook: "site"})
	require.NoError(t, err)
	return r
}

// emit writes events of the run, as the bus would.
func emit(t *testing.T, r *journal.Run, host string, bodies ...event.Body) {
	t.Helper()
	for i, b := range bodies {
		e := event.Event{Seq: uint64(i + 1), Time: time.Date(2026, 11, 22, 2, 0, i, 0, time.UTC), Run: r.ID(), Step: "site/one", Host: host, Body: b}
		require.NoError(t, r.Handle(context.Background(), e))
	}
	require.NoError(t, r.Sync(context.Background()))
}

func started() event.Body {
	return event.RunStarted{Command: "apply", Runbook: "site", Hosts: []string{"a", "b"}}
}

func registered(id string) event.Body {
	return event.UndoRegistered{ID: id, Undo: module.Undo{Host: "a", Summary: "unset " + id, Command: transport.Command{Argv: []string{"unset", id}}}}
}

func TestARunFromBeginningToEnd(t *testing.T) {
	s := newStore(t)
	runs, err := s.List()
	require.NoError(t, err)
	require.Empty(t, runs)

	r := create(t, s)
	change := module.Change{ID: "a/x", Host: "a", Summary: "set x", Action: module.Update}
	emit(t, r, "", started())
	emit(t, r, "a", event.ChangeStarted{Change: change}, event.Output{Stream: "stdout", Line: "hello"}, event.ChangeDone{ID: "a/x"}, event.HostDone{Status: event.Changed})
	runs, err = s.List()
	require.NoError(t, err)
	require.Equal(t, "running", runs[0].Status())

	emit(t, r, "", event.RunDone{Status: event.OK, Duration: time.Minute})
	require.NoError(t, r.SavePlan(func(w io.Writer) error { _, err := io.WriteString(w, "{}"); return err }))
	require.NoError(t, r.Keep("token root@pam/x", secret.New("s3cret")))
	require.NoError(t, r.Close())
	require.NoError(t, r.Close())
	require.Error(t, r.Handle(t.Context(), event.Event{Body: event.Note{}}))

	runs, err = s.List()
	require.NoError(t, err)
	require.Equal(t, "ok", runs[0].Status())
	require.Equal(t, 1, runs[0].Ended.Changes)
	require.Equal(t, 2, runs[0].Ended.Hosts)

	record, err := s.Load(r.ID())
	require.NoError(t, err)
	require.Len(t, record.Events, 5, "output is in the host's log")
	require.Equal(t, change.Summary, record.Events[1].Body.(event.ChangeStarted).Change.Summary)
	require.True(t, record.History.Ended)

	log, err := os.ReadFile(filepath.Join(r.Dir(), "hosts", "a.log"))
	require.NoError(t, err)
	require.Equal(t, "02:00:00.000 site/one: set x\n02:00:01.000 | hello\n02:00:02.000 site/one: done\n02:00:03.000 site/one: changed\n", string(log))

	kept, err := os.ReadFile(filepath.Join(r.Dir(), "kept", "token%20root@pam%2Fx"))
	require.NoError(t, err)
	require.Equal(t, "s3cret", string(kept))
	require.NoError(t, filepath.WalkDir(s.Dir, func(path string, d os.DirEntry, _ error) error {
		info, err := d.Info()
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s can be read by others", path)
		return nil
	}))
}

func TestTwoProcessesAreNotAtOneRun(t *testing.T) {
	s := newStore(t)
	r := create(t, s)
	_, _, err := s.Resume(r.ID())
	var busy *journal.BusyError
	require.ErrorAs(t, err, &busy)
	require.NoError(t, r.Close())
	again, _, err := s.Resume(r.ID())
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func TestResumeKnowsWhatTheProcessThatDiedLeft(t *testing.T) {
	s := newStore(t)
	r := create(t, s)
	emit(t, r, "", started())
	emit(t, r, "a", registered("a/m"), event.ChangeStarted{Change: module.Change{ID: "a/m"}}, event.ChangeDone{ID: "a/m"},
		event.ChangeStarted{Change: module.Change{ID: "a/x", Summary: "set x"}})
	require.NoError(t, r.Close()) // without RunDone: what a kill leaves, and the lock is free
	tear(t, r, `{"seq":9,"type":"change_do`)

	runs, err := s.List()
	require.NoError(t, err)
	require.Equal(t, "interrupted", runs[0].Status())

	again, record, err := s.Resume(r.ID())
	require.NoError(t, err)
	require.Equal(t, "set x", record.History.Unknown[0].Change.Summary)
	require.Equal(t, []string{"unset", "a/m"}, record.History.Pending[0].Undo.Command.Argv)
	require.True(t, record.History.Pending[0].Undo.Command.Mutates)
	emit(t, again, "", started())
	emit(t, again, "a", event.UndoDone{ID: "a/m"})
	emit(t, again, "", event.RunDone{Status: event.OK})
	require.NoError(t, again.Close())

	record, err = s.Load(r.ID())
	require.NoError(t, err)
	require.Zero(t, record.Damaged, "the torn line was cut before the next was written")
	require.Empty(t, record.History.Pending)
	require.Empty(t, record.History.Unknown)
	require.Equal(t, "ok", record.Status())
}

// tear appends to a journal what a killed process leaves.
func tear(t *testing.T, r *journal.Run, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(r.Dir(), "journal.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(text)
	require.NoError(t, errors.Join(err, f.Close()))
}

func TestATornLastLineIsTolerated(t *testing.T) {
	s := newStore(t)
	r := create(t, s)
	emit(t, r, "", started())
	require.NoError(t, r.Close())
	tear(t, r, `{"seq":2,"ty`)
	record, err := s.Load(r.ID())
	require.NoError(t, err)
	require.Len(t, record.Events, 1)
	require.Equal(t, 1, record.Damaged)
}

func TestPendingOverAllRuns(t *testing.T) {
	s := newStore(t)
	first := create(t, s)
	emit(t, first, "", started())
	emit(t, first, "a", registered("a/m"), registered("a/n"))
	emit(t, first, "", event.RunDone{Status: event.Failed})
	require.NoError(t, first.Close())
	crashed := create(t, s)
	emit(t, crashed, "a", registered("a/o"))
	require.NoError(t, crashed.Close())

	pending, err := s.Pending()
	require.NoError(t, err)
	require.Len(t, pending, 3)

	release := create(t, s)
	emit(t, release, "a", event.UndoDone{ID: "a/m", Of: first.ID()}, event.UndoDone{ID: "a/o", Of: crashed.ID()}, event.UndoDone{ID: "a/n", Of: first.ID(), Error: "no"})
	require.NoError(t, release.Close())
	pending, err = s.Pending()
	require.NoError(t, err)
	require.Len(t, pending, 1)
	require.Equal(t, "a/n", pending[0].ID)
	require.Equal(t, first.ID(), pending[0].Run)
}

func TestFind(t *testing.T) {
	s := newStore(t)
	_, err := s.Find("last")
	require.ErrorContains(t, err, "there are no runs yet")
	a, b := create(t, s), create(t, s)
	defer a.Close()
	defer b.Close()
	tests := map[string]string{"last": b.ID(), a.ID(): a.ID(), strings.ToLower(a.ID()): a.ID(), b.ID()[20:]: b.ID()}
	for word, want := range tests {
		got, err := s.Find(word)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err = s.Find("01")
	require.ErrorContains(t, err, " or ")
	_, err = s.Find("zzz")
	require.ErrorContains(t, err, "there is no run")
}

func TestPrune(t *testing.T) {
	s := newStore(t)
	var ids []string
	for i := range 6 {
		r := create(t, s)
		ids = append(ids, r.ID())
		switch i {
		case 0: // taken back by the run after it, so both can go
			emit(t, r, "a", registered("a/m"))
		case 1:
			emit(t, r, "a", event.UndoDone{ID: "a/m", Of: ids[0]})
		case 2:
			emit(t, r, "a", registered("a/left"))
		case 3:
			require.NoError(t, r.Keep("token", secret.New("x")))
		}
		emit(t, r, "", event.RunDone{Status: event.OK})
		require.NoError(t, r.Close())
	}
	removed, err := s.Prune(journal.Policy{Count: 1, Age: time.Hour})
	require.NoError(t, err)
	require.Empty(t, removed, "all are young")
	removed, err = s.Prune(journal.Policy{Count: 1})
	require.NoError(t, err)
	require.Equal(t, []string{ids[0], ids[1], ids[4]}, removed)
}

func TestOldRunsGoWhenANewOneBegins(t *testing.T) {
	s := newStore(t)
	s.Policy = journal.Policy{Count: 2}
	for range 5 {
		r := create(t, s)
		emit(t, r, "", event.RunDone{Status: event.OK})
		require.NoError(t, r.Close())
	}
	runs, err := s.List()
	require.NoError(t, err)
	require.Len(t, runs, 2)
}

func TestSyncsTogetherShareAFlush(t *testing.T) {
	s := newStore(t)
	r := create(t, s)
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			_ = r.Handle(context.Background(), event.Event{Body: event.Note{Text: "x"}})
			_ = r.Sync(context.Background())
		})
	}
	wait.Wait()
	require.NoError(t, r.Close())
	record, err := s.Load(r.ID())
	require.NoError(t, err)
	require.Len(t, record.Events, 50)
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"seq":1,"time":"2026-11-22T02:00:00Z","type":"run_started","runbook":"site"}` + "\n" + `{"seq":2,"time":"2026-11-22T02:00:01Z","type":"undo_registered","host":"a","id":"a/m","undo":{"host":"a","argv":["x"]}}` + "\n"))
	f.Add([]byte(`{"seq":1,"type":"change_started","change":{"id":"x"`))
	f.Add([]byte("\x00\n{}\nnull\n[1]\n{\"type\":\"from_tomorrow\",\"more\":{}}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		events, damaged, err := journal.Read(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if lines := bytes.Count(data, []byte("\n")) + 1; len(events)+damaged > lines {
			t.Fatalf("%d events and %d damaged lines of %d", len(events), damaged, lines)
		}
		event.Fold(events)
		// Wherever a journal is torn, what stands before the tear is read as it was.
		whole, _, _ := journal.Read(bytes.NewReader(data[:bytes.LastIndexByte(data, '\n')+1]))
		if len(whole) > len(events) {
			t.Fatalf("the tear hid %d events", len(whole)-len(events))
		}
	})
}

// Whoever lists runs takes a run's lock for a moment to see whether it is free. That is no other process at the run.
func TestALookAtTheListDoesNotKeepARunFromBeingTakenUp(t *testing.T) {
	s := &journal.Store{Dir: t.TempDir()}
	r, err := s.Create(journal.Meta{Command: "apply"})
	require.NoError(t, err)
	id := r.ID()
	require.NoError(t, r.Close())
	look := flock.New(filepath.Join(s.Dir, "runs", id, "lock"))
	free, err := look.TryRLock()
	require.NoError(t, err)
	require.True(t, free)
	var wait conc.WaitGroup
	wait.Go(func() {
		timer := time.NewTimer(20 * time.Millisecond)
		<-timer.C
		_ = look.Close()
	})
	defer wait.Wait()
	again, _, err := s.Resume(id)
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

func TestARunThatIsOverCanBeKeptFromBeingTakenUp(t *testing.T) {
	s := &journal.Store{Dir: t.TempDir()}
	run, err := s.Create(journal.Meta{Command: "apply", Controller: "ann@desk"})
	require.NoError(t, err)
	require.False(t, s.Dead(run.ID(), "ann@desk"), "it is at work")
	_, err = s.Bar(run.ID())
	var busy *journal.BusyError
	require.ErrorAs(t, err, &busy)
	require.NoError(t, run.Close())

	require.True(t, s.Dead(run.ID(), "ann@desk"))
	require.False(t, s.Dead(run.ID(), "bob@laptop"), "its process is on another machine")
	require.False(t, s.Dead("01ARZ3NDEKTSV4RRFFQ69G5FAV", "ann@desk"), "nothing is known of it")
	end, err := s.Bar(run.ID())
	require.NoError(t, err)
	_, _, err = s.Resume(run.ID())
	require.ErrorAs(t, err, &busy)
	end()
	again, _, err := s.Resume(run.ID())
	require.NoError(t, err)
	require.NoError(t, again.Close())
}
