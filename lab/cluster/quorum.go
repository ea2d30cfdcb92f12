package cluster

// Quorum is the number of votes that a partition needs when expected are there in all.
func Quorum(expected int) int { return expected/2 + 1 }

// voterFlags is what corosync knows of one node's link to the quorum device.
type voterFlags struct {
	registered bool // the daemon has been seen since corosync started: NR without
	alive      bool // the daemon runs now: A or NA
	vote       bool // it casts the device's vote: V or NV
}

func (f voterFlags) String() string {
	if !f.registered {
		return "NR"
	}
	text := "NA"
	if f.alive {
		text = "A"
	}
	if f.vote {
		return text + ",V,NMW"
	}
	return text + ",NV,NMW"
}

// tally is how the votes of one partition stand.
type tally struct {
	expected, total, quorum int
	quorate                 bool
}

// count adds up a partition. Votes of the device count when it casts them there.
func count(nodeVotes []int, deviceVotes, expected int) tally {
	t := tally{expected: expected, total: deviceVotes, quorum: Quorum(expected)}
	for _, v := range nodeVotes {
		t.total += v
	}
	t.quorate = t.total >= t.quorum
	return t
}

// expectedAllowed says whether corosync lets the expected votes of a partition be set to n while total are present:
// the quorum that follows must neither lie below half of them nor above them.
func expectedAllowed(n, total int) bool {
	q := Quorum(n)
	return n > 0 && q >= total/2 && q <= total
}

// splitCandidate is a partition that asks the arbiter for its vote.
type splitCandidate struct {
	nodes  []int // connected to the arbiter, sorted
	active bool  // had the vote before
}

// ffsplit is the arbiter's choice: the largest partition, of equal ones the one that had the vote, else the one with
// the lowest node id. It returns the index, or -1 when nobody asks.
func ffsplit(parts []splitCandidate) int {
	best := -1
	for i, p := range parts {
		if len(p.nodes) == 0 {
			continue
		}
		if best < 0 || better(p, parts[best]) {
			best = i
		}
	}
	return best
}

func better(a, b splitCandidate) bool {
	switch {
	case len(a.nodes) != len(b.nodes):
		return len(a.nodes) > len(b.nodes)
	case a.active != b.active:
		return a.active
	default:
		return a.nodes[0] < b.nodes[0]
	}
}
