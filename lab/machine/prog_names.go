package machine

import (
	"cmp"
	"context"
	"io"
	"net/netip"
	"slices"
	"strings"
)

func runHostname(_ context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("fsdIiAF:", "fqdn=f", "long=f", "short=s", "domain=d", "all-ip-addresses=I", "ip-address=i")
	if !ok {
		return 1
	}
	m := p.Machine
	name := m.Name()
	if len(rest) > 0 {
		m.ProcFile("/sys/kernel/hostname", func() []byte { return []byte(rest[0] + "\n") })
		return 0
	}
	switch {
	case opts.has("I"):
		for _, a := range m.Addresses() {
			p.Printf("%s ", a)
		}
		p.Println("")
	case opts.has("i"):
		found := m.Resolve(name)
		if len(found) == 0 {
			return p.Fail(1, "Name or service not known")
		}
		p.Println(found[0].String())
	case opts.has("f", "d"):
		fqdn := m.canonicalName(name)
		if fqdn == "" {
			return p.Fail(1, "Name or service not known")
		}
		if opts.has("d") {
			_, domain, _ := strings.Cut(fqdn, ".")
			p.Println(domain)
			return 0
		}
		p.Println(fqdn)
	case opts.has("s"):
		short, _, _ := strings.Cut(name, ".")
		p.Println(short)
	default:
		p.Println(name)
	}
	return 0
}

// hostsEntries reads /etc/hosts.
func (m *Machine) hostsEntries() [][]string {
	content, err := m.FS.ReadFile("/etc/hosts")
	if err != nil {
		return nil
	}
	var out [][]string
	for line := range strings.Lines(string(content)) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 1 {
			out = append(out, f)
		}
	}
	return out
}

// Resolve finds a name's addresses: /etc/hosts first, then the names of the network's machines. An address is itself.
func (m *Machine) Resolve(name string) []netip.Addr {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}
	}
	var out []netip.Addr
	for _, f := range m.hostsEntries() {
		if a, err := netip.ParseAddr(f[0]); err == nil && slices.Contains(f[1:], name) {
			out = append(out, a)
		}
	}
	if len(out) > 0 || m.network == nil {
		return out
	}
	if other := m.network.Find(name); other != nil && other != m {
		return other.Addresses()
	}
	return nil
}

func (m *Machine) canonicalName(name string) string {
	for _, f := range m.hostsEntries() {
		if slices.Contains(f[1:], name) {
			return f[1]
		}
	}
	return ""
}

func runGetent(_ context.Context, p *Proc) int {
	_, args, ok := p.getopt("s:i", "service=s")
	if !ok || len(args) == 0 {
		return p.Fail(1, "wrong number of arguments")
	}
	m := p.Machine
	switch args[0] {
	case "hosts", "ahosts", "ahostsv4", "ahostsv6":
		return p.getentHosts(args[0], args[1:])
	case "passwd", "group", "shadow":
		path := "/etc/" + args[0]
		if len(args) == 1 {
			content, err := m.FS.ReadFile(path)
			if err != nil {
				return 2
			}
			p.Stdout.Write(content)
			return 0
		}
		status := 0
		for _, key := range args[1:] {
			f := m.record(path, func(f []string) bool { return f[0] == key || args[0] != "shadow" && f[2] == key })
			if f == nil {
				status = 2
				continue
			}
			p.Println(strings.Join(f, ":"))
		}
		return status
	case "services", "protocols":
		if len(args) > 1 && args[1] == "ssh" {
			p.Println("ssh                   22/tcp")
			return 0
		}
		return 2
	}
	io.WriteString(p.Stderr, "Unknown database: "+args[0]+"\n")
	return 1
}

func (p *Proc) getentHosts(database string, names []string) int {
	if len(names) == 0 {
		for _, f := range p.Machine.hostsEntries() {
			p.Printf("%-15s %s\n", f[0], strings.Join(f[1:], " "))
		}
		return 0
	}
	status := 0
	for _, name := range names {
		found := p.Machine.Resolve(name)
		if _, err := netip.ParseAddr(name); err == nil && database == "hosts" {
			found = nil
			for _, f := range p.Machine.hostsEntries() {
				if f[0] == name {
					p.Printf("%-15s %s\n", f[0], strings.Join(f[1:], " "))
					found = append(found, netip.Addr{})
					break
				}
			}
			if len(found) == 0 {
				status = 2
			}
			continue
		}
		if database == "ahostsv4" {
			found = slices.DeleteFunc(slices.Clone(found), func(a netip.Addr) bool { return !a.Is4() })
		}
		if database == "ahostsv6" {
			found = slices.DeleteFunc(slices.Clone(found), func(a netip.Addr) bool { return a.Is4() })
		}
		if len(found) == 0 {
			status = 2
			continue
		}
		canonical := cmp.Or(p.Machine.canonicalName(name), name)
		for i, a := range found {
			if database == "hosts" {
				p.Printf("%-15s %s\n", a, canonical)
				break
			}
			for j, kind := range []string{"STREAM", "DGRAM", "RAW"} {
				label := ""
				if i == 0 && j == 0 {
					label = canonical
				}
				p.Printf("%-15s %-6s %s\n", a, kind, label)
			}
		}
	}
	return status
}
