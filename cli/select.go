package cli

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/inventory"
)

// selectHosts finds the hosts that patterns stand for. A pattern is a host, a cluster, a group, "all", a name with * ?
// or [ ], or several of these with commas between; one that starts with ! takes hosts away. Order is the site's.
func selectHosts(site *inventory.Site, patterns []string) ([]string, error) {
	chosen := map[string]bool{}
	var words []string
	for _, p := range patterns {
		words = append(words, strings.Split(p, ",")...)
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	if len(words) > 0 && strings.HasPrefix(words[0], "!") {
		words = append([]string{"all"}, words...)
	}
	for _, word := range words {
		name, away := strings.CutPrefix(word, "!")
		hosts, err := matchHosts(site, name)
		if err != nil {
			return nil, err
		}
		for _, h := range hosts {
			chosen[h] = !away
		}
	}
	var hosts []string
	for _, h := range site.Hosts {
		if chosen[h.Name] {
			hosts = append(hosts, h.Name)
		}
	}
	if len(hosts) == 0 {
		return nil, invalid("the selection %q leaves no host", strings.Join(patterns, ","))
	}
	return hosts, nil
}

func matchHosts(site *inventory.Site, name string) ([]string, error) {
	var hosts, known []string
	for _, h := range site.Hosts {
		known = append(known, h.Name)
		matched, err := path.Match(name, h.Name)
		if err != nil {
			return nil, invalid("%q is not a pattern for host names", name)
		}
		if matched || name == "all" {
			hosts = append(hosts, h.Name)
		}
	}
	for _, c := range site.Clusters {
		known = append(known, c.Name)
		if c.Name == name {
			hosts = append(hosts, c.Nodes...)
		}
	}
	for _, g := range site.Groups {
		known = append(known, g.Name)
		if g.Name == name {
			hosts = append(hosts, g.Hosts...)
		}
	}
	if len(hosts) == 0 {
		return nil, &exitError{exitInvalid, fmt.Errorf("%q is no host, group or cluster of this site.%s\nSee: pxrun inventory", name, diag.DidYouMean(name, known))}
	}
	return hosts, nil
}
