package rolling

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/guest"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// replay follows a proof guest by guest, with nothing of the code that made it.
type replay struct {
	w    *world
	at   map[int]string
	qemu map[string]string
	done []string
}

func newReplay(w *world) *replay {
	r := &replay{w: w, at: map[int]string{}, qemu: map[string]string{}}
	for _, g := range w.s.Site.Guests {
		r.at[g.ID] = g.Node
	}
	for name, n := range w.s.Site.Nodes {
		r.qemu[name] = n.QEMU
	}
	return r
}

func (r *replay) guest(id int) guest.Guest {
	g, _ := r.w.s.Site.Guest(id)
	return g
}

// left is the memory that is left on a node beside its reserve.
func (r *replay) left(node string) int64 {
	n := r.w.s.Site.Nodes[node]
	free := n.Memory - n.Memory*int64(r.w.s.Reserve.Percent)/100
	for id, at := range r.at {
		if _, runs := r.w.s.Site.Nodes[r.guest(id).Node].Running[id]; runs && at == node {
			free -= r.guest(id).Memory
		}
	}
	return free
}

// move follows one guest and checks what can be checked of its move alone.
func (r *replay) move(t *rapid.T, p Plan, out []string) {
	require.Equal(t, r.at[p.ID], p.From, "%s is where the plan has it", p.Guest)
	require.NotContains(t, out, p.To, "%s goes to a node that is there", p.Guest)
	require.False(t, r.w.closed(p.To, r.done), "%s goes to %s, which takes none", p.Guest, p.To)
	if p.Kind == guest.VM {
		require.GreaterOrEqual(t, pve.CompareVersions(r.qemu[p.To], r.qemu[p.From]), 0, "%s from %s (%s) to %s (%s)", p.Guest, p.From, r.qemu[p.From], p.To, r.qemu[p.To])
	}
	for _, rule := range r.rules() {
		if rule.Type == ha.NodeAffinity && rule.Strict && slices.Contains(rule.Resources, r.guest(p.ID).SID()) {
			require.Contains(t, rule.Nodes.Names(), p.To, "strict rule %s of %s", rule.ID, p.Guest)
		}
	}
	if p.Way == guest.Restart {
		policy, _ := r.w.s.Policies.of(ptr(r.guest(p.ID)))
		require.Equal(t, RestartContainer, policy, "%s is restarted", p.Guest)
	}
	r.at[p.ID] = p.To
}

func ptr[T any](v T) *T { return &v }

// rules are those that Proxmox VE does not ignore.
func (r *replay) rules() []ha.Rule {
	var names []string
	for _, m := range r.w.s.Site.Members.Nodes {
		names = append(names, m.Name)
	}
	bad := map[string]bool{}
	for _, c := range ha.Conflicts(r.w.s.Site.HA.Rules, names) {
		for _, id := range c.Rules {
			bad[id] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(r.w.s.Site.HA.Rules), func(rule ha.Rule) bool { return bad[rule.ID] })
}

// together checks rules that keep services apart: who moved to a node is not there with one that it must be apart from.
func (r *replay) apart(t *rapid.T, moved []Plan) {
	at := map[string]string{}
	for id, node := range r.at {
		at[r.guest(id).SID()] = node
	}
	for _, p := range moved {
		sid := r.guest(p.ID).SID()
		for _, rule := range r.rules() {
			if rule.Affinity != ha.Negative || !slices.Contains(rule.Resources, sid) {
				continue
			}
			for _, other := range rule.Resources {
				require.False(t, other != sid && at[other] == at[sid], "%s and %s are on %s against rule %s", sid, other, at[sid], rule.ID)
			}
		}
	}
}

func TestEveryProofHoldsWhatItPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		p := w.prove()
		r := newReplay(w)
		out := slices.Clone(w.s.Away)
		for k, round := range p.Rounds {
			if k > 0 || !slices.Equal(p.Next, round.Nodes) {
				r.through(w.s.Away)
				out = nil
			}
			r.round(t, round, out, k, p.Blocks)
		}
		done := slices.Concat(p.Order, w.s.Away, w.s.Failed, w.s.Done)
		for _, s := range p.Skipped {
			done = append(done, s.Node)
		}
		slices.Sort(done)
		var all []string
		for _, n := range w.s.Nodes {
			all = append(all, n.Name)
		}
		require.ElementsMatch(t, all, slices.Compact(done), "every node goes, is skipped or is away")
		for _, table := range p.Tables() {
			for _, row := range table.Rows {
				require.Len(t, row, len(table.Columns), table.Title)
			}
		}
	})
}

