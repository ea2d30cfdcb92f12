package machine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

const archivesDir = "/var/cache/apt/archives/"

// size is that of the package's archive in bytes.
func (p Package) size() int64 { return max(p.Size, 100<<10) }

// origin is what a simulation shows of where the package is from.
func (p Package) origin() string { return cmp.Or(p.Origin, "Debian:13.2/stable") }

// archiveName is the name of a package's archive in apt's cache.
func archiveName(p Package) string {
	return fmt.Sprintf("%s_%s_%s.deb", p.Name, strings.ReplaceAll(p.Version, ":", "%3a"), p.arch())
}

// missing are the packages whose archives are not in the cache.
func (a *apt) missing(c *change) []pkgChange {
	return slices.DeleteFunc(slices.Clone(c.install), func(x pkgChange) bool {
		_, err := a.p.Machine.FS.Stat(archivesDir + archiveName(x.to))
		return err == nil
	})
}

// repository is the source that a package is from.
func (a *apt) repository(p Package) source {
	for _, s := range a.p.Machine.sources() {
		if p.Repo != "" && s.has(p) {
			return s
		}
	}
	return source{"http://deb.debian.org/debian", cmp.Or(a.p.Machine.opt.Codename, "trixie"), "main"}
}

func (a *apt) uri(p Package) string {
	component, _, _ := strings.Cut(a.repository(p).components, " ")
	return fmt.Sprintf("%s/pool/%s/%s", a.repository(p).uri, cmp.Or(component, "main"), archiveName(p))
}

// need is apt's line about what has to be fetched.
func (a *apt) need(c *change, size int64) string {
	var left int64
	for _, x := range a.missing(c) {
		left += x.to.size()
	}
	switch left {
	case size:
		return fmt.Sprintf("Need to get %s of archives.", aptSize(size))
	default:
		return fmt.Sprintf("Need to get %s/%s of archives.", aptSize(left), aptSize(size))
	}
}

// aptSize is a size as apt writes it, in powers of 1000.
func aptSize(n int64) string {
	switch {
	case n == 0:
		return "0 B"
	case n >= 100_000_000:
		return fmt.Sprintf("%d MB", n/1_000_000)
	case n >= 1_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d kB", n/1000)
}

// download fetches the archives that are not in the cache.
func (a *apt) download(c *change, f AptFaults) int {
	m, p := a.p.Machine, a.p
	if len(c.install) == 0 {
		return 0
	}
	for i, x := range a.missing(c) {
		from := a.repository(x.to)
		if f.away(from.uri) {
			host := hostOf(from.uri)
			fmt.Fprintf(p.Stderr, "E: Failed to fetch %s  Temporary failure resolving '%s'\nE: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?\n", a.uri(x.to), host)
			return aptError
		}
		component, _, _ := strings.Cut(from.components, " ")
		if !a.silent {
			p.Printf("Get:%d %s %s/%s amd64 %s %s %s [%s]\n", i+1, from.uri, from.suite, component, x.to.Name, x.to.arch(), x.to.Version, aptSize(x.to.size()))
		}
		if f.Speed > 0 && m.Sleep(a.ctx, time.Duration(float64(x.to.size())/float64(f.Speed)*float64(time.Second))) != nil {
			return aptError
		}
		if err := m.atPhase(a.ctx, "apt:download", x.to.Name); err != nil {
			return a.stopped(err)
		}
		if err := p.view.WriteFile(archivesDir+archiveName(x.to), []byte("!<arch>\n"+x.to.Name+" "+x.to.Version+"\n"), 0o644); err != nil {
			fmt.Fprintf(p.Stderr, "E: Failed to fetch %s  Error writing to file - write (%d: %s)\nE: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?\n", a.uri(x.to), 28, Reason(err))
			return aptError
		}
	}
	if a.fetch {
		a.say("Download complete and in download only mode")
	}
	return 0
}

// clean empties the cache of archives.
func (a *apt) clean() {
	list, _ := a.p.Machine.FS.ReadDir(archivesDir) // what is not there needs no cleaning
	for _, entry := range list {
		if strings.HasSuffix(entry.Name, ".deb") {
			_ = a.p.view.Remove(archivesDir + entry.Name)
		}
	}
}
