package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pxrun/pxrun/engine/event"
)

// Policy says which runs are kept. A run goes when it is beyond both limits. Runs that are going on, that left a
// temporary change in place, or that hold a value shown only once are always kept.
type Policy struct {
	// Count is how many of the newest runs are kept.
	Count int
	// Age is how long any run is kept.
	Age time.Duration
}

// DefaultPolicy keeps the newest 200 runs and those of the last 90 days.
var DefaultPolicy = Policy{Count: 200, Age: 90 * 24 * time.Hour}

// Prune removes runs and returns their ids.
func (s *Store) Prune(p Policy) ([]string, error) {
	ids, err := s.ids()
	if err != nil || len(ids) <= p.Count {
		return nil, err
	}
	runs, err := s.List()
	if err != nil || len(runs) <= p.Count {
		return nil, err
	}
	pending, err := s.Pending()
	if err != nil {
		return nil, err
	}
	removed := []string{}
	var failed []error
	left := map[string]bool{}
	for _, r := range runs {
		left[r.ID] = true
	}
	for _, r := range slices.Backward(runs[p.Count:]) { // the oldest first, so that who took something back goes after whom it belonged to
		needed := slices.ContainsFunc(pending, func(u event.Pending) bool { return u.Run == r.ID })
		if had, err := s.leftBy(r.ID); err == nil {
			needed = needed || slices.ContainsFunc(had.Undone, func(u event.Undone) bool { return left[u.Run] })
		}
		if needed || s.now().Sub(r.Created) < p.Age || s.keeps(r.ID) {
			continue
		}
		if err := s.remove(r.ID); err != nil {
			failed = append(failed, err)
			continue
		}
		delete(left, r.ID)
		removed = append(removed, r.ID)
	}
	return removed, errors.Join(failed...)
}

func (s *Store) keeps(id string) bool {
	kept, err := os.ReadDir(filepath.Join(s.folder(id), "kept"))
	return err == nil && len(kept) > 0
}

// remove takes the lock first: a run that somebody resumes just now stays.
func (s *Store) remove(id string) error {
	m, err := s.readMeta(id)
	if err != nil {
		return err
	}
	run, err := s.open(m)
	if err != nil {
		var busy *BusyError
		if errors.As(err, &busy) {
			return nil
		}
		return err
	}
	run.closed = true
	err = errors.Join(os.RemoveAll(s.folder(id)), run.file.Close(), run.lock.Close())
	if err != nil {
		return fmt.Errorf("journal: remove run %s: %w", id, err)
	}
	return nil
}
