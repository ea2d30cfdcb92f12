package report

import (
	"regexp"
	"strings"
)

// Problem is something that went wrong, on one host or on none in particular.
type Problem struct {
	Host, Text string
}

// problemGroup is one thing that went wrong alike on several hosts. Text is that of the first.
type problemGroup struct {
	Hosts []string
	Text  string
}

// groupProblems puts problems together whose texts differ in nothing but the host's own name and addresses: thirty
// hosts behind one dead switch are one problem.
func groupProblems(problems []Problem) []problemGroup {
	var groups []problemGroup
	at := map[string]int{}
	for _, p := range problems {
		key := shape(p)
		if i, seen := at[key]; seen {
			groups[i].Hosts = append(groups[i].Hosts, p.Host)
			continue
		}
		at[key] = len(groups)
		groups = append(groups, problemGroup{[]string{p.Host}, strings.TrimPrefix(p.Text, p.Host+": ")})
	}
	return groups
}

// address matches what differs between hosts in the errors of the network.
var address = regexp.MustCompile(`\[[0-9a-fA-F:]+\](:\d+)?|\d+\.\d+\.\d+\.\d+(:\d+)?`)

// shape replaces what is particular to a host: its name and addresses. Other numbers stay; exit 1 is not exit 2.
func shape(p Problem) string {
	text := p.Text
	if p.Host != "" {
		text = wordOf(p.Host).ReplaceAllString(text, "\x00")
	}
	return address.ReplaceAllString(text, "\x01")
}

// wordOf matches a host's name where it stands alone: a host may be called "a".
func wordOf(host string) *regexp.Regexp {
	return regexp.MustCompile(`\b` + regexp.QuoteMeta(host) + `\b`)
}

// Problems shows problems for people. Those that are alike on several hosts are shown once, with the hosts.
func (l Look) Problems(problems []Problem) string {
	var b strings.Builder
	for _, g := range groupProblems(problems) {
		hosts := g.Hosts[0]
		if len(g.Hosts) > 1 {
			hosts = Count(len(g.Hosts), "host") + " (" + hostList(g.Hosts, 6) + ")"
		}
		b.WriteString(l.block(hosts, g.Text))
	}
	return b.String()
}

// block is a text under a red mark: its first line beside the title, the rest indented below.
func (l Look) block(title, text string) string {
	var b strings.Builder
	lines := wrap(Clean(strings.TrimRight(text, "\n")), l.Width-4)
	b.WriteString(l.paint(bad, l.pick("✗", "x")) + " ")
	if title != "" {
		b.WriteString(l.paint(strong, title) + "\n")
		for _, line := range lines {
			b.WriteString("    " + line + "\n")
		}
		return b.String()
	}
	b.WriteString(lines[0] + "\n")
	for _, line := range lines[1:] {
		b.WriteString("    " + line + "\n")
	}
	return b.String()
}
