package rolling

import (
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/guest"
)

// Situation is all that a proof rests on.
type Situation struct {
	// Site is the cluster with its guests. The nodes that are to take guests must have been asked (Site.ReadNodes): one that
	// was not is no target.
	Site *guest.Site
	// Ballot is who votes. DeviceOnline is true only for a QDevice that is alive and votes.
	Ballot pve.Ballot
	// Ceph is nil on a cluster without.
	Ceph *Ceph
	// Nodes are those that the run goes over and that are not done yet. Other nodes of the site take guests and stay as they are.
	Nodes []Node
	// Done are nodes that the run is through with; they need not be among Nodes.
	Done []string
	// Away are nodes of the run that are out right now, Failed those whose state is not known: both take no guests and are
	// counted as nodes that do not vote.
	Away, Failed []string
	// Tolerated are nodes that may be out without the run's doing: they do not count against its number.
	Tolerated []string
	Policies  Policies
	Return    Return
	// Max is how many nodes may be out at once, Canary how many of those that are yet to go go alone. Nodes that are offline or
	// in maintenance without the run's doing count among those that are out, failed ones do not.
	Max    Limit
	Canary int
	// Reserve is kept free on every node, beside what Node.ReserveBytes keeps.
	Reserve Reserve
	// Own is where pxrun itself runs.
	Own Own
	// Preconditions are what Proxmox VE itself says of a machine's migration from where it is now, by id. What it refuses is
	// refused.
	Preconditions map[int]guest.Preconditions
	// Space is what is free on the storages of nodes, in bytes: by node, then by storage. What is not in it is not checked.
	Space map[string]map[string]int64
	// Scheduler is how the HA manager chooses nodes: basic (""), static or dynamic, of crs in datacenter.cfg.
	Scheduler string
	Speeds    Speeds
	// Window is how long the run may take; 0 is without limit.
	Window time.Duration
	// Pack has guests packed rather than spread, as a proof found it necessary (Proof.Packed).
	Pack bool
	// Overcommit lets nodes take more memory than they have.
	Overcommit bool
}

// Node is a node that the run goes over.
type Node struct {
	Name string
	Work Work
	// Idle is why nothing is to be done here; "" if something is.
	Idle string
	// Site is the place that it stands in, for limits by site.
	Site string
	// Canary says that it is to go first.
	Canary bool
	// ReserveBytes of memory are not for guests here: the ARC of ZFS, say.
	ReserveBytes int64
	// BootSeconds is how long the machine takes to come back; 0 is not known.
	BootSeconds float64
}

// Work is what is done on a node.
type Work struct {
	Packages int
	// Unsure says that how many packages there are is known later; Packages is then the least.
	Unsure        bool
	DownloadBytes int64
	Reboot        Need
	// Why is the reason for the reboot.
	Why string
	// QEMU and Manager are the versions of pve-qemu-kvm and pve-manager afterwards; "" is not known, and then counts as newer
	// than all that is known of any node if Packages is not 0.
	QEMU, Manager string
}

// Need says whether something has to be.
type Need string

// The needs. Nothing said is perhaps.
const (
	No      Need = "no"
	Yes     Need = "yes"
	Perhaps Need = "perhaps"
)

// Ceph is what is known of Ceph.
type Ceph struct {
	// Unknown says why nothing is known; then no node may go that is part of it.
	Unknown string
	// Dirty is what keeps placement groups from being active and clean (ceph.Status.Clean), Complaints the health checks that
	// are not accepted. Either stops everything.
	Dirty      string
	Complaints []string
	// Monitors are the nodes with a monitor in the monitor map, Quorum those whose monitor is in the quorum.
	Monitors, Quorum []string
	// OSDs are the OSDs by node; Down are those that are down or out of the cluster.
	OSDs map[string][]int
	Down []int
	// Stop are the answers of `ceph osd ok-to-stop` (and mon ok-to-stop) as they were read. A set of nodes with OSDs or a
	// monitor may go only if an answer covers all of them; what was not asked counts as no.
	Stop []StopAnswer
	// Manager is the node of the active manager daemon.
	Manager string
	// Warnings are worth knowing and stop nothing: pools with size = min_size and the like.
	Warnings []string
}

// StopAnswer is what Ceph says of stopping all daemons of some nodes at once.
type StopAnswer struct {
	Nodes []string
	OK    bool
	Said  string
}

// Policy is what is done with a running guest of a node that is emptied.
type Policy string

// The policies.
const (
	Migrate          Policy = "migrate"            // to another node while it runs, or not at all
	MigrateWithDisks Policy = "migrate_with_disks" // the same, local disks may be copied over the network
	Shutdown         Policy = "shutdown"           // it is shut down and started when the node is back
	RestartContainer Policy = "restart_container"  // a container is shut down, moved and started
	Leave            Policy = "leave"              // it stays, and goes down and up with the node
	Refuse           Policy = "block"              // the node is not begun as long as it runs there
)

// Policies say what is done with which guest. For a guest of which nothing is said: it moves live if it can, and if not, what
// Default says, or Containers for a container. What is said of a tag or a guest is done even if it could move live. A guest
// counts before its tags, of several tags the first in the alphabet, and Default ("" is block) last.
type Policies struct {
	Default, Containers Policy
	Tags                map[string]Policy
	Guests              map[int]Policy
}

// Return says which guests come home when their node is back. Guests under HA come back by themselves, whatever it says.
type Return string

// The ways.
const (
	ReturnNever    Return = "never" // ""
	ReturnMoved    Return = "moved"
	ReturnBalanced Return = "balanced" // only from nodes that are fuller than the home would be
)

// Limit is how many nodes may be out at once.
type Limit struct {
	// Count is a number, Percent a share of the run's nodes, rounded down; one node may always go. If both are 0, it is one.
	Count, Percent int
	// PerSite applies it to the nodes of each site by itself.
	PerSite bool
}

// Reserve is memory that is kept free on a node: the larger of both.
type Reserve struct {
	Bytes   int64
	Percent int
}

// Own is where pxrun itself runs.
type Own struct {
	// Node is the node on which it runs as a program, Guest the guest in which it does.
	Node  string
	Guest int
	// Allow lets its own node go, last: the run has to be resumed by hand.
	Allow bool
}

// Speeds are what times are reckoned from; 0 stands for what is usual.
type Speeds struct {
	// Network is what goes between nodes, of one node at a time.
	Network guest.Speed
	// Download is what comes from package mirrors; 0 with packages that are fetched already.
	Download guest.Speed
	// Workers is how many guests move at once from a node; 0 is max_workers of the datacenter, 4 if that is not set.
	Workers int
	// PackageSeconds is what a package takes to be installed, BootSeconds what a node needs to come back, ShutdownSeconds what
	// a guest needs to shut down, SettleSeconds what Ceph needs to be clean again, SoakSeconds the pause after each node.
	PackageSeconds, BootSeconds, ShutdownSeconds, SettleSeconds, SoakSeconds float64
}
