// Package transport is the contract between what pxrun wants done on a host and the connection that does it. It holds
// no SSH: internal/sshx implements Conn for real hosts, internal/testkit for tests. Decorators (read-only, prefetch,
// trace) are Middleware.
package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"
)

// Stream names one of the two output streams of a command.
type Stream int

// The two streams.
const (
	Stdout Stream = iota
	Stderr
)

// Command is one thing to run on a host. The zero value of every field but Argv and Script is a good default.
type Command struct {
	// Argv is the program and its arguments, unquoted; the connection quotes. With Script set it holds the script's
	// positional parameters $1, $2, ….
	Argv []string
	// Script is a POSIX sh (dash) program. It runs in a shell of its own: exit, cd and variables do not leak.
	Script string
	// Stdin is fed to the command. Without it the command reads from /dev/null. Secrets travel here, never in Argv.
	Stdin []byte
	// Env is added to the environment. LC_ALL=C is always set. Env may be seen by other processes of the same user.
	Env map[string]string
	// Mutates says that the command may change the host. Connections used for planning refuse such commands, and the
	// lab fails a test in which a command that is not marked changed something.
	Mutates bool
	// Timeout bounds the run; 0 means DefaultTimeout. Reaching it kills the remote command.
	Timeout time.Duration
	// Output receives complete lines while the command runs. It must not block for long. May be nil.
	Output func(stream Stream, line string)
	// Own asks for a session of its own: for commands that must be killed alone or that print without end.
	Own bool
}

// DefaultTimeout bounds a command that names no other limit.
const DefaultTimeout = 60 * time.Second

// OutputLimit is how much of each stream a Result keeps: the first half and the last half of it.
const OutputLimit = 1 << 20

// Result is how a command ended.
type Result struct {
	Stdout, Stderr []byte
	// Dropped is how many bytes were left out of the middle of both streams together.
	Dropped int64
	// Exit is the exit status; 128+n for a command killed by signal n.
	Exit     int
	Duration time.Duration
	// Cached says that the answer was fetched beforehand, by Prefetch.
	Cached bool
}

// Out returns standard output without its final newline.
func (r Result) Out() string { return strings.TrimRight(string(r.Stdout), "\n") }

// Err returns nil for exit 0 and an *ExitError otherwise.
func (r Result) Err(c Command) error {
	if r.Exit == 0 {
		return nil
	}
	return &ExitError{Command: c.String(), Exit: r.Exit, Stdout: string(r.Stdout), Stderr: string(r.Stderr)}
}

// String shows the command for people: arguments separated by spaces, or the first line of a script. Not for a shell.
func (c Command) String() string {
	if c.Script == "" {
		return strings.Join(c.Argv, " ")
	}
	first, _, more := strings.Cut(strings.TrimSpace(c.Script), "\n")
	if more {
		first += " …"
	}
	return first
}

// ExitError is a command that ran and failed.
type ExitError struct {
	Command        string
	Exit           int
	Stdout, Stderr string
}

// Error names the command, its status and the last line that it printed on stderr (or else stdout).
func (e *ExitError) Error() string {
	text := fmt.Sprintf("%s: exit %d", e.Command, e.Exit)
	for _, out := range []string{e.Stderr, e.Stdout} {
		if lines := strings.Split(strings.TrimSpace(out), "\n"); lines[len(lines)-1] != "" {
			return text + ": " + lines[len(lines)-1]
		}
	}
	return text
}

// File is a file to be put on a host.
type File struct {
	Path string
	// Mode 0 leaves the mode of an existing file, or the umask's. Owner and Group "" likewise. pmxcfs (/etc/pve)
	// supports none of them.
	Mode         fs.FileMode
	Owner, Group string
	Content      io.Reader
	Size         int64
}

// Conn is an authenticated connection to one host, safe for concurrent use. It outlives single sessions and reconnects
// for commands that do not mutate; a mutating command whose end is not known returns *LostError and is never repeated.
type Conn interface {
	// Run runs one command. The error is nil whenever the command ran to its end, whatever its exit status.
	Run(ctx context.Context, c Command) (Result, error)
	// Batch runs commands one after the other in one round trip where it can. Results stand in the commands' order.
	// A failing command does not stop those after it. Commands with Own or large Stdin may cost a round trip more.
	Batch(ctx context.Context, cs []Command) ([]Result, error)
	// Put streams a file to a temporary name beside its path, sets mode and owner, and renames it into place.
	Put(ctx context.Context, f File) error
	// Get streams a file from the host.
	Get(ctx context.Context, path string, w io.Writer) error
	Close() error
}

// Middleware decorates a connection.
type Middleware func(Conn) Conn

// UnreachableError is a host that could not be connected to, or refused the login. Nothing was changed on it.
type UnreachableError struct {
	Host string
	// Phase is what was being done: resolve, connect, handshake, host key, authenticate.
	Phase string
	Cause error
	// Hint is what to do next.
	Hint string
}

func (e *UnreachableError) Error() string { return e.Host + ": " + e.Phase + ": " + e.Cause.Error() }

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Cause }

// Explain is what people are told of an error: its text, and below it what to do next if somebody knows.
func Explain(err error) string {
	if e, ok := errors.AsType[*UnreachableError](err); ok && e.Hint != "" {
		return err.Error() + "\n" + e.Hint
	}
	return err.Error()
}

// LostError is a connection that went away while a command ran: whether it finished is not known.
type LostError struct {
	Host, Command string
	Cause         error
}

func (e *LostError) Error() string {
	return fmt.Sprintf("%s: connection lost during %q, its outcome is not known: %v", e.Host, e.Command, e.Cause)
}

// Unwrap gives the cause.
func (e *LostError) Unwrap() error { return e.Cause }

// TimeoutError is a command that did not end within its time and was killed. It is a context.DeadlineExceeded.
type TimeoutError struct {
	Host, Command string
	After         time.Duration
}

func (e *TimeoutError) Error() string {
	return fmt.Sprintf("%s: %s: killed after %s without an end", e.Host, e.Command, e.After)
}

// Unwrap lets errors.Is see a deadline.
func (e *TimeoutError) Unwrap() error { return context.DeadlineExceeded }
