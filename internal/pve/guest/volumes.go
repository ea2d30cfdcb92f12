package guest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
)

// copyable are the types of local storages whose volumes Proxmox VE can copy to another node (reference §6.2).
var copyable = []string{"dir", "btrfs", "zfspool", "lvmthin", "lvm"}

// ownerForm takes the owner out of the name of a volume.
var ownerForm = regexp.MustCompile(`^(?:vm|base|subvol|basevol)-(\d+)-`)

// volumes looks at everything that the guest keeps data on.
func (d *decision) volumes() {
	for _, v := range d.g.Volumes {
		switch {
		case v.Storage == "" && v.CDROM, v.File == "cdrom":
			d.no(LocalMedium, v.Key+" is the CD drive of the node", "no medium", d.show(), fmt.Sprintf("qm set %d --%s none,media=cdrom", d.g.ID, v.Key))
		case v.Storage == "" && d.g.Kind == CT:
			if !v.Declared {
				d.no(LocalPath, fmt.Sprintf("%s is %s of the node", v.Key, v.File), "a volume of a storage", d.show(), "shared=1 on the mount point, only if every node has the same there")
			}
		case v.Storage == "":
			d.no(LocalPath, fmt.Sprintf("%s is %s of the node", v.Key, v.File), "a volume of a storage", d.show(), "")
		default:
			d.stored(v)
		}
	}
	for _, v := range d.m.Copied {
		d.m.Disk += d.bytes(v)
	}
}

// bytes is how much of a volume has to be sent: of one that is replicated to the target, next to nothing.
func (d *decision) bytes(v Volume) int64 {
	if v.Replicate && slices.ContainsFunc(d.g.Jobs, func(j Job) bool { return j.Target == d.to && !j.Removed }) {
		return v.Size / 100
	}
	return v.Size
}

// stored looks at a volume of a storage.
func (d *decision) stored(v Volume) {
	content := "images"
	if d.g.Kind == CT {
		content = "rootdir"
	}
	from, ok := d.usable(v.Storage, d.g.Node, v.File)
	if !ok {
		return
	}
	if v.CDROM && !v.CloudInit {
		if !d.shared(from) {
			d.no(LocalMedium, fmt.Sprintf("%s holds %s, which only %s has", v.Key, v.File, d.g.Node), "no medium, or one on a shared storage", d.show(),
				fmt.Sprintf("qm set %d --%s none,media=cdrom", d.g.ID, v.Key))
		} else {
			d.usable(v.Storage, d.to, v.File)
		}
		return
	}
	shared := d.shared(from)
	name := v.Storage
	if !shared || d.o.Storages[v.Storage] != "" {
		name = d.o.storage(v.Storage)
	}
	to, ok := d.usable(name, d.to, v.File)
	if !ok {
		return
	}
	if !slices.Contains(d.content(to), content) && !v.Unused {
		d.no(StorageContent, fmt.Sprintf("storage %s does not take content %s, which %s is", name, content, v.File), "a storage that does", "cat /etc/pve/storage.cfg", "another target_storage")
	}
	if shared {
		return
	}
	d.local(v, from)
}

// usable finds a storage that may be used on a node.
func (d *decision) usable(name, node, volume string) (config.Section, bool) {
	look := "cat /etc/pve/storage.cfg"
	s, there := d.section(name)
	switch {
	case !there:
		d.no(StorageMissing, fmt.Sprintf("storage %s of %s does not exist", name, volume), "a storage of that name", look, "target_storage")
	case s.Is("disable"):
		d.no(StorageMissing, fmt.Sprintf("storage %s of %s is disabled", name, volume), "an enabled one", look, "target_storage")
	case !d.there(s, node):
		d.no(StorageMissing, fmt.Sprintf("storage %s of %s is not available on %s", name, volume, node), "a storage of both nodes", look, "target_storage, or another target")
	default:
		return s, true
	}
	return s, false
}

// local looks at a volume that only its node has: whether it can be copied.
func (d *decision) local(v Volume, from config.Section) {
	replicated := slices.ContainsFunc(d.g.Jobs, func(j Job) bool { return j.Target == d.to && !j.Removed })
	carries := from.Type == "zfspool" || from.Type == "btrfs" || v.Format == "qcow2"
	live := d.running && d.g.Kind == VM
	switch {
	case !slices.Contains(copyable, from.Type):
		d.no(StorageKind, fmt.Sprintf("%s is on storage %s of type %s, whose volumes cannot be copied", v.File, v.Storage, from.Type), "a shared storage", "cat /etc/pve/storage.cfg", "move the disk first: move_disk")
		return
	case v.Snapshot != "" && live && !replicated:
		d.no(HasSnapshot, fmt.Sprintf("%s has the snapshot %s, which does not travel while the machine runs", v.File, v.Snapshot), "no snapshots", fmt.Sprintf("qm listsnapshot %d", d.g.ID), "remove the snapshot, or stop the machine")
	case v.Snapshot != "" && !carries:
		d.no(HasSnapshot, fmt.Sprintf("%s has the snapshot %s, which storage %s cannot send", v.File, v.Snapshot, v.Storage), "no snapshots", fmt.Sprintf("%s listsnapshot %d", d.g.Kind.Tool(), d.g.ID), "remove the snapshot")
	case strings.HasPrefix(v.Name(), "base-") && d.hasClones(v):
		d.no(HasClones, "disks of other guests are based on "+v.File, "no linked clones", "grep -r "+v.Name()+" /etc/pve/nodes", "clone them in full first")
	}
	if owner := ownerForm.FindStringSubmatch(v.Name()); owner != nil && owner[1] != strconv.Itoa(d.g.ID) {
		d.no(ForeignVolume, fmt.Sprintf("%s belongs to guest %s", v.File, owner[1]), "volumes of its own", d.show(), "")
	}
	if !d.o.LocalDisks && !v.CloudInit && (live && !v.Unused && !v.Detached || d.g.ByHA()) {
		d.no(LocalDisk, fmt.Sprintf("%s (%s) is on the local storage %s", v.File, FormatBytes(v.Size), v.Storage), "leave to copy it over the network", d.show(), "with_local_disks = true")
	}
	d.m.Copied = append(d.m.Copied, v)
}

