package guest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
)

// instance is a running guest.
type instance struct {
	k      *kind
	id     int
	conf   *Config // as it runs; its pending changes are not applied
	daemon *machine.Daemon
	// qemu is the version of QEMU that the machine was made for at its start, and model the processor that it was started
	// on: both travel with a live migration.
	qemu, model string
	started     time.Duration // on the lab's clock
	// incoming machines wait for a migration; paused ones have it and do not run.
	incoming, paused bool
}

// status is what the guest's process says of itself. The lock is held.
func (i *instance) status() string {
	if i.incoming || i.paused {
		return "paused"
	}
	return "running"
}

func (h *Host) statusOf(i *instance) string {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return i.status()
}

// instanceOf returns the process of a guest on the node, or nil.
func (h *Host) instanceOf(id int) *instance {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.running[id]
}

// runs reports whether a process of the guest exists on the node, as Proxmox checks it.
func (h *Host) runs(id int) bool { return h.instanceOf(id) != nil }

func pidFile(id int) string { return fmt.Sprintf("/run/qemu-server/%d.pid", id) }

// group is the guest's control group.
func (i *instance) group() string {
	if i.k == vm {
		return fmt.Sprintf("/sys/fs/cgroup/qemu.slice/%d.scope", i.id)
	}
	return fmt.Sprintf("/sys/fs/cgroup/lxc/%d", i.id)
}

// enter makes a guest's process, with its pid file and control group.
func (h *Host) enter(i *instance) error {
	argv := []string{"/usr/bin/kvm", "-id", strconv.Itoa(i.id), "-name", i.k.nameOf(i.conf, i.id) + ",debug-threads=on", "-pidfile", pidFile(i.id), "-daemonize"}
	if i.k == ct {
		argv = []string{"/usr/bin/lxc-start", "-F", "-n", strconv.Itoa(i.id)}
	}
	daemon, ok := h.m.Spawn(argv, func(sig machine.Signal) { h.ended(i, sig) })
	if !ok {
		return errors.New("the node is going down")
	}
	i.daemon, i.started = daemon, h.m.Clock().Elapsed()
	h.w.mu.Lock()
	h.running[i.id] = i
	h.w.mu.Unlock()
	if err := h.m.FS.MkdirAll(i.group(), 0o755); err != nil {
		return err
	}
	if i.k != vm {
		return nil
	}
	if err := h.m.FS.MkdirAll("/run/qemu-server", 0o755); err != nil {
		return err
	}
	return h.m.FS.WriteFile(pidFile(i.id), []byte(strconv.Itoa(daemon.PID())+"\n"), 0o644)
}

// leave ends a guest's process in order.
func (h *Host) leave(i *instance) {
	h.forget(i)
	if i.k == vm {
		_ = h.m.FS.Remove(pidFile(i.id)) // an unclean end leaves it
	}
	i.daemon.End()
}

// forget takes a guest off the running ones.
func (h *Host) forget(i *instance) {
	h.w.mu.Lock()
	if h.running[i.id] == i {
		delete(h.running, i.id)
	}
	h.w.mu.Unlock()
	_ = h.m.FS.Remove(i.group()) // systemd removes an empty one
}

// ended hears that a guest's process is gone. A killed one leaves its pid file.
func (h *Host) ended(i *instance, sig machine.Signal) {
	if sig != 0 {
		h.forget(i)
	}
}

// powerLost ends all guests at once.
func (h *Host) powerLost() {
	h.w.mu.Lock()
	var all []*instance
	for _, i := range h.running {
		all = append(all, i)
	}
	h.w.mu.Unlock()
	for _, i := range all {
		h.forget(i)
	}
}

