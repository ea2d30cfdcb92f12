package pve

import (
	"fmt"
	"slices"
	"strings"
)

// JoinPhase says where between "standalone" and "member" a node stands (reference §3.3 and §3.11).
type JoinPhase string

// The phases. Those from PhaseCreated to PhaseNoCert are creates and joins that are under way or were cut off.
const (
	// PhaseUnknown: the state could not be read, so that nothing may be concluded.
	PhaseUnknown JoinPhase = "unknown"
	// PhaseFresh: nothing of a cluster is on the node.
	PhaseFresh JoinPhase = "fresh"
	// PhaseMember: the node is a member, online, quorate, and has its certificate.
	PhaseMember JoinPhase = "member"
	// PhaseOther: the node belongs to another cluster.
	PhaseOther JoinPhase = "other cluster"
	// PhaseCreated: pvecm create wrote a cluster of this one node, which is not started or not ready yet.
	PhaseCreated JoinPhase = "create not finished"
	// PhaseRunning: pvecm add is at work.
	PhaseRunning JoinPhase = "joining"
	// PhaseAdded: the members list the node, whose own part never began; the members are quorate.
	PhaseAdded JoinPhase = "added only"
	// PhaseDeadlock: the same, but listing the node cost the members their quorum (a join from one to two nodes).
	PhaseDeadlock JoinPhase = "added, quorum lost"
	// PhaseBegun: corosync's key or configuration are on the node, whose pmxcfs still is that of a standalone node.
	PhaseBegun JoinPhase = "local part begun"
	// PhaseStopped: the same, with pmxcfs or corosync stopped.
	PhaseStopped JoinPhase = "local part stopped"
	// PhaseWaiting: corosync runs on the node, which has no quorum yet. It comes within seconds, or the network or the key
	// is wrong.
	PhaseWaiting JoinPhase = "waiting for quorum"
	// PhaseNoCert: all but the node's certificate is there.
	PhaseNoCert JoinPhase = "without certificate"
	// PhaseOffline: the node is a whole member that is not online now. No matter of joining.
	PhaseOffline JoinPhase = "offline member"
	// PhaseDeleted: the node has the cluster's files, the cluster does not list the node.
	PhaseDeleted JoinPhase = "not listed"
	// PhaseStaleKey: a key of corosync without any configuration is on a node that no cluster lists.
	PhaseStaleKey JoinPhase = "left-over key"
)

// JoinState is a phase with what was seen and what to do about it.
type JoinState struct {
	Phase JoinPhase
	// Saw is what led to the conclusion.
	Saw string
	// Look is the command that shows it.
	Look string
	// Remedy is what a person would do, with the commands.
	Remedy string
	// Resumable says that the reference calls it safe to go on from here without asking.
	Resumable bool
}

// MembersOf returns the states of the nodes that are in the cluster by their own word and are listed by themselves.
func MembersOf(states []NodeState, cluster string) []NodeState {
	var members []NodeState
	for _, s := range states {
		if s.Err != nil || s.Conf == nil || s.Conf.ClusterName != cluster {
			continue
		}
		if _, listed := s.Conf.Node(s.Hostname); listed {
			members = append(members, s)
		}
	}
	return members
}

// NewestConf returns the configuration with the highest version that any of the nodes has, nil if none has one.
func NewestConf(states []NodeState) *CorosyncConf {
	var newest *CorosyncConf
	for _, s := range states {
		if s.Conf != nil && (newest == nil || s.Conf.Version > newest.Version) {
			newest = s.Conf
		}
	}
	return newest
}

