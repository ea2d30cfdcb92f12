package inventory

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/diag"
)

// Select returns the hosts that a pattern stands for, in the site's order. It is what --limit, exec and texts in a
// hosts attribute are read with. A pattern is a list of terms separated by commas:
//
//	pve1              the host of that name
//	pve*, pve[12]     the hosts whose names match
//	web, lab          the hosts of that group or cluster
//	group:web         the same, where a name could mean something else; also cluster: and host:
//	all               every host
//	!pve3             without these; a pattern of nothing but exclusions starts from all hosts
//
// A term that stands for nobody is an error, also as an exclusion: it is a mistake in the spelling, and acting on the
// rest could act on too much.
func Select(site *Site, pattern string) ([]string, error) {
	var in, out map[string]bool
	terms := 0
	for term := range strings.SplitSeq(pattern, ",") {
		term = strings.TrimSpace(term)
		if term == "" {
			continue
		}
		terms++
		name, without := strings.CutPrefix(term, "!")
		found, err := site.term(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		set := &in
		if without {
			set = &out
		}
		if *set == nil {
			*set = map[string]bool{}
		}
		for _, h := range found {
			(*set)[h] = true
		}
	}
	if terms == 0 {
		return nil, fmt.Errorf("the pattern %q names no host", pattern)
	}
	var names []string
	for _, h := range site.Hosts {
		if (in == nil || in[h.Name]) && !out[h.Name] {
			names = append(names, h.Name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the pattern %q leaves no host", pattern)
	}
	return names, nil
}

// term returns the hosts of one term.
func (s *Site) term(term string) ([]string, error) {
	kind, name, _ := strings.Cut(term, ":")
	switch kind {
	case "host":
		if _, ok := s.Host(name); ok {
			return []string{name}, nil
		}
		return nil, nobody("host", name, s.hostNames())
	case "group":
		if g, ok := s.Group(name); ok {
			return g.Hosts, nil
		}
		return nil, nobody("group", name, s.groupNames())
	case "cluster":
		if c, ok := s.Cluster(name); ok {
			return c.Nodes, nil
		}
		return nil, nobody("cluster", name, s.clusterNames())
	}
	if term == "all" || term == "*" {
		return s.hostNames(), nil
	}
	if strings.ContainsAny(term, "*?[") {
		return s.glob(term)
	}
	if _, ok := s.Host(term); ok {
		return []string{term}, nil
	}
	if g, ok := s.Group(term); ok {
		return g.Hosts, nil
	}
	if c, ok := s.Cluster(term); ok {
		return c.Nodes, nil
	}
	return nil, nobody("host, group or cluster", term, slices.Concat(s.hostNames(), s.groupNames(), s.clusterNames()))
}

func (s *Site) glob(pattern string) ([]string, error) {
	var names []string
	for _, h := range s.Hosts {
		ok, err := path.Match(pattern, h.Name)
		if err != nil {
			return nil, fmt.Errorf("the pattern %q is not complete: a [ needs its ]", pattern)
		}
		if ok {
			names = append(names, h.Name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("no host matches %q", pattern)
	}
	return names, nil
}

func nobody(kind, name string, known []string) error {
	hint := diag.DidYouMean(name, known)
	if hint == "" && len(known) > 0 && len(known) <= 12 {
		hint = " There is " + strings.Join(known, ", ") + "."
	}
	if hint != "" {
		hint = "." + hint
	}
	return fmt.Errorf("there is no %s %q%s", kind, name, hint)
}

// Group returns the group of a name.
func (s *Site) Group(name string) (Group, bool) {
	i := slices.IndexFunc(s.Groups, func(g Group) bool { return g.Name == name })
	if i < 0 {
		return Group{}, false
	}
	return s.Groups[i], true
}

func (s *Site) hostNames() []string {
	names := make([]string, len(s.Hosts))
	for i, h := range s.Hosts {
		names[i] = h.Name
	}
	return names
}

func (s *Site) groupNames() []string {
	names := make([]string, len(s.Groups))
	for i, g := range s.Groups {
		names[i] = g.Name
	}
	return names
}

func (s *Site) clusterNames() []string {
	names := make([]string, len(s.Clusters))
	for i, c := range s.Clusters {
		names[i] = c.Name
	}
	return names
}
