package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// Linux asks three times, a second apart, which machine has an address before it says that there is no route to it.
const (
	neighbourAsks  = 3
	neighbourPause = time.Second // model time
)

// arrive is reach for a connection that is being made: an address where nobody answers is known to be one only after a while, and a machine
// that comes up meanwhile is found.
func (l *Lab) arrive(ctx context.Context, networkName, addr string) (*host, error) {
	for try := 1; ; try++ {
		h, err := l.reach(networkName, addr)
		if !errors.Is(err, syscall.EHOSTUNREACH) || try > neighbourAsks {
			return h, err
		}
		if slept := l.clock.Sleep(ctx, neighbourPause); slept != nil {
			return nil, err
		}
	}
}

// What the lab says of an address to a client in another process.
const (
	reachNoRoute = "no route"
	reachRefused = "refused"
)

// reachOf is the answer to a request reach.
func (l *Lab) reachOf(addr string) Response {
	_, err := l.arrive(l.ctx, "tcp", addr)
	switch {
	case err == nil:
		return Response{}
	case errors.Is(err, syscall.EHOSTUNREACH):
		return Response{Reach: reachNoRoute}
	case errors.Is(err, syscall.ECONNREFUSED):
		return Response{Reach: reachRefused}
	default:
		return Response{Error: err.Error()}
	}
}

// reach asks the lab whether a connection to an address can be made now. A loopback port is always there; the machine behind it may be off.
func (a Access) reach(ctx context.Context, networkName, addr string) error {
	answer, err := a.Ask(ctx, Request{Op: "reach", Address: addr})
	fail := func(err error) error {
		return &net.OpError{Op: "dial", Net: networkName, Addr: textAddr(addr), Err: err}
	}
	switch {
	case err != nil:
		return fail(fmt.Errorf("the lab does not answer: %w", err))
	case answer.Reach == reachNoRoute:
		return fail(os.NewSyscallError("connect", syscall.EHOSTUNREACH))
	case answer.Reach == reachRefused:
		return fail(os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	return nil
}
