package engine_test

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
)

func (m *machine) Run(ctx context.Context, c transport.Command) (transport.Result, error) {
	if err := m.trip(ctx); err != nil {
		return transport.Result{}, err
	}
	return m.do(ctx, c)
}

func (m *machine) Batch(ctx context.Context, cs []transport.Command) ([]transport.Result, error) {
	if err := m.trip(ctx); err != nil {
		return nil, err
	}
	all := make([]transport.Result, len(cs))
	for i, c := range cs {
		var err error
		if all[i], err = m.do(ctx, c); err != nil {
			return all[:i], err
		}
	}
	return all, nil
}

func (m *machine) trip(ctx context.Context) error {
	m.w.mu.Lock()
	m.trips++
	latency := m.latency
	m.w.mu.Unlock()
	if latency > 0 {
		select {
		case <-time.After(latency):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return ctx.Err()
}

func (m *machine) do(ctx context.Context, c transport.Command) (transport.Result, error) {
	switch c.Argv[0] {
	case "get":
		m.w.mu.Lock()
		defer m.w.mu.Unlock()
		v, ok := m.values[c.Argv[1]]
		if !ok {
			return transport.Result{Exit: 1}, nil
		}
		return transport.Result{Stdout: []byte(v + "\n")}, nil
	case "set":
		return m.set(ctx, c)
	}
	return transport.Result{Exit: 127}, nil
}

func (m *machine) set(ctx context.Context, c transport.Command) (transport.Result, error) {
	key, value := c.Argv[1], c.Argv[2]
	m.w.mu.Lock()
	m.busy++
	m.peak = max(m.peak, m.busy)
	on := m.onSet
	m.w.log = append(m.w.log, "set "+m.name+" "+key+"="+value)
	m.w.mu.Unlock()
	defer func() {
		m.w.mu.Lock()
		m.busy--
		m.w.mu.Unlock()
	}()
	if c.Output != nil {
		c.Output(transport.Stdout, "setting "+key)
	}
	if on != nil {
		if err := on(ctx, key, value); err != nil {
			if _, lost := errors.AsType[*transport.LostError](err); lost {
				return transport.Result{}, err
			}
			return transport.Result{Exit: 1, Stderr: []byte(err.Error())}, nil
		}
		if ctx.Err() != nil {
			return transport.Result{}, ctx.Err()
		}
		return transport.Result{}, nil
	}
	m.put(key, value)
	return transport.Result{}, nil
}

func (m *machine) put(key, value string) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	m.values[key] = value
}

func (m *machine) get(key string) string {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	return m.values[key]
}

func (m *machine) Put(ctx context.Context, f transport.File) error {
	if err := m.trip(ctx); err != nil {
		return err
	}
	text, err := io.ReadAll(f.Content)
	m.put(f.Path, string(text))
	return err
}

func (m *machine) Get(context.Context, string, io.Writer) error { return errors.ErrUnsupported }
func (m *machine) Close() error                                 { return nil }
