package ha

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/transport"
)

const (
	readSeconds  = 10
	probeTimeout = 40 * time.Second
)

func file(name, path string) frame.Read {
	return frame.Read{Name: name, Seconds: readSeconds, Command: "cat " + path, Pmxcfs: true}
}

// reads are named apart from those of a node's own state, so that one script can hold both.
var reads = []frame.Read{
	frame.Read{Name: "ha_time", Seconds: readSeconds, Command: "date +%s"},
	frame.Read{Name: "ha_quorate", Seconds: readSeconds, Command: "stat -c %a /etc/pve/local", Pmxcfs: true},
	file("ha_resources", "/etc/pve/ha/resources.cfg"),
	file("ha_groups", "/etc/pve/ha/groups.cfg"),
	file("ha_rules", "/etc/pve/ha/rules.cfg"),
	file("ha_manager", "/etc/pve/ha/manager_status"),
	file("ha_commands", "/etc/pve/ha/crm_commands"),
	frame.Read{Name: "ha_lrm", Seconds: readSeconds, Pmxcfs: true, Command: `sh -c 'for d in /etc/pve/nodes/*/; do echo "#$d"; cat "$d/lrm_status" 2>/dev/null; echo; done'`},
	file("ha_guests", "/etc/pve/.vmlist"),
	file("ha_rrd", "/etc/pve/.rrd"),
}

// Reads are the reads whose answers Of understands, for scripts that read more.
func Reads() []frame.Read { return slices.Clone(reads) }

var probe = transport.Command{Timeout: probeTimeout, Script: frame.Script(reads...)}

// Probe is the command that Read runs: the same text each time.
func Probe() transport.Command { return probe }

// Read reads the HA side of a cluster from one of its nodes, in one round trip. Files of /etc/pve are the same on all
// quorate nodes.
func Read(ctx context.Context, node string, conn transport.Conn) (*State, error) {
	r, err := conn.Run(ctx, probe)
	if err != nil {
		return nil, fmt.Errorf("read HA from %s: %w", node, err)
	}
	return Parse(node, r.Stdout)
}

// Parse reads the output of Probe.
func Parse(node string, out []byte) (*State, error) {
	answers, err := frame.Parse(out)
	if err != nil {
		return nil, fmt.Errorf("read HA from %s: %w", node, err)
	}
	return Of(node, answers), nil
}

// Of makes a state of answers. A file that is there and makes no sense is an entry of Unread: a gate that rests on it
// counts as closed.
func Of(node string, answers map[string]frame.Answer) *State {
	s := &State{From: node, LRMs: map[string]LRM{}, Unread: map[string]string{}}
	var err error
	text := func(name string) []byte {
		found, why := answers["ha_"+name].Found()
		if why != "" {
			s.Unread[name] = why
		}
		return found
	}
	if seconds, err := strconv.ParseInt(strings.TrimSpace(string(text("time"))), 10, 64); err == nil {
		s.Now = time.Unix(seconds, 0)
	}
	s.Quorate = strings.TrimSpace(string(text("quorate"))) == "755"
	s.Resources, s.Groups, s.Rules = ParseResources(text("resources")), ParseGroups(text("groups")), ParseRules(text("rules"))
	if t := text("manager"); len(strings.TrimSpace(string(t))) > 0 {
		if s.Manager, err = ParseManager(t); err != nil {
			s.Unread["manager"] = err.Error()
		}
	}
	for line := range strings.Lines(string(text("commands"))) {
		if line = strings.TrimSpace(line); line != "" {
			s.Pending = append(s.Pending, line)
		}
	}
	s.lrms(string(text("lrm")))
	vmlist, rrd := text("guests"), text("rrd")
	if vmlist != nil {
		if s.Guests, err = parseGuests(vmlist, rrd); err != nil {
			s.Unread["guests"] = err.Error()
		}
	}
	return s
}

func (s *State) lrms(text string) {
	for part := range strings.SplitSeq("\n"+text, "\n#/etc/pve/nodes/") {
		name, body, ok := strings.Cut(part, "/\n")
		if body = strings.TrimSpace(body); !ok || body == "" {
			continue
		}
		l, err := ParseLRM([]byte(body))
		if err != nil {
			s.Unread["lrm "+name] = err.Error()
			continue
		}
		s.LRMs[name] = l
	}
}

// Mode is how a cluster places HA guests.
type Mode string

// The modes. Mixed is a cluster of both major releases: neither groups nor rules should be touched. Migrating is one of
// Proxmox VE 9 whose groups have not become rules yet: the CRM does that by itself within a minute or two once all nodes are
// online and none is in maintenance (reference §5.3).
const (
	ByGroups  Mode = "groups"
	ByRules   Mode = "rules"
	Mixed     Mode = "mixed"
	Migrating Mode = "migrating"
)

// ModeOf decides by the nodes' versions of pve-manager and the presence of groups.
func ModeOf(versions map[string]string, groups []Group) (Mode, error) {
	old, recent := 0, 0
	for _, name := range sortedKeys(versions) {
		switch major := pve.Major(versions[name]); {
		case major == 0:
			return "", fmt.Errorf("the version of Proxmox VE on %s is not known", name)
		case major < 9:
			old++
		default:
			recent++
		}
	}
	switch {
	case old > 0 && recent > 0:
		return Mixed, nil
	case old > 0:
		return ByGroups, nil
	case len(groups) > 0:
		return Migrating, nil
	}
	return ByRules, nil
}
