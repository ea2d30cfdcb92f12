package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

const datacenterFile = "/etc/pve/datacenter.cfg"

// property is an option of the datacenter that has parts.
type property struct {
	// bare is the part that may stand without its name, which is how Proxmox writes it.
	bare  string
	parts map[string]func(string) string
}

func anything(string) string { return "" }

func flag(v string) string {
	_, problem := pvetool.Option{Kind: pvetool.Bool}.Normalise(v)
	return problem
}

// properties are the options that Proxmox takes apart when it reads them and puts together when it writes (reference §11).
var properties = map[string]property{
	"migration":   {"type", map[string]func(string) string{"type": oneOf("secure", "insecure"), "network": anything}},
	"replication": {"type", map[string]func(string) string{"type": oneOf("secure", "insecure"), "network": anything}},
	"ha":          {"", map[string]func(string) string{"shutdown_policy": oneOf("freeze", "failover", "conditional", "migrate")}},
	"crs":         {"ha", map[string]func(string) string{"ha": oneOf("basic", "static", "dynamic"), "ha-rebalance-on-start": flag, "ha-auto-rebalance": flag}},
	"next-id":     {"", map[string]func(string) string{"lower": anything, "upper": anything}},
	"notify": {"", map[string]func(string) string{
		"package-updates": oneOf("auto", "always", "never"), "fencing": oneOf("always", "never"), "replication": oneOf("always", "never"),
		"target-package-updates": anything, "target-fencing": anything, "target-replication": anything,
	}},
	"tag-style":       {"", map[string]func(string) string{"shape": oneOf("full", "circle", "dense", "none"), "color-map": anything, "ordering": oneOf("config", "alphabetical"), "case-sensitive": flag}},
	"user-tag-access": {"", map[string]func(string) string{"user-allow": oneOf("none", "list", "existing", "free"), "user-allow-list": anything}},
	"webauthn":        {"", map[string]func(string) string{"rp": anything, "origin": anything, "id": anything, "allow-subdomains": flag}},
	"u2f":             {"", map[string]func(string) string{"appid": anything, "origin": anything}},
	"location":        {"", map[string]func(string) string{"latitude": anything, "longitude": anything, "name": anything}},
}

// scalars are the other options.
var scalars = map[string]pvetool.Option{
	"keyboard": {Check: oneOf("de", "de-ch", "da", "en-gb", "en-us", "es", "fi", "fr", "fr-be", "fr-ca", "fr-ch", "hu", "is", "it", "ja", "lt", "mk", "nl", "no", "pl", "pt", "pt-br", "sv", "sl", "tr")},
	"language": {}, "http_proxy": {}, "email_from": {}, "console": {Check: oneOf("applet", "vv", "html5", "xtermjs")}, "mac_prefix": {},
	"max_workers": {Kind: pvetool.Int, Check: pvetool.AtLeast(1)}, "fencing": {Check: oneOf("watchdog", "hardware", "both")}, "bwlimit": {},
	"registered-tags": {}, "description": {}, "consent-text": {},
}

// only9 are options that Proxmox VE 8 does not have.
var only9 = []string{"replication", "location"}

// split takes a property string apart.
func (q property) split(text string) (map[string]string, string) {
	out := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			key, value = q.bare, part
		}
		check, known := q.parts[key]
		if !known || key == "" {
			return nil, "property is not defined in schema and the schema does not allow additional properties"
		}
		if problem := check(value); problem != "" {
			return nil, key + ": " + problem
		}
		out[key] = value
	}
	if _, hasType := q.parts["type"]; hasType && out["type"] == "" {
		return nil, "type: property is missing and it is not optional"
	}
	return out, ""
}

// join is how Proxmox writes it: the part without its name first, then the others sorted.
func (q property) join(parts map[string]string) string {
	var out []string
	if v, ok := parts[q.bare]; ok {
		out = append(out, v)
	}
	for _, key := range slices.Sorted(maps.Keys(parts)) {
		if key != q.bare {
			out = append(out, key+"="+parts[key])
		}
	}
	return strings.Join(out, ",")
}

func (n *Node) datacenterOptions() map[string]pvetool.Option {
	known := maps.Clone(scalars)
	for name, q := range properties {
		known[name] = pvetool.Option{Check: func(v string) string {
			if _, problem := q.split(v); problem != "" {
				return "invalid format - format error\n" + problem
			}
			return ""
		}}
	}
	known["delete"] = pvetool.Option{}
	if n.n.Release().Major() < 9 {
		for _, name := range only9 {
			delete(known, name)
		}
	}
	return known
}

// readDatacenter reads datacenter.cfg: the options as they are written, and the description.
func readDatacenter(v *vfs.View) map[string]string {
	text, _ := v.ReadFile(datacenterFile) // none is fine
	out := map[string]string{}
	var description []string
	for line := range strings.SplitSeq(string(text), "\n") {
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			description = append(description, comment)
			continue
		}
		if key, value, ok := strings.Cut(line, ":"); ok {
			out[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	if len(description) > 0 {
		out["description"] = strings.Join(description, "\n")
	}
	return out
}

// setDatacenter is PUT /cluster/options. What it does not change it writes anew too, in Proxmox's own form.
func (n *Node) setDatacenter(ctx context.Context, p *machine.Proc, values map[string]string) error {
	values = maps.Clone(values)
	remove := list(values["delete"])
	delete(values, "delete")
	known := n.datacenterOptions()
	return n.n.Locked(ctx, p.View(), p.Stderr, "file-datacenter_cfg", func() error {
		now := readDatacenter(p.View())
		for key, value := range now {
			if q, ok := properties[key]; ok {
				if parts, problem := q.split(value); problem == "" {
					now[key] = q.join(parts)
				}
			}
		}
		for _, key := range remove {
			if _, ok := known[key]; !ok {
				return fmt.Errorf("no such option '%s'", key)
			}
			delete(now, key)
		}
		if len(values)+len(remove) == 0 {
			return errors.New("no options specified")
		}
		maps.Copy(now, values)
		var b strings.Builder
		if text, ok := now["description"]; ok {
			for line := range strings.SplitSeq(text, "\n") {
				b.WriteString("#" + line + "\n")
			}
		}
		for _, key := range slices.Sorted(maps.Keys(now)) {
			if key != "description" {
				b.WriteString(key + ": " + now[key] + "\n")
			}
		}
		return cluster.ReplaceFile(p.View(), datacenterFile, []byte(b.String()))
	})
}

// getDatacenter is GET /cluster/options.
func getDatacenter(v *vfs.View) pvetool.Object {
	out := pvetool.Object{"mac_prefix": "BC:24:11", "allowed-tags": []string{}, "description": ""}
	for key, value := range readDatacenter(v) {
		q, parted := properties[key]
		parts, problem := map[string]string(nil), ""
		if parted {
			parts, problem = q.split(value)
		}
		number, err := strconv.Atoi(value)
		switch {
		case parted && problem == "":
			out[key] = parts
		case key == "registered-tags":
			out[key] = list(value)
		case err == nil:
			out[key] = number
		default:
			out[key] = value
		}
	}
	return out
}