// ClassifyJoin says where a node stands towards a cluster. members are the states of the cluster's other nodes as
// MembersOf gives them; the node itself is ignored among them.
func ClassifyJoin(cluster string, node NodeState, members []NodeState) JoinState {
	members = slices.DeleteFunc(slices.Clone(members), func(m NodeState) bool { return m.Host == node.Host })
	if s, unknown := unreadJoin(node); unknown {
		return s
	}
	for _, c := range []*CorosyncConf{node.Conf, node.LocalConf} {
		if c != nil && c.ClusterName != cluster {
			return JoinState{
				Phase: PhaseOther, Saw: fmt.Sprintf("%s belongs to cluster %q", node.Host, c.ClusterName), Look: "cat /etc/pve/corosync.conf /etc/corosync/corosync.conf",
				Remedy: "a node is never moved from one cluster to another by this program: take it out of the other cluster and install it anew",
			}
		}
	}
	if node.Joining {
		return JoinState{
			Phase: PhaseRunning, Saw: "pvecm add is running on " + node.Host, Look: "pgrep -af 'pvecm add'",
			Remedy: "wait until it ends", Resumable: true,
		}
	}
	if len(members) == 0 && createCutOff(node) {
		return JoinState{
			Phase: PhaseCreated, Saw: fmt.Sprintf("cluster %q was written on %s and is not started or not ready", cluster, node.Host), Look: "systemctl status corosync pve-cluster; pvecm status",
			Remedy: "systemctl restart corosync pve-cluster", Resumable: true,
		}
	}
	_, listed := NewestConf(members).Node(node.Hostname)
	if len(members) == 0 {
		// The only node of a cluster has nobody else to ask.
		_, listed = node.Conf.Node(node.Hostname)
	}
	if listed {
		return classifyListed(cluster, node, members)
	}
	return classifyUnlisted(cluster, node)
}

func unreadJoin(node NodeState) (JoinState, bool) {
	if node.Err != nil {
		return JoinState{Phase: PhaseUnknown, Saw: node.Err.Error(), Remedy: "make the node reachable and try again"}, true
	}
	for _, name := range []string{"id", "pmxcfs", "conf", "localconf", "here", "members", "joining"} {
		if why, unread := node.Unread[name]; unread {
			return JoinState{
				Phase: PhaseUnknown, Saw: fmt.Sprintf("the read of %q on %s failed: %s", name, node.Host, why), Look: "systemctl status pve-cluster corosync; timeout 5 ls /etc/pve",
				Remedy: "find out why the node does not answer, then try again",
			}, true
		}
	}
	return JoinState{}, false
}

func classifyUnlisted(cluster string, node NodeState) JoinState {
	rollback := "if the node holds no guests, take its half of the cluster away: systemctl stop pve-cluster corosync; pmxcfs -l; rm -f /etc/pve/corosync.conf; rm -rf /etc/corosync/*; " +
		"kill $(pidof pmxcfs); rm -f /var/lib/corosync/*; systemctl start pve-cluster"
	switch {
	case node.Conf != nil || node.LocalConf != nil:
		return JoinState{
			Phase:  PhaseDeleted,
			Saw:    fmt.Sprintf("%s has the configuration of cluster %q, and no member of it lists %s", node.Host, cluster, node.Hostname),
			Look:   "cat /etc/pve/corosync.conf /etc/corosync/corosync.conf",
			Remedy: rollback,
		}
	case node.Authkey:
		return JoinState{
			Phase:  PhaseStaleKey,
			Saw:    "/etc/corosync/authkey is on " + node.Host + " without any cluster configuration: left over from another cluster or from a create or join that was cut off",
			Look:   "ls -l /etc/corosync",
			Remedy: "when you are sure that the node is in no cluster: mv /etc/corosync/authkey /root/corosync-authkey.old",
		}
	}
	return JoinState{Phase: PhaseFresh, Saw: node.Host + " is in no cluster"}
}

