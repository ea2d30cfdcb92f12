package pve

import (
	"strings"
)

// Bond is a bond of network cards as the kernel shows it in /proc/net/bonding.
type Bond struct {
	Name    string
	Mode    string // the kernel's word: 802.3ad, active-backup, balance-rr, …; its description when there is no word for it
	Up      bool
	Members []BondMember
}

// BondMember is one card of a bond.
type BondMember struct {
	Name       string
	Up         bool
	Speed      int // Mbit/s, 0 when it is not known
	FullDuplex bool
	Failures   int
	Aggregator int // of 802.3ad: all members must be in the same
}

// bondModes are the kernel's words by its descriptions.
var bondModes = map[string]string{
	"load balancing (round-robin)": "balance-rr", "fault-tolerance (active-backup)": "active-backup", "load balancing (xor)": "balance-xor",
	"fault-tolerance (broadcast)": "broadcast", "IEEE 802.3ad Dynamic link aggregation": "802.3ad", "transmit load balancing": "balance-tlb", "adaptive load balancing": "balance-alb",
}

// ParseBond reads a file of /proc/net/bonding.
func ParseBond(name string, text []byte) Bond {
	b := Bond{Name: name}
	var member *BondMember
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "\t") {
			continue // of the active aggregator
		}
		key, value, found := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		if !found {
			continue
		}
		switch key {
		case "Bonding Mode":
			description, _, _ := strings.Cut(value, " (fail_over_mac")
			if b.Mode = bondModes[description]; b.Mode == "" {
				b.Mode = description
			}
		case "Slave Interface":
			b.Members = append(b.Members, BondMember{Name: value})
			member = &b.Members[len(b.Members)-1]
		case "MII Status":
			if member == nil {
				b.Up = value == "up"
			} else {
				member.Up = value == "up"
			}
		}
		if member == nil {
			continue
		}
		switch key {
		case "Speed":
			number, _, _ := strings.Cut(value, " ")
			member.Speed = max(atoi(number), 0)
		case "Duplex":
			member.FullDuplex = value == "full"
		case "Link Failure Count":
			member.Failures = atoi(value)
		case "Aggregator ID":
			member.Aggregator = atoi(value)
		}
	}
	return b
}
