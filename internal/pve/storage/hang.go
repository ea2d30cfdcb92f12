package storage

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

// HangSeconds is how long a share may take to say how full it is before it counts as hanging.
const HangSeconds = 4

// hangScript looks at the file system of a folder. It only reads what is mounted, and mounts nothing.
const hangScript = `timeout -k 1 4 stat -f -c %T -- "$1" >/dev/null 2>&1`

// hangTimeout is when the session itself is given up: a process that waits for a share may not even be killed.
const hangTimeout = 8 * time.Second

// MountOf is the folder where a share is mounted; "" for a storage that is no share.
func MountOf(s config.Section) string {
	switch {
	case s.Type != "nfs" && s.Type != "cifs":
		return ""
	case s.Values["path"] != "":
		return s.Values["path"]
	}
	return "/mnt/pve/" + s.ID
}

// Hanging lists the nodes on which the mount of a share does not answer, sorted. It takes seconds at most, also where it
// hangs. Nodes that cannot be asked are not in it, and storages that are no shares hang nowhere.
func Hanging(ctx context.Context, s config.Section, nodes []string, connect func(context.Context, string) (transport.Conn, error)) []string {
	path := MountOf(s)
	if path == "" {
		return nil
	}
	var out []string
	var mu sync.Mutex
	asking := pool.New().WithMaxGoroutines(64)
	for _, node := range nodes {
		asking.Go(func() {
			if hangsOn(ctx, path, node, connect) {
				mu.Lock()
				defer mu.Unlock()
				out = append(out, node)
			}
		})
	}
	asking.Wait()
	slices.Sort(out)
	return out
}

func hangsOn(ctx context.Context, path, node string, connect func(context.Context, string) (transport.Conn, error)) bool {
	conn, err := connect(ctx, node)
	if err != nil {
		return false
	}
	r, err := conn.Run(ctx, transport.Command{Script: hangScript, Argv: []string{path}, Timeout: hangTimeout, Own: true})
	if _, killed := errors.AsType[*transport.TimeoutError](err); killed {
		return true
	}
	return err == nil && (r.Exit == 124 || r.Exit == 137)
}
