package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/bmc"
	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/disk"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/lab/hardware"
	"github.com/pxrun/pxrun/lab/storage"
	"github.com/pxrun/pxrun/lab/updates"
)

// Spec says what a lab consists of.
type Spec struct {
	// Seed makes boot ids and the like repeatable.
	Seed uint64 `json:"seed,omitempty"`
	// Speed is how many times faster than time the model runs: joins, timeouts, reboots. 0 means 1.
	Speed float64    `json:"speed,omitempty"`
	Hosts []HostSpec `json:"hosts"`
	// RTT and MTU are those of every path that names none itself. 0 means 200 µs and 1500.
	RTT time.Duration `json:"rtt,omitempty"`
	MTU int           `json:"mtu,omitempty"`
	// RAMSpeed and DiskSpeed are how many MiB a second of memory and of disks go from node to node in a migration. 0 means
	// 1000 and 200.
	RAMSpeed  int `json:"ram_speed,omitempty"`
	DiskSpeed int `json:"disk_speed,omitempty"`
}

// HostSpec is one machine of a lab.
type HostSpec struct {
	Name string `json:"name"`
	// Address is the one by which it is reached and to which its name resolves.
	Address string `json:"address"`
	// Links are its further addresses, in the order of corosync's links. Address may be among them.
	Links []string `json:"links,omitempty"`
	// PVE is the version of pve-manager: "9.1.8", "8.4.1". Without one it is a plain Debian host.
	PVE string `json:"pve,omitempty"`
	// Packages are installed besides: "corosync-qnetd" makes an arbiter, "corosync-qdevice" lets a node use one.
	Packages []string `json:"packages,omitempty"`
	// Users may log in with the lab's key besides root.
	Users []UserSpec `json:"users,omitempty"`
	// RootPassword is root's password; "" is one that nobody knows. Passwords are never written down: they are those of
	// the site that is rehearsed.
	RootPassword string        `json:"-"`
	MemoryMiB    int           `json:"memory_mib,omitempty"`
	CPUs         int           `json:"cpus,omitempty"`
	RTT          time.Duration `json:"rtt,omitempty"`
	MTU          int           `json:"mtu,omitempty"`
	// Skew is how far the host's clock is ahead.
	Skew time.Duration `json:"skew,omitempty"`
	// CPUModel and CPULevel (x86-64-v1 to 4) are of the processors; "" and 0 are "Lab CPU" and 3.
	CPUModel string `json:"cpu_model,omitempty"`
	CPULevel int    `json:"cpu_level,omitempty"`
	// Interfaces are the network interfaces by their names. Without any there is vmbr0 with the address, and a bridge for each
	// further link.
	Interfaces []Interface `json:"interfaces,omitempty"`
	// Kernel is the one that runs; "" is that of the release. Kernels are further ones in /boot, Pin and NextPin what
	// proxmox-boot-tool was told to start from now on and once.
	Kernel  string   `json:"kernel,omitempty"`
	Kernels []string `json:"kernels,omitempty"`
	Pin     string   `json:"pin,omitempty"`
	NextPin string   `json:"next_pin,omitempty"`
	// Sources are the files that apt reads, by their paths; without any they are those of the installation.
	Sources map[string]string `json:"sources,omitempty"`
	// Bridges are those that the node has besides vmbr0 and one for each further link.
	Bridges []string `json:"bridges,omitempty"`
	// Guests are the virtual machines and containers that the node holds from the beginning. A node with guests cannot join a
	// cluster: give them to the one that creates it, or add them later.
	Guests []guest.Spec `json:"guests,omitempty"`
	// Disks are those of a node besides the one with the system.
	Disks []disk.Spec `json:"disks,omitempty"`
	// BMC is the host's management controller, if it has one.
	BMC *bmc.Spec `json:"bmc,omitempty"`
	// Bonds are those of its network cards.
	Bonds []hardware.Bond `json:"bonds,omitempty"`
	// Subscription is the key of a node, like "pve1c-0123456789". Without one the enterprise repositories, which a fresh node
	// has enabled, answer 401.
	Subscription string `json:"-"`
	// BootTime is how long firmware and boot loader of the host take; 0 is 40 s.
	BootTime time.Duration `json:"boot_time,omitempty"`
	// ESP says that a node starts from an EFI system partition, which proxmox-boot-tool has to be told to refresh.
	ESP bool `json:"esp,omitempty"`
	// Updates are what the host's repositories have besides what is installed, for apt-get update to find: "release" (the next
	// minor release of Proxmox VE), other sets of updates.Sets, and packages as "pve-manager=9.1.9".
	Updates []string `json:"updates,omitempty"`
	// Versions are those of installed packages that differ from the release's.
	Versions map[string]string `json:"versions,omitempty"`
	// Exports is what the host offers to nodes as storage.
	Exports []storage.Export `json:"exports,omitempty"`
	// Pools are ZFS pools and data sets of a node ("tank", "rpool/data"), Groups LVM volume groups and thin pools in them
	// ("data", "data/thin"). Every node has the group pve with its thin pool data.
	Pools  []string `json:"pools,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

// Interface is a network interface of a host, with addresses like "192.0.2.11/24".
type Interface struct {
	Name      string   `json:"name"`
	MTU       int      `json:"mtu,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
}

