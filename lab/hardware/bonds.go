package hardware

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/lab/machine"
)

// Bond is a bond of network cards.
type Bond struct {
	Name string `json:"name"`
	// Mode is one of the kernel's words: 802.3ad, active-backup, balance-rr, …
	Mode    string   `json:"mode"`
	Members []string `json:"members"`
	// Speed is that of each member in Mbit/s; 0 means 10000.
	Speed int `json:"speed,omitempty"`
}

// modes are the kernel's descriptions of them.
var modes = map[string]string{
	"balance-rr": "load balancing (round-robin)", "active-backup": "fault-tolerance (active-backup)", "balance-xor": "load balancing (xor)",
	"broadcast": "fault-tolerance (broadcast)", "802.3ad": "IEEE 802.3ad Dynamic link aggregation", "balance-tlb": "transmit load balancing", "balance-alb": "adaptive load balancing",
}

// Validate says what is wrong with a bond.
func (b Bond) Validate() error {
	switch {
	case b.Name == "" || strings.ContainsAny(b.Name, " /"):
		return fmt.Errorf("bond name %q is not usable", b.Name)
	case modes[b.Mode] == "":
		return fmt.Errorf("bond %s: unknown mode %q", b.Name, b.Mode)
	case len(b.Members) == 0:
		return fmt.Errorf("bond %s has no members", b.Name)
	}
	return nil
}

// Bonds are the bonds of a machine.
type Bonds struct {
	m    *machine.Machine
	list []Bond

	mu       sync.Mutex
	down     map[string]bool
	failures map[string]int
}

// InstallBonds makes a machine's bonds visible where the kernel shows them: /proc/net/bonding and /sys/class/net.
func InstallBonds(m *machine.Machine, list []Bond) (*Bonds, error) {
	b := &Bonds{m: m, list: list, down: map[string]bool{}, failures: map[string]int{}}
	var failed error
	card := func(name string, speed int) {
		dir := "/sys/class/net/" + name
		failed = errors.Join(failed, m.FS.MkdirAll(dir, 0o755))
		for file, content := range map[string]string{"speed": fmt.Sprint(speed), "duplex": "full", "operstate": "up", "mtu": "1500"} {
			failed = errors.Join(failed, m.FS.WriteFile(dir+"/"+file, []byte(content+"\n"), 0o644))
		}
	}
	for _, bond := range list {
		if bond.Speed == 0 {
			bond.Speed = 10000
		}
		m.ProcFile("/net/bonding/"+bond.Name, func() []byte { return []byte(b.show(bond)) })
		card(bond.Name, bond.Speed*len(bond.Members))
		for _, member := range bond.Members {
			card(member, bond.Speed)
		}
	}
	return b, failed
}

// SetDown takes the cable of a member out, or puts it back.
func (b *Bonds) SetDown(member string, down bool) error {
	if !slices.ContainsFunc(b.list, func(bond Bond) bool { return slices.Contains(bond.Members, member) }) {
		return fmt.Errorf("%s is in no bond of %s", member, b.m.Name())
	}
	b.mu.Lock()
	if down && !b.down[member] {
		b.failures[member]++
	}
	b.down[member] = down
	b.mu.Unlock()
	state := "up"
	if down {
		state = "down"
	}
	return b.m.FS.WriteFile("/sys/class/net/"+member+"/operstate", []byte(state+"\n"), 0o644)
}

// show is the file in /proc/net/bonding.
func (b *Bonds) show(bond Bond) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var up []string
	for _, member := range bond.Members {
		if !b.down[member] {
			up = append(up, member)
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "Ethernet Channel Bonding Driver: v%s\n\nBonding Mode: %s\n", b.m.Kernel(), modes[bond.Mode])
	switch bond.Mode {
	case "802.3ad", "balance-xor":
		out.WriteString("Transmit Hash Policy: layer2+3 (2)\n")
	case "active-backup":
		active := "None"
		if len(up) > 0 {
			active = up[0]
		}
		fmt.Fprintf(&out, "Primary Slave: None\nCurrently Active Slave: %s\n", active)
	}
	fmt.Fprintf(&out, "MII Status: %s\nMII Polling Interval (ms): 100\nUp Delay (ms): 0\nDown Delay (ms): 0\nPeer Notification Delay (ms): 0\n", status(len(up) == 0))
	if bond.Mode == "802.3ad" {
		fmt.Fprintf(&out, "\n802.3ad info\nLACP active: on\nLACP rate: slow\nMin links: 0\nAggregator selection policy (ad_select): stable\nActive Aggregator Info:\n\tAggregator ID: 1\n\tNumber of ports: %d\n", len(up))
	}
	for i, member := range bond.Members {
		speed := fmt.Sprintf("%d Mbps\nDuplex: full", bond.Speed)
		if b.down[member] {
			speed = "Unknown\nDuplex: Unknown"
		}
		fmt.Fprintf(&out, "\nSlave Interface: %s\nMII Status: %s\nSpeed: %s\nLink Failure Count: %d\nPermanent HW addr: 52:54:00:aa:00:%02x\nSlave queue ID: 0\n", member, status(b.down[member]), speed, b.failures[member], i)
		if bond.Mode == "802.3ad" {
			aggregator := 1
			if b.down[member] {
				aggregator = 2
			}
			fmt.Fprintf(&out, "Aggregator ID: %d\nActor Churn State: none\nPartner Churn State: none\n", aggregator)
		}
	}
	return out.String()
}

func status(down bool) string {
	if down {
		return "down"
	}
	return "up"
}
