package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

// measureScript reads lines "ping OWN PEER", "mtu OWN PEER SIZE" and "port ADDRESS PORT" and answers each with one line,
// all at once. A port is tried with nc, or with bash where there is none; without either it is "unknown".
const measureScript = `# measure the network
while read -r kind a b c; do
	case $kind in
	ping) { r=$(ping -n -q -c 5 -i 0.05 -W 1 -I "$a" "$b" 2>&1 | tr '\n' ' '); echo "ping $a $b $r"; } & ;;
	mtu) { r=$(ping -n -q -c 1 -W 1 -M do -s "$c" -I "$a" "$b" 2>&1 | tr '\n' ' '); echo "mtu $a $b $r"; } & ;;
	port)
		if command -v nc >/dev/null 2>&1; then
			{ if nc -z -w 2 "$a" "$b" >/dev/null 2>&1; then echo "port $a $b open"; else echo "port $a $b closed"; fi; } &
		elif command -v bash >/dev/null 2>&1; then
			{ if timeout 2 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$a" "$b" >/dev/null 2>&1; then echo "port $a $b open"; else echo "port $a $b closed"; fi; } &
		else
			echo "port $a $b unknown"
		fi ;;
	esac
done
wait
`

// neededPorts are the TCP ports by which nodes talk to each other: SSH and the API. Corosync's UDP ports cannot be
// probed from outside: nothing answers on them before a cluster is there.
var neededPorts = []int{22, 8006}

// question is one measurement of a node.
type question struct {
	kind       string // ping, mtu, port
	own, peer  netip.Addr
	size, port int
	link       int
	peerHost   string
}

func (q question) line() string {
	switch q.kind {
	case "ping":
		return fmt.Sprintf("ping %s %s", q.own, q.peer)
	case "mtu":
		return fmt.Sprintf("mtu %s %s %d", q.own, q.peer, q.size)
	default:
		return fmt.Sprintf("port %s %d", q.peer, q.port)
	}
}

// key is how the answer begins.
func (q question) key() string {
	if q.kind == "port" {
		return fmt.Sprintf("port %s %d ", q.peer, q.port)
	}
	return fmt.Sprintf("%s %s %s ", q.kind, q.own, q.peer)
}

// questions lists what each node is to measure. Members of one cluster know their links by corosync's own statistics,
// so only pairs with a node that is not a member are measured.
func (v siteView) questions() map[string][]question {
	member := map[string]bool{}
	for _, m := range pve.MembersOf(v.states, v.cluster) {
		member[m.Host] = true
	}
	asked := map[string][]question{}
	for i, from := range v.states {
		for j, to := range v.states {
			if i == j || member[from.Host] && member[to.Host] {
				continue
			}
			asked[from.Host] = append(asked[from.Host], v.pair(i, j)...)
			if a, ok := to.HostnameAddr(); ok && to.HasAddress(a) {
				for _, port := range neededPorts {
					asked[from.Host] = append(asked[from.Host], question{kind: "port", peer: a, port: port, peerHost: to.Host})
				}
			}
		}
	}
	return asked
}

func (v siteView) pair(from, to int) []question {
	var list []question
	mine, theirs := v.wanted.Nodes[from].Links, v.wanted.Nodes[to].Links
	for n := range min(len(mine), len(theirs)) {
		iface, there := pve.InterfaceOf(v.states[from].Interfaces, mine[n])
		if !there || !v.states[to].HasAddress(theirs[n]) {
			continue // the check of links says so
		}
		q := question{kind: "ping", own: mine[n], peer: theirs[n], link: n, peerHost: v.states[to].Host}
		list = append(list, q)
		q.kind, q.size = "mtu", iface.MTU-headers(theirs[n])
		list = append(list, q)
	}
	return list
}

// headers is what IP and ICMP add to the data of a ping.
func headers(a netip.Addr) int {
	if a.Is6() {
		return 48
	}
	return 28
}

// measure asks all nodes at once, one round trip for each, and judges the answers.
func (v siteView) measure(ctx context.Context, t module.Target, args preflightArgs) ([]problem, error) {
	asked := v.questions()
	answers := make([]string, len(v.states))
	errs := make([]error, len(v.states))
	p := pool.New().WithMaxGoroutines(64)
	for i, s := range v.states {
		if len(asked[s.Host]) > 0 {
			p.Go(func() { answers[i], errs[i] = askNetwork(ctx, t, s.Host, asked[s.Host]) })
		}
	}
	p.Wait()
	var found []problem
	for i, s := range v.states {
		if errs[i] != nil {
			return nil, errs[i]
		}
		found = append(found, judgeNetwork(s.Host, asked[s.Host], answers[i], args)...)
	}
	return found, nil
}

func askNetwork(ctx context.Context, t module.Target, host string, qs []question) (string, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return "", err
	}
	var lines strings.Builder
	for _, q := range qs {
		lines.WriteString(q.line() + "\n")
	}
	r, err := conn.Run(ctx, transport.Command{Script: measureScript, Stdin: []byte(lines.String()), Timeout: 30 * time.Second})
	if err != nil {
		return "", fmt.Errorf("%s: measure the network: %w", host, err)
	}
	return r.Out(), nil
}

// judgeNetwork reads the answers of one node.
func judgeNetwork(host string, qs []question, answers string, args preflightArgs) []problem {
	lines := strings.Split(answers, "\n")
	var found []problem
	silent := map[string]bool{} // links that do not even answer a ping
	for _, q := range qs {
		i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, q.key()) })
		answer := ""
		if i >= 0 {
			answer = strings.TrimPrefix(lines[i], q.key())
		}
		p, bad := q.judge(answer, args)
		if !bad {
			continue
		}
		if q.kind == "ping" && !p.warn && p.check == checkLinks {
			silent[q.own.String()+q.peer.String()] = true
		}
		if q.kind == "mtu" && silent[q.own.String()+q.peer.String()] {
			continue
		}
		p.host = host
		found = append(found, p)
	}
	return found
}

