package pve

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The repositories of Proxmox, by what they are for.
const (
	RepoEnterprise     = "enterprise"
	RepoNoSubscription = "no-subscription"
	RepoTest           = "test"
)

// Source is one entry of apt's sources.
type Source struct {
	File    string
	Enabled bool
	Types   []string
	URIs    []string
	Suites  []string
	// Components may be empty: then the suite is a path.
	Components []string

	first, last int // its lines in the file
}

// SourceFiles are the files of apt's sources by their path.
type SourceFiles map[string]string

// ParseSourceFiles reads lines "path:line" as grep -H prints them.
func ParseSourceFiles(text []byte) SourceFiles {
	files := SourceFiles{}
	for line := range strings.Lines(string(text)) {
		path, content, found := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if found && strings.HasPrefix(path, "/etc/apt/") {
			files[path] += content + "\n"
		}
	}
	return files
}

// Sources lists the entries of all files, those that are switched off too, in the order of the paths.
func (f SourceFiles) Sources() []Source {
	var list []Source
	for _, path := range slices.Sorted(maps.Keys(f)) {
		if strings.HasSuffix(path, ".sources") {
			list = append(list, deb822(path, f[path])...)
		} else {
			list = append(list, oneLine(path, f[path])...)
		}
	}
	return list
}

// oneLine reads "deb [options] URI suite component…". A line that is commented out is an entry that is switched off.
func oneLine(path, text string) []Source {
	var list []Source
	number := -1
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		rest, off := strings.CutPrefix(line, "#")
		if off {
			line = strings.TrimSpace(strings.TrimLeft(rest, "#"))
		}
		line, _, _ = strings.Cut(line, " #")
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "deb" && f[0] != "deb-src" {
			continue
		}
		kind := f[0]
		f = f[1:]
		if strings.HasPrefix(f[0], "[") {
			i := slices.IndexFunc(f, func(word string) bool { return strings.HasSuffix(word, "]") })
			if i < 0 || len(f) < i+3 {
				continue
			}
			f = f[i+1:]
		}
		if !strings.Contains(f[0], ":") {
			continue // a remark that begins like an entry
		}
		list = append(list, Source{File: path, Enabled: !off, Types: []string{kind}, URIs: f[:1], Suites: f[1:2], Components: f[2:], first: number, last: number})
	}
	return list
}

// deb822 reads stanzas of "Key: value" lines, separated by empty lines.
func deb822(path, text string) []Source {
	var list []Source
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for start := 0; start < len(lines); {
		end := start
		for end < len(lines) && strings.TrimSpace(lines[end]) != "" {
			end++
		}
		if s, ok := stanza(lines[start:end]); ok {
			s.File, s.first, s.last = path, start, end-1
			list = append(list, s)
		}
		start = end + 1
	}
	return list
}

func stanza(lines []string) (Source, bool) {
	fields, key := map[string]string{}, ""
	for _, line := range lines {
		switch {
		case strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t"):
			fields[key] += " " + strings.TrimSpace(line)
		default:
			name, value, found := strings.Cut(line, ":")
			if found {
				key = strings.ToLower(strings.TrimSpace(name))
				fields[key] = strings.TrimSpace(value)
			}
		}
	}
	s := Source{
		Enabled: !slices.Contains([]string{"no", "false", "0", "off", "without", "disable"}, strings.ToLower(fields["enabled"])),
		Types:   strings.Fields(fields["types"]), URIs: strings.Fields(fields["uris"]), Suites: strings.Fields(fields["suites"]), Components: strings.Fields(fields["components"]),
	}
	return s, len(s.URIs) > 0 && len(s.Suites) > 0
}

// Product says whose an entry is: "pve", "ceph-squid" and the like, "debian", or "" for anybody else's.
func (s Source) Product() string {
	for _, uri := range s.URIs {
		_, rest, _ := strings.Cut(uri, "://")
		host, path, _ := strings.Cut(rest, "/")
		switch {
		case strings.HasSuffix(host, "proxmox.com"):
			return strings.TrimPrefix(strings.Trim(path, "/"), "debian/")
		case strings.HasSuffix(host, "debian.org"):
			return "debian"
		}
	}
	return ""
}

// WrongSuite is a suite of an enabled entry of Debian or Proxmox that does not belong to a release, "" if all do: the next
// upgrade would cross releases (reference §7.2).
func (s Source) WrongSuite(codename string) string {
	if !s.Enabled || s.Product() == "" {
		return ""
	}
	for _, suite := range s.Suites {
		base, _, _ := strings.Cut(suite, "-")
		if base != codename && strings.TrimRight(base, "/") != codename {
			return suite
		}
	}
	return ""
}

