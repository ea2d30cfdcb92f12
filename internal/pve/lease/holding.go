package lease

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/transport"
)

// holding is a lease that is held.
type holding struct {
	l       *Locker
	run     string
	owner   []byte
	hosts   []string // sorted
	spare   []string // other nodes of the cluster, by which its lease is reached too
	connect engine.Connect

	mu    sync.Mutex
	taken map[string]bool   // hosts on which a step was begun, to be released
	known map[string]*proof // what each host said last
	gone  *engine.LostLeaseError
}

// proof is that a host had the lease at a moment.
type proof struct {
	step    chan struct{} // one step at a time
	at      time.Time
	boot    string
	cluster bool // it had that of the cluster too
}

func (l *Locker) holding(run string, owner []byte, connect engine.Connect) *holding {
	return &holding{l: l, run: run, owner: owner, connect: connect, taken: map[string]bool{}, known: map[string]*proof{}}
}

// proven is what is known of a host.
func (h *holding) proven(host string) *proof {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.known[host]
	if p == nil {
		p = &proof{step: make(chan struct{}, 1)}
		h.known[host] = p
	}
	return p
}

// step does one step on one host.
func (h *holding) step(ctx context.Context, verb, host string) (answer, error) {
	conn, err := h.connect(ctx, host)
	if err != nil {
		return answer{}, err
	}
	r, err := conn.Run(ctx, h.l.command(verb, host, h.run, h.owner))
	if err != nil {
		return answer{}, fmt.Errorf("%s: lease: %w", host, err)
	}
	said, err := h.l.verdict(host, verb, r)
	if err == nil && (verb == "take" || verb == "claim") {
		h.note(host, said)
	}
	return said, err
}

// note keeps what a host said that has the lease now.
func (h *holding) note(host string, said answer) {
	p := h.proven(host)
	h.mu.Lock()
	defer h.mu.Unlock()
	p.at, p.boot = h.l.cfg.Now(), said.boot
	switch said.cluster {
	case "ok", "new":
		p.cluster = true
	case "none":
		p.cluster = false
	}
}

// renew renews the lease on a host. A *engine.LostLeaseError says that somebody else has it, or may have had it: it was not there any more. A host that
// has restarted since has forgotten its own, which is no loss.
func (h *holding) renew(ctx context.Context, host string) error {
	p := h.proven(host)
	select {
	case p.step <- struct{}{}:
		defer func() { <-p.step }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	said, err := h.step(ctx, "keep", host)
	if other, ok := errors.AsType[*conflict](err); ok {
		return h.lose(fmt.Errorf("it was taken over: %w", other.locked))
	}
	if err != nil {
		return err
	}
	h.mu.Lock()
	was := proof{at: p.at, boot: p.boot, cluster: p.cluster}
	h.mu.Unlock()
	h.note(host, said)
	switch {
	case was.cluster && said.cluster == "new":
		return h.lose(fmt.Errorf("%s: the lease of the cluster was not there any more: it had run out or was removed, and others may have been at work since", host))
	case !was.at.IsZero() && said.local == "new" && said.boot == was.boot:
		return h.lose(fmt.Errorf("%s: its lease was not there any more: it had run out or was removed, and others may have been at work since", host))
	}
	return nil
}

// lose notes that the lease is lost, for good: the first reason counts.
func (h *holding) lose(why error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone == nil {
		h.gone = &engine.LostLeaseError{Cause: why}
	}
	return h.gone
}

// lost is why the lease is; nil if it is not known to be.
func (h *holding) lost() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone == nil {
		return nil
	}
	return h.gone
}

