package lab

import (
	"context"
	"maps"
	"slices"

	"github.com/pxrun/pxrun/lab/guest"
)

// faultKind is how a kind of fault happens.
type faultKind struct {
	FaultKind
	needsTarget bool
	// inProgram faults make a program fail: they need a trigger in one.
	inProgram bool
	// strike makes it happen and returns how to undo it, if it can be undone.
	strike func(ctx context.Context, l *Lab, h *host, f Fault) (undo func() error, err error)
}

// FaultKinds lists what can go wrong in a lab, by name.
func FaultKinds() []FaultKind {
	var out []FaultKind
	for _, name := range faultNames() {
		out = append(out, faultKinds[name].FaultKind)
	}
	return out
}

func faultNames() []string { return slices.Sorted(maps.Keys(faultKinds)) }

// faultKinds is the table of all faults by name.
var faultKinds = allFaults()

func allFaults() map[string]faultKind {
	table := map[string]faultKind{}
	add := func(name, summary, value string, target bool, strike func(context.Context, *Lab, *host, Fault) (func() error, error)) {
		table[name] = faultKind{FaultKind: FaultKind{Name: name, Summary: summary, Value: value}, needsTarget: target, strike: strike}
	}
	add("stale-authkey", "a corosync key of an earlier life lies on the node", "", true, staleAuthkey)
	add("foreign-conf", "a corosync.conf of another cluster lies in /etc/pve", "the cluster's name; other without", true, foreignConf)
	add("stale-nssdb", "a QDevice's certificates of an earlier life lie on the node", "", true, staleCertificates)
	add("guests", "the node holds virtual guests", "ids, separated by commas, or one and its properties: 100 memory=2048 running=1", true, addGuests)
	add("guest-lock", "somebody holds the lock of a guest, as a backup does", "its id, and the lock unless it is backup: 100:snapshot", true, lockGuest)
	add("guest-crash", "the process of a guest dies", "its id", true, crashGuest)
	add("guest-dirty", "a virtual machine writes memory faster than the network moves it: a live migration never ends", "its id", false, guestFault((*guest.World).SetDirty))
	add("guest-deaf", "a guest does not react to a shutdown", "its id", false, guestFault((*guest.World).SetDeaf))
	add("bridge-missing", "the node has no bridge of that name", "the bridge", true, loseBridge)
	add("cpu", "the node has other processors", "their name, and their x86-64 level: AMD EPYC:2", true, otherCPU)
	add("link-missing", "an address of the node is on no interface", "the address; the last link without", true, linkMissing)
	add("link-down", "an interface of the node is down", "its address; the last link without", true, linkDown)
	add("bond-member", "a cable of a bond is out", "the interface", true, bondMember)
	add("ntp-away", "no time server outside of the lab answers the node", "", true, timeAway)
	add("quorum-hang", "corosync's packets to and from the node are dropped: a join waits for quorum forever", "", true, muteCorosync)
	add("partition", "the network falls apart", "groups of hosts: pve1,pve2|pve3", false, partition)
	add("rtt", "packets to and from the node take long", "a duration", true, slowPath)
	add("mtu", "packets to and from the node must be smaller", "bytes", true, smallPath)
	add("skew", "the node's clock is wrong", "a duration, which may be negative", true, skewClock)
	add("version", "the node runs another version of Proxmox VE", "like 8.4.1", true, otherVersion)
	add("power-off", "the node loses its power", "", true, powerOff)
	add("reboot", "the node restarts in order", "", true, reboot)
	add("bmc-dead", "the node's management controller does not answer", "", true, killController)
	add("bmc-deaf", "the node's management controller says that it switches the power and does not", "", true, deafenController)
	add("bmc-login", "the node's management controller takes another user and password", "", true, lockController)
	add("bmc-swap", "the addresses of two nodes' management controllers are mixed up", "the other node", true, swapControllers)
	add("corosync-down", "corosync dies on the node", "", true, corosyncDown)
	add("cfs-lock", "somebody holds a lock of the cluster file system and renews it", "the lock; file-corosync_conf without", true, holdLock)
	add("pmxcfs-hang", "reads and writes in /etc/pve never end", "", true, hangPmxcfs)
	add("disk-full", "no more can be written", "", true, fillDisk)
	add("storage-hang", "accesses to what the host exports never end", "the export; all of them without", true, exportTrouble("hang"))
	add("storage-gone", "the host no longer exports something", "the export; all of them without", true, exportTrouble("missing"))
	add("storage-full", "there is no room left on what the host exports", "the export; all of them without", true, exportTrouble("full"))
	add("storage-read-only", "what the host exports takes no writes", "the export; all of them without", true, exportTrouble("read-only"))
	add("cut-ssh", "all SSH connections to the node drop", "", true, cutSSH)
	add("sshd-hang", "sshd takes connections and says nothing", "", true, hangSSH)
	add("sshd-refuse", "sshd does not run", "", true, refuseSSH)
	add("ssh-penalties", "sshd closes connections of addresses whose logins it refused", "", true, penalties)
	add("key-changed", "the node has other host keys than before", "", true, changeKeys)
	add("banner", "the shell prints something before every command", "the text", true, shellBanner)
	add("sudo-refused", "sudo lets nobody do anything", "", true, refuseSudo)
	add("ha-ignore", "the HA master loses the commands that it takes from the queue", "a word that they contain; all without", false, ignoreCommands)
	add("ha-dead", "a daemon of the node's HA stack dies", "lrm or crm; lrm without", true, killHA)
	add("ha-hang", "a daemon of the node's HA stack does nothing more", "lrm or crm; lrm without", true, hangHA)
	add("watchdog-dead", "watchdog-mux dies: a node with active HA services resets itself", "", true, killWatchdog)
	bootFaults(add)
	updateFaults(add)
	cephFaults(add)
	fail := func(name, summary, value string, strike func(context.Context, *Lab, *host, Fault) (func() error, error)) {
		table[name] = faultKind{FaultKind: FaultKind{Name: name, Summary: summary, Value: value}, inProgram: true, strike: strike}
	}
	fail("fail", "a program prints an error and fails", "[exit status:]text; the status is 1 without", failProgram)
	fail("lie", "a program prints an error and exits 0", "the text", lieProgram)
	fail("die", "a program ends where it is, as when it is killed", "", dieProgram)
	fail("slow", "a program takes longer", "a duration", slowProgram)
	fail("hang", "a program never ends", "", hangProgram)
	return table
}
