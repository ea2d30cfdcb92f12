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

// The pauses after refused logins, the last one for all that follow. A refusal counts 5 s against the caller, and he is
// locked out once 15 s have come together that have not passed. The short pauses keep the sum below 10 s: they are for
// a login that has worked before, as a node that joins a cluster knows no keys for some eight seconds.
var (
	longPauses  = []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second}
	shortPauses = []time.Duration{3 * time.Second, 4 * time.Second, 6 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second}
)

// moreTries is how often a login that has worked before is tried again.
const moreTries = 3

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

// refused notes a refused login. lockedOut says that the server hung up before it was asked, as it does on those whom it
// has locked out. again reports whether trying again makes sense: the login has worked before.
func (r *refusals) refused(target string, lockedOut bool) (again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	h := r.get(target)
	pauses := longPauses
	if h.known && !lockedOut {
		pauses = shortPauses
	}
	h.until = time.Now().Add(pauses[min(h.count, len(pauses)-1)])
	h.count++
	return h.known
}

// welcome notes a login that worked.
func (r *refusals) welcome(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*r.get(target) = refusal{known: true}
}
