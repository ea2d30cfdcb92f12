package guest

import (
	"fmt"
	"slices"
	"strings"
)

// Way is how a guest goes to another node.
type Way string

// The ways. A guest under HA goes where it is told by the HA manager, in the same ways.
const (
	Live     Way = "live"     // it runs on without a break
	Offline  Way = "offline"  // it does not run
	Restart  Way = "restart"  // a container that is shut down, moved and started
	Nowhere  Way = ""         // it cannot
	AtTarget Way = "is there" // nothing to do
)

// Code names a reason for those who decide by it.
type Code string

// The codes.
const (
	IsTemplate        Code = "template"
	IsLocked          Code = "lock"
	NoTarget          Code = "target"       // unknown, offline, in maintenance
	StateUnknown      Code = "unknown"      // something could not be read
	InHAError         Code = "ha-error"     // the HA manager does nothing with it
	HADisarmed        Code = "ha-disarmed"  // nor with any
	LocalDevice       Code = "device"       // passthrough
	MappingMissing    Code = "mapping"      // the target has no such device
	LocalDisk         Code = "local-disk"   // it may only be copied if asked for
	LocalMedium       Code = "cdrom"        // an ISO image or drive of the node
	LocalPath         Code = "path"         // a device or folder of the node
	HasSnapshot       Code = "snapshot"     // that cannot travel
	HasClones         Code = "clones"       // other guests' disks are based on its
	ForeignVolume     Code = "owner"        // the disk belongs to another guest
	StorageMissing    Code = "storage"      // not there, off, or not on a node
	StorageContent    Code = "content"      // it does not take such volumes
	StorageKind       Code = "storage-type" // its volumes cannot be copied
	NotReplicated     Code = "replication"  // it is replicated elsewhere
	JobRemoved        Code = "job"          // a replication job is about to go
	BridgeMissing     Code = "bridge"       // the target lacks it
	CPUDiffers        Code = "cpu"          // the target cannot run its processor
	OlderTarget       Code = "version"      // the target runs an older Proxmox VE
	MemoryShort       Code = "memory"       // the target has not enough left
	NeedsRestart      Code = "needs-restart"
	ClipboardNotLive  Code = "clipboard"
	PreconditionsSaid Code = "preconditions" // Proxmox VE's own check
)

// Reason is why a guest cannot move, or (as a note) what is to be known about it.
type Reason struct {
	Code Code
	// Saw is what is the case, Want what would have to be, Look how to see for oneself, Override how to go on.
	Saw, Want, Look, Override string
}

func (r Reason) String() string { return r.Saw }

// Options are what a move may do.
type Options struct {
	// LocalDisks may be copied to the target.
	LocalDisks bool
	// Storages say where volumes go: by their storage's name, "" being all others. What is not said stays on a storage of the
	// same name.
	Storages map[string]string
	// Restart lets containers be shut down and started again.
	Restart bool
	// Overcommit lets more memory be promised on the target than it has.
	Overcommit bool
	// Mine says that the guest's lock, if it is a migration's, belongs to the one who asks: a move that an earlier run began.
	Mine bool
	// Promised is the memory that is on its way to the target already, in bytes.
	Promised int64
}

func (o Options) storage(name string) string {
	if to, ok := o.Storages[name]; ok {
		return to
	}
	if to, ok := o.Storages[""]; ok {
		return to
	}
	return name
}

// Move is how a guest would go to a node.
type Move struct {
	Way    Way
	ByHA   bool
	Target string
	// RAM and Disk are the bytes that go over the network.
	RAM, Disk int64
	// Copied are the volumes that do.
	Copied []Volume
	// Reasons are what keeps it from moving; none means that it can. Notes do not.
	Reasons, Notes []Reason
}

// Can reports whether nothing speaks against the move.
func (m Move) Can() bool { return len(m.Reasons) == 0 }

// Has reports whether a code is among the reasons.
func (m Move) Has(c Code) bool {
	return slices.ContainsFunc(m.Reasons, func(r Reason) bool { return r.Code == c })
}

// CanMove decides whether and how a guest can go from where it is to a node, by the reference's refusals (§6.2, §6.7) and by
// what Proxmox VE does not check: bridges, processors, versions, memory. All reasons are given, not the first alone. What is
// not known counts against the move.
func CanMove(s *Site, g Guest, to string, o Options) Move { return canMove(s, nil, g, to, o) }

// needed are the reads without which nothing is known of any move.
var needed = []string{"configs", "members", "storages", "ha resources", "ha manager", "ha guests"}

// canMove decides, with the help of an index if there is one.
func canMove(s *Site, x *Index, g Guest, to string, o Options) Move {
	m := Move{Target: to, ByHA: g.ByHA()}
	if g.Node == to {
		m.Way = AtTarget
		return m
	}
	d := decision{s: s, x: x, g: g, to: to, o: o, m: &m}
	running, known := d.runs()
	d.running = running
	if !known {
		d.no(StateUnknown, "whether it runs on "+g.Node+" is not known", "its state", g.Kind.Tool()+" status "+fmt.Sprint(g.ID), "")
	}
	if why := d.unread(); why != "" {
		d.no(StateUnknown, why, "the files of /etc/pve", "ls /etc/pve", "")
	}
	d.identity()
	d.target()
	d.managed()
	d.devices()
	d.volumes()
	d.replication()
	if running {
		d.hardware()
	}
	m.Way = d.way()
	if !m.Can() {
		m.Way = Nowhere
	}
	return m
}

// decision collects the reasons of one move.
type decision struct {
	s       *Site
	x       *Index // nil: the site is asked
	g       Guest
	to      string
	o       Options
	m       *Move
	running bool
}

