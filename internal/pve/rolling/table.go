package rolling

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve/guest"
)

// Table is a part of a proof for people. Every row has as many cells as there are columns.
type Table struct {
	Title   string
	Columns []Column
	Rows    [][]string
	// Marks draws attention to rows, by their index: "warn" or "block".
	Marks map[int]string
}

// Column is the heading of a column. Right says that its cells are numbers.
type Column struct {
	Name  string
	Right bool
}

func (t *Table) add(mark string, cells ...string) {
	if mark != "" {
		if t.Marks == nil {
			t.Marks = map[int]string{}
		}
		t.Marks[len(t.Rows)] = mark
	}
	t.Rows = append(t.Rows, cells)
}

func headings(names ...string) (out []Column) {
	for _, name := range names {
		out = append(out, Column{Name: name})
	}
	return out
}

// Summary is the proof in a few sentences.
func (p Proof) Summary() []string {
	var out []string
	switch {
	case len(p.Order) == 0 && len(p.Skipped) > 0:
		out = append(out, "Nothing is to be done on any node.")
	case len(p.Order) > 0:
		out = append(out, fmt.Sprintf("%s in %s, about %s: %s and %s.", count(len(p.Order), "node"), count(len(p.Rounds), "round"), about(p.Seconds),
			count(p.Moves, "move"), count(p.Stops, "stop")+" of guests"))
	}
	if p.Again > 0 {
		out = append(out, fmt.Sprintf("%s of guests that had moved before: the nodes that were through had no room for them then, or there was none yet.", count(p.Again, "move")))
	}
	if n := len(p.Blocks); n == 1 {
		out = append(out, "One thing stands against it.")
	} else if n > 1 {
		out = append(out, fmt.Sprintf("%d things stand against it.", n))
	}
	return out
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// about is a time as exact as it is known: 40 s, 12 min, 2 h 10 min.
func about(seconds float64) string {
	switch d := time.Duration(seconds * float64(time.Second)); {
	case d < 90*time.Second:
		return fmt.Sprintf("%d s", int(d.Round(time.Second).Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Round(time.Minute).Minutes()))
	default:
		d = d.Round(10 * time.Minute)
		return strings.TrimSuffix(fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60), " 0 min")
	}
}

// Tables are all tables that have something to say: what stands against the run first.
func (p Proof) Tables() []Table {
	tables := []Table{p.Obstacles(), p.Overview()}
	for _, r := range p.Rounds {
		for _, s := range r.Steps {
			tables = append(tables, s.Table())
		}
	}
	tables = append(tables, p.Stopping(), p.Idle())
	return slices.DeleteFunc(tables, func(t Table) bool { return len(t.Rows) == 0 })
}

// Overview has a line for each node that goes, in their order.
func (p Proof) Overview() Table {
	t := Table{Title: "The run", Columns: []Column{
		{"round", true}, {"node", false}, {"what is done", false}, {"guests out", true}, {"longest move", true}, {"stops", true},
		{"least memory left", false}, {"votes", true}, {"Ceph", false}, {"about", true}, {"why now", false},
	}}
	for k, r := range p.Rounds {
		for _, s := range r.Steps {
			mark := ""
			switch {
			case s.Blocked > 0 || slices.ContainsFunc(p.Blocks, func(b Block) bool { return b.Node == s.Node }):
				mark = "block"
			case s.Stops > 0:
				mark = "warn"
			}
			longest := 0.0
			for _, g := range s.Guests {
				longest = max(longest, g.Seconds)
			}
			t.add(mark, fmt.Sprint(k+1), s.Node, s.Work, fmt.Sprint(s.MoveOuts), dash(longest), fmt.Sprint(s.Stops), r.Least.String(),
				fmt.Sprintf("%d/%d", r.Votes.Left, r.Votes.Needed), cmp.Or(r.Ceph, "-"), about(s.Seconds), s.Why)
		}
	}
	return t
}

func dash(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return about(seconds)
}

func (h Headroom) String() string {
	if h.Node == "" {
		return "-"
	}
	sign, bytes := "", h.Bytes
	if bytes < 0 {
		sign, bytes = "-", -bytes
	}
	return sign + guest.FormatBytes(bytes) + " on " + h.Node
}

// Table has a line for each guest that runs on the node, and for each that comes back.
func (s Step) Table() Table {
	t := Table{Title: "Guests of " + s.Node, Columns: []Column{
		{"guest", false}, {"memory", true}, {"what happens", false}, {"to", false}, {"about", true}, {"why", false},
	}}
	silent := 0
	for _, g := range s.Guests {
		if g.Fate == Stays && g.Policy == "" {
			silent++
			continue
		}
		t.add(g.mark(), g.Guest, guest.FormatBytes(g.MemoryBytes), g.what(), cmp.Or(g.To, "-"), dash(g.Seconds), g.because())
	}
	for _, g := range s.Home {
		what := g.what()
		if g.Fate == Moves {
			what = "comes back from " + g.From + ": " + what
		}
		t.add(g.mark(), g.Guest, guest.FormatBytes(g.MemoryBytes), what, cmp.Or(g.To, g.From), dash(g.Seconds), g.because())
	}
	if silent > 0 {
		t.Title += fmt.Sprintf(" (%d more do not run and stay)", silent)
	}
	return t
}

func (p Plan) mark() string {
	switch {
	case p.Fate == Blocked:
		return "block"
	case p.Stopping():
		return "warn"
	}
	return ""
}

// what happens to the guest: moves live, 32 GiB of disks are copied.
func (p Plan) what() string {
	var out string
	switch p.Fate {
	case Blocked:
		return "cannot go"
	case StopsIt:
		return "is shut down, and started afterwards"
	case Stays:
		return "stays"
	case Moves:
		out = "moves live"
		if p.Way == guest.Restart {
			out = "is shut down, moved and started"
		}
		if p.ByHA {
			out += " (HA)"
		}
		if p.DiskBytes > 0 {
			out += ", " + guest.FormatBytes(p.DiskBytes) + " of disks are copied"
		}
	}
	return out
}

func (p Plan) because() string {
	return strings.Join(append([]string{p.Why}, p.Notes...), "; ")
}

// Stopping lists the guests that do not answer for a while.
func (p Proof) Stopping() Table {
	t := Table{Title: "Guests that stop", Columns: []Column{{"guest", false}, {"node", false}, {"what happens", false}, {"for about", true}, {"policy", false}, {"why", false}}}
	for _, r := range p.Rounds {
		for _, s := range r.Steps {
			for _, g := range slices.Concat(s.Guests, s.Home) {
				if g.Stopping() {
					t.add("warn", g.Guest, s.Node, g.what(), about(g.Downtime), string(g.Policy), g.because())
				}
			}
		}
	}
	return t
}

// Obstacles lists what stands against the run.
func (p Proof) Obstacles() Table {
	t := Table{Title: "What stands against it", Columns: headings("node", "guest", "what is the case", "what would have to be", "look", "how to go on")}
	for _, b := range p.Blocks {
		t.add("block", cmp.Or(b.Node, "-"), cmp.Or(b.Guest, "-"), b.Saw, b.Want, cmp.Or(b.Look, "-"), cmp.Or(b.Override, "-"))
	}
	return t
}

// Idle lists the nodes on which nothing is to be done.
func (p Proof) Idle() Table {
	t := Table{Title: "Nodes that are skipped", Columns: headings("node", "why")}
	for _, s := range p.Skipped {
		t.add("", s.Node, s.Why)
	}
	return t
}
