package rollingtest_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/pxrun/pxrun/lab"
)

// trouble is one thing that goes wrong during an upgrade.
type trouble struct {
	name string
	// fits says whether it can happen in a cluster; nil is always.
	fits func(s shape) bool
	// begin arms it.
	begin func(m *mix, r *rand.Rand)
	// mend is what a person does about it afterwards, besides ending the lab's faults.
	mend func(m *mix)
}

// sometime is a moment of an upgrade: as long as it lasts when all goes well.
func sometime(r *rand.Rand, s shape) time.Duration {
	return time.Duration(5+r.IntN(200*s.nodes)) * time.Second
}

func anyNode(r *rand.Rand, s shape) string { return nodeName(1 + r.IntN(s.nodes)) }

// late is a fault that strikes a node at some time.
func late(name, kind, value string, fits func(shape) bool, mend func(*mix)) trouble {
	return trouble{name: name, fits: fits, mend: mend, begin: func(m *mix, r *rand.Rand) {
		m.fault(lab.Fault{Kind: kind, Target: anyNode(r, m.shape), Value: value, After: sometime(r, m.shape)})
	}}
}

// early is a fault that is there before the run begins.
func early(name, kind, value string, fits func(shape) bool, mend func(*mix)) trouble {
	return trouble{name: name, fits: fits, mend: mend, begin: func(m *mix, r *rand.Rand) {
		m.fault(lab.Fault{Kind: kind, Target: anyNode(r, m.shape), Value: value})
	}}
}

// phase is a fault that strikes a node when it gets to a point of a program.
func phase(name, kind, value, at string, fits func(shape) bool, mend func(*mix)) trouble {
	return trouble{name: name, fits: fits, mend: mend, begin: func(m *mix, r *rand.Rand) {
		m.fault(lab.Fault{Kind: kind, Target: anyNode(r, m.shape), Value: value, Phase: at})
	}}
}

// ofGuest is a fault at a point of the migration of one guest.
func ofGuest(name, kind, value, at string) trouble {
	return trouble{name: name, fits: hasGuests, begin: func(m *mix, r *rand.Rand) {
		g := m.shape.guests[r.IntN(len(m.shape.guests))]
		m.fault(lab.Fault{Kind: kind, Value: value, Phase: fmt.Sprintf("%s:%d", at, g.ID)})
	}}
}

func hasGuests(s shape) bool  { return len(s.guests) > 0 }
func hasCeph(s shape) bool    { return s.ceph }
func hasArbiter(s shape) bool { return s.arbiter }
func hasHA(s shape) bool {
	for _, g := range s.guests {
		if g.ha {
			return true
		}
	}
	return false
}

// configure is what a person does about packages that are half installed.
func configure(m *mix) {
	for _, n := range m.shape.names() {
		m.w.on(n, "dpkg --configure -a")
	}
}

// freed is what a person does where a disk was full: what could not start is started, and packages are set up.
func freed(m *mix) {
	for _, n := range m.shape.names() {
		m.w.on(n, "systemctl reset-failed; systemctl start pve-cluster corosync; dpkg --configure -a; systemctl start pve-ha-lrm pve-ha-crm")
	}
}

// restarted is what a person does who has seen why a node did not start the kernel that it was to: pxrun asks for it.
func restarted(m *mix) {
	for _, n := range m.shape.names() {
		m.w.on(n, `want=$(sed -n 's/^expect //p' /var/lib/pxrun/reboot) && [ "$want" ] && [ "$want" != "$(uname -r)" ] || exit 0; proxmox-boot-tool kernel unpin; proxmox-boot-tool kernel unpin --next-boot; systemctl reboot`)
	}
}

// unlock is what the end of a backup does, wherever its guest is by then.
func unlock(m *mix) {
	for _, g := range m.shape.guests {
		for _, n := range m.shape.names() {
			m.w.on(n, fmt.Sprintf("qm unlock %d || pct unlock %d", g.ID, g.ID))
		}
	}
}