// through upgrades nodes.
func (r *replay) through(nodes []string) {
	r.done = append(r.done, nodes...)
	for _, name := range nodes {
		switch n := r.w.node(name); {
		case n.Work.QEMU != "":
			r.qemu[name] = n.Work.QEMU
		case n.Work.Packages > 0:
			r.qemu[name] = "10.1.2-1+" // newer than all there is
		}
	}
}

func (r *replay) round(t *rapid.T, round Round, away []string, number int, blocks []Block) {
	out := slices.Concat(round.Nodes, away)
	blocked := func(gate Gate) bool {
		return slices.ContainsFunc(blocks, func(b Block) bool { return b.Gate == gate && b.Node == round.Nodes[0] })
	}
	if votes := r.w.s.Ballot.Without(slices.Concat(out, r.w.s.Failed, r.w.outAnyway())...); votes.Total() < votes.Quorum() {
		require.True(t, blocked(VotesGate), "%v goes without votes", round.Nodes)
		require.Len(t, round.Nodes, 1)
	}
	if number < r.w.s.Canary {
		require.Len(t, round.Nodes, 1, "canaries go alone")
	}
	if extra := r.w.outAnyway(); len(extra) == 0 {
		r.limit(t, round.Nodes, away)
	} else if !blocked(AwayGate) {
		r.limit(t, round.Nodes, slices.Concat(away, extra))
	}
	var moved []Plan
	for _, s := range round.Steps {
		var here, told []int
		for id, at := range r.at {
			if at == s.Node && !slices.ContainsFunc(moved, func(p Plan) bool { return p.ID == id }) {
				here = append(here, id)
			}
		}
		for _, g := range s.Guests {
			told = append(told, g.ID)
		}
		slices.Sort(here)
		require.Equal(t, here, told, "every guest of %s once", s.Node)
		for _, g := range s.Guests {
			switch g.Fate {
			case Moves:
				r.move(t, g, out)
				moved = append(moved, g)
			case Blocked:
				require.True(t, r.w.s.Site.Nodes[s.Node].Err != nil || g.Blocks[0].Gate != UnknownGate)
				require.NotEmpty(t, g.Blocks)
				for _, b := range g.Blocks {
					require.Contains(t, blocks, b)
				}
			case StopsIt, Stays:
				r.stays(t, g)
			}
		}
	}
	for _, g := range moved {
		require.GreaterOrEqual(t, r.left(g.To), int64(0), "%s takes %s", g.To, g.Guest)
	}
	for _, h := range round.Headroom {
		require.Equal(t, r.left(h.Node), h.Bytes, "what is left on %s", h.Node)
	}
	r.apart(t, moved)
	r.through(round.Nodes)
	var home []Plan
	for _, s := range round.Steps {
		for _, g := range s.Home {
			if g.Fate != Moves {
				require.NotEmpty(t, g.Why)
				require.Equal(t, g.Fate == Blocked, len(g.Blocks) > 0)
				continue
			}
			require.Equal(t, s.Node, g.To)
			r.move(t, g, nil)
			home = append(home, g)
		}
	}
	for _, g := range home {
		require.True(t, g.ByHA || r.left(g.To) >= 0, "%s takes %s back", g.To, g.Guest)
	}
}

// stays checks that who does not move may do so.
func (r *replay) stays(t *rapid.T, p Plan) {
	g := r.guest(p.ID)
	_, runs := r.w.s.Site.Nodes[g.Node].Running[p.ID]
	policy, _ := r.w.s.Policies.of(&g)
	switch {
	case p.Fate == StopsIt:
		require.True(t, runs)
		require.Equal(t, Shutdown, policy, "%s is stopped", p.Guest)
	case runs:
		require.Equal(t, Leave, policy, "%s is left running", p.Guest)
	}
}

