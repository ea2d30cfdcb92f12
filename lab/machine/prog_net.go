package machine

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// netPrograms look at the network.
func netPrograms() map[string]Program {
	return map[string]Program{
		"/usr/sbin/ip": runIP, "ping": runPing, "nc": runNc, "netcat": runNc, "ss": runSs, "chronyc": runChronyc, "/usr/sbin/ethtool": runQuiet,
	}
}

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

// ping is one run of the program.
type ping struct {
	p        *Proc
	count    int
	interval time.Duration
	wait     time.Duration
	size     int
	quiet    bool
	dont     bool // may not be fragmented
	sent     int
	times    []time.Duration
}

func runPing(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("c:i:W:w:qnM:s:I:46abdDfhLOrRUvVt:Q:l:m:p:S:T:")
	if !ok || len(rest) == 0 {
		io.WriteString(p.Stderr, "ping: usage error: Destination address required\n")
		return 1
	}
	g := &ping{p: p, count: -1, interval: time.Second, wait: 10 * time.Second, size: 56, quiet: opts.has("q"), dont: opts.last("M") == "do" || opts.last("M") == "probe"}
	if n, err := strconv.Atoi(opts.last("c")); err == nil {
		g.count = n
	}
	if d, ok := duration(opts.last("i")); ok && opts.has("i") {
		g.interval = d
	}
	if d, ok := duration(opts.last("W")); ok && opts.has("W") {
		g.wait = d
	}
	if n, err := strconv.Atoi(opts.last("s")); err == nil {
		g.size = n
	}
	host := rest[len(rest)-1]
	found := p.Machine.Resolve(host)
	if len(found) == 0 {
		io.WriteString(p.Stderr, "ping: "+host+": Name or service not known\n")
		return 2
	}
	to := found[0]
	from := p.Machine.sourceFor(to)
	if i := opts.last("I"); i != "" {
		if a, err := netip.ParseAddr(i); err == nil {
			from = a
			if !p.Machine.Owns(a) {
				io.WriteString(p.Stderr, "ping: bind: Cannot assign requested address\n")
				return 2
			}
		} else if from, ok = p.addressOf(i); !ok {
			io.WriteString(p.Stderr, "ping: unknown iface: "+i+"\n")
			return 2
		}
	}
	if !from.IsValid() && !p.Machine.Owns(to) {
		io.WriteString(p.Stderr, "ping: connect: Network is unreachable\n")
		return 2
	}
	return g.run(ctx, host, from, to)
}

func (p *Proc) addressOf(name string) (netip.Addr, bool) {
	for _, i := range p.Machine.Interfaces() {
		if i.Name == name && len(i.Addrs) > 0 {
			return i.Addrs[0].Addr(), true
		}
	}
	return netip.Addr{}, false
}

// overhead is what a packet has besides ping's data.
func overhead(a netip.Addr) int {
	if a.Is4() {
		return 28
	}
	return 48
}

func (g *ping) run(ctx context.Context, host string, from, to netip.Addr) int {
	m := g.p.Machine
	g.p.Printf("PING %s (%s) %d(%d) bytes of data.\n", host, to, g.size, g.size+overhead(to))
	own := 65536
	for _, l := range m.links() {
		if slices.ContainsFunc(l.Addrs, func(a netip.Prefix) bool { return a.Addr() == from }) && !m.Owns(to) {
			own = l.MTU
		}
	}
	began := m.clock.Elapsed()
	errorsSeen := 0
	for g.count < 0 || g.sent < g.count {
		if g.sent > 0 && m.Sleep(ctx, g.interval) != nil {
			break
		}
		g.sent++
		if g.dont && g.size+overhead(to) > own {
			fmt.Fprintf(g.p.Stderr, "ping: local error: message too long, mtu=%d\n", own)
			errorsSeen++
			continue
		}
		rtt, ok := g.probe(from, to)
		if !ok {
			if g.sent == g.count && m.Sleep(ctx, g.wait) != nil {
				break
			}
			continue
		}
		if m.Sleep(ctx, rtt) != nil {
			break
		}
		g.times = append(g.times, rtt)
		if !g.quiet {
			g.p.Printf("%d bytes from %s: icmp_seq=%d ttl=64 time=%s ms\n", g.size+8, to, g.sent, milliseconds(rtt))
		}
	}
	g.summary(host, errorsSeen, m.clock.Elapsed()-began)
	return boolStatus(len(g.times) > 0)
}

