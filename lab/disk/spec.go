package disk

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Spec says what a disk is and what lies on it when the lab begins.
type Spec struct {
	// Device is the kernel's name ("sdb", "nvme0n1"); "" is the next free one.
	Device string `json:"device,omitempty"`
	// ID is its name in /dev/disk/by-id: "ata-A1". Without one it is made of model and serial number.
	ID string `json:"id,omitempty"`
	// Links are its further names below /dev/disk: "by-path/pci-0000:00:1f.2-ata-1".
	Links []string `json:"links,omitempty"`
	// Size is in bytes; 0 is 960 GB.
	Size int64 `json:"size,omitempty"`
	// Serial and Model are made of the ID when they are left out.
	Serial string `json:"serial,omitempty"`
	Model  string `json:"model,omitempty"`
	Vendor string `json:"vendor,omitempty"`
	// Rotational is a disk that turns.
	Rotational bool `json:"rotational,omitempty"`
	// Content is what lies on it: one of Contents; "" is nothing.
	Content string `json:"content,omitempty"`
}

// Contents are the values of Spec.Content: a partition table with a data partition, a volume group "data", a ZFS member,
// a file system, one that is mounted on /mnt/data, an OSD of a Ceph cluster that is no more, a member of a RAID.
var Contents = []string{"partitions", "lvm", "zfs", "ext4", "xfs", "mounted", "osd", "raid"}

const (
	defaultSize = 960197124096
	rootSize    = 100 << 30
	gib         = 1 << 30
	mib         = 1 << 20
)

// Validate says what is wrong with a spec.
func (s Spec) Validate() error {
	switch {
	case s.Content != "" && !slices.Contains(Contents, s.Content):
		return fmt.Errorf("disk %s: content %q is none of %s", s.label(), s.Content, strings.Join(Contents, ", "))
	case s.Size < 0:
		return fmt.Errorf("disk %s: a size of %d bytes", s.label(), s.Size)
	case strings.ContainsAny(s.ID+s.Device, "/ \t\n"):
		return fmt.Errorf("disk %s: a name with a slash or a blank", s.label())
	}
	return nil
}

func (s Spec) label() string { return cmp.Or(s.ID, s.Device, s.Serial, "without a name") }

// withDefaults fills in what was left out, from the name in /dev/disk/by-id.
func (s Spec) withDefaults(number int) Spec {
	s.Size = cmp.Or(s.Size, defaultSize)
	_, name, _ := strings.Cut(s.ID, "-")
	if s.Serial == "" {
		s.Serial = name[strings.LastIndexByte(name, '_')+1:]
	}
	if s.Model == "" {
		s.Model = strings.TrimSuffix(strings.TrimSuffix(name, s.Serial), "_")
	}
	s.Serial = cmp.Or(s.Serial, fmt.Sprintf("LAB%05d", number))
	s.Model = cmp.Or(s.Model, map[bool]string{true: "LAB-HDD", false: "LAB-SSD"}[s.Rotational])
	if s.ID == "" {
		prefix := "ata-"
		if strings.HasPrefix(s.Device, "nvme") {
			prefix = "nvme-"
		}
		s.ID = prefix + strings.ReplaceAll(s.Model, " ", "_") + "_" + s.Serial
	}
	s.Vendor = cmp.Or(s.Vendor, "ATA")
	return s
}

// nvme reports whether the disk is one by its names.
func (s Spec) nvme() bool {
	return strings.HasPrefix(s.Device, "nvme") || strings.HasPrefix(s.ID, "nvme-")
}

// class is Proxmox's word for the kind of disk.
func (s Spec) class() string {
	switch {
	case s.nvme():
		return "nvme"
	case s.Rotational:
		return "hdd"
	}
	return "ssd"
}
