package pve

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func ballot(votes []int, online []bool, device int, deviceOnline bool) Ballot {
	b := Ballot{Device: device, DeviceOnline: deviceOnline}
	for i, v := range votes {
		b.Nodes = append(b.Nodes, Voter{Name: fmt.Sprintf("pve%d", i+1), Votes: v, Online: online[i]})
	}
	return b
}

func all(n int) []bool {
	online := make([]bool, n)
	for i := range online {
		online[i] = true
	}
	return online
}

func TestBearableFailures(t *testing.T) {
	tests := []struct {
		name   string
		ballot Ballot
		want   int
	}{
		{"one node", ballot([]int{1}, all(1), 0, false), 0},
		{"two nodes", ballot([]int{1, 1}, all(2), 0, false), 0},
		{"two nodes and a device", ballot([]int{1, 1}, all(2), 1, true), 1},
		{"two nodes and a silent device", ballot([]int{1, 1}, all(2), 1, false), 0},
		{"three nodes", ballot([]int{1, 1, 1}, all(3), 0, false), 1},
		{"three nodes, one gone", ballot([]int{1, 1, 1}, []bool{true, true, false}, 0, false), 0},
		{"three nodes, two gone", ballot([]int{1, 1, 1}, []bool{true, false, false}, 0, false), -1},
		{"five nodes", ballot([]int{1, 1, 1, 1, 1}, all(5), 0, false), 2},
		{"four nodes and a device", ballot([]int{1, 1, 1, 1}, all(4), 1, true), 2},
		{"one heavy node", ballot([]int{2, 1, 1}, all(3), 0, false), 0},
		{"a node without a vote", ballot([]int{1, 1, 0}, all(3), 0, false), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { require.Equal(t, tt.want, tt.ballot.Bearable()) })
	}
}

func TestLastManStandingDevice(t *testing.T) {
	conf := &CorosyncConf{Nodes: []ConfNode{{Name: "a", Votes: 1}, {Name: "b", Votes: 1}, {Name: "c", Votes: 1}}, Device: &ConfDevice{Algorithm: "lms"}}
	b := BallotOf(conf, func(string) bool { return true }, true)
	require.Equal(t, 5, b.Expected())
	require.Equal(t, 2, b.Bearable(), "the device carries the last node")
	b.DeviceOnline = false
	require.Equal(t, 0, b.Bearable(), "and all nodes are needed when it is away")
}

func anyBallot(t *rapid.T) Ballot {
	n := rapid.IntRange(1, 12).Draw(t, "nodes")
	votes := rapid.SliceOfN(rapid.IntRange(0, 3), n, n).Draw(t, "votes")
	online := rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, "online")
	return ballot(votes, online, rapid.IntRange(0, 3).Draw(t, "device"), rapid.Bool().Draw(t, "deviceOnline"))
}

// Two partitions are never quorate at once, whoever the device sides with.
func TestQuorumIsNeverInTwoPartitions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := anyBallot(t)
		other := Ballot{Device: b.Device, DeviceOnline: !b.DeviceOnline}
		for _, n := range b.Nodes {
			n.Online = !n.Online
			other.Nodes = append(other.Nodes, n)
		}
		if b.Quorate() && other.Quorate() {
			t.Fatalf("both quorate: %+v", b)
		}
	})
}

func TestMoreNodesNeverHurt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := anyBallot(t)
		for _, n := range b.Nodes {
			less := b.Without(n.Name)
			if less.Quorate() && !b.Quorate() {
				t.Fatalf("quorate only without %s: %+v", n.Name, b)
			}
			if less.Bearable() > b.Bearable() {
				t.Fatalf("bears more without %s: %+v", n.Name, b)
			}
			if less.Expected() != b.Expected() {
				t.Fatalf("expected votes fell when %s failed", n.Name)
			}
		}
	})
}

// Bearable is right by trying every set of failures of that size.
func TestBearableHoldsForEverySet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := anyBallot(t)
		k := b.Bearable()
		if k < 0 {
			if b.Quorate() {
				t.Fatal("quorate and yet nothing is bearable")
			}
			return
		}
		var online []string
		for _, n := range b.Nodes {
			if n.Online {
				online = append(online, n.Name)
			}
		}
		holds := true
		for set := range 1 << len(online) {
			var gone []string
			for i, name := range online {
				if set&(1<<i) != 0 {
					gone = append(gone, name)
				}
			}
			rest := b.Without(gone...)
			if len(gone) == k && !rest.Quorate() {
				t.Fatalf("%d failures should be bearable, %v are not: %+v", k, gone, b)
			}
			if len(gone) == k+1 && !rest.Quorate() {
				holds = false
			}
		}
		if holds && k < len(online) {
			t.Fatalf("%d failures would be bearable too: %+v", k+1, b)
		}
	})
}
