package pve

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/frame"
)

// The kinds of what a removed node leaves behind in /etc/pve (reference §3.9).
const (
	LeftFolder      = "folder"      // nodes/<name>
	LeftKey         = "key"         // a line in priv/authorized_keys
	LeftKnownHost   = "known host"  // a line in priv/known_hosts
	LeftGroup       = "HA group"    // its name in a group
	LeftRule        = "HA rule"     // its name in a rule
	LeftStorage     = "storage"     // its name in a storage's list of nodes
	LeftReplication = "replication" // a job to it or from it
	LeftBackup      = "backup job"  // a job that runs on it only
	LeftCeph        = "Ceph"        // a daemon or an address in ceph.conf
)

// Leftover is one thing that still names a node.
type Leftover struct {
	Kind string
	// ID is what holds the name: a group, a rule, a storage, a job, a section. "" where there is only one.
	ID string
	// Saw is it for people.
	Saw string
	// Lines are the keys or known hosts.
	Lines []string
	// Rest is the list of nodes without the name, of those that are lists.
	Rest string
	// Keep is why it must not be cleaned away by a program; "" if it may.
	Keep string
}

// LeftoversScript reads, on one member, everything that may name a node: $1.
var LeftoversScript = frame.Script(
	frame.Read{Name: "folder", Seconds: readSeconds, Pmxcfs: true, Command: `sh -c 'if [ -d "/etc/pve/nodes/$1" ]; then echo there; ls "/etc/pve/nodes/$1/qemu-server" "/etc/pve/nodes/$1/lxc" 2>/dev/null; fi' sh "$1"`},
	frame.Read{Name: "hostkey", Seconds: readSeconds, Pmxcfs: true, Command: `sh -c 'cat "/etc/pve/nodes/$1/ssh_known_hosts"' sh "$1"`},
	frame.Read{Name: "keys", Seconds: readSeconds, Pmxcfs: true, Command: `cat /etc/pve/priv/authorized_keys`},
	frame.Read{Name: "known", Seconds: readSeconds, Pmxcfs: true, Command: `cat /etc/pve/priv/known_hosts`},
	frame.Read{Name: "groups", Seconds: readSeconds, Pmxcfs: true, Command: `cat /etc/pve/ha/groups.cfg`},
	frame.Read{Name: "rules", Seconds: readSeconds, Pmxcfs: true, Command: `cat /etc/pve/ha/rules.cfg`},
	frame.Read{Name: "storage", Seconds: readSeconds, Pmxcfs: true, Command: `cat /etc/pve/storage.cfg`},
	frame.Read{Name: "replication", Seconds: readSeconds, Pmxcfs: true, Command: `cat /etc/pve/replication.cfg`},
	frame.Read{Name: "jobs", Seconds: readSeconds, Pmxcfs: true, Command: `cat /etc/pve/jobs.cfg`},
	frame.Read{Name: "ceph", Seconds: readSeconds, Pmxcfs: true, Command: `cat /etc/pve/ceph.conf`},
)

// ParseLeftovers reads the output of LeftoversScript. addrs are the node's addresses, where they are known.
func ParseLeftovers(node string, addrs []string, out []byte) ([]Leftover, error) {
	frames, err := frame.Parse(out)
	if err != nil {
		return nil, fmt.Errorf("look for what %s left behind: %w", node, err)
	}
	for name, f := range frames {
		if f.Hung() || f.RC == 126 {
			return nil, fmt.Errorf("look for what %s left behind: the read of %q failed: %s", node, name, firstLine(f.Text))
		}
	}
	text := func(name string) []byte {
		if f := frames[name]; f.RC == 0 {
			return f.Text
		}
		return nil
	}
	var left []Leftover
	for _, kind := range []struct{ name, file string }{{LeftGroup, "groups"}, {LeftRule, "rules"}, {LeftStorage, "storage"}} {
		left = append(left, namedInLists(node, kind.name, text(kind.file))...)
	}
	left = append(left, namedInJobs(node, text("replication"), text("jobs"))...)
	left = append(left, namedInCeph(node, addrs, text("ceph"))...)
	if keys := keysOf(node, text("keys")); len(keys) > 0 {
		left = append(left, Leftover{Kind: LeftKey, Saw: fmt.Sprintf("%s of root@%s in /etc/pve/priv/authorized_keys", counted(len(keys), "key"), node), Lines: keys})
	}
	if known := knownOf(node, addrs, text("known"), text("hostkey")); len(known) > 0 {
		left = append(left, Leftover{Kind: LeftKnownHost, Saw: fmt.Sprintf("%s about %s in /etc/pve/priv/known_hosts", counted(len(known), "line"), node), Lines: known})
	}
	return append(left, folderOf(node, text("folder"))...), nil
}