// troubles are all there are.
var troubles = []trouble{
	ofGuest("a migration fails", "fail", "255:ERROR: migration aborted", "migrate:transfer"),
	ofGuest("a guest moves though its task failed", "fail", "255:ERROR: command failed", "migrate:moved"),
	ofGuest("a migration hangs", "hang", "", "migrate:transfer"),
	{name: "the HA master loses a command", fits: hasHA, begin: func(m *mix, _ *rand.Rand) {
		m.fault(lab.Fault{Kind: "ha-ignore", Value: "node-maintenance"})
	}},
	late("a node loses its power", "power-off", "", nil, nil),
	late("a node's disk is full", "disk-full", "", nil, freed),
	phase("a node returns late", "slow", "4m", "boot:start", nil, nil),
	early("a node never returns", "kernel-hang", "", nil, nil),
	early("a node returns on the old kernel", "old-kernel", "", nil, restarted),
	phase("a node returns without a link", "link-down", "", "boot:start", nil, nil),
	{name: "a node returns without an OSD", fits: hasCeph, begin: func(m *mix, r *rand.Rand) {
		i := r.IntN(3)
		m.fault(lab.Fault{Kind: "osd-down", Target: nodeName(i + 1), Value: fmt.Sprint(i), Phase: "boot:start"})
	}},
	early("a node returns without its HA agent", "unit-fails", "pve-ha-lrm.service", hasHA, func(m *mix) {
		for _, n := range m.shape.names() {
			m.w.on(n, "systemctl reset-failed pve-ha-lrm; systemctl start pve-ha-lrm")
		}
	}),
	late("sshd says nothing", "sshd-hang", "", nil, nil),
	late("pmxcfs hangs", "pmxcfs-hang", "", nil, nil),
	{name: "the arbiter dies", fits: hasArbiter, begin: func(m *mix, r *rand.Rand) {
		m.fault(lab.Fault{Kind: "power-off", Target: "arbiter", After: sometime(r, m.shape)})
	}},
	late("Ceph's commands hang", "ceph-hang", "", hasCeph, nil),
	{name: "placement groups never get clean", fits: hasCeph, begin: func(m *mix, r *rand.Rand) {
		m.fault(lab.Fault{Kind: "pg-stuck", Value: "vm", After: sometime(r, m.shape)})
	}},
	{name: "somebody sets noout", fits: hasCeph, begin: func(m *mix, r *rand.Rand) {
		m.fault(lab.Fault{Kind: "ceph-flag", Value: "noout", After: sometime(r, m.shape)})
	}},
	early("a configuration file was changed", "conffile", "", nil, nil),
	early("a repository answers 401", "apt-401", "", nil, nil),
	late("a repository answers 401 later", "apt-401", "", nil, nil),
	late("something holds dpkg's lock", "dpkg-lock", "10m", nil, nil),
	early("dpkg was interrupted", "dpkg-interrupted", "", nil, configure),
	early("/boot is full", "boot-full", "", nil, nil),
	early("a package cannot be set up", "apt-broken", "qemu-server", nil, configure),
	phase("the connection is lost while packages are unpacked", "cut-ssh", "", "apt:unpack", nil, nil),
	phase("a node loses its power while packages are unpacked", "power-off", "", "apt:unpack", nil, configure),
	{name: "a backup begins", fits: hasGuests, begin: func(m *mix, r *rand.Rand) {
		g := m.shape.guests[r.IntN(len(m.shape.guests))]
		m.fault(lab.Fault{Kind: "guest-lock", Target: g.node, Value: fmt.Sprintf("%d:backup", g.ID), After: sometime(r, m.shape)})
	}, mend: unlock},
	{name: "a person takes a node into maintenance", fits: hasHA, begin: func(m *mix, r *rand.Rand) {
		node, from := anyNode(r, m.shape), anyNode(r, m.shape)
		m.later(sometime(r, m.shape), func() {
			if _, code := m.w.on(from, "ha-manager crm-command node-maintenance enable "+node); code == 0 {
				m.foreign = append(m.foreign, node)
			}
		})
	}, mend: func(m *mix) {
		for _, node := range m.foreign {
			m.w.must(node, "ha-manager crm-command node-maintenance disable "+node)
		}
	}},
	late("a node's clock jumps ahead", "skew", "11m", nil, nil),
	late("a node's clock jumps back", "skew", "-11m", nil, nil),
	{name: "pxrun is killed", begin: func(m *mix, r *rand.Rand) {
		m.later(sometime(r, m.shape), func() { m.next = m.first.kill() })
	}},
	{name: "pxrun loses the network", begin: func(m *mix, r *rand.Rand) {
		long := time.Duration(10+r.IntN(200)) * time.Second
		m.later(sometime(r, m.shape), func() {
			m.first.setCut(true)
			m.later(long, func() {
				if m.next == m.first {
					m.first.setCut(false)
				}
			})
		})
	}},
	{name: "somebody else begins the upgrade too", begin: func(m *mix, r *rand.Rand) {
		m.later(sometime(r, m.shape), func() {
			m.said("the other one", m.w.controller())
		})
	}},
	{name: "a person interrupts", begin: func(m *mix, r *rand.Rand) {
		m.later(sometime(r, m.shape), m.first.interrupt)
	}},
}
