package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/secret"
)

// Run is a run that this process is at. It is an event.Sink and an event.Syncer.
type Run struct {
	store *Store
	meta  Meta
	lock  *flock.Flock
	file  *os.File
	hosts *hostLogs
	story event.Folding // guarded by mu

	mu      sync.Mutex
	flushed *sync.Cond
	written uint64 // events written
	safe    uint64 // of which these are on disk
	syncing bool
	failed  error // a journal that could not be written once is not trusted again
	closed  bool
}

var (
	_ event.Sink   = (*Run)(nil)
	_ event.Syncer = (*Run)(nil)
)

// lookTime is how long a run's lock is tried for: a process that lists runs holds it for a moment to see whether it is
// free.
const lookTime = 500 * time.Millisecond

// claim takes the lock of a run.
func (s *Store) claim(id string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(s.folder(id), "lock"), flock.SetPermissions(0o600))
	within, done := context.WithTimeout(context.Background(), lookTime)
	defer done()
	ok, err := lock.TryLockContext(within, 5*time.Millisecond)
	if err != nil && within.Err() == nil {
		return nil, fmt.Errorf("journal: lock run %s: %w", id, err)
	}
	if !ok {
		return nil, &BusyError{id}
	}
	return lock, nil
}

// open locks a run and opens its journal for appending.
func (s *Store) open(m Meta) (*Run, error) {
	dir := s.folder(m.ID)
	lock, err := s.claim(m.ID)
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, "journal.jsonl"), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal: %w", err), lock.Close())
	}
	if err := cutTornLine(file); err != nil {
		return nil, errors.Join(fmt.Errorf("journal: run %s: %w", m.ID, err), file.Close(), lock.Close())
	}
	r := &Run{store: s, meta: m, lock: lock, file: file, hosts: newHostLogs(filepath.Join(dir, "hosts"))}
	r.flushed = sync.NewCond(&r.mu)
	return r, nil
}

// cutTornLine ends a journal after its last whole line, so that what is appended stands on lines of its own.
func cutTornLine(f *os.File) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		n := min(end, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			end = end - n + int64(i) + 1
			if end == size {
				return nil
			}
			return f.Truncate(end)
		}
		end -= n
	}
	return f.Truncate(0)
}

// ID is the run's id.
func (r *Run) ID() string { return r.meta.ID }

// Meta is the invocation of the run.
func (r *Run) Meta() Meta { return r.meta }

// Dir is the run's folder.
func (r *Run) Dir() string { return r.store.folder(r.meta.ID) }

// Handle writes an event: commands and output to the log of their host, everything else to the journal.
func (r *Run) Handle(_ context.Context, e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.New("journal: the run is closed")
	}
	r.hosts.write(e)
	r.story.Add(e)
	switch e.Body.(type) {
	case event.Output, event.Dropped, event.CommandRan:
		return nil
	}
	if r.failed != nil {
		return r.failed
	}
	line, err := e.MarshalJSON()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if _, err := r.file.Write(append(line, '\n')); err != nil {
		r.failed = fmt.Errorf("journal: %w", err)
		return r.failed
	}
	r.written++
	return nil
}

// Sync returns when every event handled so far is on disk. Calls that come together share one flush.
func (r *Run) Sync(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	mine := r.written
	for r.safe < mine && r.failed == nil {
		if r.syncing {
			r.flushed.Wait()
			continue
		}
		r.syncing = true
		r.gather()
		covers := r.written
		r.mu.Unlock()
		err := r.file.Sync()
		r.mu.Lock()
		r.syncing = false
		if err != nil {
			r.failed = fmt.Errorf("journal: %w", err)
		} else {
			r.safe = max(r.safe, covers)
		}
		r.flushed.Broadcast()
	}
	return r.failed
}

// gather lets the others that are about to announce something do so before the flush: the hosts of a task begin at the
// same moment, and one flush for all is as quick as one for the first. It is called, and returns, with mu held.
func (r *Run) gather() {
	for before, more := r.written, true; more; before = r.written {
		r.mu.Unlock()
		for range runtime.GOMAXPROCS(0) {
			runtime.Gosched()
		}
		r.mu.Lock()
		more = r.written != before && r.failed == nil
	}
}

// Keep stores a value that is shown only once, readable by its owner alone.
func (r *Run) Keep(name string, v secret.String) error {
	dir := filepath.Join(r.Dir(), "kept")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, fileName(name)), []byte(v.Reveal()), 0o600); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// SavePlan stores the approved plan; save writes it.
func (r *Run) SavePlan(save func(io.Writer) error) error {
	var text bytes.Buffer
	if err := save(&text); err != nil {
		return err
	}
	if err := renameio.WriteFile(filepath.Join(r.Dir(), "plan.json"), text.Bytes(), 0o600); err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

// Close ends this process's part. A run that told that it is done is over from now on; any other one is interrupted
// and can be resumed.
func (r *Run) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	err := errors.Join(r.file.Sync(), r.file.Close(), r.hosts.close())
	if h := r.story.History(); h.Ended {
		r.meta.Ended = &Ended{
			At: h.Last, Status: h.Status, Changes: h.Changes, Began: h.Began, Hosts: len(h.Hosts), Duration: h.Duration,
			Pending: h.Pending, Undone: h.Undone,
		}
		err = errors.Join(err, r.store.writeMeta(r.meta))
	}
	if err != nil {
		err = fmt.Errorf("journal: close run %s: %w", r.meta.ID, err)
	}
	return errors.Join(err, r.lock.Close())
}

// fileName makes a name that stays inside its folder.
func fileName(name string) string {
	name = url.PathEscape(name)
	if name == "." || name == ".." || name == "" {
		return "_" + name
	}
	return name
}