// Where names the nodes on which a guest runs now: more than one is what must never be.
func (w *World) Where(id int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for name, h := range w.hosts {
		if i := h.running[id]; i != nil && i.status() == "running" {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Places are the nodes on which each guest that runs now does.
func (w *World) Places() map[int][]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[int][]string{}
	for _, name := range slices.Sorted(maps.Keys(w.hosts)) {
		for id, i := range w.hosts[name].running {
			if i.status() == "running" {
				out[id] = append(out[id], name)
			}
		}
	}
	return out
}

// usedMemory is what the node's running guests may use, in bytes.
func (h *Host) usedMemory() int64 {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	var sum int64
	for _, i := range h.running {
		sum += i.k.memoryOf(i.conf)
	}
	return sum
}

// qemuVersion is that of the node's QEMU: "10.1".
func (h *Host) qemuVersion() string {
	for _, p := range h.node.Release().Packages {
		if p.Name == "pve-qemu-kvm" {
			parts := strings.SplitN(p.Version, ".", 3)
			return parts[0] + "." + parts[1]
		}
	}
	return "9.0"
}

// older compares versions like 9.2 and 10.1.
func older(a, b string) bool {
	x, y := strings.SplitN(a, ".", 2), strings.SplitN(b, ".", 2)
	for n := range 2 {
		p, _ := strconv.Atoi(x[n])
		q, _ := strconv.Atoi(y[n])
		if p != q {
			return p < q
		}
	}
	return false
}

// startOptions are what a start is told besides the guest.
type startOptions struct {
	skipLock bool
	// incoming starts wait for a migration from another node, whose config is used.
	incoming    string
	qemu, model string
	// storages says where the volumes are that come with a migration.
	storages func(storage string) string
}

// startTime is how long a guest takes until it runs.
const startTime = 1200 * time.Millisecond

// errQEMU is what a start dies of when QEMU refuses; the reasons are printed before.
var errQEMU = errors.New("start failed: QEMU exited with code 1")

// launch starts a guest: checks, storages, network, memory, process. say prints a line.
func (a *actor) launch(ctx context.Context, k *kind, id int, o startOptions, say func(string)) error {
	from := a.name
	if o.incoming != "" {
		from = o.incoming
	}
	text, err := a.view.ReadFile(configPath(k, from, id))
	if err != nil {
		return &missing{k, from, id}
	}
	c := ParseConfig(string(text))
	switch {
	case c.is("template") && k == vm:
		return errors.New("you can't start a vm if it's a template")
	case c.is("template"):
		return errors.New("you can't start a CT if it's a template")
	case a.runs(id):
		return fmt.Errorf("%s %d already running", k.noun, id)
	}
	if err := locked(k, c); err != nil && !o.skipLock {
		return err
	}
	if o.incoming == "" && len(c.Pending)+len(c.Deleted) > 0 {
		c.applyPending()
		if err := a.store(k, id, c); err != nil {
			return err
		}
	}
	if err := a.activate(ctx, k, c, o.storages); err != nil {
		return err
	}
	if err := a.node.Phase(ctx, "guest:start", startTime); err != nil {
		return err
	}
	i := &instance{k: k, id: id, conf: c, qemu: o.qemu, model: o.model, incoming: o.incoming != ""}
	if i.qemu == "" {
		i.qemu, i.model = a.qemuVersion(), a.cpuModel()
	}
	if err := a.fits(i, say); err != nil {
		return err
	}
	return a.enter(i)
}

// activate makes sure that the guest's volumes can be reached.
func (a *actor) activate(ctx context.Context, k *kind, c *Config, moved func(string) string) error {
	all := a.storages()
	a.w.mu.Lock()
	usable := a.w.usable
	a.w.mu.Unlock()
	for _, d := range k.drivesOf(c.Values) {
		sid, _, ok := d.volume()
		if !ok || d.unused || d.file == "none" {
			continue
		}
		if moved != nil {
			sid = moved(sid)
		}
		if err := checkStorage(all, sid, a.name); err != nil {
			return err
		}
		if usable != nil {
			if err := usable(ctx, a.node, sid); err != nil {
				return err
			}
		}
	}
	return nil
}

// fits are the reasons for which QEMU or LXC does not start a guest on the node.
func (a *actor) fits(i *instance, say func(string)) error {
	failed := errQEMU
	if i.k == ct {
		failed = fmt.Errorf("startup for container '%d' failed", i.id)
	}
	if i.k == vm && older(a.qemuVersion(), i.qemu) {
		return fmt.Errorf("Installed QEMU version '%s' is too old to run machine type 'pc-i440fx-%s+pve0', please upgrade node '%s'", a.qemuVersion(), i.qemu, a.name) //nolint:staticcheck // Proxmox's words
	}
	if i.k == vm && !a.hasFeatures(i) {
		say("kvm: Host doesn't support requested features")
		return failed
	}
	for key, value := range i.conf.Values {
		bridge := properties(value)["bridge"]
		if !strings.HasPrefix(key, "net") || bridge == "" || a.hasBridge(bridge) {
			continue
		}
		say(fmt.Sprintf("bridge '%s' does not exist", bridge))
		if i.k == vm {
			say(fmt.Sprintf("kvm: -netdev type=tap,id=%s,ifname=tap%di%s: network script /usr/libexec/qemu-server/pve-bridge failed with status 512", key, i.id, key[3:]))
		}
		return failed
	}
	if free := a.totalMemory() - a.usedMemory(); i.k == vm && i.k.memoryOf(i.conf) > free {
		say("kvm: cannot set up guest memory 'pc.ram': Cannot allocate memory")
		return failed
	}
	return nil
}

// hasFeatures reports whether the node's processors have what the machine's has: with "host" all of the one that it was
// started on, with x86-64-vN those of that level.
func (h *Host) hasFeatures(i *instance) bool {
	opts := properties(i.conf.Values["cpu"])
	kind := opts[""] + opts["cputype"]
	model, level := h.m.CPU()
	if kind == "host" {
		return i.model == model
	}
	if rest, ok := strings.CutPrefix(kind, "x86-64-v"); ok {
		number, _, _ := strings.Cut(rest, "-") // x86-64-v2-AES
		want, _ := strconv.Atoi(number)
		return want <= level
	}
	return true
}

func (h *Host) hasBridge(name string) bool {
	return slices.ContainsFunc(h.m.Interfaces(), func(i machine.Interface) bool { return i.Name == name })
}

// totalMemory is the machine's memory in bytes, as /proc/meminfo has it.
func (h *Host) totalMemory() int64 {
	text, _ := h.m.FS.ReadFile("/proc/meminfo")
	for line := range strings.SplitSeq(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// shutdownTime is how long a guest that listens takes to shut down.
const shutdownTime = 5 * time.Second

// halt shuts a guest down; after the timeout it is killed if force is set, else that fails. A timeout of 0 kills at once.
func (a *actor) halt(ctx context.Context, k *kind, id int, timeout time.Duration, force bool) error {
	i := a.instanceOf(id)
	if i == nil {
		return nil
	}
	a.w.mu.Lock()
	deaf := a.w.deaf[id]
	a.w.mu.Unlock()
	switch {
	case timeout == 0:
		timeout = 300 * time.Millisecond
	case deaf:
		if err := a.m.Sleep(ctx, timeout); err != nil {
			return err
		}
		if !force {
			return haltFailed(k, id)
		}
		timeout = 300 * time.Millisecond
	case timeout < shutdownTime && !force:
		if err := a.m.Sleep(ctx, timeout); err != nil {
			return err
		}
		return haltFailed(k, id)
	default:
		timeout = min(timeout, shutdownTime)
	}
	if err := a.node.Phase(ctx, "guest:stop", timeout); err != nil {
		return err
	}
	if a.instanceOf(id) == i {
		a.leave(i)
	}
	return nil
}

func haltFailed(k *kind, id int) error {
	if k == vm {
		return errors.New("VM quit/powerdown failed - got timeout")
	}
	return fmt.Errorf("command 'lxc-stop -n %d --timeout' failed: exit code 1", id)
}
