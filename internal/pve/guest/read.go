package guest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/pxrun/pxrun/internal/transport"
)

const (
	readSeconds  = 10
	probeTimeout = 60 * time.Second
)

func file(name, path string) frame.Read {
	return frame.Read{Name: name, Seconds: readSeconds, Command: "cat " + path, Pmxcfs: true}
}

// reads are beside those of the HA manager, which bring the resources, the manager's status, .vmlist and .rrd. Of the configs,
// only the lines that Parse reads leave the node: the answer of a thousand guests fits in what a connection keeps of an output,
// notes may be long, and the passwords of cloud-init are nobody's business.
var reads = append(ha.Reads(),
	file("members", "/etc/pve/.members"),
	file("storages", "/etc/pve/storage.cfg"),
	file("datacenter", "/etc/pve/datacenter.cfg"),
	file("replication", "/etc/pve/replication.cfg"),
	file("users", "/etc/pve/user.cfg"),
	frame.Read{Name: "mappings", Seconds: readSeconds, Pmxcfs: true, Command: `sh -c 'for k in pci usb directory; do echo "#$k"; cat "/etc/pve/mapping/$k.cfg" 2>/dev/null; echo; done'`},
	frame.Read{Name: "configs", Seconds: 3 * readSeconds, Pmxcfs: true, Command: `sh -c 'head -v -n 100000 /etc/pve/nodes/*/qemu-server/*.conf /etc/pve/nodes/*/lxc/*.conf 2>/dev/null | grep -E "^(==> |\\[|(name|hostname|memory|cores|sockets|cpu|tags|lock|template|onboot|smbios1|vga|ivshmem|amd-sev|intel-tdx|rootfs|vmstate):|(net|usb|hostpci|serial|parallel|virtiofs|dev|ide|sata|scsi|virtio|unused|mp|efidisk|tpmstate)[0-9]+:)"; :'`},
)

var probe = transport.Command{Timeout: probeTimeout, Script: frame.Script(reads...)}

// Probe is the command that Read runs: the same text each time.
func Probe() transport.Command { return probe }

// Read reads the guests of a cluster from one of its nodes, in one round trip. The files are the same on all quorate nodes.
func Read(ctx context.Context, node string, conn transport.Conn) (*Site, error) {
	r, err := conn.Run(ctx, probe)
	if err != nil {
		return nil, fmt.Errorf("read guests from %s: %w", node, err)
	}
	return ParseSite(node, r.Stdout)
}

// ParseSite reads the output of Probe.
func ParseSite(node string, out []byte) (*Site, error) {
	answers, err := frame.Parse(out)
	if err != nil {
		return nil, fmt.Errorf("read guests from %s: %w", node, err)
	}
	s := &Site{From: node, HA: ha.Of(node, answers), Nodes: map[string]*Node{}, Unread: map[string]string{}}
	s.Now, s.Quorate = s.HA.Now, s.HA.Quorate
	for name, why := range s.HA.Unread {
		s.Unread["ha "+name] = why
	}
	text := func(name string) []byte {
		found, why := answers[name].Found()
		if why != "" {
			s.Unread[name] = why
		}
		return found
	}
	if s.Members, err = pve.ParseMembers(text("members")); err != nil {
		s.Unread["members"] = err.Error()
	}
	s.Storages = storage.ParseStorages(text("storages"))
	s.datacenter(string(text("datacenter")))
	s.Pools = parsePools(string(text("users")))
	s.Mappings = parseMappings(string(text("mappings")))
	s.Guests = ParseConfigs(text("configs"))
	s.join(parseJobs(text("replication")), parseUptimes(string(answers["ha_rrd"].Text)))
	return s, nil
}

// datacenter reads what concerns migrations.
func (s *Site) datacenter(text string) {
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "migration":
			options := config.ParseProperties(value, "type")
			s.MigrationNetwork, s.MigrationType = options["network"], options["type"]
		case "max_workers":
			s.MaxWorkers = number(value, 0)
		}
	}
}

// join brings together what the files say of each guest. A guest that .vmlist has and whose config was not seen moved or came
// while the node was read: it is told as unread, so that nobody takes it for absent.
func (s *Site) join(jobs map[int][]Job, uptimes map[string]time.Duration) {
	pools := map[int]string{}
	for name, ids := range s.Pools {
		for _, id := range ids {
			pools[id] = name
		}
	}
	seen := map[string]bool{}
	for i := range s.Guests {
		g := &s.Guests[i]
		seen[g.SID()] = true
		g.Pool, g.Jobs = pools[g.ID], jobs[g.ID]
		if r, ok := s.HA.Resource(g.SID()); ok {
			g.Managed.State = r.State
			g.Managed.Service, g.Managed.Known = s.HA.Service(g.SID())
		}
	}
	status := map[string]ha.Guest{}
	for _, known := range s.HA.Guests {
		status[known.SID] = known
		if !seen[known.SID] {
			s.Unread["configs"] = known.SID + " moved, or came, while the configs were read"
		}
	}
	for i := range s.Guests {
		g := &s.Guests[i]
		known := status[g.SID()]
		g.Status, g.Uptime = known.Running, uptimes[strconv.Itoa(g.ID)]
		if g.Name == "" {
			g.Name = known.Name
		}
	}
}

// parseUptimes reads how long guests have been running out of .rrd.
func parseUptimes(text string) map[string]time.Duration {
	out := map[string]time.Duration{}
	for line := range strings.Lines(strings.Trim(text, "\x00")) {
		key, rest, ok := strings.Cut(line, ":")
		kind, id, _ := strings.Cut(key, "/")
		if !ok || !strings.HasPrefix(kind, "pve-vm-") && kind != "pve2.3-vm" {
			continue
		}
		first, _, _ := strings.Cut(rest, ":")
		if n, err := strconv.ParseInt(first, 10, 32); err == nil {
			out[id] = time.Duration(n) * time.Second
		}
	}
	return out
}

// parseJobs reads replication.cfg by guest.
func parseJobs(text []byte) map[int][]Job {
	out := map[int][]Job{}
	sections, _ := config.ParseSections(text)
	for _, s := range sections {
		first, _, _ := strings.Cut(s.ID, "-")
		id, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		out[id] = append(out[id], Job{ID: s.ID, Target: s.Values["target"], Disabled: s.Is("disable"), Removed: s.Values["remove_job"] != ""})
	}
	return out
}

// parsePools reads the resource pools of user.cfg: pool:NAME:COMMENT:GUESTS:STORAGES:
func parsePools(text string) map[string][]int {
	out := map[string][]int{}
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 || f[0] != "pool" {
			continue
		}
		out[f[1]] = []int{}
		for _, word := range config.SplitList(f[3]) {
			if id, err := strconv.Atoi(word); err == nil {
				out[f[1]] = append(out[f[1]], id)
			}
		}
	}
	return out
}

// parseMappings reads the resource mappings: sections whose lines "map" hold a node each, behind "#kind" lines.
func parseMappings(text string) map[string][]string {
	out := map[string][]string{}
	kind, name := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "#"):
			kind, name = line[1:], ""
		case line == "":
			name = ""
		case line[0] != ' ' && line[0] != '\t':
			name = strings.TrimSpace(strings.TrimSuffix(line, ":"))
		case name != "":
			key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
			if node := config.ParseProperties(value, "")["node"]; key == "map" && node != "" {
				out[kind+"/"+name] = append(out[kind+"/"+name], node)
			}
		}
	}
	return out
}
