package members

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

// A lock of pmxcfs whose holder was killed goes away by itself after two minutes: a command that did not get it is worth
// repeating for a little longer (reference §1.8).
const lockWait = 130 * time.Second

// Run runs a command of Proxmox on a host and repeats it while a lock of pmxcfs is taken. name is what it is called in
// messages. It is for commands that work in the foreground and whose exit status can be relied on when they fail.
func Run(ctx context.Context, t module.Target, host, name string, c transport.Command) (transport.Result, error) {
	c.Mutates = true
	var result transport.Result
	var failed error // for good: no wait would mend it, and it needs no word about one
	err := t.WaitFor(ctx, module.Condition{
		Name: host + ": " + name, Timeout: lockWait,
		Check: func(ctx context.Context) error {
			conn, err := t.Conn(ctx, host)
			if err != nil {
				return err
			}
			if result, failed = conn.Run(ctx, c); failed != nil || result.Exit == 0 {
				return nil
			}
			err = fmt.Errorf("%s: %s: exit %d: %s", host, name, result.Exit, said(string(result.Stderr)))
			if locked(err.Error()) {
				return err
			}
			failed = err
			return nil
		},
	})
	if err == nil {
		err = failed
	}
	return result, err
}

// said is what a tool of Proxmox said of its failure, in one line: without the usage that it prints after it, and without the
// lines about a lock that it then got.
func said(text string) string {
	var kept []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		first, _, _ := strings.Cut(line, " ")
		if line == "" || strings.HasPrefix(line, "trying to acquire cfs lock") || strings.HasPrefix(first, "pve") && !strings.HasSuffix(first, ":") {
			continue
		}
		kept = append(kept, line)
	}
	if len(kept) == 0 {
		return "it said nothing"
	}
	return strings.Join(kept, "; ")
}

// locked reports whether a command failed because somebody else held a lock.
func locked(text string) bool {
	return strings.Contains(text, "got lock request timeout") || strings.Contains(text, "got timeout")
}