func (d *decision) no(code Code, saw, want, look, override string) {
	d.m.Reasons = append(d.m.Reasons, Reason{code, saw, want, look, override})
}

func (d *decision) note(code Code, saw string) {
	d.m.Notes = append(d.m.Notes, Reason{Code: code, Saw: saw})
}

// show is the command that shows the guest's config.
func (d *decision) show() string { return fmt.Sprintf("%s config %d", d.g.Kind.Tool(), d.g.ID) }

func (d *decision) way() Way {
	switch {
	case !d.running:
		return Offline
	case d.g.Kind == CT:
		return Restart
	}
	d.m.RAM = d.g.Memory
	return Live
}

// lockHolder says who holds a lock, and what ends it.
func lockHolder(lock string) string {
	switch lock {
	case "backup":
		return "a backup (vzdump) is running, or one was cut off"
	case "snapshot", "snapshot-delete", "rollback":
		return "a snapshot is being made, removed or rolled back to"
	case "migrate":
		return "another migration is at work, or one was cut off"
	case "clone", "create", "disk", "fstrim", "mounted", "destroyed":
		return "a task of that name is at work, or one was cut off"
	case "suspending", "suspended":
		return "the guest is suspended to disk"
	}
	return "somebody holds it"
}

func (d *decision) identity() {
	if d.g.Template {
		d.no(IsTemplate, "it is a template", "a guest that can run: others are cloned from templates, which stay", d.show(), "leave it out")
	}
	if d.g.Lock != "" && !(d.o.Mine && d.g.Lock == "migrate") {
		d.no(IsLocked, fmt.Sprintf("it is locked (%s): %s", d.g.Lock, lockHolder(d.g.Lock)), "no lock",
			fmt.Sprintf("pvesh get /nodes/%s/tasks --vmid %d --source active; %s", d.g.Node, d.g.ID, d.show()),
			fmt.Sprintf("wait for the task; pxrun never takes a lock away. If nothing is at work any more: %s unlock %d", d.g.Kind.Tool(), d.g.ID))
	}
	if d.running && d.g.Kind == CT && !d.o.Restart {
		d.no(NeedsRestart, "it is a running container: containers cannot move live", "leave to shut it down, move it and start it again", fmt.Sprintf("pct status %d", d.g.ID), "restart = true")
	}
	if d.running && d.g.Kind == VM && d.g.Clipboard {
		d.note(ClipboardNotLive, "its clipboard is VNC's: with machine versions older than 10.1 it does not move live")
	}
}

func (d *decision) target() {
	switch {
	case !d.member(d.to):
		d.no(NoTarget, fmt.Sprintf("%s is no node of the cluster, which has %s", d.to, strings.Join(d.s.Names(), ", ")), "a node of it", "pvecm nodes", "")
		return
	case !d.online(d.to):
		d.no(NoTarget, d.to+" is offline", "a node that is there", "pvecm status", "bring it back, or name another target")
		return
	}
	if d.s.HA == nil || d.s.HA.Manager == nil || d.released(d.to) {
		return
	}
	status := d.s.HA.Manager.Nodes[d.to]
	if slices.Contains(d.s.HA.Manager.Maintenance, d.to) || status == "maintenance" {
		d.no(NoTarget, d.to+" is in maintenance", "a node that takes guests", "ha-manager status", "ha-manager crm-command node-maintenance disable "+d.to+", or another target")
	} else if d.g.ByHA() && status != "" && status != "online" {
		d.no(NoTarget, fmt.Sprintf("the HA manager has %s as %s", d.to, status), "online", "ha-manager status", "")
	}
}

func (d *decision) managed() {
	if !d.g.ByHA() {
		return
	}
	look := "ha-manager status"
	service := d.g.Managed.Service
	switch manager := d.s.HA.Manager; {
	case manager == nil:
		d.no(StateUnknown, "it is under HA and no CRM has run yet", "a master", look, "")
	case manager.Disarmed != "":
		d.no(HADisarmed, "the HA stack is disarmed ("+manager.Disarmed+"): commands are ignored", "an armed one", look, "ha-manager crm-command arm-ha")
	case !d.g.Managed.Known:
		d.no(StateUnknown, "the CRM does not have it yet", "a known service", look, "")
	case service.State == "error":
		d.no(InHAError, "the HA manager has it in state error: it does nothing with it", "a service that is mended", look,
			fmt.Sprintf("mend the cause, then ha-manager set %s --state disabled, and started again", d.g.SID()))
	case service.State != "started" && service.State != "stopped":
		d.no(StateUnknown, fmt.Sprintf("the HA manager is at work on it: state %s on %s", service.State, service.Node), "started or stopped", look, "wait until it is done")
	}
}

func (d *decision) devices() {
	if len(d.g.Devices) > 0 {
		saw := "it uses devices of its node: " + strings.Join(d.g.Devices, ", ")
		override := "stop it where it is, or take the devices out of its config"
		d.no(LocalDevice, saw, "no local devices", d.show(), override)
	}
	for _, device := range d.g.Mapped {
		nodes := d.s.Mappings[device.Mapping]
		switch {
		case !slices.Contains(nodes, d.to):
			d.no(MappingMissing, fmt.Sprintf("%s is mapped as %s, which %s does not have", device.Key, device.Mapping, d.to), "a mapping for "+d.to, "cat /etc/pve/mapping/*.cfg", "add it, or name another target")
		case d.running:
			d.no(LocalDevice, fmt.Sprintf("%s is a mapped device: with it a machine is not moved while it runs", device.Key), "no such device, or a machine that is stopped", d.show(), "stop it first")
		}
	}
}
