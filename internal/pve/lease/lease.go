package lease

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
	// Sleep waits between renewals. Default: the system's clock.
	Sleep func(ctx context.Context, d time.Duration) error
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
	return &Locker{cfg}
}

// Acquire takes the lease on all hosts or on none. The first host by name is asked alone: of two runs that want the
// same hosts at the same time one wins there, instead of each keeping the other out. All others are asked at once.
func (l *Locker) Acquire(ctx context.Context, o engine.Owner, _ *inventory.Cluster, hosts []inventory.Host, connect engine.Connect) (engine.Lease, error) {
	if o.Run == "" || strings.ContainsAny(o.Run, "\"\\\n/ ") {
		return nil, fmt.Errorf("lease: %q is no id of a run", o.Run)
	}
	owner, err := json.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	held := &holding{l: l, run: o.Run, owner: owner, connect: connect}
	for _, h := range hosts {
		held.hosts = append(held.hosts, h.Name)
	}
	slices.Sort(held.hosts)
	held.hosts = slices.Compact(held.hosts)
	if len(held.hosts) == 0 {
		return held, nil
	}
	err = held.take(ctx, held.hosts[:1])
	if err == nil {
		err = held.take(ctx, held.hosts[1:])
	}
	if err != nil {
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
	hosts   []string
	connect engine.Connect

	mu    sync.Mutex
	taken []string // hosts on which a step was begun, to be released
}

func (h *holding) take(ctx context.Context, hosts []string) error {
	errs := h.each(hosts, func(host string) error {
		h.mu.Lock()
		h.taken = append(h.taken, host)
		h.mu.Unlock()
		return h.step(ctx, "take", host)
	})
	if locked := firstLocked(errs); locked != nil {
		return locked
	}
	return errors.Join(errs...)
}

// each does something with every host at once and returns the errors in the order of the hosts.
func (h *holding) each(hosts []string, do func(host string) error) []error {
	errs := make([]error, len(hosts))
	p := pool.New().WithMaxGoroutines(256)
	for i, host := range hosts {
		p.Go(func() { errs[i] = do(host) })
	}
	p.Wait()
	return errs
}

func firstLocked(errs []error) *engine.LockedError {
	for _, err := range errs {
		if locked, ok := errors.AsType[*engine.LockedError](err); ok {
			return locked
		}
	}
	return nil
}

// step does one step on one host.
func (h *holding) step(ctx context.Context, verb, host string) error {
	conn, err := h.connect(ctx, host)
	if err != nil {
		return err
	}
	c := h.l.command(verb, h.run, h.owner)
	r, err := conn.Run(ctx, c)
	if err != nil {
		return fmt.Errorf("%s: lease: %w", host, err)
	}
	return h.l.verdict(host, verb, r)
}

// verdict reads the answer of the script. A cluster lease that cannot be written is no hindrance: pmxcfs is away or
// without quorum while a cluster forms, and mending that must be possible. The files on the hosts stand meanwhile.
func (l *Locker) verdict(host, verb string, r transport.Result) error {
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
		switch answer {
		case "held":
			return lockedError(host, file, strings.Join(lines[i+1:], ""))
		case "busy":
			return fmt.Errorf("%s: the guard of %s stays taken: another run is at work there, or one was killed; a left-over guard expires within two minutes", host, file)
		case "away":
			if place == "local" {
				return fmt.Errorf("%s: %s cannot be written, or its folder is not of the user that pxrun works as (look: ls -ld %s; df %s; if it is of a user who has no business there, remove it as root: rm -r %s)", host, file, l.cfg.Local, l.cfg.Local, l.cfg.Local)
			}
		}
	}
	if !sawLocal {
		return fmt.Errorf("%s: lease: no answer to %s: %w", host, verb, errors.Join(r.Err(transport.Command{Argv: []string{"sh"}}), errors.New(strings.TrimSpace(string(r.Stderr)))))
	}
	return nil
}

// lockedError reads the file of whoever has the lease. JSON after it is not looked at.
func lockedError(host, file, text string) error {
	var lease struct {
		Expires int64        `json:"expires"`
		Run     string       `json:"run"`
		Owner   engine.Owner `json:"owner"`
	}
	locked := &engine.LockedError{Host: host, Look: "cat " + file}
	if err := json.NewDecoder(strings.NewReader(text)).Decode(&lease); err != nil {
		// Written by something else, or cut: still a lease, of nobody known.
		locked.Owner = engine.Owner{Run: "unknown", Controller: "unknown"}
		return locked
	}
	locked.Owner, locked.Expires = lease.Owner, time.Unix(lease.Expires, 0)
	if locked.Owner.Run == "" {
		locked.Owner.Run = lease.Run
	}
	return locked
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
		errs := h.each(h.hosts, func(host string) error {
			within, done := context.WithTimeout(ctx, every)
			defer done()
			return h.step(within, "keep", host)
		})
		if ctx.Err() != nil {
			return nil
		}
		if locked := firstLocked(errs); locked != nil {
			return fmt.Errorf("the lease was taken over: %w", locked)
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
	taken := slices.Clone(h.taken)
	h.taken = nil
	h.mu.Unlock()
	slices.Sort(taken)
	if len(taken) == 0 {
		return nil
	}
	errs := h.each(taken[:1], func(host string) error { return h.step(ctx, "drop", host) })
	errs = append(errs, h.each(taken[1:], func(host string) error { return h.step(ctx, "drop", host) })...)
	return errors.Join(errs...)
}