func (q question) judge(answer string, args preflightArgs) (problem, bool) {
	switch q.kind {
	case "ping":
		return q.judgePing(answer, args)
	case "mtu":
		if ping, ok := pve.ParsePing(answer); ok && ping.Received > 0 {
			return problem{}, false
		}
		return problem{
			check: checkMTU, saw: fmt.Sprintf("packets of %d bytes do not get from %s to %s whole", q.size+headers(q.peer), q.own, q.peer),
			want: "the interface's MTU on the whole way", look: fmt.Sprintf("ping -M do -s %d -I %s %s", q.size, q.own, q.peer), cure: "set the same MTU on the switch ports and interfaces of this network",
		}, true
	default:
		switch answer {
		case "open":
			return problem{}, false
		case "closed":
			return problem{
				check: checkPorts, saw: fmt.Sprintf("TCP port %d of %s (%s) does not accept connections", q.port, q.peerHost, q.peer), want: "SSH and the API open between the nodes",
				look: fmt.Sprintf("nc -z -w 2 %s %d", q.peer, q.port), cure: "open it in the firewall; on the node: systemctl status ssh pveproxy",
			}, true
		}
		return problem{check: checkPorts, saw: fmt.Sprintf("TCP port %d of %s could not be tried: neither nc nor bash is there", q.port, q.peerHost), warn: true}, true
	}
}

func (q question) judgePing(answer string, args preflightArgs) (problem, bool) {
	look := fmt.Sprintf("ping -c 5 -I %s %s", q.own, q.peer)
	ping, ok := pve.ParsePing(answer)
	sent, received, rtt, timed := ping.Sent, ping.Received, ping.Average, ping.Timed
	switch {
	case !ok || received == 0 || !timed:
		return problem{
			check: checkLinks, saw: fmt.Sprintf("%s on link %d (%s) does not answer from %s", q.peerHost, q.link, q.peer, q.own), want: "all nodes reach each other on every link", look: look,
			cure: "check cables, VLANs and firewalls of this network",
		}, true
	case rtt >= args.FailRTT:
		return problem{
			check: checkRTT, saw: fmt.Sprintf("%s on link %d is %s away", q.peerHost, q.link, rtt), want: "less than " + args.FailRTT.String() + " there and back", look: look,
			cure: "corosync needs a network with the latency of a LAN",
		}, true
	case rtt >= args.WarnRTT:
		return problem{check: checkRTT, saw: fmt.Sprintf("%s on link %d is %s away", q.peerHost, q.link, rtt), warn: true}, true
	case received < sent:
		return problem{check: checkRTT, saw: fmt.Sprintf("%d of %d packets to %s on link %d were lost", sent-received, sent, q.peerHost, q.link), cure: "corosync suffers from lost packets", warn: true}, true
	}
	return problem{}, false
}

// readClocks asks all nodes for their time at once. The answer of a node is known to half of the time that asking took.
func readClocks(ctx context.Context, t module.Target, hosts []string, now func() time.Time) ([]clock, error) {
	clocks, errs := make([]clock, len(hosts)), make([]error, len(hosts))
	p := pool.New().WithMaxGoroutines(64)
	for i, host := range hosts {
		p.Go(func() { clocks[i], errs[i] = readClock(ctx, t, host, now) })
	}
	p.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return clocks, nil
}

func readClock(ctx context.Context, t module.Target, host string, now func() time.Time) (clock, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return clock{}, err
	}
	before := now()
	r, err := conn.Run(ctx, transport.Command{Argv: []string{"date", "+%s.%N"}, Timeout: 10 * time.Second})
	took := now().Sub(before)
	if err != nil {
		return clock{}, fmt.Errorf("%s: read the clock: %w", host, err)
	}
	said, err := unixTime(r.Out())
	if err != nil {
		return clock{}, fmt.Errorf("%s: %w: %q", host, errBadClock, r.Out())
	}
	return clock{host: host, offset: said.Sub(before.Add(took / 2)), within: took / 2}, nil
}

func unixTime(s string) (time.Time, error) {
	whole, fraction, _ := strings.Cut(strings.TrimSpace(s), ".")
	seconds, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	nanos, err := strconv.ParseInt((fraction + "000000000")[:9], 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	return time.Unix(seconds, nanos), nil
}

// compareClocks finds clocks that are further from the middle one than is allowed, beyond what asking may have cost.
func compareClocks(clocks []clock, most time.Duration) []problem {
	if len(clocks) < 2 {
		return nil
	}
	sorted := slices.Clone(clocks)
	slices.SortFunc(sorted, func(a, b clock) int { return int(max(-1, min(1, a.offset-b.offset))) })
	middle := sorted[(len(sorted)-1)/2]
	var found []problem
	for _, c := range clocks {
		apart := c.offset - middle.offset
		if c.host == middle.host || apart.Abs()-c.within-middle.within <= most {
			continue
		}
		found = append(found, problem{
			check: checkTime, host: c.host, saw: fmt.Sprintf("its clock is %s off that of %s", apart.Round(time.Millisecond), middle.host), want: "at most " + most.String(), look: "chronyc tracking; date",
			cure: "let chrony set it: chronyc makestep",
		})
	}
	return found
}
