package system

import (
	"context"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

// state is what stands at a path of a host.
type state struct {
	kind         string // file, directory, link, other, absent
	mode         fs.FileMode
	owner, group string
	uid, gid     string
	size         int64
	sum          string
	target       string // of a link
	full         bool   // a directory with something in it
}

// readFileState tells everything about one path in one read. Scripts of several lines begin with a comment, since their
// first line is what traces show. Its arguments: the path, and whether the digest is wanted.
const readFileState = `# read the state of a path
p=$1
if [ -L "$p" ]; then echo link; stat -c '%a %U %G %u %g %s' "$p"; readlink "$p"
elif [ -d "$p" ]; then echo directory; stat -c '%a %U %G %u %g %s' "$p"; ls -A "$p" | head -n 1
elif [ -f "$p" ]; then echo file; stat -c '%a %U %G %u %g %s' "$p"; if [ "$2" = yes ]; then sha256sum <"$p"; fi
elif [ -e "$p" ]; then echo other; stat -c '%a %U %G %u %g %s' "$p"
else echo absent; fi
`

// probe reads the state. A hung pmxcfs must not hold the whole plan up.
func (a fileArgs) probe() transport.Command {
	sum := "no"
	if a.State == "file" {
		sum = "yes"
	}
	c := transport.Command{Script: readFileState, Argv: []string{a.Path, sum}}
	if onPmxcfs(a.Path) {
		c.Timeout = 10 * time.Second
	}
	return c
}

func readState(ctx context.Context, t module.Target, c transport.Command) (state, error) {
	r, err := run(ctx, t, c)
	if err != nil {
		return state{}, fmt.Errorf("look at %s: %w", c.Argv[0], err)
	}
	s, err := parseState(string(r.Stdout), c.Argv[1] == "yes")
	if err != nil {
		return state{}, fmt.Errorf("look at %s: %w", c.Argv[0], err)
	}
	return s, nil
}

// parseState reads what readFileState prints.
func parseState(out string, summed bool) (state, error) {
	kind, rest, _ := strings.Cut(out, "\n")
	if kind == "absent" {
		return state{kind: kind}, nil
	}
	line, rest, _ := strings.Cut(rest, "\n")
	f := strings.Fields(line)
	if len(f) != 6 {
		return state{}, fmt.Errorf("not understood: %q", out)
	}
	mode, err := strconv.ParseUint(f[0], 8, 16)
	size, sizeErr := strconv.ParseInt(f[5], 10, 64)
	if err != nil || sizeErr != nil {
		return state{}, fmt.Errorf("not understood: %q", line)
	}
	s := state{kind: kind, mode: modeOf(mode), owner: f[1], group: f[2], uid: f[3], gid: f[4], size: size}
	rest = strings.TrimSuffix(rest, "\n")
	switch kind {
	case "link":
		s.mode, s.size, s.target = 0, 0, rest
	case "directory":
		s.size, s.full = 0, rest != ""
	case "file":
		s.sum, _, _ = strings.Cut(rest, " ")
		if summed && len(s.sum) != 64 {
			return state{}, fmt.Errorf("no digest in %q", out)
		}
	case "other":
	default:
		return state{}, fmt.Errorf("not understood: %q", out)
	}
	return s, nil
}

// modeOf turns the permission bits of stat into Go's.
func modeOf(bits uint64) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	if bits&0o4000 != 0 {
		mode |= fs.ModeSetuid
	}
	if bits&0o2000 != 0 {
		mode |= fs.ModeSetgid
	}
	if bits&0o1000 != 0 {
		mode |= fs.ModeSticky
	}
	return mode
}
