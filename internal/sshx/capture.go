package sshx

import (
	"bytes"

	"github.com/pxrun/pxrun/internal/transport"
)

// capture keeps the head and the tail of a stream in bounded memory.
type capture struct {
	head, tail []byte
	dropped    int64
}

const half = transport.OutputLimit / 2

func (c *capture) write(p []byte) {
	if room := half - len(c.head); room > 0 {
		n := min(room, len(p))
		c.head = append(c.head, p[:n]...)
		p = p[n:]
	}
	if len(p) > half {
		c.dropped += int64(len(p) - half)
		p = p[len(p)-half:]
	}
	// The tail grows to twice what is kept before it is moved down, so that each byte is moved once on average.
	if len(c.tail)+len(p) > 2*half {
		c.trim(half - len(p))
	}
	c.tail = append(c.tail, p...)
}

// trim shortens the tail to its last n bytes.
func (c *capture) trim(n int) {
	if excess := len(c.tail) - n; excess > 0 {
		c.dropped += int64(excess)
		c.tail = c.tail[:copy(c.tail, c.tail[excess:])]
	}
}

// bytes gives what was kept.
func (c *capture) bytes() []byte {
	c.trim(half)
	if len(c.tail) == 0 {
		return c.head
	}
	return append(c.head[:len(c.head):len(c.head)], c.tail...)
}

// maxLine bounds a line that is handed on while a command runs; a longer one arrives in pieces.
const maxLine = 64 << 10

// lineSplitter cuts a stream into lines.
type lineSplitter struct {
	partial []byte
	emit    func(line string)
}

func (s *lineSplitter) write(p []byte) {
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		s.line(p[:i])
		p = p[i+1:]
	}
	s.partial = append(s.partial, p...)
	for len(s.partial) >= maxLine {
		s.emit(string(s.partial[:maxLine]))
		s.partial = append(s.partial[:0], s.partial[maxLine:]...)
	}
}

func (s *lineSplitter) line(p []byte) {
	if len(s.partial) > 0 {
		p = append(s.partial, p...)
		s.partial = s.partial[:0]
	}
	s.emit(string(p))
}

// flush hands on a last line that has no newline.
func (s *lineSplitter) flush() {
	if len(s.partial) > 0 {
		s.emit(string(s.partial))
		s.partial = nil
	}
}
