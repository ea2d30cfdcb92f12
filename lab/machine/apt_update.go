package machine

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Publish puts packages into the repositories: apt-get update makes the lists know of them.
func (m *Machine) Publish(list ...Package) {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	for _, p := range list {
		m.packages.published = slices.DeleteFunc(m.packages.published, func(o Package) bool { return o.Name == p.Name && o.Version == p.Version && o.Suite == p.Suite })
		m.packages.published = append(m.packages.published, p)
	}
}

// Unpublish takes packages out of the repositories: all that match.
func (m *Machine) Unpublish(matches func(Package) bool) {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	m.packages.published = slices.DeleteFunc(m.packages.published, matches)
}

// Published lists what the repositories have, besides what is always on offer.
func (m *Machine) Published() []Package {
	m.packages.mu.Lock()
	defer m.packages.mu.Unlock()
	return slices.Clone(m.packages.published)
}

// update is apt-get update. A repository that fails leaves its old lists in use.
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
	if err := m.atPhase(a.ctx, "apt:update", ""); err != nil {
		if a.ctx.Err() == nil {
			fmt.Fprintf(p.Stderr, "E: %v\n", err)
		}
		return aptError
	}
	failures, refused := a.fetchLists(f)
	if !a.silent {
		p.Println("Reading package lists...")
	}
	for _, text := range failures {
		fmt.Fprintln(p.Stderr, text)
	}
	switch {
	case refused:
		return aptError
	case len(failures) > 0:
		fmt.Fprintln(p.Stderr, "W: Some index files failed to download. They have been ignored, or old ones used instead.")
		return 0
	}
	now := m.Now()
	_ = p.view.Chtimes("/var/lib/apt/lists", now, now) // as renaming the downloaded lists does
	return 0
}

// fetchLists asks each repository, and lets the lists know what those that answered have.
func (a *apt) fetchLists(f AptFaults) (failures []string, refused bool) {
	m, p := a.p.Machine, a.p
	var good, stale []source
	for i, s := range m.sources() {
		word, note := "Hit", ""
		switch {
		case f.away(s.uri):
			word = "Ign"
			failures = append(failures, fmt.Sprintf("W: Failed to fetch %s/dists/%s/InRelease  Temporary failure resolving '%s'", s.uri, s.suite, hostOf(s.uri)))
			stale = append(stale, s)
		case f.unauthorized(s.uri):
			word, note = "Err", "\n  401  Unauthorized [IP: 192.0.2.80 443]"
			failures = append(failures, fmt.Sprintf("E: Failed to fetch %s/dists/%s/InRelease  401  Unauthorized [IP: 192.0.2.80 443]\nE: The repository '%s %s InRelease' is not signed.\nN: Updating from such a repository can't be done securely, and is therefore disabled by default.\nN: See apt-secure(8) manpage for repository creation and user configuration details.", s.uri, s.suite, s.uri, s.suite))
			stale, refused = append(stale, s), true
		default:
			good = append(good, s)
		}
		if !a.silent {
			p.Printf("%s:%d %s %s InRelease%s\n", word, i+1, s.uri, s.suite, note)
		}
	}
	m.learn(good, stale)
	return failures, refused
}

// learn renews the lists: what good repositories have is known, what stale ones had stays known, and what is in neither is not
// known any more.
func (m *Machine) learn(good, stale []source) {
	s := &m.packages
	s.mu.Lock()
	defer s.mu.Unlock()
	in := func(list []source, p Package) bool {
		return slices.ContainsFunc(list, func(one source) bool { return one.has(p) })
	}
	for name, versions := range s.offered {
		versions = slices.DeleteFunc(slices.Clone(versions), func(p Package) bool { return p.Repo != "" && (in(good, p) || !in(stale, p)) })
		if s.offered[name] = versions; len(versions) == 0 {
			delete(s.offered, name)
		}
	}
	for _, p := range s.published {
		if p.Repo == "" || in(good, p) {
			s.offered[p.Name] = append(slices.DeleteFunc(s.offered[p.Name], func(o Package) bool { return o.Version == p.Version }), p)
		}
	}
}