// probe sends one packet along the path.
func (g *ping) probe(from, to netip.Addr) (time.Duration, bool) {
	m := g.p.Machine
	if m.Owns(to) {
		return 40 * time.Microsecond, true
	}
	if m.network == nil {
		return 0, false
	}
	other := m.network.Find(to.String())
	path := m.network.Path(from, to)
	if other == nil || !path.Reachable || !other.Up() {
		return 0, false
	}
	m.mu.Lock()
	dice, jitter := m.random.Float64(), rand.New(rand.NewPCG(m.random.Uint64(), 0)).Float64()
	m.mu.Unlock()
	if path.MTU > 0 && g.size+overhead(to) > path.MTU && g.dont || dice < path.Loss {
		return 0, false
	}
	return max(20*time.Microsecond, path.RTT+time.Duration((jitter-0.5)*0.1*float64(path.RTT))), true
}

func milliseconds(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case ms < 1:
		return fmt.Sprintf("%.3f", ms)
	case ms < 10:
		return fmt.Sprintf("%.2f", ms)
	case ms < 100:
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}

func (g *ping) summary(host string, errorsSeen int, took time.Duration) {
	lost := 0.0
	if g.sent > 0 {
		lost = float64(g.sent-len(g.times)) * 100 / float64(g.sent)
	}
	failures := ""
	if errorsSeen > 0 {
		failures = fmt.Sprintf("+%d errors, ", errorsSeen)
	}
	g.p.Printf("\n--- %s ping statistics ---\n%d packets transmitted, %d received, %s%s%% packet loss, time %dms\n", host, g.sent, len(g.times), failures, strconv.FormatFloat(lost, 'g', 6, 64), took.Milliseconds())
	if len(g.times) == 0 {
		g.p.Println("")
		return
	}
	sum, squares := 0.0, 0.0
	for _, t := range g.times {
		ms := float64(t) / float64(time.Millisecond)
		sum += ms
		squares += ms * ms
	}
	n := float64(len(g.times))
	mean := sum / n
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	g.p.Printf("rtt min/avg/max/mdev = %.3f/%.3f/%.3f/%.3f ms\n", ms(slices.Min(g.times)), mean, ms(slices.Max(g.times)), math.Sqrt(max(0, squares/n-mean*mean)))
}

// ListenOn makes a TCP port of the machine open, or closed again: nc and ss see it.
func (m *Machine) ListenOn(port int, open bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ports = slices.DeleteFunc(slices.Clone(m.ports), func(p int) bool { return p == port })
	if open {
		m.ports = append(m.ports, port)
	}
}

// Listening reports whether a TCP port is open: those of ListenOn while the machine is up, and 22 while sshd accepts.
func (m *Machine) Listening(port int) bool {
	if port == 22 {
		return m.Accepting()
	}
	return m.Up() && slices.Contains(m.openPorts(), port)
}

