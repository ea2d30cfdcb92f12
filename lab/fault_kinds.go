package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/vfs"
)

// faultKind is how a kind of fault happens.
type faultKind struct {
	FaultKind
	needsTarget bool
	// inProgram faults make a program fail: they need a trigger in one.
	inProgram bool
	// strike makes it happen and returns how to undo it, if it can be undone.
	strike func(ctx context.Context, l *Lab, h *host, f Fault) (undo func() error, err error)
}

// FaultKinds lists what can go wrong in a lab, by name.
func FaultKinds() []FaultKind {
	var out []FaultKind
	for _, name := range faultNames() {
		out = append(out, faultKinds[name].FaultKind)
	}
	return out
}

func faultNames() []string { return slices.Sorted(maps.Keys(faultKinds)) }

// faultKinds is the table of all faults by name.
var faultKinds = allFaults()

func allFaults() map[string]faultKind {
	table := map[string]faultKind{}
	add := func(name, summary, value string, target bool, strike func(context.Context, *Lab, *host, Fault) (func() error, error)) {
		table[name] = faultKind{FaultKind: FaultKind{Name: name, Summary: summary, Value: value}, needsTarget: target, strike: strike}
	}
	add("stale-authkey", "a corosync key of an earlier life lies on the node", "", true, staleAuthkey)
	add("foreign-conf", "a corosync.conf of another cluster lies in /etc/pve", "the cluster's name; other without", true, foreignConf)
	add("stale-nssdb", "a QDevice's certificates of an earlier life lie on the node", "", true, staleCertificates)
	add("guests", "the node holds virtual guests", "ids, separated by commas", true, addGuests)
	add("link-missing", "an address of the node is on no interface", "the address; the last link without", true, linkMissing)
	add("link-down", "an interface of the node is down", "its address; the last link without", true, linkDown)
	add("quorum-hang", "corosync's packets to and from the node are dropped: a join waits for quorum forever", "", true, muteCorosync)
	add("partition", "the network falls apart", "groups of hosts: pve1,pve2|pve3", false, partition)
	add("rtt", "packets to and from the node take long", "a duration", true, slowPath)
	add("mtu", "packets to and from the node must be smaller", "bytes", true, smallPath)
	add("skew", "the node's clock is wrong", "a duration, which may be negative", true, skewClock)
	add("version", "the node runs another version of Proxmox VE", "like 8.4.1", true, otherVersion)
	add("power-off", "the node loses its power", "", true, powerOff)
	add("reboot", "the node restarts in order", "", true, reboot)
	add("corosync-down", "corosync dies on the node", "", true, corosyncDown)
	add("cfs-lock", "somebody holds a lock of the cluster file system and renews it", "the lock; file-corosync_conf without", true, holdLock)
	add("pmxcfs-hang", "reads and writes in /etc/pve never end", "", true, hangPmxcfs)
	add("disk-full", "no more can be written", "", true, fillDisk)
	add("cut-ssh", "all SSH connections to the node drop", "", true, cutSSH)
	add("sshd-hang", "sshd takes connections and says nothing", "", true, hangSSH)
	add("sshd-refuse", "sshd does not run", "", true, refuseSSH)
	add("ssh-penalties", "sshd closes connections of addresses whose logins it refused", "", true, penalties)
	add("key-changed", "the node has other host keys than before", "", true, changeKeys)
	add("banner", "the shell prints something before every command", "the text", true, shellBanner)
	add("sudo-refused", "sudo lets nobody do anything", "", true, refuseSudo)
	fail := func(name, summary, value string, strike func(context.Context, *Lab, *host, Fault) (func() error, error)) {
		table[name] = faultKind{FaultKind: FaultKind{Name: name, Summary: summary, Value: value}, inProgram: true, strike: strike}
	}
	fail("fail", "a program prints an error and fails", "[exit status:]text; the status is 1 without", failProgram)
	fail("lie", "a program prints an error and exits 0", "the text", lieProgram)
	fail("die", "a program ends where it is, as when it is killed", "", dieProgram)
	fail("slow", "a program takes longer", "a duration", slowProgram)
	fail("hang", "a program never ends", "", hangProgram)
	return table
}

func staleAuthkey(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	const name = "/etc/corosync/authkey"
	key := make([]byte, 256)
	h.machine.Random(key)
	err := errors.Join(h.machine.FS.MkdirAll("/etc/corosync", 0o755), h.machine.FS.WriteFile(name, key, 0o400))
	return func() error { return h.machine.FS.Remove(name) }, err
}

