package ha

import (
	"strings"
	"sync"
	"time"
)

// The watchdog's files (reference §5.8).
const (
	watchdogUnit     = "watchdog-mux.service"
	watchdogSocket   = "/run/watchdog-mux.sock"
	watchdogMarker   = "/run/watchdog-mux.active"
	watchdogDefaults = "/etc/default/pve-ha-manager"
	watchdogIdentity = "/sys/class/watchdog/watchdog0/identity"
)

// The watchdog's times.
const (
	clientTimeout   = 60 * time.Second
	clientWarning   = 50 * time.Second
	hardwareTimeout = 10 * time.Second
)

// watchdog is watchdog-mux of a node with the device behind it: clients that stop updating take the machine down.
type watchdog struct {
	stack *Stack

	mu      sync.Mutex
	clients map[string]*watchdogClient
	firing  bool // the device is no longer fed
	stop    func() bool
}

type watchdogClient struct{ warn, expire func() bool }

// update opens or feeds the watchdog in a client's name. It fails where watchdog-mux does not run.
func (w *watchdog) update(client string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stack.machine.UnitActive(watchdogUnit) {
		if len(w.clients) > 0 {
			w.fire() // it was killed: nobody feeds the device
		}
		return false
	}
	if len(w.clients) == 0 {
		_ = w.stack.machine.FS.Mkdir(watchdogMarker, 0o700) // it may be there
	}
	if old := w.clients[client]; old != nil {
		old.cancel()
	}
	c := &watchdogClient{}
	c.warn = w.stack.clock.AfterFunc(clientWarning, func() {
		w.stack.node.Log("watchdog-mux", "client watchdog is about to expire")
	})
	c.expire = w.stack.clock.AfterFunc(clientTimeout, func() { w.expired(client, c) })
	w.clients[client] = c
	return true
}

// expired is the end of a client's time, unless it has renewed it in the last moment.
func (w *watchdog) expired(client string, c *watchdogClient) {
	starved := w.stack.starved(client)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.clients[client] != c:
	case starved:
		c.expire = w.stack.clock.AfterFunc(time.Second, func() { w.expired(client, c) })
	default:
		w.stack.node.Log("watchdog-mux", "client watchdog expired - disable watchdog updates")
		w.fire()
	}
}

func (c *watchdogClient) cancel() {
	c.warn()
	c.expire()
}

// close lets a client go in order.
func (w *watchdog) close(client string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.clients[client]
	if c == nil {
		return
	}
	c.cancel()
	delete(w.clients, client)
	w.stack.node.Log("pve-ha-"+client, "watchdog closed (disabled)")
	if len(w.clients) == 0 {
		_ = w.stack.machine.FS.RemoveAll(watchdogMarker) // gone is as good
	}
}

// fire stops feeding the device, which then resets the machine. The caller holds the lock.
func (w *watchdog) fire() {
	if w.firing {
		return
	}
	w.firing = true
	w.stop = w.stack.clock.AfterFunc(hardwareTimeout, func() {
		w.stack.machine.PowerOff()
		w.stack.machine.PowerOn()
	})
}

// forget is the end of everything with the power.
func (w *watchdog) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.clients {
		c.cancel()
	}
	clear(w.clients)
	if w.stop != nil {
		w.stop()
	}
	w.firing, w.stop = false, nil
}

// muxStarted makes what watchdog-mux makes when it starts: its socket, with the device of the module that is configured.
func (w *watchdog) muxStarted() error {
	fs := w.stack.machine.FS
	if err := fs.WriteFile(watchdogSocket, nil, 0o600); err != nil {
		return err
	}
	module := "softdog"
	if text, err := fs.ReadFile(watchdogDefaults); err == nil {
		for line := range strings.SplitSeq(string(text), "\n") {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), "WATCHDOG_MODULE="); ok && value != "" {
				module = strings.Trim(value, `"'`)
			}
		}
	}
	if err := fs.MkdirAll("/sys/class/watchdog/watchdog0", 0o755); err != nil {
		return err
	}
	return fs.WriteFile(watchdogIdentity, []byte(identityOf(module)+"\n"), 0o444)
}

// identityOf is what the device of a kernel module calls itself.
func identityOf(module string) string {
	switch module {
	case "softdog":
		return "Software Watchdog"
	case "ipmi_watchdog":
		return "IPMI"
	case "hpwdt":
		return "HPE iLO2+ HW Watchdog Timer"
	}
	return module // iTCO_wdt and others use their names
}

// muxStopped is the stop of watchdog-mux. With clients connected the device stays armed and unfed.
func (w *watchdog) muxStopped() {
	w.mu.Lock()
	defer w.mu.Unlock()
	_ = w.stack.machine.FS.RemoveAll(watchdogSocket) // gone is as good
	if len(w.clients) > 0 {
		w.stack.node.Log("watchdog-mux", "exit watchdog-mux with active connections")
		w.fire()
	}
}
