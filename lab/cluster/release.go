package cluster

import (
	"fmt"
	"strconv"
	"strings"
)

// Release is a version of Proxmox VE with what belongs to it.
type Release struct {
	Version          string // of pve-manager: "9.1.4"
	Codename, Debian string
	Kernel           string
	// Hash is the short commit in pveversion's output.
	Hash     string
	Packages []Package
}

// Package is an installed Debian package.
type Package struct{ Name, Version string }

// Major is the first number of the version.
func (r Release) Major() int {
	n, _ := strconv.Atoi(strings.SplitN(r.Version, ".", 2)[0])
	return n
}

// ReleaseOf makes the Release of a pve-manager version. Versions of 8 and 9 are known.
func ReleaseOf(version string) (Release, error) {
	r := Release{Version: version}
	parts := strings.Split(version, ".")
	if len(parts) != 3 {
		return r, fmt.Errorf("PVE version %q is not like 9.1.4", version)
	}
	for _, p := range parts {
		if _, err := strconv.Atoi(p); err != nil {
			return r, fmt.Errorf("PVE version %q is not like 9.1.4", version)
		}
	}
	minor := parts[0] + "." + parts[1] + ".0"
	switch r.Major() {
	case 9:
		r.Codename, r.Debian, r.Kernel, r.Hash = "trixie", "13", "6.17.2-1-pve", "4c8a2cd41b7a5a56"
		r.Packages = []Package{
			{"proxmox-ve", minor},
			{"pve-manager", version},
			{"proxmox-kernel-helper", "9.0.4"},
			{"proxmox-kernel-6.17", "6.17.2-1"},
			{"corosync", "3.1.9-2+deb13u1"},
			{"libcorosync-common4", "3.1.9-2+deb13u1"},
			{"libknet1t64", "1.31-1"},
			{"libpve-common-perl", "9.1.1"},
			{"libpve-cluster-perl", "9.1.2"},
			{"libpve-storage-perl", "9.1.0"},
			{"libpve-access-control", "9.0.4"},
			{"pve-cluster", "9.1.2"},
			{"pve-container", "6.1.2"},
			{"pve-docs", "9.1.1"},
			{"pve-firewall", "6.0.4"},
			{"pve-ha-manager", "5.2.0"},
			{"pve-qemu-kvm", "10.1.2-4"},
			{"qemu-server", "9.1.6"},
			{"zfsutils-linux", "2.3.4-pve1"},
		}
	case 8:
		r.Codename, r.Debian, r.Kernel, r.Hash = "bookworm", "12", "6.8.12-9-pve", "2a5fa54a8503f96d"
		r.Packages = []Package{
			{"proxmox-ve", minor},
			{"pve-manager", version},
			{"proxmox-kernel-helper", "8.1.1"},
			{"proxmox-kernel-6.8", "6.8.12-9"},
			{"corosync", "3.1.9-pve1"},
			{"libcorosync-common4", "3.1.9-pve1"},
			{"libknet1", "1.30-pve2"},
			{"libpve-common-perl", "8.3.1"},
			{"libpve-cluster-perl", "8.1.0"},
			{"libpve-storage-perl", "8.3.6"},
			{"libpve-access-control", "8.2.2"},
			{"pve-cluster", "8.1.0"},
			{"pve-container", "5.2.6"},
			{"pve-docs", "8.4.0"},
			{"pve-firewall", "5.1.1"},
			{"pve-ha-manager", "4.0.7"},
			{"pve-qemu-kvm", "9.2.0-5"},
			{"qemu-server", "8.3.12"},
			{"zfsutils-linux", "2.2.7-pve2"},
		}
	default:
		return r, fmt.Errorf("PVE version %q is neither 8 nor 9", version)
	}
	return r, nil
}
