package pvetool

import (
	"maps"
	"slices"
	"strings"
)

// Section is one entry of a section config such as storage.cfg (reference §1.9).
type Section struct {
	Type, ID string
	Values   map[string]string
}

// ParseSections reads a section config. Lines that belong to no section are skipped, as Proxmox does with a warning.
func ParseSections(text string) []Section {
	var out []Section
	open := false
	for line := range strings.SplitSeq(text, "\n") {
		switch {
		case strings.TrimSpace(line) == "":
			open = false
		case strings.HasPrefix(line, "#"):
		case line[0] == ' ' || line[0] == '\t':
			if !open {
				continue
			}
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			out[len(out)-1].Values[key] = strings.TrimSpace(value)
		default:
			kind, id, ok := strings.Cut(line, ":")
			if open = ok; ok {
				out = append(out, Section{Type: strings.TrimSpace(kind), ID: strings.TrimSpace(id), Values: map[string]string{}})
			}
		}
	}
	return out
}

// FormatSections writes a section config: in each section comment, a bare disable, the required keys, and the others, both
// sorted; an empty line ends each section. required lists the keys that a type cannot be without.
func FormatSections(sections []Section, required map[string][]string) string {
	var b strings.Builder
	for _, s := range sections {
		b.WriteString(s.Type + ": " + s.ID + "\n")
		first := slices.Sorted(slices.Values(required[s.Type]))
		rest := slices.DeleteFunc(slices.Sorted(maps.Keys(s.Values)), func(key string) bool {
			return key == "comment" || key == "disable" || slices.Contains(first, key)
		})
		if v, ok := s.Values["comment"]; ok {
			b.WriteString("\tcomment " + v + "\n")
		}
		if v, ok := s.Values["disable"]; ok && v != "0" {
			b.WriteString("\tdisable\n")
		}
		for _, key := range append(first, rest...) {
			if v, ok := s.Values[key]; ok {
				b.WriteString(strings.TrimRight("\t"+key+" "+v, " ") + "\n")
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
