package lab

import (
	"context"
	"strconv"
	"strings"
	"time"
)

func failProgram(_ context.Context, _ *Lab, _ *host, f Fault) (func() error, error) {
	status, text, found := strings.Cut(f.Value, ":")
	exit, err := strconv.Atoi(status)
	if !found || err != nil {
		exit, text = 1, f.Value
	}
	return nil, &programFailure{text: text, exit: exit}
}

func lieProgram(_ context.Context, _ *Lab, _ *host, f Fault) (func() error, error) {
	return nil, &programFailure{text: f.Value}
}

func dieProgram(context.Context, *Lab, *host, Fault) (func() error, error) {
	return nil, &programFailure{exit: 128 + 9, killed: true}
}

func slowProgram(ctx context.Context, l *Lab, _ *host, f Fault) (func() error, error) {
	d, err := time.ParseDuration(f.Value)
	if err != nil {
		return nil, err
	}
	return nil, l.clock.Sleep(ctx, d)
}

// hangProgram lets a program hang until it is ended, or until the fault is cleared: then it goes on.
func hangProgram(ctx context.Context, l *Lab, _ *host, f Fault) (func() error, error) {
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-l.ctx.Done():
		return nil, l.ctx.Err()
	case <-f.cleared:
		return nil, nil //nolint:nilnil // there is nothing to undo any more
	}
}
