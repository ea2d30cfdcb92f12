package updates

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/vfs"
)

// The room that a kernel's files take, in bytes: those in the lab are small.
const (
	imageSize     = 15 << 20
	initramfsSize = 72 << 20
)

// partition is a /boot of its own, whose room is counted as if the files in it had their real sizes.
type partition struct {
	*vfs.Mem
	size     int64
	reserved atomic.Int64
}

// MountInfo says what it is in lists of mounts.
func (p *partition) MountInfo() (source, kind, options string) {
	return "/dev/sda2", "ext4", "rw,relatime"
}

// Usage is the room that is taken, and that there is.
func (p *partition) Usage() (used, limit int64) {
	list, _ := p.ReadDir("/") // its root is always there
	used = p.reserved.Load()
	for _, entry := range list {
		switch {
		case strings.HasPrefix(entry.Name, "initrd.img-"):
			used += initramfsSize
		case strings.HasPrefix(entry.Name, "vmlinuz-"):
			used += imageSize
		}
	}
	return used, p.size
}

// FillBoot gives the host a /boot of its own with so many bytes free, and returns how to make room in it again. The partition
// stays.
func (n *Node) FillBoot(free int64) (undo func() error, err error) {
	if n.boot == nil {
		p := &partition{Mem: vfs.NewMem(n.Machine.Now), size: 512 << 20}
		list, err := n.Machine.FS.ReadDir("/boot")
		if err != nil {
			return nil, err
		}
		for _, entry := range list {
			content, err := n.Machine.FS.ReadFile("/boot/" + entry.Name)
			if err != nil {
				continue // a folder
			}
			if err := p.Seed("/"+entry.Name, entry.Mode, content); err != nil {
				return nil, err
			}
		}
		if err := n.Machine.FS.Mount("/boot", p); err != nil {
			return nil, err
		}
		n.boot = p
	}
	used, size := n.boot.Usage()
	n.boot.reserved.Add(max(size-used-free, 0))
	return func() error { n.boot.reserved.Store(0); return nil }, nil
}

// addKernel is the script of a kernel's package: the image, then the initramfs, then the boot loader.
func (n *Node) addKernel(ctx context.Context, kernel string) error {
	m, out := n.Machine, machine.ScriptOutput(ctx)
	full := func() bool {
		if n.boot == nil {
			return false
		}
		used, size := n.boot.Usage()
		return size-used < initramfsSize
	}
	say := func(format string, args ...any) { fmt.Fprintf(out, format+"\n", args...) }
	image, initramfs := "/boot/vmlinuz-"+kernel, "/boot/initrd.img-"+kernel
	if err := m.FS.WriteFile(image, []byte("kernel\n"), 0o644); err != nil {
		say("dpkg: error: %s: %s", image, machine.Reason(err))
		return machine.ErrScript
	}
	say("Examining /etc/kernel/postinst.d.\nrun-parts: executing /etc/kernel/postinst.d/initramfs-tools %s %s", kernel, image)
	say("update-initramfs: Generating %s", initramfs)
	if err := m.Sleep(ctx, 6*time.Second); err != nil {
		return err
	}
	if err := m.FS.WriteFile(initramfs, []byte("initramfs\n"), 0o644); err != nil || full() {
		_ = m.FS.Remove(initramfs) // as mkinitramfs does
		say("zstd: error 70 : Write error : cannot write block : No space left on device \nE: mkinitramfs failure zstd -q -9 -T0 70\nupdate-initramfs: failed for %s with 1.\nrun-parts: /etc/kernel/postinst.d/initramfs-tools exited with return code 1\nFailed to process /etc/kernel/postinst.d at /var/lib/dpkg/info/proxmox-kernel-%s-signed.postinst line 20.", initramfs, kernel)
		return machine.ErrScript
	}
	say("run-parts: executing /etc/kernel/postinst.d/zz-proxmox-boot %s %s", kernel, image)
	say("No /etc/kernel/proxmox-boot-uuids found, skipping ESP sync.")
	say("run-parts: executing /etc/kernel/postinst.d/zz-update-grub %s %s", kernel, image)
	n.grub(say)
	return nil
}

func (n *Node) removeKernel(kernel string) error {
	return errors.Join(n.Machine.FS.Remove("/boot/vmlinuz-"+kernel), n.Machine.FS.Remove("/boot/initrd.img-"+kernel))
}

// grub is what update-grub prints.
func (n *Node) grub(say func(format string, args ...any)) {
	say("Generating grub configuration file ...")
	for _, k := range slices.Backward(n.kernels()) {
		say("Found linux image: /boot/vmlinuz-%s\nFound initrd image: /boot/initrd.img-%s", k, k)
	}
	say("Adding boot menu entry for UEFI Firmware Settings ...\ndone")
}

// kernels are those in /boot, oldest first.
func (n *Node) kernels() []string {
	list, _ := n.Machine.FS.ReadDir("/boot") // it is always there
	var out []string
	for _, entry := range list {
		if k, ok := strings.CutPrefix(entry.Name, "vmlinuz-"); ok {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, machine.CompareVersions)
	return out
}
