package pve

import (
	"cmp"
	"slices"
)

// Quorum is the number of votes that a partition needs when so many are expected: more than half.
func Quorum(expected int) int { return expected/2 + 1 }

// Voter is a node with its votes.
type Voter struct {
	Name   string `json:"name"`
	Votes  int    `json:"votes"`
	Online bool   `json:"online"`
}

// Ballot is who may vote in a cluster and who is there to do it. All that is online is taken to be in one partition.
type Ballot struct {
	Nodes []Voter
	// Device is the number of votes of the QDevice, 0 without one. It votes with the nodes while DeviceOnline.
	Device       int
	DeviceOnline bool
}

// BallotOf counts the votes that a corosync.conf gives out. online says which nodes are there.
func BallotOf(conf *CorosyncConf, online func(name string) bool, deviceOnline bool) Ballot {
	b := Ballot{}
	for _, n := range conf.Nodes {
		b.Nodes = append(b.Nodes, Voter{Name: n.Name, Votes: n.Votes, Online: online(n.Name)})
	}
	if d := conf.Device; d != nil {
		b.Device, b.DeviceOnline = d.Votes, deviceOnline
		if d.Algorithm == "lms" && d.Votes == 0 {
			// The last man standing outvotes the other nodes together with the device alone.
			b.Device = max(len(conf.Nodes)-1, 0)
		}
	}
	return b
}

// Expected is the number of all votes, of absent nodes and the device too.
func (b Ballot) Expected() int {
	sum := b.Device
	for _, n := range b.Nodes {
		sum += n.Votes
	}
	return sum
}

// Total is the number of votes that are there. A device alone has none: it votes with a node.
func (b Ballot) Total() int {
	sum, anyone := 0, false
	for _, n := range b.Nodes {
		if n.Online {
			sum, anyone = sum+n.Votes, true
		}
	}
	if anyone && b.DeviceOnline {
		sum += b.Device
	}
	return sum
}

// Quorum is the number of votes that are needed.
func (b Ballot) Quorum() int { return Quorum(b.Expected()) }

// Quorate reports whether the votes that are there suffice.
func (b Ballot) Quorate() bool { return b.Total() >= b.Quorum() }

// Without is the ballot after these nodes went away. Expected votes do not fall when a node fails.
func (b Ballot) Without(names ...string) Ballot {
	out := b
	out.Nodes = slices.Clone(b.Nodes)
	for i := range out.Nodes {
		if slices.Contains(names, out.Nodes[i].Name) {
			out.Nodes[i].Online = false
		}
	}
	return out
}

// Bearable is how many more nodes may fail, whichever they are, before quorum is lost. -1 means that it is lost.
func (b Ballot) Bearable() int {
	if !b.Quorate() {
		return -1
	}
	// The worst case is that the nodes with the most votes fail first.
	online := slices.DeleteFunc(slices.Clone(b.Nodes), func(v Voter) bool { return !v.Online })
	slices.SortStableFunc(online, func(x, y Voter) int { return cmp.Compare(y.Votes, x.Votes) })
	rest := b
	for i, v := range online {
		rest = rest.Without(v.Name)
		if !rest.Quorate() {
			return i
		}
	}
	return len(online)
}
