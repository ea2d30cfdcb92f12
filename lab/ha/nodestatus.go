package ha

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// The delays of a node's states.
const (
	fenceDelay = 60 * time.Second // from being offline to being fenced
	goneDelay  = time.Hour        // from having left the cluster to being forgotten
)

// nodeStates are the states of all nodes as the master keeps them.
type nodeStates struct {
	states     map[string]string
	lastOnline map[string]time.Duration // on the lab's clock
	now        func() time.Duration
	log        func(text string)
}

func (n *nodeStates) state(node string) string {
	if s := n.states[node]; s != "" {
		return s
	}
	return nodeUnknown
}

func (n *nodeStates) isOnline(node string) bool { return n.state(node) == nodeOnline }

// offlineFor reports whether a node has been away for some time. The first question starts the count.
func (n *nodeStates) offlineFor(node string, delay time.Duration) bool {
	if n.isOnline(node) {
		return false
	}
	last, known := n.lastOnline[node]
	if !known {
		n.lastOnline[node] = n.now()
		return false
	}
	return n.now()-last >= delay
}

// names lists the known nodes.
func (n *nodeStates) names() []string { return slices.Sorted(maps.Keys(n.states)) }

// online is the set of nodes that can run services.
func (n *nodeStates) online() map[string]bool {
	out := map[string]bool{}
	for node, state := range n.states {
		if state == nodeOnline {
			out[node] = true
		}
	}
	return out
}

func (n *nodeStates) set(node, state string) {
	before := n.state(node)
	if before == state {
		return
	}
	n.states[node] = state
	n.log(fmt.Sprintf("node '%s': state changed from '%s' => '%s'", node, before, state))
}

// update takes in which nodes the cluster has and which of them are online, and the modes of their LRMs.
func (n *nodeStates) update(members map[string]bool, modes map[string]string) {
	for _, node := range slices.Sorted(maps.Keys(members)) {
		if !members[node] {
			continue
		}
		n.lastOnline[node] = n.now()
		switch state := n.state(node); {
		case state == nodeOnline && modes[node] == modeMaintenance:
			n.set(node, nodeMaintenance)
		case state == nodeUnknown, state == nodeGone, state == nodeMaintenance && modes[node] != modeMaintenance:
			n.set(node, nodeOnline)
		}
	}
	for _, node := range n.names() {
		if members[node] {
			continue
		}
		_, member := members[node]
		switch state := n.state(node); {
		case state == nodeOnline, state == nodeMaintenance && modes[node] != modeMaintenance:
			n.set(node, nodeUnknown)
		case state == nodeUnknown && !member:
			n.set(node, nodeGone)
		case state == nodeGone && n.offlineFor(node, goneDelay):
			delete(n.states, node)
			delete(n.lastOnline, node)
			n.log(fmt.Sprintf("deleting gone node '%s', not a cluster member anymore.", node))
		}
	}
}