// UserSpec is an account besides root.
type UserSpec struct {
	Name     string `json:"name"`
	Password string `json:"-"`
	// Sudo is "none" (or ""), "password" or "nopasswd".
	Sudo string `json:"sudo,omitempty"`
}

// withDefaults fills in what was left out.
func (s Spec) withDefaults() Spec {
	if s.Speed <= 0 {
		s.Speed = 1
	}
	if s.RTT == 0 {
		s.RTT = 200 * time.Microsecond
	}
	if s.MTU == 0 {
		s.MTU = 1500
	}
	s.Hosts = slices.Clone(s.Hosts)
	for i := range s.Hosts {
		h := &s.Hosts[i]
		if h.MemoryMiB == 0 {
			h.MemoryMiB = 16 << 10
		}
		if h.CPUs == 0 {
			h.CPUs = 4
		}
	}
	return s
}

// Validate reports all that is wrong with a spec.
func (s Spec) Validate() error {
	var problems []error
	if len(s.Hosts) == 0 {
		problems = append(problems, errors.New("the lab has no hosts"))
	}
	names, addrs := map[string]bool{}, map[string]string{}
	for _, h := range s.Hosts {
		if h.Name == "" || strings.ContainsAny(h.Name, " /\t\n") {
			problems = append(problems, fmt.Errorf("host name %q is not usable", h.Name))
		}
		if names[h.Name] {
			problems = append(problems, fmt.Errorf("two hosts are called %q", h.Name))
		}
		names[h.Name] = true
		for i, a := range h.addresses() {
			if _, err := netip.ParseAddr(a); err != nil {
				problems = append(problems, fmt.Errorf("host %q: %q is not an IP address", h.Name, a))
			}
			if other, taken := addrs[a]; taken && (i == 0 || other != h.Name) {
				problems = append(problems, fmt.Errorf("hosts %q and %q both have the address %s", other, h.Name, a))
			}
			addrs[a] = h.Name
		}
		if h.PVE != "" {
			if _, err := cluster.ReleaseOf(h.PVE); err != nil {
				problems = append(problems, fmt.Errorf("host %q: %w", h.Name, err))
			}
		}
		if err := updates.Validate(h.Updates); err != nil {
			problems = append(problems, fmt.Errorf("host %q: %w", h.Name, err))
		}
		for _, i := range h.Interfaces {
			for _, a := range i.Addresses {
				if _, err := netip.ParsePrefix(a); err != nil {
					problems = append(problems, fmt.Errorf("host %q: interface %s: %q is not like 192.0.2.11/24", h.Name, i.Name, a))
				}
			}
		}
		for _, e := range h.Exports {
			if err := e.Validate(); err != nil {
				problems = append(problems, fmt.Errorf("host %q: %w", h.Name, err))
			}
		}
		for _, one := range h.Disks {
			if err := one.Validate(); err != nil {
				problems = append(problems, fmt.Errorf("host %q: %w", h.Name, err))
			}
		}
		for _, g := range h.Guests {
			if err := g.Validate(); err != nil {
				problems = append(problems, fmt.Errorf("host %q: %w", h.Name, err))
			}
			if h.PVE == "" {
				problems = append(problems, fmt.Errorf("host %q: guest %d: the host is no Proxmox node", h.Name, g.ID))
			}
		}
		for _, b := range h.Bonds {
			if err := b.Validate(); err != nil {
				problems = append(problems, fmt.Errorf("host %q: %w", h.Name, err))
			}
		}
		for _, u := range h.Users {
			if !slices.Contains([]string{"", "none", "password", "nopasswd"}, u.Sudo) {
				problems = append(problems, fmt.Errorf("host %q: user %q: sudo %q is none of none, password, nopasswd", h.Name, u.Name, u.Sudo))
			}
		}
	}
	return errors.Join(problems...)
}

// addresses are all addresses of a host, each once, the main one first.
func (h HostSpec) addresses() []string {
	out := []string{h.Address}
	for _, link := range h.Links {
		if !slices.Contains(out, link) {
			out = append(out, link)
		}
	}
	for _, i := range h.Interfaces {
		for _, a := range i.Addresses {
			if addr, _, _ := strings.Cut(a, "/"); !slices.Contains(out, addr) {
				out = append(out, addr)
			}
		}
	}
	return out
}
