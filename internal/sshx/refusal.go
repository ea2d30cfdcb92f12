package sshx

import (
	"context"
	"sync"
	"time"
)

// refusals slow down after refused logins. OpenSSH 9.8 and later locks out an address that fails to log in a few times,
// for longer than most outages last.
type refusals struct {
	mu    sync.Mutex
	hosts map[string]*refusal
}

type refusal struct {
	count int
	until time.Time
	known bool // the login has worked before, so that a refusal is likely to pass
}

// The pause after the first refused login, and the longest.
const (
	firstPause = 10 * time.Second
	maxPause   = 40 * time.Second
)

func (r *refusals) get(target string) *refusal {
	if r.hosts == nil {
		r.hosts = map[string]*refusal{}
	}
	if r.hosts[target] == nil {
		r.hosts[target] = &refusal{}
	}
	return r.hosts[target]
}

// wait holds a login back until the host may be asked again.
func (r *refusals) wait(ctx context.Context, target string) error {
	r.mu.Lock()
	pause := time.Until(r.get(target).until)
	r.mu.Unlock()
	if pause <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refused notes a refused login. It reports whether one more try makes sense: the login has worked before.
func (r *refusals) refused(target string) (again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.get(target)
	h.until = time.Now().Add(min(firstPause<<min(h.count, 8), maxPause))
	h.count++
	return h.known
}

// welcome notes a login that worked.
func (r *refusals) welcome(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.get(target) = refusal{known: true}
}