// limit checks that no more nodes are out than may be.
func (r *replay) limit(t *rapid.T, nodes, away []string) {
	most := func(total int) int {
		l := r.w.s.Max
		if l.Count > 0 || l.Percent == 0 {
			return max(l.Count, 1)
		}
		return max(total*l.Percent/100, 1)
	}
	counted := map[string]int{}
	total := map[string]int{}
	site := func(name string) string {
		if !r.w.s.Max.PerSite {
			return ""
		}
		return r.w.node(name).Site
	}
	for _, n := range r.w.s.Nodes {
		total[site(n.Name)]++
	}
	for _, name := range slices.Concat(nodes, away) {
		counted[site(name)]++
	}
	for _, name := range nodes {
		require.LessOrEqual(t, counted[site(name)], most(total[site(name)]), "%v beside %v", nodes, away)
	}
}

func TestTheOrderOfWhatIsReadDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		before, err := json.Marshal(w.prove())
		require.NoError(t, err)
		s := &w.s
		s.Nodes = rapid.Permutation(s.Nodes).Draw(t, "nodes")
		s.Site.Members.Nodes = rapid.Permutation(s.Site.Members.Nodes).Draw(t, "members")
		s.Ballot.Nodes = rapid.Permutation(s.Ballot.Nodes).Draw(t, "voters")
		s.Site.Guests = rapid.Permutation(s.Site.Guests).Draw(t, "guests")
		s.Site.HA.Resources = rapid.Permutation(s.Site.HA.Resources).Draw(t, "resources")
		s.Site.HA.Rules = rapid.Permutation(s.Site.HA.Rules).Draw(t, "rules")
		s.Site.Storages = rapid.Permutation(s.Site.Storages).Draw(t, "storages")
		after, err := json.Marshal(w.prove())
		require.NoError(t, err)
		require.Equal(t, string(before), string(after))
	})
}

// More memory anywhere never costs a guest its place when a node is emptied. For a whole run that cannot be promised: with more
// memory the order of the nodes, and who moves where, may be others.
func TestMoreMemoryNeverCostsAPlace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		w.s.Away = nil
		node := rapid.SampledFrom(w.s.Nodes).Draw(t, "emptied").Name
		left := func() (sum int) {
			for _, p := range Targets(w.s, node, nil) {
				if p.Fate == Blocked {
					sum++
				}
			}
			return sum
		}
		if left() > 0 {
			t.Skip("does not fit")
		}
		name := rapid.SampledFrom(w.s.Nodes).Draw(t, "grows").Name
		w.s.Site.Nodes[name].Memory += int64(rapid.IntRange(1, 40).Draw(t, "more")) * gib
		require.Zero(t, left(), "with more memory on %s", name)
	})
}

func TestWhatIsKnownOfAClassHoldsForEachOfIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		w.s.Site.Storages[rapid.IntRange(0, 1).Draw(t, "limited")].Values["nodes"] = "pve1,pve2"
		w.s.Site.Nodes["pve1"].Interfaces = rapid.SampledFrom([][]string{{"vmbr0"}, {"vmbr1"}}).Draw(t, "bridges")
		m := newSim(&w.s)
		for i := range m.guests {
			r := &m.guests[i]
			for to := range m.places {
				name := m.places[to].name
				o := guest.Options{Overcommit: true, LocalDisks: true, Restart: true}
				slow := guest.CanMove(w.s.Site, r.Guest, name, o)
				require.Equal(t, slow, m.x.CanMove(r.Guest, name, o), "the index answers as the site")
				if fit := m.fit(r.class); r.running && to != r.at && fit[to/64]&(1<<(to%64)) == 0 {
					require.False(t, slow.Can(), "%s to %s was left out", r.Guest.String(), name)
				}
			}
		}
	})
}

// What a drain decides live is what the proof of the same moment says of the first node.
func TestTheFirstStepIsWhatIsDecidedLive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := anyWorld(t)
		w.s.Away = nil
		p := w.prove()
		if len(p.Rounds) == 0 || len(p.Next) != 1 {
			t.Skip("none, or several at once")
		}
		live := Targets(w.s, p.Next[0], nil)
		said := p.Rounds[0].Steps[0].Guests
		require.Len(t, live, len(said))
		for i := range live {
			live[i].Downtime = said[i].Downtime // of a guest that is shut down, known for the whole step only
			require.Equal(t, said[i], live[i])
		}
	})
}
