package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine"
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
	held := l.holding(o.Run, owner, connect)
	for _, h := range hosts {
		held.hosts = append(held.hosts, h.Name)
	}
	slices.Sort(held.hosts)
	held.hosts = slices.Compact(held.hosts)
	if cluster != nil {
		held.spare = slices.DeleteFunc(slices.Clone(cluster.Nodes), func(node string) bool { return slices.Contains(held.hosts, node) })
	}
	if err := held.acquire(ctx, cluster != nil); err != nil {
		// Also after an interrupt: what was taken would keep others out until it expires.
		within, done := context.WithTimeout(context.WithoutCancel(ctx), stepTimeout)
		defer done()
		return nil, errors.Join(err, held.Release(within))
	}
	return held, nil
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
		var said answer
		said, errs[i] = h.step(ctx, verb, hosts[i])
		later[i] = said.later
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
