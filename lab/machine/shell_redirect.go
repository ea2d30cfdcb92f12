package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"mvdan.cc/sh/v3/syntax"

	"github.com/pxrun/pxrun/lab/vfs"
)

// redirect applies redirections to the shell's descriptors. The caller keeps a clone to go back to.
func (s *shell) redirect(list []*syntax.Redirect) error {
	for _, r := range list {
		if err := s.redirectOne(r); err != nil {
			return err
		}
	}
	return nil
}

// errExpansion says that the shell already printed what was wrong.
var errExpansion = errors.New("bad expansion")

func (s *shell) redirectOne(r *syntax.Redirect) error {
	n := 1
	switch r.Op {
	case syntax.RdrIn, syntax.RdrInOut, syntax.DplIn, syntax.Hdoc, syntax.DashHdoc, syntax.WordHdoc:
		n = 0
	}
	if r.N != nil {
		fd, err := strconv.Atoi(r.N.Value)
		if err != nil {
			return fmt.Errorf("%s: bad fd number", r.N.Value)
		}
		n = fd
	}
	if n > 255 {
		return fmt.Errorf("%d: Bad file descriptor", n)
	}
	switch r.Op {
	case syntax.Hdoc, syntax.DashHdoc:
		text, ok := s.document(r)
		if !ok {
			return errExpansion
		}
		s.files.set(n, textFile(text))
		return nil
	}
	word, ok := s.literal(r.Word)
	if !ok {
		return errExpansion
	}
	switch r.Op {
	case syntax.WordHdoc:
		s.files.set(n, textFile(word+"\n"))
		return nil
	case syntax.DplIn, syntax.DplOut:
		return s.duplicate(n, word)
	case syntax.RdrAll, syntax.AppAll: // bash: &> and &>>
		flag := os.O_TRUNC
		if r.Op == syntax.AppAll {
			flag = os.O_APPEND
		}
		if err := s.open(1, word, os.O_WRONLY|os.O_CREATE|flag); err != nil {
			return err
		}
		return s.duplicate(2, "1")
	}
	flag := map[syntax.RedirOperator]int{
		syntax.RdrIn: os.O_RDONLY, syntax.RdrInOut: os.O_RDWR | os.O_CREATE, syntax.AppOut: os.O_WRONLY | os.O_CREATE | os.O_APPEND,
		syntax.RdrOut: os.O_WRONLY | os.O_CREATE | os.O_TRUNC, syntax.RdrClob: os.O_WRONLY | os.O_CREATE | os.O_TRUNC,
	}[r.Op]
	if r.Op == syntax.RdrOut && s.opts.noclobber {
		if i, err := s.view.Stat(vfs.Clean(s.dir, word)); err == nil && i.Mode.IsRegular() {
			return fmt.Errorf("cannot create %s: File exists", word)
		} else if err != nil {
			flag |= os.O_EXCL
		}
	}
	return s.open(n, word, flag)
}

// open puts an opened file at a descriptor.
func (s *shell) open(n int, path string, flag int) error {
	if fd, ok := descriptorNumber(path); ok {
		if f := s.files.get(fd); f != nil {
			s.files.set(n, f.retain())
			return nil
		}
	}
	if rest, ok := strings.CutPrefix(path, "/dev/tcp/"); ok && s.bash() {
		return s.connect(n, path, rest)
	}
	s.view.Ctx, s.view.Actor = s.ctx, s.proc
	s.view.Dir = s.dir
	f, err := s.view.Open(path, flag, 0o666)
	if err != nil {
		verb := "open"
		if flag&os.O_CREATE != 0 {
			verb = "create"
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("cannot create %s: Directory nonexistent", path)
			}
		}
		return fmt.Errorf("cannot %s %s: %s", verb, path, openReason(err))
	}
	s.files.set(n, fileOf(f, vfs.Clean(s.dir, path), flag))
	return nil
}

// connect is bash's /dev/tcp/HOST/PORT: the connection opens if the port is, and carries nothing.
func (s *shell) connect(n int, path, rest string) error {
	host, text, _ := strings.Cut(rest, "/")
	port, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("%s: %s: invalid port", path, text)
	}
	if len(s.m.Resolve(host)) == 0 {
		return fmt.Errorf("%s: Name or service not known", host)
	}
	to, _, _, way := s.m.reach(host)
	if to == nil || !way.Reachable || !to.Up() {
		if err := s.m.Sleep(s.ctx, connectTimeout); err != nil {
			return err
		}
		return fmt.Errorf("%s: Connection timed out", path)
	}
	if err := s.m.Sleep(s.ctx, way.RTT); err != nil {
		return err
	}
	if !to.Listening(port) {
		return fmt.Errorf("%s: Connection refused", path)
	}
	f := textFile("")
	f.w = io.Discard
	s.files.set(n, f)
	return nil
}

// connectTimeout is how long Linux tries to connect to a host that does not answer.
const connectTimeout = 130 * time.Second

// fileOf makes a description of an open file.
func fileOf(f vfs.File, path string, flag int) *openFile {
	o := &openFile{path: path, close: func() { f.Close() }}
	if flag&os.O_WRONLY == 0 {
		o.r = f
	}
	if flag&(os.O_WRONLY|os.O_RDWR) != 0 {
		o.w = f
	}
	o.refs.Store(1)
	return o
}

// duplicate makes descriptor n the same as another, or closes it.
func (s *shell) duplicate(n int, word string) error {
	if word == "-" {
		s.files.set(n, nil)
		return nil
	}
	from, err := strconv.Atoi(word)
	if err != nil {
		return fmt.Errorf("Syntax error: Bad fd number")
	}
	f := s.files.get(from)
	if f == nil {
		return fmt.Errorf("%d: Bad file descriptor", from)
	}
	if from != n {
		s.files.set(n, f.retain())
	}
	return nil
}

func textFile(text string) *openFile {
	f := &openFile{r: strings.NewReader(text)}
	f.refs.Store(1)
	return f
}

// capture collects output until everybody who holds it has closed it.
type capture struct {
	mu   sync.Mutex
	buf  []byte
	done chan struct{}
}

func newCapture() *capture { return &capture{done: make(chan struct{})} }

func (c *capture) file() *openFile {
	f := &openFile{w: c, close: func() { close(c.done) }}
	f.refs.Store(1)
	return f
}

func (c *capture) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.buf)+len(p) > captureLimit {
		return 0, syscall.ENOMEM
	}
	c.buf = append(c.buf, p...)
	return len(p), nil
}

// wait returns what was written once nobody can write any more.
func (c *capture) wait(ctx context.Context) ([]byte, error) {
	select {
	case <-c.done:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf, nil
}

var _ io.Writer = (*capture)(nil)
