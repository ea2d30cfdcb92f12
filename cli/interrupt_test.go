package cli

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// watched calls f once when a text has been written.
type watched struct {
	mu   sync.Mutex
	seen bytes.Buffer
	text string
	f    func()
	once sync.Once
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen.Write(p)
	if strings.Contains(w.seen.String(), w.text) {
		w.once.Do(w.f)
	}
	return len(p), nil
}

func TestInterruptAtTheQuestionEndsTheCommand(t *testing.T) {
	site := filepath.Join(t.TempDir(), "site.hcl")
	require.NoError(t, os.WriteFile(site, []byte(`
host "a" { address = "198.51.100.91" }
runbook "note" {
  hosts = host.a
  task "file" "note" {
    path    = "/etc/note"
    content = "noted\n"
  }
}
`), 0o600))
	s, out, _ := quietStreams(t)
	nobody, hangUp := io.Pipe() // a person who does not answer
	defer hangUp.Close()
	s.In, s.InTerminal = nobody, true
	var deliver chan<- os.Signal
	s.Signals = func(to chan<- os.Signal) func() {
		deliver = to
		return func() {}
	}
	errs := &watched{text: "[y/N]", f: func() { deliver <- os.Interrupt }}
	s.Err = errs
	require.Equal(t, exitInterrupted, Main([]string{"apply", site, "--lab"}, s), "%s%s", out, errs.seen.String())
	require.Contains(t, out.String(), "create file /etc/note")
	require.Contains(t, out.String(), "Cancelled: nothing was changed.")
}
