package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// link is an interface as ip shows it.
type link struct {
	index int
	Interface
}

func (m *Machine) links() []link {
	list := []link{{1, Interface{Name: "lo", MTU: 65536, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8"), netip.MustParsePrefix("::1/128")}}}}
	for n, i := range m.Interfaces() {
		if i.MTU == 0 {
			i.MTU = 1500
		}
		list = append(list, link{n + 2, i})
	}
	return list
}

func (l link) state() string {
	switch {
	case l.Name == "lo":
		return "UNKNOWN"
	case l.Down:
		return "DOWN"
	}
	return "UP"
}

func (l link) flags() []string {
	switch {
	case l.Name == "lo":
		return []string{"LOOPBACK", "UP", "LOWER_UP"}
	case l.Down:
		return []string{"BROADCAST", "MULTICAST"}
	}
	return []string{"BROADCAST", "MULTICAST", "UP", "LOWER_UP"}
}

func (m *Machine) mac(l link) string {
	if l.Name == "lo" {
		return "00:00:00:00:00:00"
	}
	h := fnv.New32a()
	h.Write([]byte(m.opt.Name + l.Name))
	n := h.Sum32()
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", byte(n>>16), byte(n>>8), byte(n))
}

// ipAddress is one of addr_info.
type ipAddress struct {
	Family    string `json:"family"`
	Local     string `json:"local"`
	Prefixlen int    `json:"prefixlen"`
	Broadcast string `json:"broadcast,omitempty"`
	Scope     string `json:"scope"`
	Label     string `json:"label,omitempty"`
	Valid     uint32 `json:"valid_life_time"`
	Preferred uint32 `json:"preferred_life_time"`
}

// ipLink is an element of `ip -j addr`.
type ipLink struct {
	Index     int         `json:"ifindex"`
	Name      string      `json:"ifname"`
	Flags     []string    `json:"flags"`
	MTU       int         `json:"mtu"`
	Qdisc     string      `json:"qdisc"`
	State     string      `json:"operstate"`
	Group     string      `json:"group"`
	TxQLen    int         `json:"txqlen"`
	Type      string      `json:"link_type"`
	Address   string      `json:"address"`
	Broadcast string      `json:"broadcast"`
	Addrs     []ipAddress `json:"addr_info,omitempty"`
}

func (m *Machine) ipLink(l link, four, six bool) ipLink {
	out := ipLink{Index: l.index, Name: l.Name, Flags: l.flags(), MTU: l.MTU, Qdisc: "fq_codel", State: l.state(), Group: "default", TxQLen: 1000, Type: "ether", Address: m.mac(l), Broadcast: "ff:ff:ff:ff:ff:ff"}
	if l.Name == "lo" {
		out.Qdisc, out.Type, out.Broadcast = "noqueue", "loopback", "00:00:00:00:00:00"
	}
	for _, prefix := range l.Addrs {
		a := prefix.Addr()
		if a.Is4() && six && !four || !a.Is4() && four && !six {
			continue
		}
		info := ipAddress{Family: "inet", Local: a.String(), Prefixlen: prefix.Bits(), Scope: "global", Label: l.Name, Valid: math.MaxUint32, Preferred: math.MaxUint32}
		if !a.Is4() {
			info.Family, info.Label = "inet6", ""
		} else if !a.IsLoopback() {
			info.Broadcast = broadcast(prefix).String()
		}
		if a.IsLoopback() {
			info.Scope = "host"
		}
		out.Addrs = append(out.Addrs, info)
	}
	return out
}

func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

func runIP(_ context.Context, p *Proc) int {
	args := p.Args()
	var asJSON, brief, one, four, six bool
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch args[0] {
		case "-j", "-json":
			asJSON = true
		case "-br", "-brief":
			brief = true
		case "-o", "-oneline":
			one = true
		case "-4":
			four = true
		case "-6":
			six = true
		case "-p", "-pretty", "-d", "-s", "-c", "-color", "-c=never":
		default:
			fmt.Fprintf(p.Stderr, "Option \"%s\" is unknown, try \"ip -help\".\n", args[0])
			return 255
		}
		args = args[1:]
	}
	if len(args) == 0 {
		io.WriteString(p.Stderr, "Usage: ip [ OPTIONS ] OBJECT { COMMAND | help }\n")
		return 255
	}
	object := args[0]
	args = args[1:]
	if strings.HasPrefix("route", object) && object[0] == 'r' {
		return p.ipRoute(args, asJSON)
	}
	if !(strings.HasPrefix("address", object) || strings.HasPrefix("link", object)) {
		if strings.HasPrefix("neighbour", object) || strings.HasPrefix("rule", object) {
			return 0
		}
		fmt.Fprintf(p.Stderr, "Object \"%s\" is unknown, try \"ip help\".\n", object)
		return 1
	}
	device, up, to := "", false, ""
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "show", "list", "ls", "s", "l", "scope", "global":
		case "up":
			up = true
		case "to":
			if i+1 < len(args) {
				i++
				to = args[i]
			}
		case "set", "add", "del", "flush", "replace":
			return p.ipChange(object, args[i], args[i+1:])
		case "dev":
			if i+1 < len(args) {
				i++
				device = args[i]
			}
		default:
			device = args[i]
		}
	}
	var list []link
	for _, l := range p.Machine.links() {
		if (device == "" || l.Name == device) && !(up && l.Down) && (to == "" || slices.ContainsFunc(l.Addrs, func(a netip.Prefix) bool { return a.Addr().String() == strings.Split(to, "/")[0] })) {
			list = append(list, l)
		}
	}
	if device != "" && len(list) == 0 {
		fmt.Fprintf(p.Stderr, "Device \"%s\" does not exist.\n", device)
		return 1
	}
	addresses := strings.HasPrefix("address", object)
	return p.showLinks(list, addresses, asJSON, brief, one, four, six)
}

