package guest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/ha"
)

// Kind is what a guest is.
type Kind string

// The kinds, by their names in the HA manager.
const (
	VM Kind = "vm" // a virtual machine: qm
	CT Kind = "ct" // a container: pct
)

// Tool is the program that manages guests of the kind.
func (k Kind) Tool() string {
	if k == CT {
		return "pct"
	}
	return "qm"
}

// Guest is a virtual machine or a container as its config has it.
type Guest struct {
	ID   int
	Kind Kind
	// Node is where the config lies: in whose hands the guest is.
	Node string
	Name string
	Tags []string
	Pool string
	// Lock is what holds the guest: backup, migrate, snapshot …; "" if nothing does.
	Lock     string
	Template bool
	OnBoot   bool
	// Memory is the configured maximum in bytes, Cores all virtual processors.
	Memory int64
	Cores  int
	// CPU is the type of the virtual processors; "" is Proxmox's default, which runs everywhere.
	CPU string
	// UUID is the identity that a machine sees as that of its board, in lower case; "" for containers.
	UUID    string
	Bridges []string
	Volumes []Volume
	// Devices are local devices that keep a machine on its node; Mapped are those that a resource mapping provides.
	Devices   []string
	Mapped    []Device
	Snapshots []string
	// Clipboard says that the clipboard is VNC's, which old machines cannot take along.
	Clipboard bool
	Jobs      []Job
	Managed   Managed
	// Status is what the cluster last heard: running, stopped, paused …, up to ten seconds old; "" when it has heard nothing for
	// five minutes.
	Status string
	// Uptime is that of the process, as old as Status.
	Uptime time.Duration
}

// SID is the guest's name in the HA manager: "vm:100".
func (g Guest) SID() string { return fmt.Sprintf("%s:%d", g.Kind, g.ID) }

// String names the guest for people: vm 100 (web01).
func (g Guest) String() string {
	if g.Name == "" {
		return fmt.Sprintf("%s %d", g.Kind, g.ID)
	}
	return fmt.Sprintf("%s %d (%s)", g.Kind, g.ID, g.Name)
}

// Volume is a place where a guest keeps data.
type Volume struct {
	Key string // scsi0, rootfs, mp0, unused0
	// File is the volume's id, or the path of a device or folder of the node.
	File, Storage string
	Size          int64 // bytes, as the config has it; 0 if it does not
	CDROM         bool
	CloudInit     bool
	Unused        bool
	// Snapshot is the first snapshot that needs the volume; "" if none does. Detached ones are of snapshots only.
	Snapshot string
	Detached bool
	// Declared mount points are said to be there on all nodes.
	Declared  bool
	Replicate bool
	Format    string
}

// Name is the volume's name without its folder and format: vm-100-disk-0.
func (v Volume) Name() string {
	_, name, _ := strings.Cut(v.File, ":")
	name = name[strings.LastIndexByte(name, '/')+1:]
	name, _, _ = strings.Cut(name, ".")
	return name
}

// Device is a device that a resource mapping provides.
type Device struct{ Key, Mapping string }

// Job is a replication job of a guest.
type Job struct {
	ID, Target string
	Disabled   bool
	Removed    bool // it is about to be removed
}

// Managed is what the HA manager does with a guest.
type Managed struct {
	// State is the requested state; "" is a guest that is not under HA.
	State string
	// Service is what the CRM says: its state, where it is and where it goes. Known is false before its first round.
	Service ha.Service
	Known   bool
}

// ByHA reports whether the HA manager decides where the guest runs. One that it is told to ignore is its own.
func (g Guest) ByHA() bool { return g.Managed.State != "" && g.Managed.State != "ignored" }

// Node is what a node says of itself.
type Node struct {
	Name string
	// Running are the guests whose processes exist on the node, those that wait for a migration included.
	Running map[int]Kind
	// Memory is what the node has, Available what could be used now, in bytes.
	Memory, Available int64
	Vendor, Model     string // of the processors
	Flags             map[string]bool
	Interfaces        []string
	QEMU, Manager     string // versions of the packages pve-qemu-kvm and pve-manager
	Err               error
}

// Site is the guests of a cluster and all that decides whether they can move.
type Site struct {
	From     string
	Now      time.Time
	Quorate  bool
	Guests   []Guest // by id
	Storages []config.Section
	Members  *pve.Members
	HA       *ha.State
	// MigrationNetwork and MigrationType are of datacenter.cfg; "" is the nodes' own network and secure.
	MigrationNetwork, MigrationType string
	MaxWorkers                      int
	// Mappings are the nodes that have a mapped device, by kind and name: "pci/gpu1".
	Mappings map[string][]string
	Pools    map[string][]int
	// Nodes are those that were asked.
	Nodes map[string]*Node
	// Unread says why something could not be read: what rests on it is not known.
	Unread map[string]string
}

// Guest finds a guest by its id.
func (s *Site) Guest(id int) (Guest, bool) {
	i, ok := slices.BinarySearchFunc(s.Guests, id, func(g Guest, id int) int { return g.ID - id })
	if !ok {
		return Guest{}, false
	}
	return s.Guests[i], true
}

// Runs reports whether a guest runs where its config lies. known is false if its node was not asked and the cluster has
// heard nothing of it.
func (s *Site) Runs(g Guest) (running, known bool) {
	if n := s.Nodes[g.Node]; n != nil && n.Err == nil {
		_, running = n.Running[g.ID]
		return running, true
	}
	return g.Status == "running" || g.Status == "paused", g.Status != "" && g.Status != "unknown"
}

// Online reports whether a node is in the cluster and there.
func (s *Site) Online(node string) bool { return s.Members.Online(node) || s.standalone(node) }

func (s *Site) standalone(node string) bool {
	return s.Members != nil && s.Members.Cluster == nil && s.Members.NodeName == node
}

// Names are the nodes of the cluster.
func (s *Site) Names() []string {
	if s.Members == nil {
		return nil
	}
	if s.Members.Cluster == nil {
		return []string{s.Members.NodeName}
	}
	names := make([]string, len(s.Members.Nodes))
	for i, m := range s.Members.Nodes {
		names[i] = m.Name
	}
	return names
}

// Missing says why one of some reads failed, or "".
func (s *Site) Missing(names ...string) string {
	for _, name := range names {
		if why, bad := s.Unread[name]; bad {
			return fmt.Sprintf("the read of %s failed: %s", name, why)
		}
	}
	return ""
}

// Committed is the configured memory of all guests that run on a node, in bytes.
func (s *Site) Committed(node string) int64 {
	var sum int64
	for _, g := range s.Guests {
		if running, known := s.Runs(g); g.Node == node && (running || !known) {
			sum += g.Memory
		}
	}
	return sum
}
