package pve

import (
	"fmt"
	"strconv"
	"strings"
)

// QuorumStatus is what corosync-quorumtool says: the votes as this node's partition counts them.
type QuorumStatus struct {
	Nodes    int    `json:"nodes"`
	NodeID   int    `json:"node_id"`
	RingID   string `json:"ring_id"`
	Quorate  bool   `json:"quorate"`
	Expected int    `json:"expected"`
	Highest  int    `json:"highest_expected"`
	Total    int    `json:"total"`
	Quorum   int    `json:"quorum"`
	Blocked  bool   `json:"blocked,omitempty"`
	// Flags are words such as Quorate and Qdevice. The second stays after a QDevice was removed (records 07): only
	// corosync.conf says whether one is configured.
	Flags []string `json:"flags,omitempty"`
	// Members are the nodes of this partition. Nodes outside of it are not listed.
	Members []QuorumMember `json:"members"`
	// Device is the row of the QDevice, nil if there is none.
	Device *QuorumDevice `json:"device,omitempty"`
}

// QuorumMember is a node's row. Name is an address or a node name, as the options of the tool had it.
type QuorumMember struct {
	ID    int    `json:"id"`
	Votes int    `json:"votes"`
	Name  string `json:"name"`
	Local bool   `json:"local,omitempty"`
	// QDevice are the flags of the Qdevice column: A or NA (daemon alive), V or NV (casting its vote), MW or NMW
	// (master wins), or NR alone (not registered on this node). Empty without a QDevice.
	QDevice []string `json:"qdevice,omitempty"`
}

// Casting reports whether the node's QDevice daemon is alive and casts its vote.
func (m QuorumMember) Casting() bool {
	alive, votes := false, false
	for _, f := range m.QDevice {
		alive = alive || f == "A"
		votes = votes || f == "V"
	}
	return alive && votes
}

// QuorumDevice is the row of the QDevice. Votes is what it casts now, Configured what it could.
type QuorumDevice struct {
	Votes      int `json:"votes"`
	Configured int `json:"configured"`
}

// ParseQuorum reads the output of corosync-quorumtool -s or -siH, also as pvecm status prints it with a header of its
// own. Exit status 2 only says that there is no quorum: the output is whole. Status 1 is an error without output.
func ParseQuorum(text []byte) (*QuorumStatus, error) {
	q := &QuorumStatus{}
	inMembers, sawVotes := false, false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if strings.HasPrefix(line, "Membership information") {
			inMembers = true
			continue
		}
		if inMembers {
			q.row(line)
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch strings.TrimSpace(key) {
		case "Nodes":
			q.Nodes = atoi(value)
		case "Node ID":
			q.NodeID = nodeID(value)
		case "Ring ID":
			q.RingID = value
		case "Quorate":
			q.Quorate = value == "Yes"
		case "Expected votes":
			q.Expected, sawVotes = atoi(value), true
		case "Highest expected":
			q.Highest = atoi(value)
		case "Total votes":
			q.Total = atoi(value)
		case "Quorum":
			number, rest, _ := strings.Cut(value, " ")
			q.Quorum, q.Blocked = atoi(number), strings.Contains(rest, "blocked")
		case "Flags":
			q.Flags = strings.Fields(value)
		}
	}
	if !sawVotes {
		return nil, fmt.Errorf("corosync-quorumtool: no votes in %q", firstLine(text))
	}
	return q, nil
}

// row reads a line of the membership table: id, votes, an optional column of QDevice flags, and the name.
func (q *QuorumStatus) row(line string) {
	fields := strings.Fields(line)
	if len(fields) < 3 {
		return
	}
	votes, err := strconv.Atoi(fields[1])
	if err != nil {
		return // the header or a rule
	}
	id, rest := nodeID(fields[0]), fields[2:]
	if id == 0 {
		if rest[0] == "Qdevice" {
			q.Device = &QuorumDevice{Votes: votes, Configured: votes}
			if len(rest) == 3 && rest[1] == "(votes" {
				q.Device.Configured = atoi(strings.TrimSuffix(rest[2], ")"))
			}
		}
		return
	}
	m := QuorumMember{ID: id, Votes: votes}
	if len(rest) > 1 && isQDeviceFlags(rest[0]) {
		m.QDevice, rest = strings.Split(rest[0], ","), rest[1:]
	}
	m.Name = rest[0]
	m.Local = len(rest) > 1 && rest[1] == "(local)"
	q.Members = append(q.Members, m)
}

func isQDeviceFlags(s string) bool {
	for f := range strings.SplitSeq(s, ",") {
		switch f {
		case "A", "NA", "V", "NV", "MW", "NMW", "NR":
		default:
			return false
		}
	}
	return true
}

// nodeID reads a node id in decimal or in hexadecimal with 0x.
func nodeID(s string) int {
	n, err := strconv.ParseUint(s, 0, 32)
	if err != nil {
		return 0
	}
	return int(n)
}

func firstLine(text []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if len(line) > 120 {
		line = line[:120] + "…"
	}
	return line
}