func classifyListed(cluster string, node NodeState, members []NodeState) JoinState {
	bare := node.Conf == nil && node.LocalConf == nil
	finish := fmt.Sprintf("finish the local part on %s: copy /etc/corosync/authkey and /etc/pve/corosync.conf of a member to /etc/corosync, systemctl stop pve-cluster, move /var/lib/pve-cluster/config.db away, "+
		"systemctl start corosync pve-cluster, and when it is quorate pvecm updatecerts --force 1", node.Host)
	cert := slices.ContainsFunc(append(members, node), func(m NodeState) bool { return slices.Contains(m.Certs, node.Hostname) })
	switch {
	case bare && !node.Authkey && canDecide(members):
		return JoinState{
			Phase: PhaseAdded, Saw: fmt.Sprintf("the members of %q list %s, which knows nothing of it: a join was cut off after its first half", cluster, node.Hostname), Look: "pvecm nodes; cat /etc/pve/corosync.conf",
			Remedy: "join again with the same node id and votes, or on a member: pvecm delnode " + node.Hostname, Resumable: true,
		}
	case bare && !node.Authkey:
		return JoinState{
			Phase: PhaseDeadlock, Saw: fmt.Sprintf("the members of %q list %s and have no quorum without it; %s knows nothing of the cluster", cluster, node.Hostname, node.Hostname), Look: "corosync-quorumtool -s",
			Remedy: finish, Resumable: len(node.Guests) == 0,
		}
	case node.Conf == nil && node.Mounted:
		return JoinState{
			Phase: PhaseBegun, Saw: fmt.Sprintf("%s has corosync's key or configuration, and its /etc/pve is still that of a single node", node.Host), Look: "ls -l /etc/corosync /etc/pve/corosync.conf",
			Remedy: finish, Resumable: len(node.Guests) == 0,
		}
	case node.Conf == nil, node.Quorum == nil && !cert:
		return JoinState{
			Phase: PhaseStopped, Saw: "the join of " + node.Host + " was cut off in its second half: pve-cluster or corosync is stopped", Look: "systemctl status pve-cluster corosync",
			Remedy: "systemctl restart corosync pve-cluster; when the node is quorate: pvecm updatecerts --force 1; systemctl reload-or-restart pvedaemon pveproxy", Resumable: true,
		}
	case !cert && len(members) > 0 && (!node.Writable || !seesOthers(node)):
		saw := node.Host + " is not quorate yet"
		if !seesOthers(node) {
			saw = "corosync runs on " + node.Host + " and reaches no other node: it has just started, or a firewall, the MTU, a link address or a key that is not the cluster's is in the way"
		}
		return JoinState{
			Phase: PhaseWaiting, Saw: saw, Look: "corosync-cfgtool -n; journalctl -u corosync -n 50",
			Remedy: "open UDP 5405 to 5412 between the nodes on every link and compare sha256sum /etc/corosync/authkey; the node then becomes quorate by itself", Resumable: true,
		}
	case !node.Mounted || !node.Writable || node.Quorum == nil || !node.Quorum.Quorate || offline(node, members):
		return JoinState{
			Phase: PhaseOffline, Saw: fmt.Sprintf("%s is a member of %q and not online or not quorate", node.Host, cluster), Look: "pvecm status; corosync-cfgtool -n; systemctl status corosync pve-cluster",
			Remedy: "bring the node back into the cluster first",
		}
	case !cert:
		return JoinState{
			Phase: PhaseNoCert, Saw: "the certificate of " + node.Hostname + " is missing: the join was cut off at its end", Look: "ls /etc/pve/nodes/" + node.Hostname,
			Remedy: "pvecm updatecerts --force 1; systemctl reload-or-restart pvedaemon pveproxy", Resumable: true,
		}
	}
	return JoinState{Phase: PhaseMember, Saw: fmt.Sprintf("%s is a member of %q", node.Host, cluster)}
}

