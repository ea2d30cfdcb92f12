package rolling

import (
	"fmt"
	"strings"

	"github.com/pxrun/pxrun/internal/pve/guest"
)

// looked bounds how many nodes a message tells about.
const looked = 6

// blocks says why a guest can go nowhere: what keeps it everywhere, or what each node lacks.
func (m *sim) blocks(v *mover) []Block {
	if v.stuck != nil {
		var out []Block
		for _, r := range v.stuck.Reasons {
			if v.r.everywhere(r) {
				out = append(out, blockOf(r))
			}
		}
		return out
	}
	var told []string
	first := Block{Gate: GuestGate, Want: "a node that can take it", Look: fmt.Sprintf("%s config %d; pvesh get /cluster/resources", v.r.Kind.Tool(), v.r.ID)}
	short, others := int64(-1), 0
	for to := range m.places {
		p := &m.places[to]
		if to == v.r.at {
			continue
		}
		why, lacks := m.lacks(v, to, &first)
		if lacks > 0 && (short < 0 || lacks < short) {
			short = lacks
		}
		if len(told) >= looked {
			others++
			continue
		}
		told = append(told, p.name+": "+why)
	}
	if others > 0 {
		told = append(told, fmt.Sprintf("and %d other nodes", others))
	}
	if len(told) == 0 {
		told = append(told, "there is no other node")
	}
	first.Saw = "no node can take it: " + strings.Join(told, "; ")
	if short > 0 {
		first.Gate, first.Code, first.ShortBytes = MemoryGate, guest.MemoryShort, short
		first.Saw = fmt.Sprintf("%s short of its %s at the least; %s", guest.FormatBytes(short), guest.FormatBytes(v.r.Memory), first.Saw)
		first.Want, first.Override = "a node with room for its configured memory", "stop guests, add memory, lower the reserve, or overcommit = true"
	}
	return []Block{first}
}

// lacks says what a node lacks for a guest; short is how much memory, if that is all.
func (m *sim) lacks(v *mover, to int, first *Block) (why string, short int64) {
	p := &m.places[to]
	switch {
	case p.unfit != "":
		return strings.TrimPrefix(p.unfit, p.name+" "), 0
	case p.out:
		return "is out itself", 0
	}
	move, known := v.no[to]
	if !known {
		move = m.ask(v.r, to, v.policy.Options())
	}
	if !move.Can() {
		if first.Code == "" {
			b := blockOf(move.Reasons[0])
			first.Code, first.Override = b.Code, b.Override
		}
		return strings.TrimPrefix(move.Reasons[0].Saw, p.name+" "), 0
	}
	lacking := v.r.Memory - p.free
	return fmt.Sprintf("%s left, %s short", guest.FormatBytes(max(p.free, 0)), guest.FormatBytes(lacking)), lacking
}
