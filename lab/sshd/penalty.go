package sshd

import (
	"net"
	"time"
)

// OpenSSH's PerSourcePenalties (since 9.8), as seen on a real node: each refused login costs its address five seconds;
// what has added up to more than fifteen is enforced, and then it lasts about forty.
const (
	penaltyFailure = 5 * time.Second
	penaltyMin     = 15 * time.Second
	penaltyBan     = 40 * time.Second
)

// penalty is what one address has to bear, in model time.
type penalty struct {
	expires time.Duration
	banned  bool
}

// SetPenalties turns the penalties on (the default) or off and forgets those that were given.
func (s *Server) SetPenalties(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.penalties = on
	clear(s.penalty)
}

func source(a net.Addr) string {
	if host, _, err := net.SplitHostPort(a.String()); err == nil {
		return host
	}
	return a.String()
}

// banned reports whether connections from an address are closed at once.
func (s *Server) banned(a net.Addr) bool {
	now := s.m.Clock().Elapsed()
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.penalty[source(a)]
	if ok && p.expires <= now {
		delete(s.penalty, source(a))
		return false
	}
	return ok && p.banned
}

// penalise adds the cost of a refused login.
func (s *Server) penalise(a net.Addr) {
	now := s.m.Clock().Elapsed()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.penalties {
		return
	}
	p := s.penalty[source(a)]
	p.expires = max(p.expires, now) + penaltyFailure
	if !p.banned && p.expires-now > penaltyMin {
		p.banned, p.expires = true, now+penaltyBan
	}
	s.penalty[source(a)] = p
}
