package packages

import (
	"strings"
)

// Policy is what apt-cache policy says of a package. Versions are "" where apt says (none).
type Policy struct{ Installed, Candidate string }

// ParsePolicy reads apt-cache policy: a block "name:" with indented lines for each package that apt knows.
func ParsePolicy(text string) map[string]Policy {
	all := map[string]Policy{}
	about := ""
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
		case !strings.HasPrefix(line, " ") && len(f) == 1 && strings.HasSuffix(f[0], ":"):
			about = strings.TrimSuffix(f[0], ":")
			all[about] = Policy{}
		case about == "" || len(f) != 2 || f[1] == "(none)":
		case f[0] == "Installed:":
			p := all[about]
			p.Installed = f[1]
			all[about] = p
		case f[0] == "Candidate:":
			p := all[about]
			p.Candidate = f[1]
			all[about] = p
		}
	}
	return all
}

// Broken is a package that dpkg has not finished with.
type Broken struct {
	Name string `json:"name"`
	// State is unpacked, half-configured, half-installed, triggers, incomplete (dpkg misses files of its own about it), or
	// broken for what is not known here.
	State string `json:"state"`
}

// auditStates are the beginnings of dpkg's paragraphs.
var auditStates = []struct{ text, state string }{
	{"have been unpacked but not yet configured", "unpacked"},
	{"are only half configured", "half-configured"},
	{"are only half installed", "half-installed"},
	{"are in a mess", "half-installed"},
	{"are missing the", "incomplete"},
	{"have been triggered", "triggers"},
	{"are awaiting processing of triggers", "triggers"},
}

// ParseAudit reads dpkg --audit: paragraphs of an explanation, then a line " name description" for each package. An empty text
// means that nothing is left to do. A line that is in no known paragraph counts as broken.
func ParseAudit(text string) []Broken {
	var list []Broken
	state := "broken"
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0:
			state = "broken"
		case strings.HasPrefix(line, " "):
			list = append(list, Broken{Name: f[0], State: state})
		case strings.HasPrefix(line, "The following packages"):
			state = "broken"
			for _, s := range auditStates {
				if strings.Contains(line, s.text) {
					state = s.state
					break
				}
			}
		}
	}
	return list
}

// Archive is a file that apt would have to fetch.
type Archive struct {
	URI   string
	File  string
	Bytes int64
}

// ParseURIs reads apt-get --print-uris: lines "'URI' file size checksum" of archives that are not in the cache yet. Those of a
// repository in a folder of the host are left out: apt takes them from there.
func ParseURIs(text string) []Archive {
	var list []Archive
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || !strings.HasPrefix(f[0], "'") || strings.HasPrefix(f[0], "'file:") || !strings.HasSuffix(f[1], ".deb") {
			continue
		}
		list = append(list, Archive{URI: strings.Trim(f[0], "'"), File: f[1], Bytes: number(f[2])})
	}
	return list
}

// number reads a count; what is none is 0.
func number(s string) int64 {
	var n int64
	for _, c := range s {
		if c < '0' || c > '9' || n > 1<<58 {
			return 0
		}
		n = n*10 + int64(c-'0')
	}
	return n
}
