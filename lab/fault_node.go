package lab

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/vfs"
)

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
	const dir, store = "/etc/corosync/qdevice", "/etc/corosync/qdevice/net/nssdb/"
	err := h.machine.FS.MkdirAll(dir+"/net/nssdb", 0o755)
	for _, name := range []string{"noise.txt", "cert9.db", "node.crt"} {
		err = errors.Join(err, h.machine.FS.WriteFile(store+name, []byte("authority of an earlier life\n"), 0o600))
	}
	return func() error { return h.machine.FS.RemoveAll(dir) }, err
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

// hangPmxcfs blocks everything below /etc/pve until the asking program is ended, or until the fault is cleared: then what has
// waited for an answer gets it.
func hangPmxcfs(_ context.Context, l *Lab, h *host, _ Fault) (func() error, error) {
	answers := make(chan struct{})
	clear := h.fileFault(vfs.Fault{Below: "/etc/pve", Ask: func(ctx context.Context, _ vfs.Op, _ string) error {
		select {
		case <-answers:
			return nil
		case <-ctx.Done():
		case <-l.ctx.Done():
		}
		return syscall.EINTR
	}})
	return func() error {
		defer close(answers)
		return clear()
	}, nil
}

// fillDisk refuses what would take room. What lives in memory (/run, /dev, /proc) and pmxcfs are not on the disk.
func fillDisk(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	return h.fileFault(vfs.Fault{Ask: func(_ context.Context, op vfs.Op, path string) error {
		if op != vfs.OpCreate && op != vfs.OpWrite && op != vfs.OpMkdir && op != vfs.OpSymlink {
			return nil
		}
		for _, memory := range []string{"/run/", "/dev/", "/proc/", "/sys/", "/etc/pve/"} {
			if strings.HasPrefix(path, memory) {
				return nil
			}
		}
		return syscall.ENOSPC
	}}), nil
}