// RepoWish is which of Proxmox's repositories is to be enabled, instead of its siblings.
type RepoWish struct {
	Product  string // "pve", or "ceph-" and a release
	Kind     string // RepoEnterprise, RepoNoSubscription or RepoTest
	Codename string
	Major    int // of Proxmox VE
}

func (w RepoWish) ceph() bool { return strings.HasPrefix(w.Product, "ceph-") }

// Component is its name in the sources.
func (w RepoWish) Component() string {
	switch {
	case w.ceph():
		return w.Kind
	case w.Kind == RepoTest && w.Major < 9:
		return "pvetest"
	}
	return "pve-" + w.Kind
}

// URI is where it is.
func (w RepoWish) URI() string {
	if w.Kind == RepoEnterprise {
		return "https://enterprise.proxmox.com/debian/" + w.Product
	}
	return "http://download.proxmox.com/debian/" + w.Product
}

// sibling reports whether an entry is of the same product: for Ceph of any release.
func (w RepoWish) sibling(s Source) bool {
	if w.ceph() {
		return strings.HasPrefix(s.Product(), "ceph-")
	}
	return s.Product() == w.Product
}

func (w RepoWish) met(s Source) bool {
	return s.Product() == w.Product && slices.Equal(s.Components, []string{w.Component()}) && slices.Equal(s.Suites, []string{w.Codename}) &&
		len(s.URIs) == 1 && strings.TrimRight(s.URIs[0], "/") == w.URI() && slices.Contains(s.Types, "deb")
}

// Apply returns the files that must change, with their new content, so that the wished repository is enabled once and its
// siblings are switched off, not deleted.
func (w RepoWish) Apply(files SourceFiles) SourceFiles {
	out := SourceFiles{}
	current := func(path string) string {
		if text, changed := out[path]; changed {
			return text
		}
		return files[path]
	}
	there := false
	var turn []Source
	for _, s := range files.Sources() {
		if !w.sibling(s) {
			continue
		}
		want := !there && w.met(s)
		there = there || want
		if s.Enabled != want {
			turn = append(turn, s)
		}
	}
	// From the end of a file to its beginning, so that the lines of those that are left stay where they are.
	for _, s := range slices.Backward(turn) {
		out[s.File] = s.switched(current(s.File), !s.Enabled)
	}
	if !there {
		path := w.path()
		text := current(path)
		if text != "" && strings.HasSuffix(path, ".sources") {
			text = strings.TrimRight(text, "\n") + "\n\n"
		}
		out[path] = text + w.entry()
	}
	return out
}

// path is the file that Proxmox itself would use.
func (w RepoWish) path() string {
	name := "proxmox"
	switch {
	case w.ceph():
		name = "ceph"
	case w.Kind == RepoEnterprise:
		name = "pve-enterprise"
	case w.Major < 9:
		name = "pve-install-repo"
	}
	if w.Major < 9 {
		return "/etc/apt/sources.list.d/" + name + ".list"
	}
	return "/etc/apt/sources.list.d/" + name + ".sources"
}

func (w RepoWish) entry() string {
	if w.Major < 9 {
		return fmt.Sprintf("deb %s %s %s\n", w.URI(), w.Codename, w.Component())
	}
	return fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: %s\nSigned-By: /usr/share/keyrings/proxmox-archive-keyring.gpg\n", w.URI(), w.Codename, w.Component())
}

// switched is a file's text with the entry on or off.
func (s Source) switched(text string, on bool) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if !strings.HasSuffix(s.File, ".sources") {
		line := strings.TrimSpace(lines[s.first])
		if on {
			line = strings.TrimSpace(strings.TrimLeft(line, "#"))
		} else {
			line = "# " + line
		}
		lines[s.first] = line
		return strings.Join(lines, "\n") + "\n"
	}
	own := slices.DeleteFunc(slices.Clone(lines[s.first:s.last+1]), func(line string) bool {
		name, _, _ := strings.Cut(line, ":")
		return strings.EqualFold(strings.TrimSpace(name), "enabled")
	})
	if !on {
		own = append(own, "Enabled: false")
	}
	return strings.Join(slices.Concat(lines[:s.first], own, lines[s.last+1:]), "\n") + "\n"
}
