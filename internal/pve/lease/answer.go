package lease

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pxrun/pxrun/internal/transport"
)

// answer is what the script said on a host.
type answer struct {
	boot  string // id of the host's boot
	later bool   // the cluster's lease was left out
	// local and cluster are how it stands there: ok, new, none or away; "" when nothing was said.
	local, cluster string
}

// verdict reads the answer of the script. A cluster lease that cannot be written is no hindrance: pmxcfs is away or
// without quorum while a cluster forms, and mending that must be possible. The files on the hosts stand meanwhile.
func (l *Locker) verdict(host, verb string, r transport.Result) (said answer, err error) {
	lines := strings.SplitAfter(string(r.Stdout), "\n")
	for i, line := range lines {
		place, word, _ := strings.Cut(strings.TrimSpace(line), " ")
		word, left, _ := strings.Cut(word, " ")
		file := l.cfg.Local + "/lease.json"
		switch place {
		case "boot":
			said.boot = word
			continue
		case "local":
			said.local = word
		case "cluster":
			said.cluster = word
			file = l.cfg.Pmxcfs + "/priv/pxrun-lease.json"
		default:
			continue
		}
		switch word {
		case "held":
			return said, l.conflict(host, file, left, strings.Join(lines[i+1:], ""))
		case "busy":
			return said, fmt.Errorf("%s: the guard of %s stays taken: another run is at work there, or one was killed; a left-over guard expires within two minutes", host, file)
		case "away":
			if place == "local" {
				return said, fmt.Errorf("%s: %s cannot be written, or its folder is not of the user that pxrun works as (look: ls -ld %s; df %s; if it is of a user who has no business there, remove it as root: rm -r %s)", host, file, l.cfg.Local, l.cfg.Local, l.cfg.Local)
			}
		case "later":
			said.later = true
		}
	}
	if said.local == "" {
		return said, fmt.Errorf("%s: lease: no answer to %s: %w", host, verb, errors.Join(r.Err(transport.Command{Argv: []string{"sh"}}), errors.New(strings.TrimSpace(string(r.Stderr)))))
	}
	return said, nil
}