// Keep renews the lease until ctx ends, or until somebody else has it, or may have had it, on any host. Hosts that do not answer are
// borne: they may be restarting. If none does, the cluster's lease is renewed by another of its nodes. Whether it still is held when a
// change begins, Confirm tells.
func (h *holding) Keep(ctx context.Context) error {
	every := h.l.cfg.TTL / 3
	for {
		if err := h.l.cfg.Sleep(ctx, every); err != nil {
			return nil //nolint:nilerr // the end of ctx is the proper end of Keep
		}
		if errs := h.onAll(ctx, every, h.hosts); !slices.Contains(errs, nil) {
			_ = h.bySpare(ctx, every) // Confirm tells
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := h.lost(); err != nil {
			return err
		}
	}
}

// onAll renews the lease on hosts at once.
func (h *holding) onAll(ctx context.Context, within time.Duration, hosts []string) []error {
	errs := make([]error, len(hosts))
	each(len(hosts), func(i int) {
		ctx, done := context.WithTimeout(ctx, within)
		defer done()
		errs[i] = h.renew(ctx, hosts[i])
	})
	return errs
}

// bySpare renews the cluster's lease through a node that the run does not touch: the first that can.
func (h *holding) bySpare(ctx context.Context, within time.Duration) error {
	var errs []error
	for _, node := range h.spare {
		h.mu.Lock()
		h.taken[node] = true
		h.mu.Unlock()
		err := h.onAll(ctx, within/time.Duration(len(h.spare)), []string{node})[0]
		if err == nil || h.lost() != nil {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Confirm proves that the lease is held: on the host if that answers, or else on any other. A proof is good for a quarter of the time
// that a lease lasts.
func (h *holding) Confirm(ctx context.Context, host string) error {
	good := func(host string) bool {
		p := h.proven(host)
		h.mu.Lock()
		defer h.mu.Unlock()
		// Both clocks: that of a suspended machine stands still, and the other one may be set.
		age := h.l.cfg.Now().Sub(p.at)
		wall := h.l.cfg.Now().Round(0).Sub(p.at.Round(0))
		return max(age, wall) < h.l.cfg.TTL/4 && min(age, wall) >= 0
	}
	if err := h.lost(); err != nil {
		return err
	}
	within := h.l.cfg.TTL / 4
	var mine error
	if slices.Contains(h.hosts, host) {
		if good(host) {
			return nil
		}
		if mine = h.onAll(ctx, within, []string{host})[0]; mine == nil || h.lost() != nil {
			return mine
		}
	}
	rest := slices.DeleteFunc(slices.Clone(h.hosts), func(other string) bool { return other == host })
	if slices.ContainsFunc(rest, good) {
		return nil
	}
	others := h.onAny(ctx, within, rest)
	if others == nil || h.lost() != nil {
		return cmp.Or(h.lost(), others)
	}
	spares := h.bySpare(ctx, within)
	if spares == nil && len(h.spare) > 0 || h.lost() != nil {
		return h.lost()
	}
	return errors.Join(mine, others, spares)
}

// onAny renews the lease on hosts at once, until one has it.
func (h *holding) onAny(ctx context.Context, within time.Duration, hosts []string) error {
	ctx, enough := context.WithTimeout(ctx, within)
	defer enough()
	errs := make([]error, len(hosts))
	each(len(hosts), func(i int) {
		if errs[i] = h.renew(ctx, hosts[i]); errs[i] == nil {
			enough()
		}
	})
	if slices.Contains(errs, nil) {
		return nil
	}
	return errors.Join(append(errs, errors.New("no other host of the run has the lease"))...)
}

// Release gives the lease back, where it is still this run's.
func (h *holding) Release(ctx context.Context) error {
	h.mu.Lock()
	taken := slices.Sorted(maps.Keys(h.taken))
	h.mu.Unlock()
	return h.giveBack(ctx, taken)
}

// silence is how long a node may take to give back its lease where others can give back the cluster's. One that is off never answers,
// and has forgotten its own.
const silence = 5 * time.Second

// giveBack drops the lease on hosts, sorted by name. As with take, only the first host writes in pmxcfs. Where none of them answers,
// another node of the cluster gives back its lease.
func (h *holding) giveBack(ctx context.Context, hosts []string) error {
	h.mu.Lock()
	clustered := len(hosts) > 0
	for _, host := range hosts {
		delete(h.taken, host)
		clustered = clustered && h.known[host] != nil && h.known[host].cluster
	}
	h.mu.Unlock()
	within := ctx
	if clustered && len(hosts)+len(h.spare) > 1 {
		var done context.CancelFunc
		within, done = context.WithTimeout(ctx, silence)
		defer done()
	}
	errs := make([]error, len(hosts))
	later := make([]bool, len(hosts))
	given := make([]bool, len(hosts)) // the cluster's lease
	drop := func(ctx context.Context, i int, verb string) {
		var said answer
		said, errs[i] = h.step(ctx, verb, hosts[i])
		later[i], given[i] = said.later, said.cluster == "ok" || said.cluster == "none"
	}
	each(len(hosts), func(i int) { drop(within, i, verbFor(i, "drop", "leave")) })
	each(len(hosts), func(i int) {
		if later[i] {
			drop(ctx, i, "drop")
		}
	})
	if clustered && slices.ContainsFunc(errs, silent) && (slices.Contains(given, true) || h.givenBySpare(ctx)) {
		errs = slices.DeleteFunc(errs, silent)
	}
	return errors.Join(errs...)
}

// silent tells a host that did not answer.
func silent(err error) bool {
	_, away := errors.AsType[*transport.UnreachableError](err)
	_, cut := errors.AsType[*transport.LostError](err)
	return away || cut || errors.Is(err, context.DeadlineExceeded)
}

// givenBySpare gives the cluster's lease back through a node that the run does not touch.
func (h *holding) givenBySpare(ctx context.Context) bool {
	for _, node := range h.spare {
		within, done := context.WithTimeout(ctx, silence)
		said, err := h.step(within, "drop", node)
		done()
		if err == nil && said.cluster == "ok" {
			return true
		}
	}
	return false
}
