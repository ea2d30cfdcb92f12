// Package apt is what several modules do with Debian packages on a host: it reads what is there, asks apt what a change
// would cost, refuses what takes a Proxmox node apart, and makes the change as a job that outlives the connection. The
// main function is Plan. It decides about one host; which hosts need a package is the modules' matter.
package apt

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

const (
	lockTimeout = "DPkg::Lock::Timeout=300"
	listsDir    = "/var/lib/apt/lists"
	aptDir      = "/etc/apt"
	cacheValid  = time.Hour
	jobLimit    = time.Hour
	// A busy small node takes its time over a large change.
	simulateLimit = 5 * time.Minute
)

// Get is apt-get that never asks anything (reference §7.3).
func Get(args ...string) transport.Command {
	return transport.Command{Argv: append([]string{"apt-get"}, args...), Env: map[string]string{
		"DEBIAN_FRONTEND": "noninteractive", "DEBIAN_PRIORITY": "critical", "APT_LISTCHANGES_FRONTEND": "none",
		"NEEDRESTART_MODE": "l", "NEEDRESTART_SUSPEND": "1", "UCF_FORCE_CONFFOLD": "1", "LC_ALL": "C",
	}}
}

// Job runs apt detached, to its end, and turns its last complaint into the error.
func Job(ctx context.Context, t module.Target, host, name string, c transport.Command) (transport.Result, error) {
	limit := jobLimit
	if _, bounded := ctx.Deadline(); bounded {
		limit = 24 * time.Hour // as long as the task
	}
	r, err := t.Detach(ctx, host, module.Job{Name: name, Command: c, Timeout: limit})
	if err != nil {
		return r, err
	}
	return r, Error(r, c)
}

// Error prefers apt's own lines that begin with E: over the last line, which is often an afterthought, and names the
// dependencies that can't be met: apt prints them before it complains of "held broken packages".
func Error(r transport.Result, c transport.Command) error {
	err := r.Err(c)
	if err == nil {
		return nil
	}
	var said []string
	unmet := false
	for line := range strings.Lines(string(r.Stdout) + "\n" + string(r.Stderr)) {
		text, complaint := strings.CutPrefix(strings.TrimSpace(line), "E: ")
		if !strings.HasPrefix(line, " ") {
			unmet = strings.HasPrefix(line, "The following packages have unmet dependencies")
		}
		if (complaint || unmet && strings.HasPrefix(line, " ")) && !slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("apt-get %s: exit %d: %s", verbOf(c.Argv), r.Exit, strings.Join(said, "; "))
}

func verbOf(argv []string) string {
	for _, word := range argv[1:] {
		if slices.Contains([]string{"update", "install", "remove", "dist-upgrade"}, word) {
			return word
		}
	}
	return ""
}

// refreshAttempts and refreshPause are how a lock on the package lists is waited for: DPkg::Lock::Timeout may not cover
// that one (reference §15).
const (
	refreshAttempts = 10
	refreshPause    = 30 * time.Second
)

// Refresh runs apt-get update and returns what it printed. What apt could not fetch and only warns of is told by
// Unfetched.
func Refresh(ctx context.Context, t module.Target, host string) (transport.Result, error) {
	c := Get("-q", "-o", lockTimeout, "update")
	var r transport.Result
	var err error
	for attempt := range refreshAttempts {
		if attempt > 0 {
			t.Log(host, "the package lists are locked by another program, waiting")
			if err := t.Sleep(ctx, refreshPause); err != nil {
				return r, err
			}
		}
		if r, err = Job(ctx, t, host, "apt-update", c); err == nil || !strings.Contains(err.Error(), "Could not get lock") {
			break
		}
	}
	return r, cmp.Or(err, Mark(ctx, t, host, err == nil))
}

// Mark dates the package lists: now, or so long ago that they count as old. The date of their directory is how the next
// plan knows how old they are. apt leaves it alone when no list has changed, and sets it when it has failed halfway.
func Mark(ctx context.Context, t module.Target, host string, good bool) error {
	date := "now"
	if !good {
		date = "@0"
	}
	_, err := run(ctx, t, host, transport.Command{Argv: []string{"touch", "-c", "-d", date, listsDir}, Mutates: true})
	return err
}

// Unfetched are the lines in which apt-get update says what it could not fetch, an exit status of 0 notwithstanding.
func Unfetched(r transport.Result) []string {
	var said []string
	for line := range strings.Lines(string(r.Stdout) + "\n" + string(r.Stderr)) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "W: "); ok && strings.HasPrefix(text, "Failed to fetch") && !slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	return said
}

// run runs a command on a host. A status other than 0 is an error.
func run(ctx context.Context, t module.Target, host string, c transport.Command) (transport.Result, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return transport.Result{}, err
	}
	r, err := conn.Run(ctx, c)
	if err != nil {
		return r, err
	}
	return r, r.Err(c)
}

// fingerprint tells jobs apart that are of one kind and not the same.
func fingerprint(c transport.Command) string {
	sum := sha256.Sum256([]byte(strings.Join(c.Argv, "\x00")))
	return hex.EncodeToString(sum[:6])
}
