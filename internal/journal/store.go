package journal

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
	"github.com/oklog/ulid/v2"
	"github.com/pxrun/pxrun/engine/event"
)

// Store is the state folder's collection of runs.
type Store struct {
	// Dir is the state folder. It is made when the first run is.
	Dir string
	// Now gives the time; nil means the system's.
	Now func() time.Time
	// Random is the source of ids; nil means the system's.
	Random io.Reader
	// Policy says which runs are kept when a new one begins; the zero value means DefaultPolicy.
	Policy Policy
}

// Meta is the invocation of a run, from which it can be resumed, and how it ended.
type Meta struct {
	ID         string            `json:"id"`
	Created    time.Time         `json:"created"`
	Command    string            `json:"command"` // apply, exec
	Files      []string          `json:"files,omitempty"`
	Folder     string            `json:"folder,omitempty"` // where the files are relative to
	Runbook    string            `json:"runbook,omitempty"`
	Cluster    string            `json:"cluster,omitempty"`
	VarFiles   []string          `json:"var_files,omitempty"`
	Vars       map[string]string `json:"vars,omitempty"` // those that are not sensitive
	Limit      []string          `json:"limit,omitempty"`
	Tags       []string          `json:"tags,omitempty"`
	SkipTags   []string          `json:"skip_tags,omitempty"`
	Arguments  []string          `json:"arguments,omitempty"` // of the runbook: NAME=VALUE
	Version    string            `json:"version,omitempty"`
	Controller string            `json:"controller,omitempty"` // user@host
	Lab        bool              `json:"lab,omitempty"`
	// Extra is for whoever starts runs; the journal does not read it.
	Extra map[string]string `json:"extra,omitempty"`
	// Ended is set once the run is over.
	Ended *Ended `json:"ended,omitempty"`
}

// Ended is how a run ended, so that a list of runs need not read journals.
type Ended struct {
	At      time.Time    `json:"at"`
	Status  event.Status `json:"status"`
	Changes int          `json:"changes"`
	// Began says that a task was begun: a run that was refused or given up before has done nothing.
	Began    bool            `json:"began,omitempty"`
	Hosts    int             `json:"hosts"`
	Duration time.Duration   `json:"duration_ns"`
	Pending  []event.Pending `json:"pending,omitempty"`
	Undone   []event.Undone  `json:"undone,omitempty"`
}

// State is what a run is in now.
type State string

// The states of a run. A run whose process went away before it was over is interrupted.
const (
	Running     State = "running"
	Interrupted State = "interrupted"
	Over        State = "over"
)

// Info is one line of a list of runs.
type Info struct {
	Meta
	State State `json:"state"`
}

// Status is the word for a list: how the run ended, or its state.
func (i Info) Status() string {
	if i.State == Over && i.Ended != nil {
		return string(i.Ended.Status)
	}
	return string(i.State)
}

// NotFoundError is a run that does not exist, or an abbreviation that several have.
type NotFoundError struct {
	Prefix  string
	Matches []string
}

func (e *NotFoundError) Error() string {
	if e.Prefix == "" {
		return "there are no runs yet"
	}
	if len(e.Matches) == 0 {
		return fmt.Sprintf("there is no run %q; `pxrun runs` lists them", e.Prefix)
	}
	return fmt.Sprintf("%q could be %s", e.Prefix, strings.Join(e.Matches, " or "))
}

// BusyError is a run that another process is at.
type BusyError struct{ ID string }

func (e *BusyError) Error() string {
	return fmt.Sprintf("run %s is still going on in another process", e.ID)
}

func (s *Store) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

func (s *Store) runs() string            { return filepath.Join(s.Dir, "runs") }
func (s *Store) folder(id string) string { return filepath.Join(s.runs(), id) }

