package pve

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// PeerLink is one corosync link to one other node, as this node sees it.
type PeerLink struct {
	NodeID    int           `json:"node_id"`
	Link      int           `json:"link"`
	Local     string        `json:"local,omitempty"`
	Remote    string        `json:"remote,omitempty"`
	Enabled   bool          `json:"enabled"`
	Connected bool          `json:"connected"`
	MTU       int           `json:"mtu,omitempty"`
	RTT       time.Duration `json:"rtt_ns,omitempty"` // average; 0 when it is not known
	RTTMax    time.Duration `json:"rtt_max_ns,omitempty"`
	Downs     int           `json:"downs"` // how often the link went down since corosync started
}

// ParseLinks reads the output of corosync-cfgtool -n: the links to every peer.
func ParseLinks(text []byte) []PeerLink {
	var links []PeerLink
	peer := 0
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		switch {
		case len(fields) >= 2 && fields[0] == "nodeid:":
			peer = atoi(fields[1])
		case len(fields) >= 3 && fields[0] == "LINK:" && peer != 0:
			l := PeerLink{NodeID: peer, Link: atoi(fields[1])}
			for i, f := range fields[2:] {
				switch {
				case strings.HasPrefix(f, "(") && strings.Contains(f, "->"):
					l.Local, l.Remote, _ = strings.Cut(strings.Trim(f, "()"), "->")
				case f == "enabled":
					l.Enabled = true
				case f == "connected":
					l.Connected = true
				case f == "mtu:" && i+3 < len(fields):
					l.MTU = atoi(fields[i+3])
				}
			}
			links = append(links, l)
		}
	}
	return links
}

// AddKnetStats completes links with the numbers of corosync-cmapctl -m stats: round trip times, MTU, and how often a
// link was down. Links that only the statistics know are added; the node's own loopback link is left out.
func AddKnetStats(links []PeerLink, text []byte, ownID int) []PeerLink {
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), " = ")
		if !ok {
			continue
		}
		key, _, _ = strings.Cut(key, " ")
		node, link, name, ok := knetKey(key)
		number, err := strconv.Atoi(strings.TrimSpace(value))
		if !ok || err != nil || node == ownID {
			continue
		}
		i := slices.IndexFunc(links, func(l PeerLink) bool { return l.NodeID == node && l.Link == link })
		if i < 0 {
			links = append(links, PeerLink{NodeID: node, Link: link, Enabled: true})
			i = len(links) - 1
		}
		l := &links[i]
		switch name {
		case "connected":
			l.Connected = number == 1
		case "latency_ave":
			l.RTT = time.Duration(number) * time.Microsecond
		case "latency_max":
			l.RTTMax = time.Duration(number) * time.Microsecond
		case "down_count":
			l.Downs = number
		case "mtu":
			l.MTU = number
		}
	}
	slices.SortFunc(links, func(a, b PeerLink) int { return cmp.Or(cmp.Compare(a.NodeID, b.NodeID), cmp.Compare(a.Link, b.Link)) })
	return links
}

// knetKey takes stats.knet.node2.link0.latency_ave apart.
func knetKey(key string) (node, link int, name string, ok bool) {
	parts := strings.Split(key, ".")
	if len(parts) != 5 || parts[0] != "stats" || parts[1] != "knet" {
		return 0, 0, "", false
	}
	n, isNode := strings.CutPrefix(parts[2], "node")
	l, isLink := strings.CutPrefix(parts[3], "link")
	node, nodeErr := strconv.Atoi(n)
	link, linkErr := strconv.Atoi(l)
	return node, link, parts[4], isNode && isLink && nodeErr == nil && linkErr == nil
}
