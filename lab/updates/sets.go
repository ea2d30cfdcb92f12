package updates

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
)

type version struct{ name, version string }

// releases are what the next minor release of each major brings, besides pve-manager and proxmox-ve.
var releases = map[int][]version{
	9: {
		{"libpve-access-control", "9.0.5"}, {"libpve-cluster-perl", "9.1.3"}, {"libpve-common-perl", "9.1.4"}, {"libpve-storage-perl", "9.1.2"},
		{"pve-cluster", "9.1.3"}, {"pve-container", "6.1.5"}, {"pve-docs", "9.1.4"}, {"pve-firewall", "6.0.5"}, {"pve-ha-manager", "5.2.1"},
		{"pve-qemu-kvm", "10.1.2-6"}, {"qemu-server", "9.1.9"}, {"zfsutils-linux", "2.3.4-pve2"},
	},
	8: {
		{"libpve-access-control", "8.2.4"}, {"libpve-cluster-perl", "8.1.2"}, {"libpve-common-perl", "8.3.4"}, {"libpve-storage-perl", "8.3.8"},
		{"pve-cluster", "8.1.2"}, {"pve-container", "5.3.3"}, {"pve-docs", "8.4.1"}, {"pve-firewall", "5.1.2"}, {"pve-ha-manager", "4.0.8"},
		{"pve-qemu-kvm", "9.2.0-7"}, {"qemu-server", "8.4.5"}, {"zfsutils-linux", "2.2.8-pve1"},
	},
}

// set are the packages of a word.
func (n *Node) set(word string) []version {
	major := n.major()
	switch word {
	case "release":
		manager := n.manager()
		minor := manager[:strings.LastIndexByte(manager, '.')] + ".0"
		return slices.Concat([]version{{"pve-manager", manager}, {"proxmox-ve", minor}}, releases[major], n.set("kernel"))
	case "kernel":
		if major == 8 {
			return []version{{"proxmox-kernel-6.8", "6.8.12-13"}}
		}
		return []version{{"proxmox-kernel-6.17", "6.17.4-1"}}
	case "qemu":
		var out []version
		for _, v := range releases[major] {
			if v.name == "pve-qemu-kvm" || v.name == "qemu-server" {
				out = append(out, v)
			}
		}
		return out
	case "corosync":
		if major == 8 {
			return []version{{"corosync", "3.1.9-pve2"}, {"libcorosync-common4", "3.1.9-pve2"}, {"libknet1", "1.31-pve1"}}
		}
		return []version{{"corosync", "3.1.10-1"}, {"libcorosync-common4", "3.1.10-1"}, {"libknet1t64", "1.31-2"}}
	case "libc":
		if major == 8 {
			return []version{{"libc6", "2.36-9+deb12u13"}, {"base-files", "12.4+deb12u12"}}
		}
		return []version{{"libc6", "2.41-12+deb13u1"}, {"base-files", "13.8+deb13u3"}}
	case "microcode":
		if major == 8 {
			return []version{{"intel-microcode", "3.20250812.1~deb12u1"}}
		}
		return []version{{"intel-microcode", "3.20250812.1~deb13u1"}}
	case "ceph":
		if major == 8 {
			return []version{{"ceph", "19.2.3-pve1"}}
		}
		return []version{{"ceph", "19.2.4-pve1"}}
	}
	return nil
}

func (n *Node) major() int {
	if n.Node == nil {
		return 9
	}
	return n.Node.Release().Major()
}

// manager is the version of pve-manager in the next minor release. 8.4 is the last of 8.
func (n *Node) manager() string {
	parts := strings.Split(n.Node.Release().Version, ".")
	minor, _ := strconv.Atoi(parts[1]) // releases are checked when they are made
	patch, _ := strconv.Atoi(parts[2])
	if parts[0] == "8" && minor >= 4 {
		return fmt.Sprintf("8.4.%d", max(patch+1, 14))
	}
	return fmt.Sprintf("%s.%d.2", parts[0], minor+1)
}

// sizes are those of archives that are large, in bytes.
var sizes = map[string]int64{
	"pve-qemu-kvm": 32 << 20, "pve-docs": 15 << 20, "libc6": 3 << 20, "intel-microcode": 8 << 20, "zfsutils-linux": 1 << 20, "corosync": 400 << 10,
	"ceph": 1 << 20, "qemu-server": 350 << 10,
}

// baseLibraries are the libraries of packages that daemons have open.
var baseLibraries = map[string][]machine.Library{
	"libc6":               {{Path: "/usr/lib/x86_64-linux-gnu/libc.so.6"}},
	"libcorosync-common4": {{Path: "/usr/lib/x86_64-linux-gnu/libcorosync_common.so.4.0.0", UsedBy: []string{"corosync", "pmxcfs"}}},
	"libknet1":            {{Path: "/usr/lib/x86_64-linux-gnu/libknet.so.1.5.0", UsedBy: []string{"corosync"}}},
	"libknet1t64":         {{Path: "/usr/lib/x86_64-linux-gnu/libknet.so.1.5.0", UsedBy: []string{"corosync"}}},
}

// conffiles are configuration files of packages that admins like to change.
var conffiles = map[string]map[string]string{
	"pve-manager": {"/etc/vzdump.conf": "# vzdump default settings\n\n#tmpdir: DIR\n#dumpdir: DIR\n#storage: STORAGE_ID\n#bwlimit: KBPS\n"},
	"base-files":  {"/etc/issue": "Debian GNU/Linux \\n \\l\n\n"},
}

// effect is what setting a package up does to a running node (its maintainer's scripts).
func (n *Node) effect(ctx context.Context, name string) error {
	m := n.Machine
	restart := func(units ...string) error {
		for _, u := range units {
			if !m.UnitActive(u) {
				continue
			}
			if err := m.RestartUnit(ctx, u); err != nil {
				return fmt.Errorf("Job for %s.service failed because the control process exited with error code.", u) //nolint:staticcheck // systemd's words
			}
		}
		return nil
	}
	switch name {
	case "pve-cluster":
		if !m.UnitActive("pve-cluster") {
			return nil
		}
		if err := m.StopUnit(ctx, "pve-cluster"); err != nil {
			return err
		}
		if err := m.Sleep(context.WithoutCancel(ctx), pmxcfsAway); err != nil {
			return err
		}
		return m.StartUnit(context.WithoutCancel(ctx), "pve-cluster")
	case "pve-manager":
		for _, u := range []string{"pvedaemon", "pveproxy"} {
			if m.UnitActive(u) {
				if err := m.ReloadUnit(ctx, u); err != nil {
					return err
				}
			}
		}
		return restart("pvestatd", "pvescheduler", "spiceproxy")
	case "pve-ha-manager":
		return restart("pve-ha-lrm", "pve-ha-crm")
	case "pve-firewall":
		return restart("pve-firewall")
	case "corosync", "libc6":
		return restart("corosync")
	}
	return nil
}

// pmxcfsAway is how long /etc/pve is away while its package is upgraded.
const pmxcfsAway = 3 * time.Second
