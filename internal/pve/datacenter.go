package pve

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/transport"
)

// Datacenter is datacenter.cfg: the options as they are written, the description decoded (reference §11).
type Datacenter map[string]string

// DatacenterOption says what Proxmox knows of an option of the datacenter.
type DatacenterOption struct {
	// Parts are the parts of a property string, with the words that each takes; nil words are anything. No parts at all is a
	// plain value.
	Parts map[string][]string
	// Bare is the part that may stand without its name.
	Bare string
	// Since is the major release that brought the option; 0 is one that every release has.
	Since int
}

var onOff = []string{"0", "1"}

// datacenterOptions are the options of reference §11.
var datacenterOptions = map[string]DatacenterOption{
	"migration":   {Parts: map[string][]string{"type": {"secure", "insecure"}, "network": nil}, Bare: "type"},
	"replication": {Parts: map[string][]string{"type": {"secure", "insecure"}, "network": nil}, Bare: "type", Since: 9},
	"ha":          {Parts: map[string][]string{"shutdown_policy": {"conditional", "freeze", "failover", "migrate"}}},
	"crs": {Bare: "ha", Parts: map[string][]string{
		"ha": {"basic", "static", "dynamic"}, "ha-rebalance-on-start": onOff, "ha-auto-rebalance": onOff, "ha-auto-rebalance-threshold": nil,
		"ha-auto-rebalance-method": nil, "ha-auto-rebalance-hold-duration": nil, "ha-auto-rebalance-margin": nil,
	}},
	"bwlimit": {Parts: map[string][]string{"clone": nil, "default": nil, "migration": nil, "move": nil, "restore": nil}},
	"next-id": {Parts: map[string][]string{"lower": nil, "upper": nil}},
	"notify": {Parts: map[string][]string{
		"package-updates": {"auto", "always", "never"}, "fencing": {"always", "never"}, "replication": {"always", "never"},
		"target-package-updates": nil, "target-fencing": nil, "target-replication": nil,
	}},
	"tag-style":       {Parts: map[string][]string{"shape": {"full", "circle", "dense", "none"}, "color-map": nil, "ordering": {"config", "alphabetical"}, "case-sensitive": onOff}},
	"user-tag-access": {Parts: map[string][]string{"user-allow": {"none", "list", "existing", "free"}, "user-allow-list": nil}},
	"webauthn":        {Parts: map[string][]string{"rp": nil, "origin": nil, "id": nil, "allow-subdomains": onOff}},
	"u2f":             {Parts: map[string][]string{"appid": nil, "origin": nil}},
	"location":        {Parts: map[string][]string{"latitude": nil, "longitude": nil, "name": nil}, Since: 9},
	"fencing":         {}, "max_workers": {}, "mac_prefix": {}, "console": {}, "keyboard": {}, "language": {}, "http_proxy": {}, "email_from": {},
	"registered-tags": {}, "description": {}, "consent-text": {},
}

// FindDatacenterOption returns what is known of an option.
func FindDatacenterOption(name string) (DatacenterOption, bool) {
	o, ok := datacenterOptions[name]
	return o, ok
}

// DatacenterOptions lists the options by name.
func DatacenterOptions() []string { return slices.Sorted(maps.Keys(datacenterOptions)) }

// CheckPart says what is wrong with a part of an option.
func (o DatacenterOption) CheckPart(part, value string) error {
	words, known := o.Parts[part]
	switch {
	case !known:
		return fmt.Errorf("there is no part %q; there are %s", part, strings.Join(slices.Sorted(maps.Keys(o.Parts)), ", "))
	case strings.ContainsAny(value, ",\n\r"):
		return fmt.Errorf("%s cannot hold a comma or a line break", part)
	case words != nil && !slices.Contains(words, value):
		return fmt.Errorf("%s is %q; it can be %s", part, value, strings.Join(words, ", "))
	}
	if part == "network" {
		if _, err := netip.ParsePrefix(value); err != nil {
			return fmt.Errorf("network is %q: write it as an address and the length of its mask, such as 10.9.0.0/24", value)
		}
	}
	return nil
}

