package guest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// What the HA manager does with guests. Each of these runs in its name, as a task of the node.

// serviceOf reads "vm:100" or "ct:201".
func serviceOf(sid string) (*kind, int, error) {
	name, number, _ := strings.Cut(sid, ":")
	id, err := parseID(number)
	switch {
	case err != nil:
	case name == vm.sid:
		return vm, id, nil
	case name == ct.sid:
		return ct, id, nil
	}
	return nil, 0, fmt.Errorf("unable to parse service id '%s'", sid)
}

// service finds the host and the guest of a call.
func (w *World) service(ctx context.Context, node, sid string) (*actor, *kind, int, error) {
	k, id, err := serviceOf(sid)
	if err != nil {
		return nil, nil, 0, err
	}
	h := w.Host(node)
	if h == nil {
		return nil, nil, 0, fmt.Errorf("no such cluster node '%s'", node)
	}
	return h.byDaemon(ctx), k, id, nil
}

// Running reports whether a guest runs on a node.
func (w *World) Running(node, sid string) bool {
	a, _, id, err := w.service(context.Background(), node, sid)
	return err == nil && a.runs(id)
}

// Start starts a guest whose config lies on the node. One that runs already is no error.
func (w *World) Start(ctx context.Context, node, sid string) error {
	a, k, id, err := w.service(ctx, node, sid)
	if err != nil || a.runs(id) {
		return err
	}
	_, err = a.node.Tasks().Background(ctx, &pvetool.Task{Kind: k.task + "start", ID: strconv.Itoa(id)}, worker(func(ctx context.Context, say func(string)) error {
		return a.launch(ctx, k, id, startOptions{}, say)
	}))
	return err
}

// Shutdown stops a guest in order, and by force when timeout is over: 0 is at once, a negative one is the guest's own.
func (w *World) Shutdown(ctx context.Context, node, sid string, timeout time.Duration) error {
	a, k, id, err := w.service(ctx, node, sid)
	if err != nil || !a.runs(id) {
		return err
	}
	name := k.task + "shutdown"
	if timeout == 0 {
		name = k.task + "stop"
	}
	if timeout < 0 {
		conf, err := a.load(k, id)
		if err != nil {
			return err
		}
		timeout = k.defaultShutdown(conf)
	}
	_, err = a.node.Tasks().Background(ctx, &pvetool.Task{Kind: name, ID: strconv.Itoa(id)}, worker(func(ctx context.Context, _ func(string)) error {
		return a.halt(ctx, k, id, timeout, true)
	}))
	return err
}

// Migrate moves a guest with its local disks, a running container by stopping and starting it.
func (w *World) Migrate(ctx context.Context, node, sid, target string, online bool) error {
	a, k, id, err := w.service(ctx, node, sid)
	if err != nil {
		return err
	}
	// The HA manager sets force and with-local-disks for machines (reference §5.5).
	m := &migration{actor: a, k: k, id: id, target: target, online: online, restart: k == ct, force: true, withDisks: true, timeout: time.Minute}
	if err := m.refusal(func(string) {}); err != nil {
		return err
	}
	_, err = a.node.Tasks().Background(ctx, &pvetool.Task{Kind: k.migrateTask(), ID: strconv.Itoa(id)}, worker(m.do))
	return err
}
