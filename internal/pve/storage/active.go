package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

// ErrHangs is a storage that gives no answer.
var ErrHangs = errors.New("it gives no answer")

// activeScript asks for the state of one storage. pvesm status asks every storage, whichever is named: one that hangs holds
// up the answer about all others. Then a list of nothing tells, which asks its own storage only.
const activeScript = `timeout -k 2 25 pvesm status --storage "$1"
r=$?
case $r in
124|137) timeout -k 2 15 pvesm list "$1" --content none >/dev/null 2>&1 && echo "@@answers"; exit 124;;
esac
exit $r`

// activeTimeout is longer than the script ever takes unless even SIGKILL does not end what it started.
const activeTimeout = 50 * time.Second

// Active asks nodes at once whether a storage is active on them. The error of a node is nil if it is. ErrHangs is in it if the
// storage gave no answer; then the question must not be asked over and over, since each leaves a process behind.
func Active(ctx context.Context, id string, nodes []string, connect func(context.Context, string) (transport.Conn, error)) map[string]error {
	out := map[string]error{}
	var mu sync.Mutex
	asking := pool.New().WithMaxGoroutines(16)
	for _, node := range nodes {
		asking.Go(func() {
			err := activeOn(ctx, id, node, connect)
			mu.Lock()
			defer mu.Unlock()
			out[node] = err
		})
	}
	asking.Wait()
	return out
}

func activeOn(ctx context.Context, id, node string, connect func(context.Context, string) (transport.Conn, error)) error {
	conn, err := connect(ctx, node)
	if err != nil {
		return err
	}
	r, err := conn.Run(ctx, transport.Command{Script: activeScript, Argv: []string{id}, Timeout: activeTimeout, Own: true})
	if _, killed := errors.AsType[*transport.TimeoutError](err); killed {
		return ErrHangs
	}
	if err != nil {
		return err
	}
	return judge(id, r)
}

// judge reads the answer of activeScript.
func judge(id string, r transport.Result) error {
	said := strings.Join(strings.Fields(string(r.Stderr)), " ")
	switch {
	case r.Exit == 124 && strings.Contains(string(r.Stdout), "@@answers"):
		return nil // another storage hangs, not this one
	case r.Exit == 124:
		return ErrHangs
	case r.Exit != 0:
		return fmt.Errorf("pvesm status: exit %d: %s", r.Exit, said)
	}
	for _, s := range ParseStatus(r.Stdout) {
		switch {
		case s.ID == id && s.Status == "active":
			return nil
		case s.ID == id && said != "":
			return fmt.Errorf("it is %s: %s", s.Status, said)
		case s.ID == id:
			return fmt.Errorf("it is %s", s.Status)
		}
	}
	return errors.New("pvesm status does not show it")
}
