package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/sourcegraph/conc/pool"
)

// Config says where leases are kept and how long they last. The zero value is what runs use.
type Config struct {
	TTL    time.Duration // default 120 s; renewed every third of it
	Pmxcfs string        // default /etc/pve
	Local  string        // default /run/lock/pxrun
	// Sleep waits between renewals, Pause between two tries of runs that want the same hosts at the same moment.
	// Default: the system's clock.
	Sleep, Pause func(ctx context.Context, d time.Duration) error
	// Now is the clock by which people are told when a lease ends. Default: time.Now.
	Now func() time.Time
}

// Locker implements engine.Locker.
type Locker struct{ cfg Config }

var _ engine.Locker = (*Locker)(nil)

// New makes a locker.
func New(cfg Config) *Locker {
	if cfg.TTL <= 0 {
		cfg.TTL = 120 * time.Second
	}
	if cfg.Pmxcfs == "" {
		cfg.Pmxcfs = "/etc/pve"
	}
	if cfg.Local == "" {
		cfg.Local = "/run/lock/pxrun"
	}
	if cfg.Sleep == nil {
		cfg.Sleep = engine.SystemClock().Sleep
	}
	if cfg.Pause == nil {
		cfg.Pause = engine.SystemClock().Sleep
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Locker{cfg}
}

// Acquire takes the lease on all hosts or on none; those without a cluster are all asked at once.
func (l *Locker) Acquire(ctx context.Context, o engine.Owner, cluster *inventory.Cluster, hosts []inventory.Host, connect engine.Connect) (engine.Lease, error) {
	if o.Run == "" || strings.ContainsAny(o.Run, "\"\\\n/ ") {
		return nil, fmt.Errorf("lease: %q is no id of a run", o.Run)
	}
	owner, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	held := &holding{l: l, run: o.Run, owner: owner, connect: connect, taken: map[string]bool{}}
	for _, h := range hosts {
		held.hosts = append(held.hosts, h.Name)
	}
	slices.Sort(held.hosts)
	held.hosts = slices.Compact(held.hosts)
	if err := held.acquire(ctx, cluster != nil); err != nil {
		// Also after an interrupt: what was taken would keep others out until it expires.
		within, done := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
		defer done()
		return nil, errors.Join(err, held.Release(within))
	}
	return held, nil
}

// holding is a lease that is held.
type holding struct {
	l       *Locker
	run     string
	owner   []byte
	hosts   []string // sorted
	connect engine.Connect

	mu    sync.Mutex
	taken map[string]bool // hosts on which a step was begun, to be released
}

// Runs that want the same hosts at the same moment may each get some of them. That one of them holds a host since a
// moment ago only is how it shows; then who holds the first host by name tries again for a while.
const (
	moment = 5 * time.Second
	tries  = 20
	pause  = 150 * time.Millisecond
)

// acquire takes the lease on all hosts. A run that is refused holds on to the hosts before the refused one by name, and
// gives back those behind it: of several runs one gets on, as they all go the same way.
func (h *holding) acquire(ctx context.Context, cluster bool) error {
	held := 0
	for try := 1; held < len(h.hosts); try++ {
		errs := h.take(ctx, h.hosts[held:], cluster)
		i := slices.IndexFunc(errs, func(err error) bool { _, ok := errors.AsType[*conflict](err); return ok })
		if i < 0 {
			return errors.Join(errs...)
		}
		refused, _ := errors.AsType[*conflict](errs[i])
		others := slices.ContainsFunc(errs, func(err error) bool { _, ok := errors.AsType[*conflict](err); return err != nil && !ok })
		if held += i; held == 0 || others || try == tries || refused.left < h.l.cfg.TTL-moment {
			return refused.locked
		}
		if err := h.giveBack(ctx, h.hosts[held+1:]); err != nil {
			return errors.Join(refused.locked, err)
		}
		if h.l.cfg.Pause(ctx, pause) != nil {
			return refused.locked
		}
	}
	return nil
}

// take takes the lease on hosts and returns the errors in their order. In pmxcfs only the first host writes; the others
// see that it is there already. So they look for it behind the first one, which costs an exchange more where there is a
// cluster.
func (h *holding) take(ctx context.Context, hosts []string, cluster bool) []error {
	errs := make([]error, len(hosts))
	later := make([]bool, len(hosts))
	one := func(i int, verb string) {
		h.mu.Lock()
		h.taken[hosts[i]] = true
		h.mu.Unlock()
		later[i], errs[i] = h.step(ctx, verb, hosts[i])
	}
	if cluster {
		one(0, "take")
		later = slices.Repeat([]bool{true}, len(hosts))
	} else {
		each(len(hosts), func(i int) { one(i, verbFor(i, "take", "claim")) })
	}
	if errors.Join(errs...) != nil {
		return errs
	}
	each(len(hosts)-1, func(i int) {
		if later[i+1] {
			one(i+1, "take")
		}
	})
	return errs
}

// verbFor is what the first host is told, and the others.
func verbFor(i int, first, others string) string {
	if i == 0 {
		return first
	}
	return others
}

// each does something n times at once.
func each(n int, do func(i int)) {
	p := pool.New().WithMaxGoroutines(256)
	for i := range n {
		p.Go(func() { do(i) })
	}
	p.Wait()
}

// conflict is a lease of somebody else.
type conflict struct {
	locked *engine.LockedError
	left   time.Duration
}

func (c *conflict) Error() string { return c.locked.Error() }

// step does one step on one host. later says that the cluster's lease was left out.
func (h *holding) step(ctx context.Context, verb, host string) (later bool, err error) {
	conn, err := h.connect(ctx, host)
	if err != nil {
		return false, err
	}
	c := h.l.command(verb, host, h.run, h.owner)
	r, err := conn.Run(ctx, c)
	if err != nil {
		return false, fmt.Errorf("%s: lease: %w", host, err)
	}
	return h.l.verdict(host, verb, r)
}

// verdict reads the answer of the script. A cluster lease that cannot be written is no hindrance: pmxcfs is away or
// without quorum while a cluster forms, and mending that must be possible. The files on the hosts stand meanwhile.
func (l *Locker) verdict(host, verb string, r transport.Result) (later bool, err error) {
	lines := strings.SplitAfter(string(r.Stdout), "\n")
	sawLocal := false
	for i, line := range lines {
		place, answer, _ := strings.Cut(strings.TrimSpace(line), " ")
		if place != "local" && place != "cluster" {
			continue
		}
		file := l.cfg.Local + "/lease.json"
		if place == "cluster" {
			file = l.cfg.Pmxcfs + "/priv/pxrun-lease.json"
		}
		sawLocal = sawLocal || place == "local"
		answer, left, _ := strings.Cut(answer, " ")
		switch answer {
		case "held":
			return false, l.conflict(host, file, left, strings.Join(lines[i+1:], ""))
		case "busy":
			return false, fmt.Errorf("%s: the guard of %s stays taken: another run is at work there, or one was killed; a left-over guard expires within two minutes", host, file)
		case "away":
			if place == "local" {
				return false, fmt.Errorf("%s: %s cannot be written, or its folder is not of the user that pxrun works as (look: ls -ld %s; df %s; if it is of a user who has no business there, remove it as root: rm -r %s)", host, file, l.cfg.Local, l.cfg.Local, l.cfg.Local)
			}
		case "later":
			later = true
		}
	}
	if !sawLocal {
		return false, fmt.Errorf("%s: lease: no answer to %s: %w", host, verb, errors.Join(r.Err(transport.Command{Argv: []string{"sh"}}), errors.New(strings.TrimSpace(string(r.Stderr)))))
	}
	return later, nil
}

// conflict reads the file of whoever has the lease, and the seconds that it has to go. JSON after it is not looked at.
func (l *Locker) conflict(host, file, left, text string) *conflict {
	var lease struct {
		Run   string       `json:"run"`
		Owner engine.Owner `json:"owner"`
	}
	locked := &engine.LockedError{Host: host, Look: "cat " + file}
	seconds, err := strconv.Atoi(left)
	if err == nil {
		err = json.NewDecoder(strings.NewReader(text)).Decode(&lease)
	}
	if err != nil {
		// Written by something else, or cut: still a lease, of nobody known.
		locked.Owner = engine.Owner{Run: "unknown", Controller: "unknown"}
		return &conflict{locked: locked}
	}
	ends := time.Duration(seconds) * time.Second
	locked.Owner, locked.Expires = lease.Owner, l.cfg.Now().Add(ends).Truncate(time.Second)
	if locked.Owner.Run == "" {
		locked.Owner.Run = lease.Run
	}
	return &conflict{locked: locked, left: ends}
}

// Keep renews the lease until ctx ends. A host that does not answer is borne as long as any other does: it may be
// rebooting, and nobody can work on it either. The lease is lost when somebody else has it on any host, or when no host
// could be renewed for the whole time that a lease lasts.
func (h *holding) Keep(ctx context.Context) error {
	every := h.l.cfg.TTL / 3
	for failed := 0; ; {
		if err := h.l.cfg.Sleep(ctx, every); err != nil {
			return nil //nolint:nilerr // the end of ctx is the proper end of Keep
		}
		errs := make([]error, len(h.hosts))
		each(len(h.hosts), func(i int) {
			within, done := context.WithTimeout(ctx, every)
			defer done()
			_, errs[i] = h.step(within, "keep", h.hosts[i])
		})
		if ctx.Err() != nil {
			return nil
		}
		for _, err := range errs {
			if other, ok := errors.AsType[*conflict](err); ok {
				return fmt.Errorf("the lease was taken over: %w", other.locked)
			}
		}
		if slices.Contains(errs, nil) || len(errs) == 0 {
			failed = 0
			continue
		}
		if failed++; failed >= 3 {
			return fmt.Errorf("the lease could not be renewed on any host for %s: %w", h.l.cfg.TTL, errors.Join(errs...))
		}
	}
}

// Release gives the lease back, where it is still this run's.
func (h *holding) Release(ctx context.Context) error {
	h.mu.Lock()
	taken := slices.Sorted(maps.Keys(h.taken))
	h.mu.Unlock()
	return h.giveBack(ctx, taken)
}

// giveBack drops the lease on hosts, sorted by name. As with take, only the first host writes in pmxcfs.
func (h *holding) giveBack(ctx context.Context, hosts []string) error {
	h.mu.Lock()
	for _, host := range hosts {
		delete(h.taken, host)
	}
	h.mu.Unlock()
	errs := make([]error, len(hosts))
	later := make([]bool, len(hosts))
	each(len(hosts), func(i int) { later[i], errs[i] = h.step(ctx, verbFor(i, "drop", "leave"), hosts[i]) })
	each(len(hosts), func(i int) {
		if later[i] {
			_, errs[i] = h.step(ctx, "drop", hosts[i])
		}
	})
	return errors.Join(errs...)
}
