package machine

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

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