// hasClones reports whether another guest's volume is based on this one.
func (d *decision) hasClones(base Volume) bool {
	for _, g := range d.s.Guests {
		for _, v := range g.Volumes {
			if v.Storage == base.Storage && v.File != base.File && strings.Contains(v.File, base.Name()) {
				return true
			}
		}
	}
	return false
}

func (d *decision) replication() {
	if len(d.g.Jobs) == 0 {
		return
	}
	look := "cat /etc/pve/replication.cfg"
	for _, j := range d.g.Jobs {
		if j.Removed {
			d.no(JobRemoved, "its replication job "+j.ID+" is about to be removed", "a job that is gone or stays", look, "wait until pvescheduler has removed it")
		}
	}
	to := slices.ContainsFunc(d.g.Jobs, func(j Job) bool { return j.Target == d.to })
	if !to && d.running && d.g.Kind == VM {
		targets := make([]string, len(d.g.Jobs))
		for i, j := range d.g.Jobs {
			targets[i] = j.Target
		}
		d.no(NotReplicated, "it is replicated to "+strings.Join(targets, ", ")+", not to "+d.to, "a target of its replication", look, "name one of them as target")
	}
}

// hardware compares the nodes: what Proxmox VE finds out only when the machine does not start on the target.
func (d *decision) hardware() {
	to := d.s.Nodes[d.to]
	if to == nil {
		return // it was not asked
	}
	if to.Err != nil {
		d.no(StateUnknown, to.Err.Error(), "what "+d.to+" can run", "ssh "+d.to, "")
		return
	}
	for _, bridge := range d.g.Bridges {
		if !slices.Contains(to.Interfaces, bridge) {
			d.no(BridgeMissing, fmt.Sprintf("%s has no bridge %s", d.to, bridge), "the bridges of its network cards", "ip link show "+bridge, "make the bridge, or name another target")
		}
	}
	if free := to.Memory - d.committed(d.to) - d.o.Promised; d.g.Memory > free && !d.o.Overcommit {
		d.no(MemoryShort, fmt.Sprintf("%s has %s of %s left beside the guests that it runs, %s short", d.to, FormatBytes(max(free, 0)), FormatBytes(to.Memory), FormatBytes(d.g.Memory-max(free, 0))),
			"its configured memory, "+FormatBytes(d.g.Memory), "pvesh get /cluster/resources --type vm", "overcommit = true")
	}
	from := d.s.Nodes[d.g.Node]
	if d.g.Kind != VM || from == nil || from.Err != nil {
		return
	}
	qemu, manager := d.versions(d.to, to)
	fromQEMU, fromManager := d.versions(d.g.Node, from)
	if pve.CompareVersions(qemu, fromQEMU) < 0 || pve.CompareVersions(manager, fromManager) < 0 {
		d.no(OlderTarget, fmt.Sprintf("%s runs an older version than %s: QEMU %s and %s, pve-manager %s and %s", d.to, d.g.Node, qemu, fromQEMU, manager, fromManager),
			"the same or a newer version", "pveversion -v", "upgrade "+d.to+" first, or stop the machine: live migrations go to newer versions only")
	}
	if why := d.processor(from, to); why != "" {
		d.no(CPUDiffers, why, "processors that can run it", d.show()+"; lscpu", "another target, or a portable cpu type, from its next start")
	}
}

// levels are the flags that the portable processors x86-64-v2 to v4 need beside the basic ones.
var levels = map[string][]string{
	"x86-64-v2": {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"},
	"x86-64-v3": {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"},
	"x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
}

// processor is why the target cannot run the machine's processor; "" if it can, as far as can be told.
func (d *decision) processor(from, to *Node) string {
	switch cpu := d.g.CPU; {
	case cpu == "host" || cpu == "max":
		if from.Vendor != to.Vendor || from.Model != to.Model {
			return fmt.Sprintf("its processor is the node's own (cpu: %s), and %s has %q where %s has %q", cpu, d.to, to.Model, d.g.Node, from.Model)
		}
		for flag := range from.Flags {
			if !to.Flags[flag] {
				return fmt.Sprintf("its processor is the node's own (cpu: %s), and %s lacks the flag %s", cpu, d.to, flag)
			}
		}
	case strings.HasPrefix(cpu, "x86-64-v"):
		for _, level := range []string{"x86-64-v2", "x86-64-v3", "x86-64-v4"} {
			for _, flag := range levels[level] {
				if !to.Flags[flag] {
					return fmt.Sprintf("%s lacks the flag %s of %s", d.to, flag, cpu)
				}
			}
			if strings.HasPrefix(cpu, level) {
				break
			}
		}
		if strings.HasSuffix(cpu, "-AES") && !to.Flags["aes"] {
			return d.to + " lacks the flag aes of " + cpu
		}
	case cpu != "" && from.Vendor != to.Vendor && !strings.HasPrefix(cpu, "kvm") && !strings.HasPrefix(cpu, "qemu"):
		return fmt.Sprintf("its processor is %s, and the nodes' are of %s and %s", cpu, from.Vendor, to.Vendor)
	}
	return ""
}
