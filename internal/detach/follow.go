package detach

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
)

// chunk is how many bytes of each stream one look brings.
const chunk = 262144

// lookScript tells the state of the job and what it has printed since. The status is read before the output, so that
// the output behind an ended job is complete. $1 folder, $2 unit, $3 nonce, $4 and $5 how much is known already.
const lookScript = "# look at the job\n" + isRunning + `state=gone rc=- nonce=
[ -r "$1/job" ] && read -r hash run nonce <"$1/job"
if [ "$nonce" != "$3" ]; then echo "replaced -"; exit 0; fi
if [ -s "$1/rc" ]; then state=done; read -r rc <"$1/rc"
elif running "$1" "$2"; then state=running; fi
echo "$state $rc"
tail -c "+$4" "$1/out" | head -c "$6"
tail -c "+$5" "$1/err" | head -c "$6" >&2
exit 0
`

// look is one look at a job.
type look struct {
	state    string // running, done, gone, replaced
	exit     int
	out, err []byte
}

func (j *job) look(ctx context.Context, c transport.Conn, out, err *stream) (look, error) {
	cmd := transport.Command{Script: lookScript, Argv: []string{
		j.dir, j.unit, j.nonce, strconv.FormatInt(out.seen+1, 10), strconv.FormatInt(err.seen+1, 10), strconv.Itoa(chunk),
	}}
	res, failed := c.Run(ctx, cmd)
	if failed != nil {
		return look{}, failed
	}
	if failed := res.Err(cmd); failed != nil {
		return look{}, failed
	}
	head, rest, _ := bytes.Cut(res.Stdout, []byte("\n"))
	state, status, _ := strings.Cut(string(head), " ")
	l := look{state: state, out: rest, err: res.Stderr}
	if state == "done" {
		if l.exit, failed = strconv.Atoi(status); failed != nil {
			return look{}, fmt.Errorf("its exit status is %q", status)
		}
	}
	return l, nil
}

// follow looks at the job until it has ended. Looks that fail, because the connection is away for a while, are made
// again until the time is up.
func (j *job) follow(ctx context.Context, c transport.Conn) (transport.Result, error) {
	limited, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	out := &stream{of: transport.Stdout, tell: j.Command.Output}
	err := &stream{of: transport.Stderr, tell: j.Command.Output}
	result := func() transport.Result {
		return transport.Result{Stdout: out.bytes(), Stderr: err.bytes(), Dropped: out.dropped + err.dropped}
	}
	pause, waited, gone := firstPause, time.Duration(0), 0
	var last error
	for {
		l, failed := j.look(limited, c, out, err)
		if failed != nil {
			if limited.Err() == nil {
				last = failed
			}
		} else {
			last = nil
			news := out.add(l.out)
			news = err.add(l.err) || news
			switch {
			case l.state == "done" && len(l.out) < chunk && len(l.err) < chunk: // nothing is left behind a look that was not full
				out.end()
				err.end()
				r := result()
				r.Exit = l.exit
				return r, nil
			case l.state == "replaced":
				return result(), fmt.Errorf("its files are gone: the node was restarted, or somebody removed %s", j.dir)
			case l.state == "gone":
				// It may have ended between the two questions of one look; twice is no chance.
				if gone++; gone > 1 && !news {
					return result(), fmt.Errorf("it ended without leaving an exit status, so it was killed: see `journalctl -u %s` on the node", j.unit)
				}
			}
			if news {
				pause, waited = firstPause, 0
			}
			if l.state == "done" {
				continue // the rest of the output
			}
		}
		if j.sleep(limited, pause) != nil || limited.Err() != nil {
			return result(), j.left(ctx, last)
		}
		waited += pause
		pause = min(max(firstPause, waited/pauseShare), max(longPause, min(waited/silentShare, silentPause)))
	}
}

// left is the error of a job that is followed no longer and goes on.
func (j *job) left(ctx context.Context, last error) error {
	why := fmt.Errorf("it has not ended within %s", j.Timeout)
	if ctx.Err() != nil {
		why = context.Cause(ctx)
	}
	if last != nil {
		why = fmt.Errorf("%w (the last look failed: %w)", why, last)
	}
	return &LeftError{Unit: j.unit, Folder: j.dir, Cause: why}
}

// LeftError is a job that is still running on the node and was left alone.
type LeftError struct {
	Unit, Folder string
	Cause        error
}

func (e *LeftError) Error() string {
	return fmt.Sprintf("%v; it was left running: look with `systemctl status %s; tail %s/out %s/err` on the node", e.Cause, e.Unit, e.Folder, e.Folder)
}

// Unwrap gives the reason.
func (e *LeftError) Unwrap() error { return e.Cause }

// stream collects what a job prints: the first and the last half of transport.OutputLimit, and whole lines as they come.
type stream struct {
	of      transport.Stream
	tell    func(transport.Stream, string)
	seen    int64
	head    []byte
	tail    []byte
	dropped int64
	line    []byte // the beginning of a line whose end has not come
}

const half = transport.OutputLimit / 2

// add takes output in and reports whether there was any.
func (s *stream) add(data []byte) bool {
	s.seen += int64(len(data))
	room := min(half-len(s.head), len(data))
	s.head = append(s.head, data[:room]...)
	s.tail = append(s.tail, data[room:]...)
	if over := len(s.tail) - half; over > 0 {
		s.dropped += int64(over)
		s.tail = append(s.tail[:0], s.tail[over:]...)
	}
	if s.tell == nil {
		return len(data) > 0
	}
	rest := data
	for {
		line, after, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			break
		}
		s.tell(s.of, string(append(s.line, line...)))
		s.line, rest = s.line[:0], after
	}
	if s.line = append(s.line, rest...); len(s.line) > 64<<10 {
		s.tell(s.of, string(s.line))
		s.line = s.line[:0]
	}
	return len(data) > 0
}

// end tells a last line without an end.
func (s *stream) end() {
	if s.tell != nil && len(s.line) > 0 {
		s.tell(s.of, string(s.line))
		s.line = nil
	}
}

func (s *stream) bytes() []byte { return append(append([]byte(nil), s.head...), s.tail...) }
