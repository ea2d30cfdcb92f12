package cluster

import (
	"io/fs"
	"net/netip"
	"os"
	"path"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/vfs"
)

// writeFile writes a file as a program does, replacing what a mode like 0400 would protect from nobody but root.
func writeFile(p *machine.Proc, name string, data []byte, mode fs.FileMode) error {
	return put(p.View(), name, data, mode)
}

// put writes a file of a given mode, whatever the umask. pmxcfs has modes of its own.
func put(v *vfs.View, name string, data []byte, mode fs.FileMode) error {
	if err := v.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	if err := v.WriteFile(name, data, mode); err != nil {
		return err
	}
	if strings.HasPrefix(name, "/etc/pve/") {
		return nil
	}
	return v.Chmod(name, mode)
}

// replace writes a file beside its place and renames it, as Proxmox does with its configs.
func replace(v *vfs.View, name string, data []byte, mode fs.FileMode) error {
	temp := name + ".new.tmp.3087"
	if err := put(v, temp, data, mode); err != nil {
		return err
	}
	return v.Rename(temp, name)
}

// writeSystemFile writes a file in the name of a daemon.
func (n *Node) writeSystemFile(name string, data []byte, mode fs.FileMode) error {
	return put(n.m.FS.View, name, data, mode)
}

// log writes a line to the machine's journal.
func (n *Node) log(ident, text string) {
	unit := ident
	if ident == "pmxcfs" {
		unit = "pve-cluster"
	}
	n.m.Log(machine.Entry{Unit: unit + ".service", Ident: ident, PID: 484, Priority: 5, Text: text})
}

// now is the time of day on the node.
func (n *Node) now() time.Time { return n.m.Now() }

// localAddrs are the addresses of the node's interfaces.
func (n *Node) localAddrs() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, a := range n.m.Addresses() {
		out[a] = true
	}
	return out
}

// ownAddress is what the node's name resolves to through /etc/hosts, unless it is a loopback address.
func (n *Node) ownAddress() netip.Addr {
	hosts, err := n.m.FS.ReadFile("/etc/hosts")
	if err != nil {
		return netip.Addr{}
	}
	for line := range strings.SplitSeq(string(hosts), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.HasPrefix(line, "#") {
			continue
		}
		for _, name := range fields[1:] {
			if name != n.name {
				continue
			}
			if a, err := netip.ParseAddr(fields[0]); err == nil && !a.IsLoopback() {
				return a
			}
		}
	}
	return netip.Addr{}
}

func exists(v *vfs.View, name string) bool {
	_, err := v.Stat(name)
	return err == nil || !os.IsNotExist(err)
}

// lines splits a file into its lines without the empty ones.
func lines(data []byte) []string {
	var out []string
	for line := range strings.SplitSeq(string(data), "\n") {
		if strings.TrimSpace(line) != "" {
			out = append(out, line)
		}
	}
	return out
}