func (p *Proc) showLinks(list []link, addresses, asJSON, brief, one, four, six bool) int {
	out := make([]ipLink, len(list))
	for i, l := range list {
		out[i] = p.Machine.ipLink(l, four, six)
		if !addresses {
			out[i].Addrs = nil
		}
	}
	if asJSON {
		text, err := json.Marshal(out)
		if err != nil {
			return 1
		}
		p.Println(string(text))
		return 0
	}
	for _, l := range out {
		switch {
		case brief:
			words := []string{}
			for _, a := range l.Addrs {
				words = append(words, fmt.Sprintf("%s/%d", a.Local, a.Prefixlen))
			}
			if !addresses {
				words = []string{l.Address, "<" + strings.Join(l.Flags, ",") + ">"}
			}
			p.Printf("%-16s %-14s %s \n", l.Name, l.State, strings.Join(words, " "))
		case one:
			for _, a := range l.Addrs {
				p.Printf("%d: %s    %s %s/%d scope %s %s\\       valid_lft forever preferred_lft forever\n", l.Index, l.Name, a.Family, a.Local, a.Prefixlen, a.Scope, a.Label)
			}
		default:
			p.Printf("%d: %s: <%s> mtu %d qdisc %s state %s group default qlen 1000\n    link/%s %s brd %s\n", l.Index, l.Name, strings.Join(l.Flags, ","), l.MTU, l.Qdisc, l.State, l.Type, l.Address, l.Broadcast)
			for _, a := range l.Addrs {
				brd := ""
				if a.Broadcast != "" {
					brd = " brd " + a.Broadcast
				}
				p.Printf("    %s %s/%d%s scope %s %s\n       valid_lft forever preferred_lft forever\n", a.Family, a.Local, a.Prefixlen, brd, a.Scope, a.Label)
			}
		}
	}
	return 0
}

func (p *Proc) ipChange(object, verb string, args []string) int {
	if p.UID != 0 {
		io.WriteString(p.Stderr, "RTNETLINK answers: Operation not permitted\n")
		return 2
	}
	list := p.Machine.Interfaces()
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "dev" })
	at := slices.IndexFunc(list, func(i Interface) bool { return slices.Contains(args, i.Name) })
	if at < 0 {
		fmt.Fprintf(p.Stderr, "Cannot find device \"%s\"\n", strings.Join(args, " "))
		return 1
	}
	i := &list[at]
	i.Addrs = slices.Clone(i.Addrs)
	for n, word := range args {
		prefix, err := netip.ParsePrefix(word)
		switch {
		case err == nil && verb == "add":
			i.Addrs = append(i.Addrs, prefix)
		case err == nil && verb == "del":
			i.Addrs = slices.DeleteFunc(i.Addrs, func(a netip.Prefix) bool { return a == prefix })
		case word == "up":
			i.Down = false
		case word == "down":
			i.Down = true
		case word == "mtu" && n+1 < len(args):
			i.MTU, _ = strconv.Atoi(args[n+1])
		}
	}
	p.Machine.SetInterfaces(list)
	return 0
}

func (p *Proc) ipRoute(args []string, asJSON bool) int {
	type route struct {
		Dst    string `json:"dst"`
		Gw     string `json:"gateway,omitempty"`
		Dev    string `json:"dev"`
		Source string `json:"prefsrc,omitempty"`
	}
	if len(args) > 1 && args[0] == "get" {
		to, err := netip.ParseAddr(args[1])
		if err != nil {
			fmt.Fprintf(p.Stderr, "Error: inet prefix is expected rather than \"%s\".\n", args[1])
			return 1
		}
		from := p.Machine.sourceFor(to)
		for _, i := range p.Machine.Interfaces() {
			for _, a := range i.Addrs {
				if a.Addr() != from {
					continue
				}
				if asJSON {
					text, _ := json.Marshal([]route{{Dst: to.String(), Dev: i.Name, Source: from.String()}})
					p.Println(string(text))
					return 0
				}
				p.Printf("%s dev %s src %s uid %d \n    cache \n", to, i.Name, from, p.UID)
				return 0
			}
		}
		io.WriteString(p.Stderr, "RTNETLINK answers: Network is unreachable\n")
		return 2
	}
	routes := []route{}
	for n, i := range p.Machine.Interfaces() {
		for _, a := range i.Addrs {
			if i.Down || !a.Addr().Is4() {
				continue
			}
			if n == 0 && len(routes) == 0 {
				routes = append(routes, route{Dst: "default", Gw: a.Masked().Addr().Next().String(), Dev: i.Name})
			}
			routes = append(routes, route{Dst: a.Masked().String(), Dev: i.Name, Source: a.Addr().String()})
		}
	}
	if asJSON {
		text, err := json.Marshal(routes)
		if err != nil {
			return 1
		}
		p.Println(string(text))
		return 0
	}
	for _, r := range routes {
		if r.Gw != "" {
			p.Printf("default via %s dev %s proto kernel onlink \n", r.Gw, r.Dev)
			continue
		}
		p.Printf("%s dev %s proto kernel scope link src %s \n", r.Dst, r.Dev, r.Source)
	}
	return 0
}