// Create begins a run: it gets an id, a folder and the lock.
func (s *Store) Create(m Meta) (*Run, error) {
	random := s.Random
	if random == nil {
		random = rand.Reader
	}
	m.Created = s.now()
	id, err := ulid.New(ulid.Timestamp(m.Created), random)
	if err != nil {
		return nil, fmt.Errorf("journal: make an id: %w", err)
	}
	m.ID = id.String()
	if err := os.MkdirAll(s.runs(), 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := os.Mkdir(s.folder(m.ID), 0o700); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	if err := s.writeMeta(m); err != nil {
		return nil, err
	}
	run, err := s.open(m)
	if err != nil {
		return nil, err
	}
	// That an old run could not be removed is no reason not to begin a new one; the next one tries again.
	_, _ = s.Prune(cmp.Or(s.Policy, DefaultPolicy))
	return run, nil
}

// Resume takes up a run that is not going on any more. The record tells what its earlier processes left.
func (s *Store) Resume(id string) (*Run, *Record, error) {
	m, err := s.readMeta(id)
	if err != nil {
		return nil, nil, err
	}
	run, err := s.open(m)
	if err != nil {
		return nil, nil, err
	}
	record, err := s.Load(id)
	if err != nil {
		return nil, nil, errors.Join(err, run.Close())
	}
	for _, e := range record.Events {
		run.story.Add(e)
	}
	// It is no longer over. What it left in place is in its journal.
	run.meta.Ended = nil
	if err := s.writeMeta(run.meta); err != nil {
		return nil, nil, errors.Join(err, run.Close())
	}
	return run, record, nil
}

// List gives all runs, the newest first. A folder that is not a run is passed over.
func (s *Store) List() ([]Info, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	slices.Reverse(ids)
	all := make([]Info, 0, len(ids))
	for _, id := range ids {
		info, err := s.info(id)
		if err != nil {
			continue // half made, or removed a moment ago
		}
		all = append(all, info)
	}
	return all, nil
}

// ids are the runs from the oldest to the newest: that is the order of their ids.
func (s *Store) ids() ([]string, error) {
	entries, err := os.ReadDir(s.runs())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err == nil && e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	slices.Sort(ids)
	return ids, nil
}

func (s *Store) info(id string) (Info, error) {
	m, err := s.readMeta(id)
	if err != nil {
		return Info{}, err
	}
	info := Info{Meta: m, State: Over}
	if m.Ended == nil {
		info.State = Interrupted
	}
	if s.busy(id) {
		info.State = Running
	}
	return info, nil
}

// busy reports whether a process holds the run.
func (s *Store) busy(id string) bool {
	lock := flock.New(filepath.Join(s.folder(id), "lock"), flock.SetPermissions(0o600))
	defer lock.Close()
	free, err := lock.TryRLock()
	return err == nil && !free
}

// Bar keeps a run that is over, or was cut off, from being taken up again until end is called. A run that is going on is a *BusyError.
func (s *Store) Bar(id string) (end func(), err error) {
	m, err := s.readMeta(id)
	if err != nil {
		return nil, err
	}
	lock, err := s.claim(m.ID)
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Close() }, nil
}

// Dead reports whether a run of this machine is known to be no longer at work. controller is this machine.
func (s *Store) Dead(id, controller string) bool {
	m, err := s.readMeta(id)
	return err == nil && m.Controller == controller && !s.busy(id)
}

// Find gives the id of the run that a word means: an id, the beginning of one, its last characters, or "last".
func (s *Store) Find(word string) (string, error) {
	ids, err := s.ids()
	if err != nil {
		return "", err
	}
	if word == "last" || word == "" {
		if len(ids) == 0 {
			return "", &NotFoundError{}
		}
		return ids[len(ids)-1], nil
	}
	upper := strings.ToUpper(word)
	var matches []string
	for _, id := range ids {
		if strings.HasPrefix(id, upper) || len(upper) >= 4 && strings.HasSuffix(id, upper) {
			matches = append(matches, id)
		}
	}
	if len(matches) == 1 {
		return matches[0], nil
	}
	return "", &NotFoundError{Prefix: word, Matches: matches}
}

// Pending gives the temporary changes of all runs that are still in place, the oldest first.
func (s *Store) Pending() ([]event.Pending, error) {
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	var pending []event.Pending
	var undone []event.Undone
	var takings []event.Taking
	for _, id := range ids {
		left, err := s.leftBy(id)
		if err != nil {
			return nil, err
		}
		pending, undone, takings = append(pending, left.Pending...), append(undone, left.Undone...), append(takings, left.Takings...)
	}
	event.Mark(pending, takings)
	pending = slices.DeleteFunc(pending, func(p event.Pending) bool {
		return slices.Contains(undone, event.Undone{Run: p.Run, Host: p.Undo.Host, ID: p.ID})
	})
	slices.SortStableFunc(pending, func(a, b event.Pending) int { return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.Run, b.Run)) })
	return pending, nil
}

// leftBy gives what a run left in place, what it took back of other runs, and what it was at when it was cut off.
func (s *Store) leftBy(id string) (event.History, error) {
	m, err := s.readMeta(id)
	if err != nil {
		return event.History{}, nil //nolint:nilerr // half made: it cannot have changed anything
	}
	if m.Ended != nil {
		return event.History{Pending: m.Ended.Pending, Undone: m.Ended.Undone}, nil
	}
	record, err := s.Load(id)
	if err != nil {
		return event.History{}, err
	}
	return record.History, nil
}

func (s *Store) readMeta(id string) (Meta, error) {
	var m Meta
	data, err := os.ReadFile(filepath.Join(s.folder(id), "meta.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return m, &NotFoundError{Prefix: id}
	}
	if err != nil {
		return m, fmt.Errorf("journal: %w", err)
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("journal: run %s: meta.json: %w", id, err)
	}
	m.ID = id
	return m, nil
}

func (s *Store) writeMeta(m Meta) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(s.folder(m.ID), "meta.json"), append(data, '\n'), 0o600, renameio.WithTempDir(s.folder(m.ID))); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}
