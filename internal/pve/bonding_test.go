package pve

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const lacp = `Ethernet Channel Bonding Driver: v6.17.2-1-pve

Bonding Mode: IEEE 802.3ad Dynamic link aggregation
Transmit Hash Policy: layer2+3 (2)
MII Status: up
MII Polling Interval (ms): 100

802.3ad info
LACP active: on
Active Aggregator Info:
	Aggregator ID: 1
	Number of ports: 1

Slave Interface: eno1
MII Status: up
Speed: 10000 Mbps
Duplex: full
Link Failure Count: 0
Aggregator ID: 1

Slave Interface: eno2
MII Status: down
Speed: Unknown
Duplex: Unknown
Link Failure Count: 3
Aggregator ID: 2
`

func TestBond(t *testing.T) {
	want := Bond{Name: "bond0", Mode: "802.3ad", Up: true, Members: []BondMember{
		{Name: "eno1", Up: true, Speed: 10000, FullDuplex: true, Aggregator: 1}, {Name: "eno2", Failures: 3, Aggregator: 2},
	}}
	if diff := cmp.Diff(want, ParseBond("bond0", []byte(lacp))); diff != "" {
		t.Error(diff)
	}
}

func FuzzBond(f *testing.F) {
	f.Add([]byte(lacp))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, m := range ParseBond("b", text).Members {
			if m.Speed < 0 {
				t.Fatalf("%+v", m)
			}
		}
	})
}
