package machine

import (
	"context"
	"fmt"
	"io"
	"math"
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
