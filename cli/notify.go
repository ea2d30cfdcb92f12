package cli

import (
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/pxrun/pxrun/internal/notify"
)

// notifier tells those whom the site's notify blocks name; nil if there are none.
func (s *session) notifier(run *journal.Run) event.Sink {
	if len(s.doc.Notifies) == 0 {
		return nil
	}
	o := notify.Options{Send: notify.Send, Trouble: s.app.note, Failing: s.failedBefore(run.ID())}
	for _, n := range s.doc.Notifies {
		o.Targets = append(o.Targets, notify.Target{Name: n.Name, URL: n.URL, On: n.On})
	}
	return notify.New(o)
}

// failedBefore reports whether the last run of the same runbook and cluster before this one did not end well.
func (s *session) failedBefore(id string) bool {
	store, err := s.app.store()
	if err != nil {
		return false
	}
	runs, err := store.List()
	if err != nil {
		return false
	}
	cluster := ""
	if s.book.Cluster != nil {
		cluster = s.book.Cluster.Name
	}
	for _, r := range runs {
		if r.ID == id || r.Runbook != s.book.Name || r.Cluster != cluster || r.Command == "release" {
			continue
		}
		return r.Ended == nil || r.Ended.Status != event.OK && r.Ended.Status != event.Changed
	}
	return false
}