// openPorts are those of ListenOn and of active units.
func (m *Machine) openPorts() []int {
	m.mu.Lock()
	ports := append([]int{22}, m.ports...)
	m.mu.Unlock()
	for _, u := range m.Units() {
		if u.Active == "active" {
			ports = append(ports, u.Ports...)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}

// runNc tests ports (-z) and prints sshd's version; it carries no data otherwise.
func runNc(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("zvnw:46ukNq:l")
	if !ok || len(rest) < 2 {
		return 1
	}
	port, err := strconv.Atoi(rest[1])
	if err != nil {
		io.WriteString(p.Stderr, "nc: port number invalid: "+rest[1]+"\n")
		return 1
	}
	wait, _ := duration(opts.last("w"))
	if wait == 0 {
		wait = 130 * time.Second
	}
	m, _, at, path := p.Machine.reach(rest[0])
	say := func(text string) int {
		if opts.has("v") {
			fmt.Fprintf(p.Stderr, "nc: connect to %s (%s) port %d (tcp) failed: %s\n", rest[0], at, port, text)
		}
		return 1
	}
	if len(p.Machine.Resolve(rest[0])) == 0 {
		fmt.Fprintf(p.Stderr, "nc: getaddrinfo for host \"%s\" port %d: Name or service not known\n", rest[0], port)
		return 1
	}
	if m == nil || !path.Reachable || !m.Up() {
		if p.Machine.Sleep(ctx, wait) != nil {
			return 1
		}
		return say("Connection timed out")
	}
	if p.Machine.Sleep(ctx, path.RTT) != nil {
		return 1
	}
	if opts.has("u") {
		return 0
	}
	if !m.Listening(port) {
		return say("Connection refused")
	}
	if opts.has("v") {
		fmt.Fprintf(p.Stderr, "Connection to %s (%s) %d port [tcp/*] succeeded!\n", rest[0], at, port)
	}
	if !opts.has("z") && port == 22 {
		p.Println("SSH-2.0-OpenSSH_10.0p2 Debian-7\r")
	}
	return 0
}

func runSs(_ context.Context, p *Proc) int {
	m := p.Machine
	header := !strings.Contains(strings.Join(p.Args(), ""), "H")
	if header {
		p.Println("State  Recv-Q Send-Q Local Address:Port Peer Address:Port Process")
	}
	for _, port := range m.openPorts() {
		if m.Listening(port) {
			p.Printf("LISTEN 0      128          0.0.0.0:%-5d      0.0.0.0:*    \n", port)
		}
	}
	return 0
}

// runChronyc answers tracking: the machine's skew is the offset that chrony measures.
func runChronyc(_ context.Context, p *Proc) int {
	args := p.Args()
	csv := slices.Contains(args, "-c")
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return strings.HasPrefix(a, "-") })
	if !p.Machine.UnitActive("chrony.service") {
		p.Println("506 Cannot talk to daemon")
		return 1
	}
	verb := strings.Join(args, " ")
	offset := 0 - p.Machine.Skew().Seconds()
	switch verb {
	case "tracking":
		if csv {
			p.Printf("C0000235,192.0.2.53,3,%d.000000000,%.9f,0.000001200,0.000012000,-12.500,0.001,0.020,0.001200000,0.000800000,64.2,Normal\n", p.Machine.Now().Unix(), offset)
			return 0
		}
		direction := "slow"
		if offset < 0 {
			direction = "fast"
		}
		p.Printf("Reference ID    : C0000235 (192.0.2.53)\nStratum         : 3\nRef time (UTC)  : %s\nSystem time     : %.9f seconds %s of NTP time\nLast offset     : +0.000001200 seconds\nRMS offset      : 0.000012000 seconds\nFrequency       : 12.500 ppm slow\nResidual freq   : +0.001 ppm\nSkew            : 0.020 ppm\nRoot delay      : 0.001200000 seconds\nRoot dispersion : 0.000800000 seconds\nUpdate interval : 64.2 seconds\nLeap status     : Normal\n",
			p.Machine.Now().UTC().Format("Mon Jan 02 15:04:05 2006"), math.Abs(offset), direction)
		return 0
	case "waitsync", "makestep", "burst":
		if verb == "makestep" {
			p.Machine.SetSkew(0)
		}
		p.Println("200 OK")
		return 0
	case "sources":
		p.Println("MS Name/IP address         Stratum Poll Reach LastRx Last sample\n===============================================================================\n^* 192.0.2.53                    2   6   377    12   +12us[  +15us] +/-  900us")
		return 0
	}
	p.Println("Unrecognized command")
	return 1
}
