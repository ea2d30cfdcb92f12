package guest

import (
	"fmt"
	"slices"
)

// Selection says which guests are meant: those that are named, and those that a tag, a pool or a node brings.
type Selection struct {
	IDs  []int
	Tags []string // any of them
	Pool string
	From string
}

// Choose finds the guests of a selection, by id. Tags, pool and node narrow each other; ids come on top. Of those that come by
// tag, pool or node, templates are left out, and told: nobody names them so.
func (s *Site) Choose(sel Selection) (chosen []Guest, templates []Guest, err error) {
	if sel.Pool != "" {
		if _, ok := s.Pools[sel.Pool]; !ok {
			return nil, nil, fmt.Errorf("there is no pool %q", sel.Pool)
		}
	}
	for _, id := range sel.IDs {
		if _, ok := s.Guest(id); !ok {
			return nil, nil, fmt.Errorf("guest %d does not exist", id)
		}
	}
	broad := len(sel.Tags) > 0 || sel.Pool != "" || sel.From != ""
	for _, g := range s.Guests {
		switch {
		case slices.Contains(sel.IDs, g.ID):
			chosen = append(chosen, g)
		case !broad || !sel.brings(g):
		case g.Template:
			templates = append(templates, g)
		default:
			chosen = append(chosen, g)
		}
	}
	return chosen, templates, nil
}

func (sel Selection) brings(g Guest) bool {
	tagged := len(sel.Tags) == 0 || slices.ContainsFunc(sel.Tags, func(tag string) bool { return slices.Contains(g.Tags, tag) })
	return tagged && (sel.Pool == "" || g.Pool == sel.Pool) && (sel.From == "" || g.Node == sel.From)
}