func foreignConf(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	name := f.Value
	if name == "" {
		name = "other"
	}
	conf := cluster.NewConf(cluster.CreateOptions{
		Name: name, TokenCoefficient: -1, Node: cluster.ConfNode{Name: "elsewhere", ID: 1, Votes: 1, Rings: map[int]string{0: "198.51.100.1"}},
	})
	const path = "/etc/pve/corosync.conf"
	err := h.machine.FS.WriteFile(path, []byte(conf.String()), 0o640)
	return func() error { return h.machine.FS.Remove(path) }, err
}

func staleCertificates(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	const dir = "/etc/corosync/qdevice"
	err := errors.Join(
		h.machine.FS.MkdirAll(dir+"/net/nssdb", 0o755), h.machine.FS.WriteFile(dir+"/net/nssdb/noise.txt", []byte("old\n"), 0o600))
	return func() error { return h.machine.FS.RemoveAll(dir) }, err
}

func addGuests(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	node := l.world.Node(h.spec.Name)
	if node == nil {
		return nil, fmt.Errorf("%s is no Proxmox node", h.spec.Name)
	}
	value := f.Value
	if value == "" {
		value = "100"
	}
	var ids []int
	for part := range strings.SplitSeq(value, ",") {
		id, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return nil, fmt.Errorf("guest %q: %w", part, err)
		}
		ids = append(ids, id)
		if err := node.AddGuest(id); err != nil {
			return nil, err
		}
	}
	return func() error {
		var failed error
		for _, id := range ids {
			failed = errors.Join(failed, h.machine.FS.Remove(fmt.Sprintf("/etc/pve/nodes/%s/qemu-server/%d.conf", h.spec.Name, id)))
		}
		return failed
	}, nil
}

// interfaceOf finds the interface that has an address; without one, the last.
func interfaceOf(m *machine.Machine, addr string) (list []machine.Interface, at int, err error) {
	list = m.Interfaces()
	if addr == "" {
		return list, len(list) - 1, nil
	}
	for i, one := range list {
		for _, p := range one.Addrs {
			if p.Addr().String() == addr {
				return list, i, nil
			}
		}
	}
	return nil, 0, fmt.Errorf("no interface of %s has the address %s", m.Name(), addr)
}

func linkMissing(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	before, at, err := interfaceOf(h.machine, f.Value)
	if err != nil {
		return nil, err
	}
	after := slices.Clone(before)
	after[at].Addrs = nil
	h.machine.SetInterfaces(after)
	l.world.NetworkChanged()
	return func() error { h.machine.SetInterfaces(before); l.world.NetworkChanged(); return nil }, nil
}

func linkDown(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	list, at, err := interfaceOf(h.machine, f.Value)
	if err != nil {
		return nil, err
	}
	set := func(down bool) error {
		h.machine.SetInterfaceDown(list[at].Name, down)
		l.world.NetworkChanged()
		return nil
	}
	return func() error { return set(false) }, set(true)
}

func muteCorosync(_ context.Context, l *Lab, h *host, _ Fault) (func() error, error) {
	set := func(on bool) error {
		l.net.change(func(n *network) { n.mute[h.spec.Name] = on })
		l.world.NetworkChanged()
		return nil
	}
	return func() error { return set(false) }, set(true)
}

func partition(_ context.Context, l *Lab, _ *host, f Fault) (func() error, error) {
	parts := map[string]int{}
	for i, group := range strings.Split(f.Value, "|") {
		for name := range strings.SplitSeq(group, ",") {
			h := l.net.host(strings.TrimSpace(name))
			if h == nil {
				return nil, fmt.Errorf("no host %q in the lab", name)
			}
			parts[h.spec.Name] = i + 1
		}
	}
	set := func(parts map[string]int) error {
		l.net.change(func(n *network) { n.parts = parts })
		l.world.NetworkChanged()
		return nil
	}
	return func() error { return set(map[string]int{}) }, set(parts)
}

func slowPath(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	d, err := time.ParseDuration(f.Value)
	if err != nil {
		return nil, err
	}
	l.net.change(func(n *network) { n.rtt[h.spec.Name] = d })
	l.world.NetworkChanged()
	return func() error {
		l.net.change(func(n *network) { delete(n.rtt, h.spec.Name) })
		l.world.NetworkChanged()
		return nil
	}, nil
}

func smallPath(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	bytes, err := strconv.Atoi(f.Value)
	if err != nil {
		return nil, err
	}
	before := h.machine.Interfaces()
	after := slices.Clone(before)
	for i := range after {
		after[i].MTU = bytes
	}
	h.machine.SetInterfaces(after)
	l.net.change(func(n *network) { n.mtu[h.spec.Name] = bytes })
	l.world.NetworkChanged()
	return func() error {
		h.machine.SetInterfaces(before)
		l.net.change(func(n *network) { delete(n.mtu, h.spec.Name) })
		l.world.NetworkChanged()
		return nil
	}, nil
}

