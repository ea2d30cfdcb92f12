package guest

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/sourcegraph/conc"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// worker adapts a function that says lines to a task's.
func worker(work func(ctx context.Context, say func(string)) error) func(context.Context, io.Writer) error {
	return func(ctx context.Context, out io.Writer) error {
		return work(ctx, func(line string) { fmt.Fprintln(out, line) })
	}
}

// start is qm start and pct start. With migratedfrom it makes a machine that waits for a migration.
func start(ctx context.Context, c *call) int {
	o := startOptions{skipLock: c.o.Is("skiplock"), incoming: c.o.Values["migratedfrom"], qemu: c.o.Values["machine"], model: c.o.Values["forcecpu"]}
	if where := c.o.Values["targetstorage"]; where != "" {
		o.storages = parseStorageMap(where).of
	}
	if o.incoming != "" && c.o.Values["stateuri"] == "" {
		o.incoming = "" // an offline guest is started on its new node
	}
	if o.incoming == "" {
		if _, err := c.load(c.k, c.id); err != nil {
			return c.fail(err)
		}
		if !o.skipLock && c.managed(c.k, c.id) {
			return c.requestHA(ctx, "hastart", fmt.Sprintf("Requesting HA start for %s %d", c.k.noun, c.id), "set", c.sid(), "--state", "started")
		}
		if c.k == ct && c.runs(c.id) {
			return c.fail(fmt.Errorf("CT %d already running", c.id))
		}
	}
	return c.task(ctx, c.k.task+"start", func(ctx context.Context, say func(string)) error {
		return c.launch(ctx, c.k, c.id, o, say)
	})
}

// defaultShutdown is how long a shutdown waits for the guest.
func (k *kind) defaultShutdown(c *Config) time.Duration {
	if k == ct {
		return 60 * time.Second
	}
	if down := properties(c.Values["startup"])["down"]; down != "" {
		if n, err := strconv.Atoi(down); err == nil {
			return time.Duration(n) * time.Second
		}
	}
	return 180 * time.Second
}

// stop is qm stop and pct stop.
func stop(ctx context.Context, c *call) int {
	conf, err := c.load(c.k, c.id)
	if err != nil && c.o.Values["migratedfrom"] == "" {
		return c.fail(c.noGuest())
	}
	if err == nil && !c.o.Is("skiplock") {
		if c.managed(c.k, c.id) {
			return c.requestHA(ctx, "hastop", fmt.Sprintf("Requesting HA stop for %s %d", c.k.noun, c.id), "crm-command", "stop", c.sid(), "0")
		}
		if c.k == ct && !c.runs(c.id) {
			return c.fail(fmt.Errorf("CT %d not running", c.id))
		}
	}
	return c.task(ctx, c.k.task+"stop", func(ctx context.Context, _ func(string)) error {
		if conf != nil && !c.o.Is("skiplock") {
			if err := locked(c.k, conf); err != nil {
				return err
			}
		}
		return c.halt(ctx, c.k, c.id, 0, true)
	})
}

// shutdown is qm shutdown and pct shutdown.
func shutdown(ctx context.Context, c *call) int {
	conf, err := c.load(c.k, c.id)
	if err != nil {
		return c.fail(c.noGuest())
	}
	timeout := c.k.defaultShutdown(conf)
	if _, ok := c.o.Values["timeout"]; ok {
		timeout = time.Duration(c.o.Int("timeout")) * time.Second
	}
	if !c.o.Is("skiplock") && c.managed(c.k, c.id) {
		return c.requestHA(ctx, "hashutdown", fmt.Sprintf("Requesting HA stop for %s %d", c.k.noun, c.id), "crm-command", "stop", c.sid(), strconv.Itoa(int(timeout.Seconds())))
	}
	if c.k == ct && !c.runs(c.id) {
		return c.fail(fmt.Errorf("CT %d not running", c.id))
	}
	return c.task(ctx, c.k.task+"shutdown", func(ctx context.Context, _ func(string)) error {
		if err := locked(c.k, conf); err != nil && !c.o.Is("skiplock") {
			return err
		}
		return c.halt(ctx, c.k, c.id, max(timeout, time.Millisecond), c.o.Is("forceStop"))
	})
}

// boot starts the guests that are to start with the node, in the background: pve-guests waits for the quorum first.
func (h *Host) boot(context.Context) error {
	h.m.Work([]string{"/usr/bin/perl", "-T", "/usr/bin/pvesh", "--nooutput", "create", "/nodes/localhost/startall"}, func(ctx context.Context) {
		h.startAll(ctx, false, nil)
	})
	return nil
}

// startAll starts the guests of the node, only those with onboot unless force is set, and only those named if any are.
func (h *Host) startAll(ctx context.Context, force bool, only map[int]bool) {
	for !h.node.Writable() {
		if h.m.Sleep(ctx, time.Second) != nil {
			return
		}
	}
	a := h.byDaemon(ctx)
	_, _ = h.node.Tasks().Background(ctx, &pvetool.Task{Kind: "startall"}, worker(func(ctx context.Context, say func(string)) error {
		for _, k := range []*kind{vm, ct} {
			for _, id := range a.ids(k, a.name) {
				conf, err := a.load(k, id)
				if err != nil || !conf.is("onboot") && !force || conf.is("template") || a.managed(k, id) || a.runs(id) || only != nil && !only[id] {
					continue
				}
				say(fmt.Sprintf("Starting %s %d", k.noun, id))
				_, err = h.node.Tasks().Background(ctx, &pvetool.Task{Kind: k.task + "start", ID: strconv.Itoa(id)}, worker(func(ctx context.Context, say func(string)) error {
					return a.launch(ctx, k, id, startOptions{}, say)
				}))
				if err != nil {
					say(fmt.Sprintf("Starting %s %d failed: %s", k.noun, id, err))
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
		}
		return nil
	}))
}

// shutdown stops the guests before the node goes down: all that run and that the HA manager does not look after.
func (h *Host) shutdown(context.Context) error {
	done := make(chan struct{})
	if h.m.Work([]string{"/usr/bin/perl", "-T", "/usr/bin/pvesh", "--nooutput", "create", "/nodes/localhost/stopall"}, func(ctx context.Context) {
		defer close(done)
		h.stopAll(ctx, 180*time.Second, nil)
	}) {
		<-done
	}
	return nil
}

func (h *Host) stopAll(ctx context.Context, timeout time.Duration, only map[int]bool) {
	a := h.byDaemon(ctx)
	h.w.mu.Lock()
	var all []*instance
	for _, i := range h.running {
		if only == nil || only[i.id] {
			all = append(all, i)
		}
	}
	h.w.mu.Unlock()
	_, _ = h.node.Tasks().Background(ctx, &pvetool.Task{Kind: "stopall"}, worker(func(ctx context.Context, say func(string)) error {
		var stopping conc.WaitGroup
		for _, i := range all {
			if a.managed(i.k, i.id) {
				continue
			}
			say(fmt.Sprintf("Stopping %s %d (timeout = %d seconds)", i.k.noun, i.id, int(timeout.Seconds())))
			stopping.Go(func() {
				_ = a.halt(ctx, i.k, i.id, timeout, true) // force leaves nothing behind
			})
		}
		stopping.Wait()
		return ctx.Err()
	}))
}
