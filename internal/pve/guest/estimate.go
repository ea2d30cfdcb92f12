package guest

import (
	"fmt"
	"time"
)

// Speed is how many bytes a second go over a network.
type Speed int64

// GigabitSpeed is what a link of 1 Gbit/s carries after what SSH and TCP take: what is assumed when nothing else is known.
const GigabitSpeed Speed = 110 << 20

// Rough times of the parts of a move that do not depend on size (reference §13.3).
const (
	moveOverhead    = 8 * time.Second
	containerAround = 20 * time.Second // to shut down and to start
)

// Duration is about how long a move takes. A machine that writes memory meanwhile takes longer, and one that writes faster
// than the network carries never ends.
func (m Move) Duration(s Speed) time.Duration {
	if s <= 0 {
		s = GigabitSpeed
	}
	total := moveOverhead + time.Duration(float64(m.RAM+m.Disk)/float64(s)*float64(time.Second))
	if m.Way == Restart {
		total += containerAround
	}
	return total
}

// Downtime is about how long the guest does not answer.
func (m Move) Downtime(s Speed) time.Duration {
	switch m.Way {
	case Live:
		return 100 * time.Millisecond // Proxmox's limit for the last round
	case Restart:
		return m.Duration(s)
	}
	return 0
}

// String says how: "live, 4 GiB of memory and 32 GiB of disks".
func (m Move) String() string {
	how := string(m.Way)
	if m.ByHA {
		how += " through the HA manager"
	}
	switch {
	case m.Way == Nowhere:
		return "not at all"
	case m.RAM > 0 && m.Disk > 0:
		return fmt.Sprintf("%s, %s of memory and %s of disks", how, FormatBytes(m.RAM), FormatBytes(m.Disk))
	case m.RAM > 0:
		return fmt.Sprintf("%s, %s of memory", how, FormatBytes(m.RAM))
	case m.Disk > 0:
		return fmt.Sprintf("%s, %s of disks", how, FormatBytes(m.Disk))
	}
	return how
}
