package sshx

import (
	"bytes"
	"fmt"
	"strconv"
)

// maxStatus is the longest status that may follow a marker: a process id of a 64-bit kernel has seven digits.
const maxStatus = 10

// lead begins every marker. It is rare in text, so that a reader hardly ever has to wait for more bytes to know whether a
// marker has begun.
const lead = '\x01'

// cutter finds the end of one command's output in the stream of a shell that runs many commands. The end is lead, the
// command's marker, a space, its status and a newline.
type cutter struct {
	end  []byte
	held []byte // the start of what may become the end
}

func newCutter(marker string) cutter {
	return cutter{end: []byte(string(lead) + marker + " ")}
}

// feed takes the next bytes of the stream and passes on what is surely output. When the end has been found it returns
// the status and what follows the frame.
func (c *cutter) feed(p []byte, emit func([]byte)) (rest []byte, status int, done bool, err error) {
	if len(c.held) > 0 {
		p = append(c.held, p...)
		c.held = nil
	}
	i := bytes.Index(p, c.end)
	if i < 0 {
		keep := overlap(p, c.end)
		if keep < len(p) {
			emit(p[:len(p)-keep])
		}
		c.held = bytes.Clone(p[len(p)-keep:])
		return nil, 0, false, nil
	}
	if i > 0 {
		emit(p[:i])
	}
	tail := p[i+len(c.end):]
	n := bytes.IndexByte(tail, '\n')
	if n < 0 && len(tail) <= maxStatus {
		c.held = bytes.Clone(p[i:])
		return nil, 0, false, nil
	}
	if n < 0 || n > maxStatus {
		return nil, 0, false, fmt.Errorf("the shell's answer is garbled: no status behind the marker")
	}
	status, err = strconv.Atoi(string(tail[:n]))
	if err != nil || status < 0 {
		return nil, 0, false, fmt.Errorf("the shell's answer is garbled: status %q", tail[:n])
	}
	return tail[n+1:], status, true, nil
}

// overlap is the length of the longest end of p that is a beginning of mark. lead occurs in mark only once, so its last
// place in p is the only one where mark can begin.
func overlap(p, mark []byte) int {
	i := bytes.LastIndexByte(p[max(0, len(p)-len(mark)):], lead)
	if i < 0 {
		return 0
	}
	tail := p[max(0, len(p)-len(mark))+i:]
	if bytes.HasPrefix(mark, tail) {
		return len(tail)
	}
	return 0
}
