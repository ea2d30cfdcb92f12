// Package config reads the formats of Proxmox's configuration files: section configs, property strings, lists, flags and
// encoded text. It knows nothing of what they mean.
package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Section is one entry of a section config: storage.cfg, replication.cfg, jobs.cfg and those of HA (reference §1.9).
type Section struct {
	Type, ID string
	// Values are the keys as they are written. A key without a value is a flag that is set and has the value "".
	Values map[string]string
}

var (
	sectionHeader = regexp.MustCompile(`^(\S+):\s*(\S+)\s*$`)
	sectionValue  = regexp.MustCompile(`^\s+(\S+)(?:\s+(.*\S))?\s*$`)
)

// ParseSections reads a section config as Proxmox does: an empty line ends a section, and nothing else does; of two values
// of a key the first counts, of two sections of an id the last. What Proxmox would ignore with a warning is told in
// ignored, one text for each line. It is never an error: a file that Proxmox can use, pxrun can use.
func ParseSections(text []byte) (sections []Section, ignored []string) {
	var open *Section
	flush := func() {
		if open == nil {
			return
		}
		id := open.ID
		sections = append(slices.DeleteFunc(sections, func(s Section) bool { return s.ID == id }), *open)
		open = nil
	}
	number := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		number++
		switch {
		case strings.HasPrefix(strings.TrimLeft(line, " \t\r\f\v"), "#"):
		case line == "":
			flush()
		case open == nil:
			header := sectionHeader.FindStringSubmatch(line)
			if header == nil {
				ignored = append(ignored, fmt.Sprintf("line %d is in no section: %s", number, strings.TrimSpace(line)))
				continue
			}
			open = &Section{Type: header[1], ID: header[2], Values: map[string]string{}}
		default:
			pair := sectionValue.FindStringSubmatch(line)
			if pair == nil {
				ignored = append(ignored, fmt.Sprintf("line %d is no option of %s %q: %s", number, open.Type, open.ID, strings.TrimSpace(line)))
				continue
			}
			if _, twice := open.Values[pair[1]]; twice {
				ignored = append(ignored, fmt.Sprintf("line %d gives %s of %s %q a second time", number, pair[1], open.Type, open.ID))
				continue
			}
			open.Values[pair[1]] = pair[2]
		}
	}
	flush()
	return sections, ignored
}

// FormatSections writes sections as Proxmox does: the comment, a bare disable, then the other keys sorted. Proxmox puts
// the required keys of a type before the others, which this function cannot know and which no reader minds.
func FormatSections(sections []Section) string {
	var b strings.Builder
	for _, s := range sections {
		b.WriteString(s.Type + ": " + s.ID + "\n")
		if comment := s.Values["comment"]; comment != "" {
			b.WriteString("\tcomment " + comment + "\n")
		}
		if s.Is("disable") {
			b.WriteString("\tdisable\n")
		}
		for _, key := range slices.Sorted(maps.Keys(s.Values)) {
			if key != "comment" && key != "disable" {
				b.WriteString(strings.TrimRight("\t"+key+" "+s.Values[key], " ") + "\n")
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// FindSection returns the section of an id.
func FindSection(sections []Section, id string) (Section, bool) {
	for _, s := range sections {
		if s.ID == id {
			return s, true
		}
	}
	return Section{}, false
}

// Is reports whether a flag is set: with 1, on, yes, true, or without any value.
func (s Section) Is(key string) bool {
	value, given := s.Values[key]
	return given && (value == "" || Bool(value))
}

// List returns the entries of a list value, sorted and each once. Proxmox gives lists no stable order: they are sets.
func (s Section) List(key string) []string { return SplitList(s.Values[key]) }

// Bool reads a boolean as Proxmox writes and accepts it.
func Bool(value string) bool {
	switch strings.ToLower(value) {
	case "1", "on", "yes", "true":
		return true
	}
	return false
}

// SplitList takes a list apart: entries are separated by commas, semicolons, spaces or NULs (reference §1.1). They come
// back sorted and each once.
func SplitList(text string) []string {
	list := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == 0 || r == ' ' || r == '\t' })
	slices.Sort(list)
	return slices.Compact(list)
}
