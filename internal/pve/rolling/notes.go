package rolling

import (
	"fmt"
	"slices"
	"time"

	"github.com/pxrun/pxrun/internal/pve/guest"
)

// window says what does not fit into the time that there is.
func (m *sim) window(p *Proof) {
	limit := m.s.Window.Seconds()
	if limit <= 0 || len(p.Rounds) == 0 {
		return
	}
	if first := p.Rounds[0].Seconds; first > limit {
		p.Blocks = append(p.Blocks, Block{
			Gate: WindowGate, Node: p.Rounds[0].Nodes[0], Saw: fmt.Sprintf("it takes about %s, and there are %s: %s short", span(first), span(limit), span(first-limit)),
			Want: "time for one node at least", Override: "a longer window",
		})
	}
}

// warnings are worth knowing and stop nothing.
func (m *sim) warnings(p *Proof) []string {
	var out []string
	if m.s.Ceph != nil {
		out = append(out, m.s.Ceph.Warnings...)
	}
	for _, rule := range m.ha.ignored {
		out = append(out, "the HA manager ignores rules that contradict each other: "+rule)
	}
	for i := range m.places {
		if n := &m.places[i]; n.capacity > 0 && n.first < 0 {
			out = append(out, fmt.Sprintf("the running guests of %s may take %s more than it has beside its reserve", n.name, guest.FormatBytes(-n.first)))
		}
	}
	if total := p.Seconds; m.s.Window > 0 && total > m.s.Window.Seconds() {
		out = append(out, fmt.Sprintf("all of it takes about %s, longer than the %s that there are: what does not fit is left for the next time", span(total), span(m.s.Window.Seconds())))
	}
	return out
}

// mayChange says what may be otherwise when it comes to it.
func (m *sim) mayChange(p *Proof) []string {
	if len(p.Rounds) == 0 {
		return nil
	}
	out := []string{"Guests that are started, stopped, moved or given more memory until then change who goes where; all of this is read again before each node."}
	some := func(f func(Plan) bool) bool {
		return slices.ContainsFunc(p.Rounds, func(r Round) bool {
			return slices.ContainsFunc(r.Steps, func(s Step) bool { return slices.ContainsFunc(s.Guests, f) })
		})
	}
	if some(func(g Plan) bool { return g.ByHA && g.Fate == Moves }) {
		out = append(out, "Where guests under HA go is for the HA manager to decide; the plan foretells it by its rules.")
	}
	if m.s.Scheduler == "dynamic" {
		out = append(out, "The dynamic scheduler of the HA manager may move guests at any time.")
	}
	if some(func(g Plan) bool { return g.Locked != "" }) {
		out = append(out, "Locked guests are waited for; one that stays locked stops the run before its node.")
	}
	if some(func(g Plan) bool { return g.Fate == Moves && g.RAMBytes > 0 }) {
		out = append(out, "A machine that writes memory faster than the network carries it takes longer than reckoned.")
	}
	if slices.ContainsFunc(p.Rounds, func(r Round) bool {
		return slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Reboot == Perhaps })
	}) {
		out = append(out, "Whether a node restarts is known when its packages are installed.")
	}
	if m.s.Ceph != nil {
		out = append(out, "Whether Ceph lets a node go is asked again right before it: the answer here is of now, and of all nodes being there.")
	}
	return out
}

// span is a time for people.
func span(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}
