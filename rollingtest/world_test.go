package rollingtest_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pxrun/pxrun/cli"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/pxrun/pxrun/internal/testkit/distance"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/vfs"
	"github.com/sourcegraph/conc"
	"github.com/stretchr/testify/require"
)

// world is a cluster in a lab that pxrun's command line upgrades, over a network in memory and in no time but the lab's.
type world struct {
	t      *testing.T
	shape  shape
	lab    *lab.Lab
	folder string
	watch  *watch
	states int // state folders made
}

func newWorld(t *testing.T, s shape, seed uint64) *world {
	t.Helper()
	made, err := lab.New(s.spec(seed))
	require.NoError(t, err)
	t.Cleanup(made.Close)
	w := &world{t: t, shape: s, lab: made, folder: t.TempDir()}
	w.write("key", string(made.ClientKey()))
	text, err := s.site(made, w.path("key"))
	require.NoError(t, err)
	w.write("site.hcl", text)
	require.NoError(t, made.Form(t.Context(), s.formed()))
	w.watch = newWatch(w)
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.folder, name) }

func (w *world) write(name, text string) {
	w.t.Helper()
	require.NoError(w.t, os.WriteFile(w.path(name), []byte(text), 0o600))
}

// files are the files of a host, for a moment: pmxcfs may hang.
func (w *world) files(host string) (*vfs.View, context.CancelFunc) {
	view := w.lab.Machine(host).FS.As(0)
	within, enough := context.WithTimeout(w.t.Context(), time.Second)
	view.Ctx = within
	return view, enough
}

// on runs a script on a host as somebody who sits there does.
func (w *world) on(host, script string) (string, int) {
	var both bytes.Buffer
	within, done := context.WithTimeout(w.t.Context(), 5*time.Minute)
	defer done()
	code := w.lab.Machine(host).Exec(within, machine.Proc{
		Argv: []string{"/bin/sh", "-c", script}, Dir: "/", Stdin: strings.NewReader(""), Stdout: &both, Stderr: &both,
	})
	return both.String(), code
}

func (w *world) must(host, script string) string {
	w.t.Helper()
	out, code := w.on(host, script)
	require.Zero(w.t, code, "%s: %s: %s", host, script, out)
	return out
}

// controller is a machine on which pxrun runs.
type controller struct {
	w     *world
	state string
	ways  conc.WaitGroup

	mu      sync.Mutex
	ahead   time.Duration // how far its clock is
	cut     bool
	conns   map[net.Conn]bool
	signals chan<- os.Signal
}

func (w *world) controller() *controller {
	w.states++
	return &controller{w: w, state: w.path("state" + string(rune('0'+w.states))), conns: map[net.Conn]bool{}}
}

// own is a connection that the controller knows of.
type own struct {
	net.Conn
	c *controller
}

func (o own) Close() error {
	o.c.mu.Lock()
	delete(o.c.conns, o.Conn)
	o.c.mu.Unlock()
	return o.Conn.Close()
}

func (c *controller) dial(_ context.Context, network, address string) (net.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", syscall.ENETUNREACH)}
	}
	near, far, ended := distance.Pipe(0)
	c.ways.Go(ended)
	if err := c.w.lab.Accept(address, far); err != nil {
		_, _ = near.Close(), far.Close()
		return nil, err
	}
	c.conns[near] = true
	return own{near, c}, nil
}

// setCut takes the controller off the network, or puts it back.
func (c *controller) setCut(on bool) {
	c.mu.Lock()
	c.cut = on
	conns := c.conns
	if on {
		c.conns = map[net.Conn]bool{}
	}
	c.mu.Unlock()
	if on {
		for conn := range conns {
			_ = conn.Close()
		}
	}
}

// run runs a command line to its end.
func (c *controller) run(args ...string) (int, string) { return c.asked("", args...) }

// asked does it with a person at the terminal who gives an answer; without one, nobody is there.
func (c *controller) asked(answer string, args ...string) (int, string) {
	var both bytes.Buffer
	code := cli.Main(append(args, "--state-dir", c.state), cli.Streams{
		In: strings.NewReader(answer), InTerminal: answer != "", Out: &both, Err: &both, Now: c.now, Dial: c.dial,
		Signals: func(to chan<- os.Signal) (stop func()) {
			c.mu.Lock()
			c.signals = to
			c.mu.Unlock()
			return func() {
				c.mu.Lock()
				c.signals = nil
				c.mu.Unlock()
			}
		},
	})
	c.ways.Wait()
	return code, both.String()
}

func (c *controller) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// setAhead lets the controller's clock jump.
func (c *controller) setAhead(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead = d
}

// kill ends the process as kill -9 does, as far as anybody else can see: from now on it reaches nobody, and what it had
// written down by then is all that there is. It returns who goes on from there.
func (c *controller) kill() *controller {
	next := c.w.controller()
	c.setCut(true)
	_ = filepath.WalkDir(c.state, func(name string, d fs.DirEntry, err error) error { // a file may be about to be renamed
		to := next.state + strings.TrimPrefix(name, c.state)
		switch {
		case err != nil:
			return nil //nolint:nilerr // it is gone
		case d.IsDir():
			return os.MkdirAll(to, 0o700)
		}
		text, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, os.WriteFile(to, text, 0o600))
	})
	c.interrupt()
	c.interrupt()
	return next
}

func (c *controller) interrupt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.signals != nil {
		select {
		case c.signals <- os.Interrupt:
		default:
		}
	}
}

// upgrade begins the upgrade.
func (c *controller) upgrade(more ...string) (int, string) {
	args := []string{"apply", "--auto-approve", "rolling_upgrade", "-i", c.w.path("site.hcl"), "--arg", "return_within=8m"}
	for _, a := range c.w.shape.args {
		args = append(args, "--arg", a)
	}
	return c.run(append(args, more...)...)
}

const (
	done        = 0
	nothingDone = 1
	nothingToGo = 3 // there is no run to go on with
	partly      = 5
	refused     = 6
	interrupted = 130
)

// resume goes on with the run, or begins anew where nothing was begun.
func (c *controller) resume() (int, string) {
	code, out := c.run("resume", "--auto-approve")
	if code != nothingToGo {
		return code, out
	}
	again, more := c.upgrade()
	return again, out + more
}

// pending are the temporary changes that the journal knows as being in place.
func (c *controller) pending() []event.Pending {
	left, err := (&journal.Store{Dir: c.state}).Pending()
	require.NoError(c.w.t, err)
	return left
}