// ParseDatacenter reads datacenter.cfg.
func ParseDatacenter(text []byte) Datacenter {
	out := Datacenter{}
	var description []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\r\n")
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			description = append(description, config.DecodeText(comment))
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if key = strings.TrimSpace(key); ok && key != "" && !strings.ContainsAny(key, " \t") {
			out[key] = strings.TrimSpace(value)
		}
	}
	if len(description) > 0 {
		out["description"] = strings.Join(description, "\n")
	}
	return out
}

// DatacenterDiff is one option that is not as wanted, as whole values. Want "" is one that should not be there.
type DatacenterDiff struct{ Option, Have, Want string }

// MergeDatacenter says what has to be written so that the wanted options and parts hold and those of remove ("http_proxy",
// "migration.network") do not. Parts that are not named stay: Proxmox replaces a property string as a whole, so that the
// others are written again.
func MergeDatacenter(have Datacenter, scalars map[string]string, parts map[string]map[string]string, remove []string) []DatacenterDiff {
	var out []DatacenterDiff
	for _, name := range slices.Sorted(maps.Keys(scalars)) {
		if have[name] != scalars[name] {
			out = append(out, DatacenterDiff{name, have[name], scalars[name]})
		}
	}
	gone := map[string][]string{}
	for _, name := range remove {
		option, part, ofPart := strings.Cut(name, ".")
		if ofPart {
			gone[option] = append(gone[option], part)
		} else if value, there := have[option]; there {
			out = append(out, DatacenterDiff{option, value, ""})
		}
	}
	touched := slices.Sorted(maps.Keys(parts))
	for _, option := range slices.Sorted(maps.Keys(gone)) {
		if !slices.Contains(touched, option) {
			touched = append(touched, option)
		}
	}
	for _, name := range touched {
		o := datacenterOptions[name]
		now := config.ParseProperties(have[name], o.Bare)
		merged := maps.Clone(now)
		maps.Copy(merged, parts[name])
		for _, part := range gone[name] {
			delete(merged, part)
		}
		if _, typed := o.Parts["type"]; typed && merged["type"] == "" && len(merged) > 0 {
			merged["type"] = "secure" // Proxmox wants it said, and takes it when nothing is said
		}
		if !maps.Equal(now, merged) {
			out = append(out, DatacenterDiff{name, have[name], config.FormatProperties(merged, o.Bare)})
		}
	}
	slices.SortFunc(out, func(a, b DatacenterDiff) int { return strings.Compare(a.Option, b.Option) })
	return out
}

var datacenterProbe = transport.Command{Timeout: 30 * time.Second, Script: frame.Script(
	frame.Read{Name: "datacenter", Seconds: readSeconds, Command: "cat /etc/pve/datacenter.cfg", Pmxcfs: true},
)}

// ProbeDatacenter is the command that ReadDatacenter runs: the same text each time.
func ProbeDatacenter() transport.Command { return datacenterProbe }

// ReadDatacenter reads datacenter.cfg from one node. A file that is not there has no options.
func ReadDatacenter(ctx context.Context, node string, conn transport.Conn) (Datacenter, error) {
	r, err := conn.Run(ctx, datacenterProbe)
	if err != nil {
		return nil, fmt.Errorf("read the datacenter's options from %s: %w", node, err)
	}
	answers, err := frame.Parse(r.Stdout)
	if err != nil {
		return nil, fmt.Errorf("read the datacenter's options from %s: %w", node, err)
	}
	a := answers["datacenter"]
	switch {
	case a.Hung():
		return nil, fmt.Errorf("%s: /etc/pve gives no answer (look: timeout 5 cat /etc/pve/datacenter.cfg)", node)
	case a.RC != 0 && !strings.Contains(string(a.Text), "No such file or directory"):
		return nil, fmt.Errorf("%s: /etc/pve/datacenter.cfg could not be read: %s", node, strings.TrimSpace(string(a.Text)))
	case a.RC != 0:
		return Datacenter{}, nil
	}
	return ParseDatacenter(a.Text), nil
}
