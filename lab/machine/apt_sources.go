package machine

import (
	"slices"
	"strings"
)

// source is one repository of the sources.
type source struct{ uri, suite, components string }

// sources reads sources.list and the deb822 files.
func (m *Machine) sources() []source {
	var list []source
	if content, err := m.FS.ReadFile("/etc/apt/sources.list"); err == nil {
		list = append(list, oneLineSources(string(content))...)
	}
	entries, err := m.FS.ReadDir("/etc/apt/sources.list.d")
	if err != nil {
		return list
	}
	for _, entry := range entries {
		content, err := m.FS.ReadFile("/etc/apt/sources.list.d/" + entry.Name)
		if err != nil {
			continue
		}
		switch {
		case strings.HasSuffix(entry.Name, ".list"):
			list = append(list, oneLineSources(string(content))...)
		case strings.HasSuffix(entry.Name, ".sources"):
			list = append(list, deb822Sources(string(content))...)
		}
	}
	return list
}

func oneLineSources(content string) []source {
	var list []source
	for line := range strings.Lines(content) {
		f := strings.Fields(line)
		if len(f) > 1 && strings.HasPrefix(f[1], "[") {
			f = append(f[:1:1], f[2:]...)
		}
		if len(f) >= 3 && f[0] == "deb" {
			list = append(list, source{strings.TrimRight(f[1], "/"), f[2], strings.Join(f[3:], " ")})
		}
	}
	return list
}

func deb822Sources(content string) []source {
	var list []source
	for stanza := range strings.SplitSeq(content, "\n\n") {
		fields := map[string]string{}
		for line := range strings.Lines(stanza) {
			if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok && !strings.HasPrefix(key, "#") {
				fields[key] = strings.TrimSpace(value)
			}
		}
		if fields["Enabled"] == "no" || fields["Enabled"] == "false" || !strings.Contains(fields["Types"], "deb") {
			continue
		}
		for _, uri := range strings.Fields(fields["URIs"]) {
			for _, suite := range strings.Fields(fields["Suites"]) {
				list = append(list, source{strings.TrimRight(uri, "/"), suite, fields["Components"]})
			}
		}
	}
	return list
}

// has reports whether a repository is the one that a package is from.
func (s source) has(p Package) bool {
	suite, _, _ := strings.Cut(s.suite, "-")
	if p.Suite != "" && suite != p.Suite {
		return false
	}
	if p.Repo == "debian" {
		return strings.HasSuffix(hostOf(s.uri), "debian.org")
	}
	return strings.HasSuffix(s.uri, "/debian/"+p.Repo)
}

func hostOf(uri string) string {
	_, rest, _ := strings.Cut(uri, "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// away reports whether a repository cannot be reached.
func (f AptFaults) away(uri string) bool {
	return f.Offline || slices.ContainsFunc(f.Unreachable, func(u string) bool { return strings.HasPrefix(uri, strings.TrimRight(u, "/")) })
}

// unauthorized reports whether a repository answers 401.
func (f AptFaults) unauthorized(uri string) bool {
	return slices.ContainsFunc(f.Unauthorized, func(u string) bool { return strings.HasPrefix(uri, strings.TrimRight(u, "/")) })
}
