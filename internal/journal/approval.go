package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// Question is what a run waits for: somebody must approve before it goes on.
type Question struct {
	Number int       `json:"number"` // from 1, within one process of the run
	PID    int       `json:"pid"`
	Block  string    `json:"block"`
	Host   string    `json:"host"`
	Since  time.Time `json:"since"`
}

// Answer is what somebody said to it.
type Answer struct {
	Number int       `json:"number"`
	PID    int       `json:"pid"`
	Yes    bool      `json:"yes"`
	By     string    `json:"by"`
	At     time.Time `json:"at"`
}

// NoQuestionError is an approval that nobody waits for.
type NoQuestionError struct{ ID string }

func (e *NoQuestionError) Error() string {
	return fmt.Sprintf("run %s waits for no approval", e.ID)
}

const (
	questionFile = "question.json"
	answerFile   = "answer.json"
	// answerPause is waited between two looks for an answer.
	answerPause = 500 * time.Millisecond
)

// Ask writes down a question, waits for its answer by way of Store.Answer, and returns it. It ends with ctx.
func (r *Run) Ask(ctx context.Context, q Question, sleep func(context.Context, time.Duration) error) (Answer, error) {
	dir := r.Dir()
	if err := writeJSON(dir, questionFile, q); err != nil {
		return Answer{}, err
	}
	defer func() {
		_ = os.Remove(filepath.Join(dir, questionFile))
		_ = os.Remove(filepath.Join(dir, answerFile))
	}()
	for {
		var a Answer
		err := readJSON(dir, answerFile, &a)
		switch {
		case err == nil && a.Number == q.Number && a.PID == q.PID:
			return a, nil
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return Answer{}, err
		}
		if err := sleep(ctx, answerPause); err != nil {
			return Answer{}, err
		}
	}
}

// Answer answers the question of a run that waits. A run that waits for none is a NoQuestionError.
func (s *Store) Answer(id string, yes bool, by string) (Question, error) {
	var q Question
	err := readJSON(s.folder(id), questionFile, &q)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !s.busy(id) {
		return q, &NoQuestionError{id}
	}
	if err != nil {
		return q, err
	}
	var given Answer
	if readJSON(s.folder(id), answerFile, &given) == nil && given.Number == q.Number && given.PID == q.PID {
		return q, &NoQuestionError{id} // it is answered, and the run has not seen that yet
	}
	return q, writeJSON(s.folder(id), answerFile, Answer{Number: q.Number, PID: q.PID, Yes: yes, By: by, At: s.now()})
}

// Waiting is what a run waits for, if it does.
func (s *Store) Waiting(id string) (Question, bool) {
	var q Question
	return q, readJSON(s.folder(id), questionFile, &q) == nil && s.busy(id)
}

func writeJSON(dir, name string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		err = renameio.WriteFile(filepath.Join(dir, name), append(data, '\n'), 0o600, renameio.WithTempDir(dir))
	}
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	return nil
}

func readJSON(dir, name string, into any) error {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err == nil {
		err = json.Unmarshal(data, into)
	}
	if err != nil {
		return fmt.Errorf("journal: %s: %w", name, err)
	}
	return nil
}
