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
	"sync/atomic"
	"syscall"

	"github.com/pxrun/pxrun/lab/vfs"
)

// openFile is an open file description. Descriptors of several processes may share it; it closes with the last.
type openFile struct {
	r     io.Reader
	w     io.Writer
	close func()
	path  string // of a file; "" for pipes
	refs  atomic.Int32
}

func (f *openFile) retain() *openFile {
	f.refs.Add(1)
	return f
}

func (f *openFile) release() {
	if f != nil && f.refs.Add(-1) == 0 && f.close != nil {
		f.close()
	}
}

// descriptors are a process's open files by number; nil is closed.
type descriptors []*openFile

func (d descriptors) clone() descriptors {
	c := make(descriptors, len(d))
	for i, f := range d {
		if f != nil {
			c[i] = f.retain()
		}
	}
	return c
}

func (d descriptors) release() {
	for _, f := range d {
		f.release()
	}
}

func (d descriptors) get(n int) *openFile {
	if n < 0 || n >= len(d) {
		return nil
	}
	return d[n]
}

// set puts f (whose reference it takes over) at number n and releases what was there.
func (d *descriptors) set(n int, f *openFile) {
	for len(*d) <= n {
		*d = append(*d, nil)
	}
	(*d)[n].release()
	(*d)[n] = f
}

type eofReader struct{}

func (eofReader) Read([]byte) (int, error) { return 0, io.EOF }

// closedFile is a descriptor that is not open.
type closedFile struct{}

func (closedFile) Read([]byte) (int, error)  { return 0, syscall.EBADF }
func (closedFile) Write([]byte) (int, error) { return 0, syscall.EBADF }

// ExitCode of programs that were not found or could not be executed.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
)

// Name is the program's name without its folder.
func (p *Proc) Name() string { return p.Argv[0][strings.LastIndexByte(p.Argv[0], '/')+1:] }

// Args are the arguments after the name.
func (p *Proc) Args() []string { return p.Argv[1:] }

// PID is the process's number.
func (p *Proc) PID() int { return p.pid }

// View is the file system as the program sees it: its user, folder and umask. Its mutations carry the Proc as Actor.
func (p *Proc) View() *vfs.View { return p.view }

// Printf writes to standard output.
func (p *Proc) Printf(format string, args ...any) { fmt.Fprintf(p.Stdout, format, args...) }

// Println writes a line to standard output.
func (p *Proc) Println(line string) { io.WriteString(p.Stdout, line+"\n") }

// Errorf writes a line to standard error, after the program's name.
func (p *Proc) Errorf(format string, args ...any) {
	io.WriteString(p.Stderr, p.Name()+": "+fmt.Sprintf(format, args...)+"\n")
}

// Fail is Errorf that returns an exit status, for `return p.Fail(1, …)`.
func (p *Proc) Fail(code int, format string, args ...any) int {
	p.Errorf(format, args...)
	return code
}

// Reason is the text that C programs print for an error: strerror of its number.
func Reason(err error) string {
	no := vfs.Errno(err)
	if text, ok := reasons[no]; ok {
		return text
	}
	text := no.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// reasons holds strerror texts that differ from Go's by more than a capital.
var reasons = map[syscall.Errno]string{
	syscall.ENOENT:  "No such file or directory",
	syscall.EIO:     "Input/output error",
	syscall.EXDEV:   "Invalid cross-device link",
	syscall.ENOTSUP: "Operation not supported",
}

// Open opens a file for the program. /dev/stdin, /dev/fd/N and the like mean its own descriptors.
func (p *Proc) Open(path string, flag int, mode fs.FileMode) (vfs.File, error) {
	if f := p.descriptor(path); f != nil {
		return &descriptorFile{openFile: f, ctx: p.ctx}, nil
	}
	return p.view.Open(path, flag, mode)
}

// descriptor finds the descriptor that a path in /dev names.
func (p *Proc) descriptor(path string) *openFile {
	if n, ok := descriptorNumber(path); ok {
		return p.files.get(n)
	}
	return nil
}

func descriptorNumber(path string) (int, bool) {
	if !strings.HasPrefix(path, "/dev/") && !strings.HasPrefix(path, "/proc/self/fd/") {
		return 0, false
	}
	switch path {
	case "/dev/stdin":
		return 0, true
	case "/dev/stdout":
		return 1, true
	case "/dev/stderr":
		return 2, true
	}
	for _, prefix := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			n, err := strconv.Atoi(rest)
			return n, err == nil
		}
	}
	return 0, false
}

// descriptorFile is a descriptor opened once more through /dev.
type descriptorFile struct {
	*openFile
	ctx context.Context //nolint:containedctx // lives as long as the program
}

func (d *descriptorFile) Read(b []byte) (int, error) {
	if d.r == nil {
		return 0, syscall.EBADF
	}
	return bindReader(d.ctx, d.r).Read(b)
}

func (d *descriptorFile) Write(b []byte) (int, error) {
	if d.w == nil {
		return 0, syscall.EBADF
	}
	return boundWriter{ctx: d.ctx, w: d.w}.Write(b)
}

func (d *descriptorFile) Close() error { return nil }

func (d *descriptorFile) Stat() (vfs.Info, error) {
	return vfs.Info{Name: "fd", Mode: fs.ModeNamedPipe | 0o600}, nil
}

func bindReader(ctx context.Context, r io.Reader) io.Reader {
	if c, ok := r.(contextReader); ok {
		return boundReader{ctx: ctx, r: c}
	}
	return r
}

// ReadInput returns the content of a file, or standard input for "-".
func (p *Proc) ReadInput(path string) ([]byte, error) {
	if path == "-" {
		return readAll(p.Stdin)
	}
	f, err := p.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if i, err := f.Stat(); err == nil && i.Mode.IsDir() {
		return nil, syscall.EISDIR
	}
	return readAll(f)
}

// readAll is io.ReadAll within the limit.
func readAll(r io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, memoryLimit))
	if err == nil && len(content) == memoryLimit {
		return nil, syscall.ENOMEM
	}
	return content, err
}

// Run runs another program with this one's environment and streams, and returns its exit status.
func (p *Proc) Run(ctx context.Context, argv ...string) int {
	return p.Spawn(ctx, argv, p.Stdin, p.Stdout, p.Stderr)
}

// Spawn runs another program as a child of this one with other streams.
func (p *Proc) Spawn(ctx context.Context, argv []string, in io.Reader, out, errs io.Writer) int {
	child := p.child(argv)
	child.Stdin, child.Stdout, child.Stderr = in, out, errs
	return p.Machine.Exec(ctx, child)
}

// child is a Proc with this one's identity and environment.
func (p *Proc) child(argv []string) Proc {
	return Proc{
		Machine: p.Machine, Argv: argv, Env: p.Env, Dir: p.Dir, UID: p.UID, TTY: p.TTY, Tag: p.Tag,
		Stdin: p.Stdin, Stdout: p.Stdout, Stderr: p.Stderr, umask: p.umask, extra: p.files,
	}
}

// ended tells whether a program should give up: its context has ended.
func ended(ctx context.Context) bool { return ctx.Err() != nil }

// IsCanceled reports whether an error only says that the program was ended.
func IsCanceled(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
