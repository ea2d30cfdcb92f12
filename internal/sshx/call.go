package sshx

import (
	"sync"
	"sync/atomic"

	"github.com/pxrun/pxrun/internal/transport"
)

// sinks keep what a command prints and hand its lines on.
type sinks [2]sink

type sink struct {
	keep  capture
	split *lineSplitter
}

// newSinks hands lines to output, one at a time although the two streams are read at once. output may be nil.
func newSinks(output func(transport.Stream, string)) sinks {
	var s sinks
	if output == nil {
		return s
	}
	var one sync.Mutex
	for i := range s {
		s[i].split = &lineSplitter{emit: func(line string) {
			one.Lock()
			defer one.Unlock()
			output(transport.Stream(i), line)
		}}
	}
	return s
}

func (s *sink) write(p []byte) {
	s.keep.write(p)
	if s.split != nil {
		s.split.write(p)
	}
}

func (s *sink) end() {
	if s.split != nil {
		s.split.flush()
	}
}

// result may be called when both streams have ended.
func (s *sinks) result(exit int) transport.Result {
	out, errs := &s[transport.Stdout].keep, &s[transport.Stderr].keep
	return transport.Result{Stdout: out.bytes(), Stderr: errs.bytes(), Dropped: out.dropped + errs.dropped, Exit: exit}
}

// call is one frame of a session: what both streams bring up to its marker.
type call struct {
	cut     [2]cutter
	sinks   sinks
	status  [2]int
	observe func([]byte) // sees the error stream as it comes; may be nil
	open    atomic.Int32 // streams that have not ended
	done    chan struct{}
}

func newCall(marker string, output func(transport.Stream, string)) *call {
	c := &call{cut: [2]cutter{newCutter(marker), newCutter(marker)}, sinks: newSinks(output), done: make(chan struct{})}
	c.open.Store(2)
	return c
}

// feed gives the call the next bytes of one stream, and returns what lies behind its end. Each stream has one feeder.
func (c *call) feed(stream transport.Stream, p []byte) (rest []byte, ended bool, err error) {
	rest, status, ended, err := c.cut[stream].feed(p, func(p []byte) {
		c.sinks[stream].write(p)
		if c.observe != nil && stream == transport.Stderr {
			c.observe(p)
		}
	})
	if err != nil || !ended {
		return nil, false, err
	}
	c.status[stream] = status
	c.sinks[stream].end()
	if c.open.Add(-1) == 0 {
		close(c.done)
	}
	return rest, true, nil
}

// finished reports whether both streams have ended.
func (c *call) finished() bool { return c.open.Load() == 0 }

// result may be called when the call is done.
func (c *call) result() transport.Result { return c.sinks.result(c.status[transport.Stdout]) }

// said gives the last lines of what was printed. It may be called when nothing feeds the call any more.
func (c *call) said() string {
	for _, stream := range []transport.Stream{transport.Stderr, transport.Stdout} {
		if text := lastLines(string(c.sinks[stream].keep.bytes()), 3); text != "" {
			return ": " + text
		}
	}
	return ""
}
