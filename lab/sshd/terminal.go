package sshd

import (
	"bytes"
	"io"
	"sync"

	"github.com/pxrun/pxrun/lab/machine"
)

// terminal is the line discipline of a pseudo-terminal in canonical mode: it echoes, lets the user erase, makes lines, and
// turns control characters into signals.
type terminal struct {
	s    *session
	mu   sync.Mutex // keeps echo and output apart
	line []byte
}

func newTerminal(s *session) *terminal { return &terminal{s: s} }

// Write sends output with the line ends that terminals want.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.s.channel.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (t *terminal) echo(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = io.WriteString(t.s.channel, text) // a client that left sees no echo
}

// input reads keys until the channel ends.
func (t *terminal) input(to *machine.Pipe) {
	defer to.CloseWrite()
	buf := make([]byte, 1024)
	for {
		n, err := t.s.channel.Read(buf)
		for _, c := range buf[:n] {
			if !t.key(c, to) {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// key handles one byte; false ends the input.
func (t *terminal) key(c byte, to *machine.Pipe) bool {
	switch c {
	case '\r', '\n':
		t.echo("\r\n")
		_, err := to.Write(append(t.line, '\n'))
		t.line = t.line[:0]
		return err == nil
	case 3: // Ctrl-C
		t.echo("^C\r\n")
		t.line = t.line[:0]
		t.s.group.Signal(machine.SIGINT)
		_, err := to.Write([]byte{'\n'}) // a shell that waits prints its prompt anew
		return err == nil
	case 4: // Ctrl-D
		if len(t.line) == 0 {
			return false
		}
	case 21: // Ctrl-U
		for range t.line {
			t.echo("\b \b")
		}
		t.line = t.line[:0]
	case 8, 127:
		if len(t.line) > 0 {
			t.line = t.line[:len(t.line)-1]
			t.echo("\b \b")
		}
	default:
		if c >= 32 || c == '\t' {
			t.line = append(t.line, c)
			t.echo(string(rune(c)))
		}
	}
	return true
}