// canDecide reports whether the members are quorate and stay so: a node that was just listed counts at once, and it
// takes a moment until they notice.
func canDecide(members []NodeState) bool {
	conf := NewestConf(members)
	if conf == nil || !anyWritable(members) {
		return false
	}
	online := func(name string) bool {
		return slices.ContainsFunc(members, func(m NodeState) bool { return m.Hostname == name || m.Members.Online(name) })
	}
	casting := slices.ContainsFunc(members, func(m NodeState) bool { return m.Quorum != nil && m.Quorum.Device != nil && m.Quorum.Device.Votes > 0 })
	return BallotOf(conf, online, casting).Quorate()
}

func anyWritable(states []NodeState) bool {
	return slices.ContainsFunc(states, func(s NodeState) bool { return s.Mounted && s.Writable })
}

func seesOthers(s NodeState) bool { return s.Quorum != nil && s.Quorum.Nodes > 1 }

func offline(node NodeState, members []NodeState) bool {
	return slices.ContainsFunc(members, func(m NodeState) bool { return !m.Members.Online(node.Hostname) })
}

// createCutOff reports whether a node is the only one of a cluster that does not work: pvecm create was cut off after it
// had written the configuration, or has only just ended.
func createCutOff(s NodeState) bool {
	conf := s.Conf
	if conf == nil {
		conf = s.LocalConf
	}
	alone := conf != nil && len(conf.Nodes) == 1 && conf.Nodes[0].Name == s.Hostname
	return alone && (s.Conf == nil && !s.Mounted || s.Conf != nil && (s.Quorum == nil || !s.Writable))
}

// JoinedEverywhere says what is still missing until a node is a member in every node's view: it is online on each,
// each is quorate, all have one version of the configuration, and its certificate is there. Empty means complete.
func JoinedEverywhere(hostname string, states []NodeState) []string {
	var missing []string
	versions := map[int]bool{}
	for _, s := range states {
		switch {
		case s.Err != nil:
			missing = append(missing, s.Err.Error())
			continue
		case s.Conf == nil || !s.Mounted:
			missing = append(missing, s.Host+": /etc/pve shows no cluster")
			continue
		case !s.Writable:
			missing = append(missing, s.Host+": /etc/pve is read-only")
		case s.Quorum == nil || !s.Quorum.Quorate:
			missing = append(missing, s.Host+": not quorate")
		case !s.ConfsEqual:
			missing = append(missing, s.Host+": /etc/corosync/corosync.conf is not yet the cluster's")
		}
		if !s.Members.Online(hostname) {
			missing = append(missing, s.Host+": does not see "+hostname+" online")
		}
		if !slices.Contains(s.Certs, hostname) {
			missing = append(missing, s.Host+": no certificate of "+hostname)
		}
		versions[s.Conf.Version] = true
		if s.Members != nil && s.Members.Cluster != nil {
			versions[s.Members.Cluster.Version] = true
		}
	}
	if len(versions) > 1 {
		missing = append(missing, "the nodes have different versions of the configuration")
	}
	return missing
}

// JoinFailure explains the output of a pvecm add that did not print its line of success. The program exits 0 either
// way.
func JoinFailure(stdout, stderr string) string {
	var said []string
	for line := range strings.Lines(stdout) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "* ") || strings.HasPrefix(line, "! ") || strings.HasPrefix(line, "An error occurred") || strings.HasPrefix(line, "Cluster join aborted") {
			said = append(said, line)
		}
	}
	for line := range strings.Lines(stderr) {
		if line = strings.TrimSpace(line); line != "" {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		lines := strings.Split(strings.TrimSpace(stdout), "\n")
		if last := lines[len(lines)-1]; last != "" {
			return "it ended after: " + last
		}
		return "it ended without a word"
	}
	return strings.Join(said, "; ")
}

// JoinSucceeded reports whether the output of pvecm add has its line of success, the only sign that counts.
func JoinSucceeded(stdout, hostname string) bool {
	want := fmt.Sprintf("successfully added node '%s' to cluster.", hostname)
	for line := range strings.Lines(stdout) {
		if strings.TrimSpace(line) == want {
			return true
		}
	}
	return false
}
