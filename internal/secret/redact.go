package secret

import (
	"io"
	"strings"
	"sync"
	"sync/atomic"
)

// Redactor replaces secrets in text by Masked, in every form that programs and encodings commonly give them. The zero
// value knows none and costs nothing. It is safe for concurrent use; secrets may be added while others redact.
type Redactor struct {
	mu     sync.Mutex // guards changes of known
	known  map[string]bool
	active atomic.Pointer[matcher]
}

// NewRedactor makes a redactor that knows some secrets.
func NewRedactor(secrets ...String) *Redactor {
	r := &Redactor{}
	r.Add(secrets...)
	return r
}

// Add makes secrets known. Empty ones are left out.
func (r *Redactor) Add(secrets ...String) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := len(r.known)
	for _, s := range secrets {
		if s.Empty() || r.known[s.Reveal()] {
			continue
		}
		if r.known == nil {
			r.known = map[string]bool{}
		}
		r.known[s.Reveal()] = true
	}
	if len(r.known) > before {
		r.active.Store(newMatcher(r.known))
	}
}

// Empty reports whether no secret is known.
func (r *Redactor) Empty() bool { return r.active.Load() == nil }

// Redact replaces every secret in a text. Secrets that overlap become one mask.
func (r *Redactor) Redact(text string) string {
	m := r.active.Load()
	if m == nil || !m.mayMatch(text) {
		return text
	}
	var out strings.Builder
	out.Grow(len(text))
	s := scan{m: m, buf: []byte(text)}
	s.run(&out, true)
	return out.String()
}

// Writer redacts a stream. It holds back the end of a write only as long as that might be the beginning of a secret;
// Close writes what is held and leaves w open.
func (r *Redactor) Writer(w io.Writer) io.WriteCloser { return &writer{redactor: r, to: w} }

type writer struct {
	redactor *Redactor
	to       io.Writer

	mu   sync.Mutex
	held scan
}

func (w *writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.redactor.active.Load()
	if m == nil {
		return w.to.Write(p)
	}
	w.held.m = m
	w.held.buf = append(w.held.buf, p...)
	if err := w.flush(false); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (w *writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.held.buf) == 0 {
		return nil
	}
	return w.flush(true)
}

func (w *writer) flush(final bool) error {
	var out strings.Builder
	w.held.run(&out, final)
	if out.Len() == 0 {
		return nil
	}
	_, err := io.WriteString(w.to, out.String())
	return err
}
