package lab

import (
	"context"
	"fmt"
	"strings"

	"github.com/pxrun/pxrun/lab/disk"
)

// cephFaults are those of Ceph and of disks.
func cephFaults(add func(name, summary, value string, target bool, strike func(context.Context, *Lab, *host, Fault) (func() error, error))) {
	add("ceph-hang", "no client of Ceph on the node gets through to a monitor: its commands hang", "", true, hangCeph)
	add("osd-crash", "an OSD dies; systemd starts it again", "its number", false, crashOSD)
	add("osd-down", "an OSD dies and does not start again: its disk is broken", "its number", false, breakOSD)
	add("ceph-flag", "somebody has set a flag", "the flag, and the host if it is for one only: noout or noout=pve1; noout without", false, setCephFlag)
	add("pg-stuck", "a placement group never gets clean", "the pool", false, stickPG)
	add("mon-lost", "the store of the node's monitor is gone", "", true, loseMon)
	add("mon-name", "the node's monitor has another name than the node", "the name", true, renameMon)
	add("crush-name", "the node's host in the CRUSH map has another name", "the name", true, renameCrushHost)
	add("disk-busy", "something holds a disk of the node", "the disk", true, holdDisk)
	add("disk-used", "something lies on a disk of the node", "the disk and what: ata-A1=ext4, one of "+strings.Join(disk.Contents, ", "), true, useDisk)
	add("disk-swap", "a disk of the node was replaced by another", "the disk and the other one's name: ata-A1=ata-Z9", true, swapDisk)
}

func hangCeph(_ context.Context, l *Lab, h *host, _ Fault) (func() error, error) {
	return func() error { return l.ceph.SetDeaf(h.spec.Name, false) }, l.ceph.SetDeaf(h.spec.Name, true)
}

func crashOSD(_ context.Context, l *Lab, _ *host, f Fault) (func() error, error) {
	return nil, l.ceph.KillOSD(f.Value, false)
}

func breakOSD(_ context.Context, l *Lab, _ *host, f Fault) (func() error, error) {
	return func() error { return l.ceph.RepairOSD(l.ctx, f.Value) }, l.ceph.KillOSD(f.Value, true)
}

func setCephFlag(_ context.Context, l *Lab, _ *host, f Fault) (func() error, error) {
	flag, who, _ := strings.Cut(f.Value, "=")
	if flag == "" {
		flag = "noout"
	}
	return func() error { return l.ceph.SetFlag(flag, who, false) }, l.ceph.SetFlag(flag, who, true)
}

func stickPG(_ context.Context, l *Lab, _ *host, f Fault) (func() error, error) {
	return func() error { return l.ceph.SetStuck(f.Value, false) }, l.ceph.SetStuck(f.Value, true)
}

func loseMon(_ context.Context, l *Lab, h *host, _ Fault) (func() error, error) {
	return nil, l.ceph.LoseMon(h.spec.Name)
}

func renameMon(ctx context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	if f.Value == "" {
		return nil, fmt.Errorf("mon-name needs the name that the monitor shall have")
	}
	return func() error { return l.ceph.RenameMon(l.ctx, h.spec.Name, h.spec.Name) }, l.ceph.RenameMon(ctx, h.spec.Name, f.Value)
}

func renameCrushHost(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	return func() error { return l.ceph.RenameHost(f.Value, h.spec.Name) }, l.ceph.RenameHost(h.spec.Name, f.Value)
}

// diskOf finds the disk that a value names: by its name in /dev/disk/by-id or in /dev. The rest follows an equals sign.
func diskOf(h *host, value string) (name, rest string, err error) {
	which, rest, _ := strings.Cut(value, "=")
	if h.disks == nil {
		return "", "", fmt.Errorf("%s is no Proxmox node", h.spec.Name)
	}
	path, ok := h.disks.Path(which)
	if !ok {
		return "", "", fmt.Errorf("%s has no disk %q", h.spec.Name, which)
	}
	return strings.TrimPrefix(path, "/dev/"), rest, nil
}

func holdDisk(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	name, _, err := diskOf(h, f.Value)
	if err != nil {
		return nil, err
	}
	h.disks.SetHolder(name, "somebody")
	return func() error { h.disks.SetHolder(name, ""); return nil }, nil
}

func useDisk(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	name, content, err := diskOf(h, f.Value)
	if err != nil {
		return nil, err
	}
	return func() error { h.disks.Clear(name); return nil }, h.disks.Put(name, content)
}

func swapDisk(_ context.Context, l *Lab, h *host, f Fault) (func() error, error) {
	name, other, err := diskOf(h, f.Value)
	if err != nil {
		return nil, err
	}
	if other == "" {
		return nil, fmt.Errorf("disk-swap needs the name of the other disk: %s=ata-OTHER", f.Value)
	}
	back, err := h.disks.Swap(name, disk.Spec{ID: other})
	if err != nil {
		return nil, err
	}
	l.ceph.DisksChanged(h.spec.Name)
	return func() error { back(); l.ceph.DisksChanged(h.spec.Name); return nil }, nil
}
