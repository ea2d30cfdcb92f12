package labkit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"sync"

	"github.com/pxrun/pxrun/internal/transport"
)

// buffer takes the output of a script's background jobs, which write at once.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (c conn) Batch(ctx context.Context, cs []transport.Command) ([]transport.Result, error) {
	results := make([]transport.Result, len(cs))
	for i, cmd := range cs {
		r, err := c.Run(ctx, cmd)
		if err != nil {
			return nil, err
		}
		results[i] = r
	}
	return results, nil
}

// Put writes a file at once; owners are not kept.
func (c conn) Put(_ context.Context, f transport.File) error {
	content, err := io.ReadAll(f.Content)
	if err != nil {
		return err
	}
	if err := c.m.FS.MkdirAll(path.Dir(f.Path), 0o755); err != nil {
		return err
	}
	mode := f.Mode
	if mode == 0 {
		mode = fs.FileMode(0o644)
	}
	return c.m.FS.WriteFile(f.Path, content, mode)
}

func (c conn) Get(_ context.Context, name string, w io.Writer) error {
	content, err := c.m.FS.ReadFile(name)
	if err != nil {
		return errors.New("get " + name + ": " + err.Error())
	}
	_, err = w.Write(content)
	return err
}

func (conn) Close() error { return nil }
