package machine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
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

func (a *apt) update() int {
	m, p := a.p.Machine, a.p
	f := m.AptFaults()
	if f.ListsLocked {
		fmt.Fprintf(p.Stderr, "E: Could not get lock /var/lib/apt/lists/lock. It is held by process %d (%s)\nN: Be aware that removing the lock file is not a solution and may break your system.\nE: Unable to lock directory /var/lib/apt/lists/\n", f.LockedPID, cmp.Or(f.LockedBy, "apt-get"))
		return aptError
	}
	if m.Sleep(a.ctx, 2*time.Second) != nil {
		return aptError
	}
	var failures []string
	for i, s := range m.sources() {
		host := strings.TrimPrefix(strings.TrimPrefix(s.uri, "https://"), "http://")
		host, _, _ = strings.Cut(host, "/")
		unauthorized := slices.ContainsFunc(f.Unauthorized, func(u string) bool { return strings.HasPrefix(s.uri, strings.TrimRight(u, "/")) })
		switch {
		case f.Offline:
			p.Printf("Ign:%d %s %s InRelease\n", i+1, s.uri, s.suite)
			failures = append(failures, fmt.Sprintf("W: Failed to fetch %s/dists/%s/InRelease  Temporary failure resolving '%s'", s.uri, s.suite, host))
		case unauthorized:
			p.Printf("Err:%d %s %s InRelease\n  401  Unauthorized [IP: 192.0.2.80 443]\n", i+1, s.uri, s.suite)
			failures = append(failures, fmt.Sprintf("E: Failed to fetch %s/dists/%s/InRelease  401  Unauthorized [IP: 192.0.2.80 443]\nE: The repository '%s %s InRelease' is not signed.\nN: Updating from such a repository can't be done securely, and is therefore disabled by default.\nN: See apt-secure(8) manpage for repository creation and user configuration details.", s.uri, s.suite, s.uri, s.suite))
		default:
			p.Printf("Hit:%d %s %s InRelease\n", i+1, s.uri, s.suite)
		}
	}
	p.Println("Reading package lists...")
	for _, text := range failures {
		fmt.Fprintln(p.Stderr, text)
	}
	if f.Offline {
		fmt.Fprintln(p.Stderr, "W: Some index files failed to download. They have been ignored, or old ones used instead.")
		return 0
	}
	if len(failures) > 0 {
		return aptError
	}
	m.packages.mu.Lock()
	m.packages.updates++
	m.packages.mu.Unlock()
	now := m.Now()
	_ = p.view.Chtimes("/var/lib/apt/lists", now, now) // as renaming the downloaded lists does
	return 0
}
