// Package snapshot reads a living cluster into one value that can be written to a file, and from which a copy of the cluster can
// be made somewhere else. It only reads, and takes from configuration files what is on its lists: a password, a key or free text
// never gets in. The main type is Snapshot. It does not know what the copy is made of.
package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
)

// Format is the version of the file. A later one may add fields, which earlier readers pass over; it is raised when a field
// changes its meaning.
const Format = 1

// Snapshot is a cluster at one moment.
type Snapshot struct {
	// Format is the version of what follows; it makes the file known as a snapshot.
	Format int       `json:"pxrun_snapshot"`
	Taken  time.Time `json:"taken"`
	// Pxrun is the version of the program that took it, From the node that was asked for what all nodes share.
	Pxrun string `json:"pxrun,omitempty"`
	From  string `json:"from"`
	// Cluster is its name; "" is a node in no cluster.
	Cluster string `json:"cluster,omitempty"`
	// Notes say what could not be read.
	Notes []string `json:"notes,omitempty"`
	// Files are those of /etc/pve, as far as the lists of this package go: "corosync.conf", "ha/rules.cfg".
	Files map[string]string `json:"files"`
	// Maintenance are the nodes in HA's maintenance.
	Maintenance []string `json:"maintenance,omitempty"`
	Nodes       []Node   `json:"nodes"`
	Guests      []Guest  `json:"guests,omitempty"`
	Ceph        *Ceph    `json:"ceph,omitempty"`
}

// Node is a member of the cluster. Of one that was away only the name and the address are known.
type Node struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	Online  bool   `json:"online"`
	// Version is that of pve-manager.
	Version string `json:"version,omitempty"`
	Kernel  string `json:"kernel,omitempty"`
	// Kernels are those in /boot, Pin and NextPin what the boot loader was told to take always and once. EFI says that the boot
	// loader lies on an EFI system partition of its own, which proxmox-boot-tool keeps.
	Kernels []string `json:"kernels,omitempty"`
	Pin     string   `json:"pin,omitempty"`
	NextPin string   `json:"next_pin,omitempty"`
	EFI     bool     `json:"efi,omitempty"`
	// Memory is in bytes.
	Memory     int64       `json:"memory,omitempty"`
	CPUs       int         `json:"cpus,omitempty"`
	CPUVendor  string      `json:"cpu_vendor,omitempty"`
	CPUModel   string      `json:"cpu_model,omitempty"`
	CPUFlags   []string    `json:"cpu_flags,omitempty"`
	Interfaces []Interface `json:"interfaces,omitempty"`
	Disks      []Disk      `json:"disks,omitempty"`
	// Packages are the versions of those that decide, and of those with updates.
	Packages map[string]string `json:"packages,omitempty"`
	// Updates are what apt would do now, with lists of the age Lists in seconds, or NoLists; Unknown is why apt does not say.
	Updates []Update `json:"updates,omitempty"`
	Lists   int64    `json:"lists_age,omitempty"`
	Unknown string   `json:"updates_unknown,omitempty"`
	// Sources are the files that apt reads, without credentials. Subscribed says that there is a subscription.
	Sources    map[string]string `json:"sources,omitempty"`
	Subscribed bool              `json:"subscribed,omitempty"`
	// Storages is the space of the storages as the node sees it.
	Storages map[string]Space `json:"storages,omitempty"`
}

// NoLists are package lists from before the last change of the repositories: they are not those of what is enabled.
const NoLists = -1

// Interface is a network interface that no guest made.
type Interface struct {
	Name      string   `json:"name"`
	MTU       int      `json:"mtu,omitempty"`
	Addresses []string `json:"addresses,omitempty"` // "192.0.2.11/24"
}

// Disk is a whole disk. Names are those in /dev/disk/by-id, the most telling first; System says that the node's own system is on
// it.
type Disk struct {
	Device string   `json:"device"` // "sdb"
	Names  []string `json:"names,omitempty"`
	Size   int64    `json:"size"`
	Model  string   `json:"model,omitempty"`
	Serial string   `json:"serial,omitempty"`
	Spins  bool     `json:"spins,omitempty"`
	System bool     `json:"system,omitempty"`
}

// Update is a package that apt would install, renew or (without To) remove.
type Update struct {
	Name   string `json:"name"`
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
	Origin string `json:"origin,omitempty"`
}

// Space is in bytes.
type Space struct {
	Total int64 `json:"total"`
	Used  int64 `json:"used"`
}

// Guest is a virtual machine ("vm") or a container ("ct"). Config holds the lines of its config that matter to where it can run.
type Guest struct {
	ID      int    `json:"id"`
	Kind    string `json:"kind"`
	Node    string `json:"node"`
	Running bool   `json:"running,omitempty"`
	Config  string `json:"config"`
}

// Node returns a node by its name.
func (s *Snapshot) Node(name string) (Node, bool) {
	i := slices.IndexFunc(s.Nodes, func(n Node) bool { return n.Name == name })
	if i < 0 {
		return Node{}, false
	}
	return s.Nodes[i], true
}

// Conf is the corosync.conf; nil of a node in no cluster.
func (s *Snapshot) Conf() (*pve.CorosyncConf, error) {
	text, ok := s.Files["corosync.conf"]
	if !ok {
		return nil, nil //nolint:nilnil // a node in no cluster has none
	}
	return pve.ParseCorosyncConf([]byte(text))
}

// Write writes the file.
func (s *Snapshot) Write(w io.Writer) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		return err
	}
	_, err := w.Write(text.Bytes())
	return err
}

// Parse reads the file. Fields that it does not know are passed over.
func Parse(text []byte) (*Snapshot, error) {
	s := &Snapshot{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("it is no snapshot: %w", err)
	}
	switch {
	case s.Format == 0:
		return nil, errors.New(`it is no snapshot: "pxrun_snapshot" is missing (write one: pxrun snapshot -o FILE)`)
	case s.Format > Format:
		return nil, fmt.Errorf("it has format %d, and this pxrun knows formats up to %d: take it again, or use a newer pxrun", s.Format, Format)
	case len(s.Nodes) == 0:
		return nil, errors.New("it has no nodes")
	}
	if _, err := s.Conf(); err != nil {
		return nil, err
	}
	for _, g := range s.Guests {
		if g.Kind != "vm" && g.Kind != "ct" {
			return nil, fmt.Errorf("guest %d is of the kind %q: vm or ct", g.ID, g.Kind)
		}
		if _, ok := s.Node(g.Node); !ok {
			return nil, fmt.Errorf("guest %d is on %q, which is no node of the snapshot", g.ID, g.Node)
		}
	}
	return s, nil
}