func skewClock(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	d, err := time.ParseDuration(f.Value)
	if err != nil {
		return nil, err
	}
	before := h.machine.Skew()
	h.machine.SetSkew(d)
	return func() error { h.machine.SetSkew(before); return nil }, nil
}

func otherVersion(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	node := l.world.Node(h.spec.Name)
	if node == nil {
		return nil, fmt.Errorf("%s is no Proxmox node", h.spec.Name)
	}
	before := node.View().PVE
	return func() error { return setVersion(h, node, before) }, setVersion(h, node, f.Value)
}

func powerOff(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	h.machine.PowerOff()
	return func() error { h.machine.PowerOn(); return nil }, nil
}

func reboot(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	h.machine.Reboot()
	return nil, nil //nolint:nilnil // it undoes itself
}

func corosyncDown(ctx context.Context, l *Lab, h *host, _ Fault) (func() error, error) {
	node := l.world.Node(h.spec.Name)
	if node == nil {
		return nil, fmt.Errorf("%s is no Proxmox node", h.spec.Name)
	}
	node.CrashCorosync()
	return func() error { return h.machine.StartUnit(ctx, "corosync") }, nil
}

func holdLock(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	node := l.world.Node(h.spec.Name)
	if node == nil {
		return nil, fmt.Errorf("%s is no Proxmox node", h.spec.Name)
	}
	id := f.Value
	if id == "" {
		id = "file-corosync_conf"
	}
	return node.HoldLock(id)
}

// hangPmxcfs blocks everything below /etc/pve until the asking program is ended.
func hangPmxcfs(_ context.Context, l *Lab, h *host, _ Fault) (func() error, error) {
	return h.fileFault(func(ctx context.Context, _ vfs.Op, path string) error {
		if path != "/etc/pve" && !strings.HasPrefix(path, "/etc/pve/") {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-l.ctx.Done():
		}
		return syscall.EINTR
	}), nil
}

// fillDisk refuses what would take room. What lives in memory (/run, /dev, /proc) and pmxcfs are not on the disk.
func fillDisk(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	return h.fileFault(func(_ context.Context, op vfs.Op, path string) error {
		if op != vfs.OpCreate && op != vfs.OpWrite && op != vfs.OpMkdir && op != vfs.OpSymlink {
			return nil
		}
		for _, memory := range []string{"/run/", "/dev/", "/proc/", "/sys/", "/etc/pve/"} {
			if strings.HasPrefix(path, memory) {
				return nil
			}
		}
		return syscall.ENOSPC
	}), nil
}

func cutSSH(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	h.dropConnections()
	return nil, nil //nolint:nilnil // clients connect again by themselves
}

func hangSSH(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	h.setHanging(true)
	return func() error { h.setHanging(false); return nil }, nil
}

func refuseSSH(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	h.setRefusing(true)
	return func() error { h.setRefusing(false); return nil }, nil
}

func penalties(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	h.setPenalties(true)
	return func() error { h.setPenalties(h.penalises(h.codename)); return nil }, nil
}

func changeKeys(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	return h.changeHostKeys()
}

// shellBanner makes root's shells talk before they do anything, as a careless .bashrc does.
func shellBanner(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	text := f.Value
	if text == "" {
		text = "Welcome to " + h.spec.Name + "!"
	}
	h.setShellBanner(text)
	return func() error { h.setShellBanner(""); return nil }, nil
}

func refuseSudo(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	saved := map[string][]byte{}
	list, err := h.machine.FS.ReadDir("/etc/sudoers.d")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	names := []string{"/etc/sudoers"}
	for _, entry := range list {
		names = append(names, "/etc/sudoers.d/"+entry.Name)
	}
	for _, name := range names {
		content, err := h.machine.FS.ReadFile(name)
		if err != nil {
			return nil, err
		}
		saved[name] = content
		if err := h.machine.FS.WriteFile(name, []byte("# nobody\n"), 0o440); err != nil {
			return nil, err
		}
	}
	return func() error {
		var failed error
		for name, content := range saved {
			failed = errors.Join(failed, h.machine.FS.WriteFile(name, content, 0o440))
		}
		return failed
	}, nil
}

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

func hangProgram(ctx context.Context, _ *Lab, _ *host, _ Fault) (func() error, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// isolated reports whether the outside does not reach the host. A partition separates hosts from each other, not from
// whoever drives them.
func (h *host) isolated() bool {
	return len(h.machine.Interfaces()) == 0 || !h.machine.Owns(netip.MustParseAddr(h.spec.Address))
}
