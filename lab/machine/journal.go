package machine

import (
	"sync"
	"time"
)

// Entry is a line of the machine's journal.
type Entry struct {
	Time     time.Time
	Unit     string // "corosync.service"; "" for none
	Ident    string // "corosync"
	PID      int
	Priority int // 0 to 7, as syslog's
	Text     string
}

// journalKeep is how many lines a journal remembers.
const journalKeep = 2000

type journal struct {
	mu    sync.Mutex
	lines []Entry
}

// Log adds a line to the journal. A zero Time is now.
func (m *Machine) Log(e Entry) {
	if e.Time.IsZero() {
		e.Time = m.Now()
	}
	m.journal.mu.Lock()
	defer m.journal.mu.Unlock()
	m.journal.lines = append(m.journal.lines, e)
	if over := len(m.journal.lines) - journalKeep; over > 0 {
		m.journal.lines = append([]Entry(nil), m.journal.lines[over+journalKeep/4:]...)
	}
}

// Journal returns the journal's lines, oldest first.
func (m *Machine) Journal() []Entry {
	m.journal.mu.Lock()
	defer m.journal.mu.Unlock()
	return append([]Entry(nil), m.journal.lines...)
}
