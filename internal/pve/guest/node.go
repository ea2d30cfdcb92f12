package guest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

// scan lists the guests whose processes exist: a pid file alone does not tell, since a killed machine leaves it behind.
const scan = `sh -c 'for f in /run/qemu-server/*.pid; do [ -e "$f" ] || continue; p=; read -r p <"$f"; c=; [ -n "$p" ] && read -r c <"/proc/$p/comm"; f=${f##*/}; [ "$c" = kvm ] && echo "vm ${f%.pid}"; done 2>/dev/null; for d in /sys/fs/cgroup/lxc/*/; do d=${d%/}; [ -d "$d" ] && echo "ct ${d##*/}"; done; echo end'`

var nodeProbe = transport.Command{Timeout: probeTimeout, Script: frame.Script(
	frame.Read{Name: "running", Seconds: readSeconds, Command: scan},
	frame.Read{Name: "memory", Seconds: readSeconds, Command: "cat /proc/meminfo"},
	frame.Read{Name: "cpu", Seconds: readSeconds, Command: "sed '/^$/q' /proc/cpuinfo"},
	frame.Read{Name: "interfaces", Seconds: readSeconds, Command: "cat /proc/net/dev"},
	frame.Read{Name: "versions", Seconds: readSeconds, Command: `dpkg-query -W -f '${Package} ${Version}\n' pve-qemu-kvm pve-manager`},
)}

// NodeProbe is the command that ReadNode runs: the same text each time.
func NodeProbe() transport.Command { return nodeProbe }

// ReadNode reads what a node alone knows: which guests run on it, and what it can run. It takes one round trip. What went
// wrong is in Node.Err.
func ReadNode(ctx context.Context, node string, conn transport.Conn) *Node {
	r, err := conn.Run(ctx, nodeProbe)
	if err != nil {
		return &Node{Name: node, Err: fmt.Errorf("read guests of %s: %w", node, err)}
	}
	return ParseNode(node, r.Stdout)
}

// ReadNodes reads several nodes at once into the site.
func (s *Site) ReadNodes(ctx context.Context, nodes []string, connect func(context.Context, string) (transport.Conn, error)) {
	var mu sync.Mutex
	asking := pool.New().WithMaxGoroutines(64)
	for _, name := range nodes {
		asking.Go(func() {
			n := &Node{Name: name}
			conn, err := connect(ctx, name)
			if err != nil {
				n.Err = err
			} else {
				n = ReadNode(ctx, name, conn)
			}
			mu.Lock()
			defer mu.Unlock()
			s.Nodes[name] = n
		})
	}
	asking.Wait()
}

// ParseNode reads the output of NodeProbe. A node whose running guests cannot be told is an error: nothing may be decided on it.
func ParseNode(name string, out []byte) *Node {
	n := &Node{Name: name, Running: map[int]Kind{}, Flags: map[string]bool{}}
	answers, err := frame.Parse(out)
	if err != nil {
		n.Err = fmt.Errorf("read guests of %s: %w", name, err)
		return n
	}
	complete := false
	for line := range strings.Lines(string(answers["running"].Text)) {
		kind, number, _ := strings.Cut(strings.TrimSpace(line), " ")
		complete = complete || kind == "end"
		if id, err := strconv.Atoi(number); err == nil && (Kind(kind) == VM || Kind(kind) == CT) {
			n.Running[id] = Kind(kind)
		}
	}
	if !complete || answers["running"].RC != 0 {
		n.Err = errors.New(name + ": which guests run cannot be read")
	}
	fields(answers["memory"].Text, ":", func(key, value string) {
		kib, _ := strconv.ParseInt(strings.TrimSuffix(value, " kB"), 10, 64)
		switch key {
		case "MemTotal":
			n.Memory = kib << 10
		case "MemAvailable":
			n.Available = kib << 10
		}
	})
	fields(answers["cpu"].Text, ":", func(key, value string) {
		switch key {
		case "vendor_id":
			n.Vendor = value
		case "model name":
			n.Model = value
		case "flags":
			for _, flag := range strings.Fields(value) {
				n.Flags[flag] = true
			}
		}
	})
	fields(answers["interfaces"].Text, ":", func(key, _ string) {
		if !strings.Contains(key, " ") && key != "lo" {
			n.Interfaces = append(n.Interfaces, key)
		}
	})
	fields(answers["versions"].Text, " ", func(key, value string) {
		switch key {
		case "pve-qemu-kvm":
			n.QEMU = value
		case "pve-manager":
			n.Manager = value
		}
	})
	return n
}

func fields(text []byte, separator string, each func(key, value string)) {
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), separator); ok {
			each(strings.TrimSpace(key), strings.TrimSpace(value))
		}
	}
}
