package sshx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
)

// putTimeout bounds the steps of a transfer that move no bulk; the bulk itself has transferTimeout.
const (
	putTimeout      = time.Minute
	transferTimeout = time.Hour
)

// put is the far end of Put: $1 is the temporary file, $2 the size, $3 the path, $4 the mode or "", $5 the owner
// ("user:group") or "". umask keeps a secret from others until mode and owner are set. A short read, as after a lost
// connection, changes nothing. Without a mode the old file's holds, or else the umask's.
const put = `u=$(umask)
umask 077
trap 'rm -f -- "$1"' EXIT
trap 'exit 1' HUP INT TERM PIPE
cat >"$1" || exit
n=$(wc -c <"$1")
if [ "$n" -ne "$2" ]; then echo "only $n of $2 bytes arrived" >&2; exit 1; fi
if [ -d "$3" ]; then echo "$3 is a directory" >&2; exit 1; fi
case $3 in
/etc/pve/*) ;;
*)
	m=$4 o=$5
	if [ -e "$3" ]; then
		[ -n "$m" ] || m=$(stat -c %a -- "$3") || exit
		case $o in
		'') o=$(stat -c %u:%g -- "$3") || exit;;
		:*) o=$(stat -c %u -- "$3")$o || exit;;
		*:) o=$o$(stat -c %g -- "$3") || exit;;
		esac
	fi
	if [ -z "$m" ]; then m=$(printf %o $((0666 & ~$u))); fi
	o=${o%:}
	if [ -n "$o" ]; then chown -- "$o" "$1" || exit; fi
	chmod -- "$m" "$1" || exit
esac
mv -f -- "$1" "$3" || exit
trap - EXIT
`

// Put streams a file to a temporary name beside its path and renames it into place.
func (c *conn) Put(ctx context.Context, f transport.File) error {
	temp, err := temporary(f.Path)
	if err != nil {
		return err
	}
	// A small text goes through the shared shell: one round trip and no session.
	start, err := io.ReadAll(io.LimitReader(f.Content, inlineStdin+1))
	if err != nil {
		return fmt.Errorf("put %s: read the content: %w", f.Path, err)
	}
	small := len(start) <= inlineStdin
	switch {
	case small && f.Size > 0 && f.Size != int64(len(start)):
		return fmt.Errorf("put %s: the content has %d bytes instead of %d", f.Path, len(start), f.Size)
	case small:
		f.Size = int64(len(start))
	case f.Size <= 0:
		// The far end could not tell the end of the content from a lost connection.
		return fmt.Errorf("put %s: the size of the content must be known", f.Path)
	}
	command := transport.Command{
		Argv:   []string{temp, strconv.FormatInt(f.Size, 10), f.Path, mode(f.Mode), owner(f)},
		Script: put, Mutates: true, Timeout: putTimeout,
	}
	if small {
		command.Stdin = start
		return c.step(ctx, f, command, nil)
	}
	command.Timeout = transferTimeout
	return c.step(ctx, f, command, io.MultiReader(bytes.NewReader(start), f.Content))
}

// step runs one command of Put.
func (c *conn) step(ctx context.Context, f transport.File, command transport.Command, content io.Reader) error {
	var r transport.Result
	var err error
	if content == nil {
		r, err = c.Run(ctx, command)
	} else {
		r, err = c.alone(ctx, command, streams{in: content})
	}
	lost, ok := errors.AsType[*transport.LostError](err)
	switch {
	case ok:
		return &transport.LostError{Host: lost.Host, Command: "put " + f.Path, Cause: lost.Cause}
	case err != nil:
		return fmt.Errorf("put %s: %w", f.Path, err)
	case r.Exit != 0:
		return &transport.ExitError{Command: "put " + f.Path, Exit: r.Exit, Stdout: string(r.Stdout), Stderr: string(r.Stderr)}
	}
	return nil
}

// temporary names the file that is renamed into place.
func temporary(target string) (string, error) {
	if !path.IsAbs(target) || strings.HasSuffix(target, "/") || strings.ContainsRune(target, 0) {
		return "", fmt.Errorf("put %q: the path must be absolute and name a file", target)
	}
	dir, base := path.Split(target)
	// The kernel takes names of at most 255 bytes.
	return dir + "." + base[:min(len(base), 180)] + "." + newMarker(), nil
}

// mode writes permission bits as chmod reads them.
func mode(m fs.FileMode) string {
	if m == 0 {
		return ""
	}
	bits := uint32(m.Perm())
	for flag, bit := range map[fs.FileMode]uint32{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&flag != 0 {
			bits |= bit
		}
	}
	return strconv.FormatUint(uint64(bits), 8)
}

func owner(f transport.File) string {
	if f.Owner == "" && f.Group == "" {
		return ""
	}
	return f.Owner + ":" + f.Group
}

// Get streams a file from the host.
func (c *conn) Get(ctx context.Context, path string, w io.Writer) error {
	command := transport.Command{Argv: []string{"cat", "--", path}, Timeout: transferTimeout}
	r, err := c.alone(ctx, command, streams{out: w})
	if err != nil {
		return fmt.Errorf("get %s: %w", path, err)
	}
	if err := r.Err(command); err != nil {
		return fmt.Errorf("get %s: %w", path, err)
	}
	return nil
}

// alone runs a command with streams of its own. It is not repeated once bytes may have moved.
func (c *conn) alone(ctx context.Context, command transport.Command, near streams) (transport.Result, error) {
	if err := check(command); err != nil {
		return transport.Result{}, err
	}
	for unsent := 0; ; unsent++ {
		l, err := c.live(ctx)
		if err != nil {
			return transport.Result{}, err
		}
		began := time.Now()
		r, err := l.runAlone(ctx, command, near)
		c.dialer.trace(c.host.Name, traceExchange, began)
		lost, ok := errors.AsType[*lostShellError](err)
		if !ok {
			return r, err
		}
		if lost.sent || unsent == maxUnsent {
			return r, &transport.LostError{Host: l.name, Command: command.String(), Cause: lost.cause}
		}
	}
}
