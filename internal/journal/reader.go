package journal

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pxrun/pxrun/engine/event"
)

// Record is a run as its folder tells it.
type Record struct {
	Info
	Events  []event.Event
	History event.History
	// Damaged counts lines that could not be read. The last line of a run that was killed may be one.
	Damaged int
}

// lineLimit bounds one event. Longer lines are counted as damaged.
const lineLimit = 64 << 20

// Load reads a run. It is fine to load one that is going on.
func (s *Store) Load(id string) (*Record, error) {
	info, err := s.info(id)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(s.folder(id), "journal.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return &Record{Info: info}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	defer f.Close()
	events, damaged, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("journal: run %s: %w", id, err)
	}
	return &Record{Info: info, Events: events, Damaged: damaged, History: event.Fold(events)}, nil
}

// Read reads the lines of a journal. Lines that are no events are counted and passed over; only a failing reader is an
// error.
func Read(r io.Reader) (events []event.Event, damaged int, err error) {
	lines := bufio.NewReader(r)
	for {
		line, tooLong, err := readLine(lines)
		if tooLong {
			damaged++
		} else if line = bytes.TrimSpace(line); len(line) > 0 {
			var e event.Event
			if json.Unmarshal(line, &e) == nil {
				events = append(events, e)
			} else {
				damaged++
			}
		}
		if errors.Is(err, io.EOF) {
			return events, damaged, nil
		}
		if err != nil {
			return events, damaged, err
		}
	}
}

// readLine reads up to a newline in bounded memory.
func readLine(r *bufio.Reader) (line []byte, tooLong bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > lineLimit {
			line, tooLong = nil, true
		}
		if !tooLong {
			line = append(line, part...)
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, tooLong, err
		}
	}
}
