package pve

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/transport"
)

// CauseQuorum is the cause of everything that does not work because nobody is quorate.
const CauseQuorum = "quorum"

// Lost are members that are not in the part of the cluster that decides, all for one reason. Without quorum nobody decides; then it is those
// that neither answer nor are seen by anybody.
type Lost struct {
	// Names are theirs in the cluster.
	Names []string
	// Answers says that they were read over the network of the controller: they run, and are cut off from the others.
	Answers bool
	// Stopped are services of a single node without which it cannot be in the cluster.
	Stopped []string
	host    string // in the inventory, of a single node
	asked   bool
	err     error
}

// cause is the name under which others follow from it.
func (l Lost) cause() string { return "lost " + l.Names[0] }

// CauseOf is the cause to which a fault of the named nodes goes back: the loss of one of them. "" if one of them is not lost, or none is named.
func CauseOf(lost []Lost, names ...string) string {
	cause := ""
	for _, name := range names {
		l, ok := lostWith(lost, name)
		if !ok {
			return ""
		}
		if cause == "" {
			cause = l.cause()
		}
	}
	return cause
}

func lostWith(lost []Lost, name string) (Lost, bool) {
	i := slices.IndexFunc(lost, func(l Lost) bool { return slices.Contains(l.Names, name) })
	if i < 0 {
		return Lost{}, false
	}
	return lost[i], true
}

// lostOf finds members that are lost and puts together what has one reason: those that do not answer, and those that are cut off together.
func lostOf(states, members, witnesses []NodeState, conf *CorosyncConf) []Lost {
	quorate := anyWritable(members)
	var groups []Lost
	index := map[string]int{}
	for _, name := range conf.Names() {
		if slices.ContainsFunc(witnesses, func(m NodeState) bool { return m.Members.Online(name) }) {
			continue
		}
		state, asked := stateOf(states, name)
		if asked && state.Err == nil && !quorate {
			continue // what it lacks is quorum, and that is told once
		}
		one := Lost{Names: []string{name}, Answers: asked && state.Err == nil, asked: asked, host: name, err: state.Err}
		if asked {
			one.host = state.Host
		}
		key := fmt.Sprint(asked, one.Answers)
		if one.Answers {
			one.Stopped = stoppedOf(state)
			key = strings.Join(seenBy(state, conf), " ")
			if len(one.Stopped) > 0 {
				key = "stopped on " + name
			}
		}
		if i, known := index[key]; known {
			groups[i].Names = append(groups[i].Names, name)
			continue
		}
		index[key] = len(groups)
		groups = append(groups, one)
	}
	return groups
}

// stateOf finds the state of a member. One that could not be read has no name but that of the inventory.
func stateOf(states []NodeState, name string) (NodeState, bool) {
	i := slices.IndexFunc(states, func(s NodeState) bool { return s.Hostname == name || s.Hostname == "" && s.Host == name })
	if i < 0 {
		return NodeState{}, false
	}
	return states[i], true
}

func seenBy(s NodeState, conf *CorosyncConf) []string {
	return slices.DeleteFunc(conf.Names(), func(name string) bool { return !s.Members.Online(name) })
}

// stoppedOf are the services without which a node is not in the cluster and which do not run on it.
func stoppedOf(s NodeState) []string {
	var stopped []string
	for _, unit := range []string{"corosync", "pve-cluster"} {
		if u, known := s.Units[unit]; known && u.Installed() && !u.Running() {
			stopped = append(stopped, unit)
		}
	}
	return stopped
}

// finding is the one finding about lost nodes; what follows from it names it as its cause.
func (l Lost) finding() Finding {
	f := Finding{Severity: Critical, Check: "membership", Cause: l.cause(), Look: "pvecm nodes", Remedy: "check its power and its network: at its console, or through its management controller"}
	who, is, it, does, sees := strings.Join(l.Names, ", "), "is", "it", "does", "it answers"
	if len(l.Names) > 1 {
		is, it, does, sees = "are", "them", "do", "they answer and see one another"
		f.Remedy = "check their power and their network, and what they have in common: a switch, a power supply, a site"
	} else {
		f.Node = l.host
	}
	switch {
	case len(l.Stopped) > 0:
		f.Saw = fmt.Sprintf("%s is out of the cluster: %s does not run on it", who, strings.Join(l.Stopped, ", "))
		f.Look = "systemctl status " + strings.Join(l.Stopped, " ")
		f.Remedy = "systemctl start " + strings.Join(l.Stopped, " ")
	case l.Answers:
		f.Saw = fmt.Sprintf("%s %s cut off from the cluster: %s, and the quorate nodes do not see %s", who, is, sees, it)
		f.Look = "corosync-cfgtool -n; pvecm status"
		f.Remedy = "mend corosync's network between " + it + " and the others; until then nothing can be changed there, and HA recovers its guests elsewhere"
	case !l.asked:
		f.Saw = fmt.Sprintf("%s %s offline in the view of the others", who, is)
	default:
		they := map[bool]string{true: "they", false: "it"}[len(l.Names) > 1]
		f.Saw = fmt.Sprintf("%s %s down: %s %s not answer%s, and the others do not see %s", who, is, they, does, l.why(), it)
	}
	return f
}

// why is what the network says of a single node that does not answer.
func (l Lost) why() string {
	if len(l.Names) > 1 || l.err == nil {
		return ""
	}
	if e, ok := errors.AsType[*transport.UnreachableError](l.err); ok {
		return " (" + e.Phase + ": " + e.Cause.Error() + ")"
	}
	return " (" + l.err.Error() + ")"
}

// Fold shows what follows from something under its cause, as one finding. A finding whose cause is not among them stays as it is, so that
// leaving a cause out hides nothing.
func Fold(findings []Finding) []Finding {
	cause := map[string]int{}
	for i, f := range findings {
		if _, known := cause[f.Cause]; f.Cause != "" && !known {
			cause[f.Cause] = i
		}
	}
	root := func(i int) int {
		at := i
		for range findings {
			next, there := cause[findings[at].Follows]
			if findings[at].Follows == "" || !there {
				return at
			}
			at = next
		}
		return i // they name each other as their causes
	}
	beneath := map[int][]string{}
	for i, f := range findings {
		text := f.Brief
		if text == "" {
			text = f.Saw
		}
		if at := root(i); at != i && !slices.Contains(beneath[at], text) {
			beneath[at] = append(beneath[at], text)
		}
	}
	var out []Finding
	for i, f := range findings {
		if root(i) == i {
			f.Consequences = slices.Concat(f.Consequences, beneath[i])
			out = append(out, f)
		}
	}
	return out
}
