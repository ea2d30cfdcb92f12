package sshx

import (
	"context"
	"slices"
	"sync"
	"time"
)

// pool counts the sessions of one connection and keeps idle shells for the next command. sshd refuses sessions above
// MaxSessions and frees closed ones late, so the pool stays well below it and learns from a refusal.
type pool struct {
	mu    sync.Mutex
	limit int
	open  int
	idle  []*shell
	freed chan struct{} // closed and replaced whenever a place or a shell becomes free
}

func newPool(limit int) *pool {
	return &pool{limit: limit, freed: make(chan struct{})}
}

// shell returns an idle shell or starts one, or waits for either.
func (p *pool) shell(ctx context.Context, l *link) (*shell, error) {
	for {
		p.mu.Lock()
		for len(p.idle) > 0 {
			s := p.idle[len(p.idle)-1]
			p.idle = p.idle[:len(p.idle)-1]
			if s.alive() {
				p.mu.Unlock()
				return s, nil
			}
			p.open--
		}
		if p.open < p.limit {
			p.open++
			p.mu.Unlock()
			return newShell(l), nil
		}
		freed := p.freed
		p.mu.Unlock()
		if err := l.wait(ctx, freed); err != nil {
			return nil, err
		}
	}
}

// place reserves a session that is no shared shell, hanging up an idle shell if there is no other room.
func (p *pool) place(ctx context.Context, l *link) error {
	for {
		p.mu.Lock()
		if p.open < p.limit {
			p.open++
			p.mu.Unlock()
			return nil
		}
		if len(p.idle) > 0 {
			s := p.idle[0]
			p.idle = slices.Delete(p.idle, 0, 1)
			p.mu.Unlock()
			s.hangUp()
			return l.wait(ctx, s.dead)
		}
		freed := p.freed
		p.mu.Unlock()
		if err := l.wait(ctx, freed); err != nil {
			return err
		}
	}
}

// back returns a shell that has finished its commands.
func (p *pool) back(s *shell) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, s)
	p.signal()
}

// gone gives up the place of a session that has ended.
func (p *pool) gone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	p.signal()
}

// refused notes that the server would not open one more session. It reports whether waiting for another one to end can
// help; the place is given up either way.
func (p *pool) refused() (othersOpen bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	p.limit = max(1, min(p.limit, p.open))
	p.signal()
	return p.open > 0
}

func (p *pool) signal() {
	close(p.freed)
	p.freed = make(chan struct{})
}

// refusalPause is how long to wait before asking again a server that refuses sessions although none is open: it has
// not yet noticed that the last one is gone.
func refusalPause(try int) time.Duration {
	return min(50*time.Millisecond<<try, time.Second)
}

// refusalTries bounds those questions.
const refusalTries = 8
