package packages

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Change is a package that apt would install, bring to another version, or remove.
type Change struct {
	Name string `json:"name"`
	Arch string `json:"arch,omitempty"`
	// From is the installed version, "" for a package that is new. To is the new one, "" for one that goes.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// Origin is what apt says of the source: "Proxmox:stable".
	Origin string `json:"origin,omitempty"`
}

// Simulation is what apt would do.
type Simulation struct {
	Installs []Change // new ones and upgrades, by name
	Removes  []Change // by name
	// KeptBack would be upgraded and are not: they are on hold, or wait for their turn in a phased roll-out.
	KeptBack []string
}

// ParseSimulation reads the output of apt-get -s dist-upgrade: "Inst name [old] (new origin [arch])", "Remv name [version]". A
// text without apt's own count, or with another count than there are lines, is an error: it has been cut, or apt has failed.
func ParseSimulation(text string) (Simulation, error) {
	s, counted := Simulation{}, ""
	kept := false
	for line := range strings.Lines(text) {
		indented := strings.HasPrefix(line, " ")
		line = strings.TrimSpace(line)
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case indented && kept:
			s.KeptBack = append(s.KeptBack, f...)
			continue
		case f[0] == "Inst" && len(f) > 1:
			s.Installs = append(s.Installs, installLine(line))
		case (f[0] == "Remv" || f[0] == "Purg") && len(f) > 1:
			s.Removes = append(s.Removes, removeLine(f))
		case strings.Contains(line, " upgraded, ") && strings.Contains(line, " to remove"):
			counted = line
		}
		kept = strings.HasPrefix(line, "The following packages have been kept back") || strings.Contains(line, "deferred due to phasing")
	}
	byName := func(a, b Change) int { return strings.Compare(a.Name, b.Name) }
	slices.SortFunc(s.Installs, byName)
	slices.SortFunc(s.Removes, byName)
	slices.Sort(s.KeptBack)
	s.KeptBack = slices.Compact(s.KeptBack)
	return s, s.check(counted)
}

// installLine reads one "Inst" line. What follows the closing parenthesis, such as "[]", says what is unmet meanwhile.
func installLine(line string) Change {
	f := strings.Fields(line)
	c := Change{}
	c.Name, c.Arch, _ = strings.Cut(f[1], ":")
	rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(strings.TrimPrefix(line, "Inst")), f[1]))
	if inner, ok := strings.CutPrefix(rest, "["); ok {
		old, after, _ := strings.Cut(inner, "]")
		c.From, rest = old, strings.TrimSpace(after)
	}
	inner, ok := strings.CutPrefix(rest, "(")
	if !ok {
		return c
	}
	inner, _, _ = strings.Cut(inner, ")")
	words := strings.Fields(inner)
	if len(words) == 0 {
		return c
	}
	c.To = words[0]
	if last := words[len(words)-1]; len(words) > 1 && strings.HasPrefix(last, "[") {
		c.Arch, words = strings.Trim(last, "[]"), words[:len(words)-1]
	}
	c.Origin = strings.Join(words[1:], " ")
	return c
}

func removeLine(f []string) Change {
	c := Change{}
	c.Name, c.Arch, _ = strings.Cut(f[1], ":")
	if len(f) > 2 {
		c.From = strings.Trim(f[2], "[]")
	}
	return c
}

// check compares with apt's "2 upgraded, 0 newly installed, 1 downgraded, 0 to remove and 0 not upgraded."
func (s Simulation) check(counted string) error {
	if counted == "" {
		return errors.New("apt-get did not say what it would do")
	}
	installs, removes := 0, 0
	words := strings.Fields(strings.ReplaceAll(counted, ",", " "))
	for i, w := range words[:len(words)-1] {
		n, err := strconv.Atoi(w)
		if err != nil {
			continue
		}
		switch words[i+1] {
		case "upgraded", "newly", "downgraded", "reinstalled":
			installs += n
		case "to":
			removes += n
		}
	}
	if installs != len(s.Installs) || removes != len(s.Removes) {
		return fmt.Errorf("apt-get counts %d packages to install and %d to remove, and names %d and %d", installs, removes, len(s.Installs), len(s.Removes))
	}
	return nil
}

// Nothing reports whether there is nothing to do.
func (s Simulation) Nothing() bool { return len(s.Installs)+len(s.Removes) == 0 }

// Find gives a package that would be installed or upgraded.
func (s Simulation) Find(name string) (Change, bool) {
	i, found := slices.BinarySearchFunc(s.Installs, name, func(c Change, name string) int { return strings.Compare(c.Name, name) })
	if !found {
		return Change{}, false
	}
	return s.Installs[i], true
}

// Count is a sentence's part: "12 upgraded, 2 new, 1 removed".
func (s Simulation) Count() string {
	upgraded := 0
	for _, c := range s.Installs {
		if c.From != "" {
			upgraded++
		}
	}
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{upgraded, "upgraded"}, {len(s.Installs) - upgraded, "new"}, {len(s.Removes), "removed"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if len(parts) == 0 {
		return "nothing to do"
	}
	return strings.Join(parts, ", ")
}