func counted(n int, what string) string {
	if n == 1 {
		return "one " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// namedInLists finds the sections whose nodes are listed by name, each perhaps with a priority: "pve1:2,pve2".
func namedInLists(node, kind string, text []byte) []Leftover {
	var left []Leftover
	sections, _ := config.ParseSections(text)
	for _, s := range sections {
		nodes := config.SplitList(s.Values["nodes"])
		rest := slices.DeleteFunc(slices.Clone(nodes), func(entry string) bool {
			name, _, _ := strings.Cut(entry, ":")
			return name == node
		})
		if len(rest) == len(nodes) {
			continue
		}
		l := Leftover{Kind: kind, ID: s.ID, Saw: fmt.Sprintf("%s %s has the nodes %s", kind, s.ID, strings.Join(nodes, ",")), Rest: strings.Join(rest, ",")}
		if kind == LeftRule {
			l.ID = s.Type + "/" + s.ID
		}
		if len(rest) == 0 {
			l.Keep = "it names no other node: say where it shall go, or remove it"
		}
		left = append(left, l)
	}
	return left
}

func namedInJobs(node string, replication, jobs []byte) []Leftover {
	var left []Leftover
	sections, _ := config.ParseSections(replication)
	for _, s := range sections {
		_, going := s.Values["remove_job"]
		if going || s.Values["target"] != node && s.Values["source"] != node {
			continue
		}
		l := Leftover{Kind: LeftReplication, ID: s.ID, Saw: fmt.Sprintf("replication job %s goes to %s", s.ID, s.Values["target"])}
		if s.Values["target"] != node {
			l.Saw = fmt.Sprintf("replication job %s comes from %s", s.ID, node)
			l.Keep = "its guest lived there: recover the guest from the copy on " + s.Values["target"] + " first"
		}
		left = append(left, l)
	}
	sections, _ = config.ParseSections(jobs)
	for _, s := range sections {
		if s.Values["node"] == node {
			left = append(left, Leftover{Kind: LeftBackup, ID: s.ID, Saw: fmt.Sprintf("backup job %s runs on %s only", s.ID, node), Keep: "say where it shall run, or remove it"})
		}
	}
	return left
}

var cephSection = regexp.MustCompile(`^\s*\[(\w+)\.([^\]]+)\]`)

// namedInCeph finds daemons and monitors' addresses of the node in ceph.conf. What to do about them is Ceph's matter.
func namedInCeph(node string, addrs []string, text []byte) []Leftover {
	var left []Leftover
	for line := range strings.Lines(string(text)) {
		if m := cephSection.FindStringSubmatch(line); m != nil && m[2] == node {
			left = append(left, Leftover{
				Kind: LeftCeph, ID: m[1] + "." + m[2], Saw: fmt.Sprintf("ceph.conf has the section [%s.%s]", m[1], m[2]),
				Keep: fmt.Sprintf("if the daemon is gone from Ceph's maps (ceph %s dump), remove the section", m[1]),
			})
		}
		key, value, found := strings.Cut(line, "=")
		if found && strings.ReplaceAll(strings.TrimSpace(key), "_", " ") == "mon host" {
			for _, addr := range addrs {
				if slices.Contains(config.SplitList(strings.TrimSpace(value)), addr) {
					left = append(left, Leftover{Kind: LeftCeph, ID: "mon_host", Saw: fmt.Sprintf("ceph.conf lists %s as a monitor", addr), Keep: "pveceph mon destroy " + node + " on a living node with Ceph"})
				}
			}
		}
	}
	return left
}

// keysOf finds the keys that Proxmox made for a node's root: it writes root@<name> behind them.
func keysOf(node string, text []byte) []string {
	var keys []string
	for _, line := range KeyLines(text) {
		fields := strings.Fields(line)
		if fields[len(fields)-1] == "root@"+node {
			keys = append(keys, line)
		}
	}
	return keys
}

// knownOf finds the lines of a known_hosts that name a node or one of its addresses, and those with its host key.
func knownOf(node string, addrs []string, known, hostKey []byte) []string {
	names := append([]string{node}, addrs...)
	keys := map[string]bool{}
	blob := func(line string) string {
		if f := strings.Fields(line); len(f) >= 3 {
			return f[2]
		}
		return ""
	}
	for _, line := range KeyLines(hostKey) {
		keys[blob(line)] = true
	}
	var found []string
	for _, line := range KeyLines(known) {
		hosts, _, _ := strings.Cut(line, " ")
		named := slices.ContainsFunc(strings.Split(hosts, ","), func(h string) bool { return slices.Contains(names, h) })
		if b := blob(line); named || b != "" && keys[b] {
			found = append(found, line)
		}
	}
	return found
}

func folderOf(node string, text []byte) []Leftover {
	lines := strings.Fields(string(text))
	if len(lines) == 0 || lines[0] != "there" {
		return nil
	}
	l := Leftover{Kind: LeftFolder, ID: node, Saw: "/etc/pve/nodes/" + node}
	var guests []string
	for _, name := range lines[1:] {
		if id, ok := strings.CutSuffix(name, ".conf"); ok {
			guests = append(guests, id)
		}
	}
	if len(guests) > 0 {
		l.Saw += " with the guests " + strings.Join(guests, ", ")
		l.Keep = "it holds the only configuration of its guests: move each to a node that has its disks, when you are sure that the removed node will never run again"
	}
	return []Leftover{l}
}
