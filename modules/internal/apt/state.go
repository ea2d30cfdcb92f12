package apt

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

// State is what a host knows about packages.
type State struct {
	Installed   map[string]string // name to version
	Candidate   map[string]string
	Interrupted bool
	// ListAge is how old the package lists are. Lists from before the last change of the repositories count as very old.
	ListAge time.Duration
}

// Stale reports whether the lists should be refreshed before anything is installed.
func (s State) Stale() bool { return s.ListAge > cacheValid }

func (s State) versionsOf(names []string) map[string]any {
	m := map[string]any{}
	for _, name := range names {
		m[name] = nil
		if v, ok := s.Installed[name]; ok {
			m[name] = v
		}
	}
	return m
}

// readState asks dpkg, and where the newest version matters apt-cache. Its arguments: whether to ask apt-cache, the
// directory of the lists, the directory of apt's configuration, and the packages.
const readState = `# read the state of packages
policy=$1; lists=$2; apt=$3; shift 3
for f in /var/lib/dpkg/updates/[0-9]*; do if [ -e "$f" ]; then echo interrupted; break; fi; done
fetched=$(stat -c %Y "$lists" 2>/dev/null || echo 0)
changed=$(stat -c %Y "$apt/sources.list" "$apt/sources.list.d" "$apt/sources.list.d"/* 2>/dev/null | sort -n | tail -n 1)
if [ "${changed:-0}" -gt "$fetched" ]; then fetched=0; fi
echo "age $(($(date +%s) - fetched))"
dpkg-query -W -f '${db:Status-Status} ${Package} ${Version}\n' "$@" 2>/dev/null | sed 's/^/dpkg /'
if [ "$policy" = yes ]; then apt-cache policy "$@"; fi
`

// Probe is the read that Plan and Read make.
func (r Request) Probe() transport.Command {
	policy := "no"
	if r.State == Latest {
		policy = "yes"
	}
	return transport.Command{Script: readState, Argv: append([]string{policy, listsDir, aptDir}, r.Names...)}
}

// Read reads what a host knows about the packages of a request.
func Read(ctx context.Context, t module.Target, host string, r Request) (State, error) {
	result, err := run(ctx, t, host, r.Probe())
	if err != nil {
		return State{}, fmt.Errorf("look at the packages: %w", err)
	}
	return ParseState(string(result.Stdout))
}

// ParseState reads what the script of Probe prints.
func ParseState(out string) (State, error) {
	s := State{Installed: map[string]string{}, Candidate: map[string]string{}}
	about, aged := "", false
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case f[0] == "interrupted":
			s.Interrupted = true
		case f[0] == "age" && len(f) == 2:
			seconds, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return s, fmt.Errorf("the age of the package lists is not understood: %q", f[1])
			}
			s.ListAge, aged = time.Duration(min(max(seconds, 0), 1<<31))*time.Second, true
		case f[0] == "dpkg" && len(f) == 4 && f[1] == "installed":
			s.Installed[f[2]] = f[3]
		case !strings.HasPrefix(line, " ") && strings.HasSuffix(f[0], ":"):
			about = strings.TrimSuffix(f[0], ":")
		case f[0] == "Candidate:" && len(f) == 2 && f[1] != "(none)":
			s.Candidate[about] = f[1]
		}
	}
	if !aged {
		return s, errors.New("the host did not say how old its package lists are")
	}
	return s, nil
}
