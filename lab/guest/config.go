package guest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Config is a guest's config file.
type Config struct {
	Description []string // the lines that begin with #, without it
	Values      map[string]string
	// Pending are changes that a running machine takes over at its next start, Deleted the names of options that go then.
	Pending map[string]string
	Deleted []string
	// Snapshots are the sections of snapshots by name, Special further sections that are kept as they are.
	Snapshots map[string]map[string]string
	Special   map[string]string
}

func newConfig() *Config {
	return &Config{Values: map[string]string{}, Pending: map[string]string{}, Snapshots: map[string]map[string]string{}, Special: map[string]string{}}
}

// ParseConfig reads a guest's config. Lines that it cannot read are skipped, as Proxmox does with a warning.
func ParseConfig(text string) *Config {
	c := newConfig()
	into, special := c.Values, ""
	for line := range strings.SplitSeq(text, "\n") {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "["); ok && strings.HasSuffix(name, "]") {
			name, special = strings.TrimSuffix(name, "]"), ""
			switch {
			case strings.EqualFold(name, "pending"):
				into = c.Pending
			case strings.HasPrefix(name, "special:"), strings.HasPrefix(name, "pve:"):
				special = name
			default:
				into = map[string]string{}
				c.Snapshots[name] = into
			}
			continue
		}
		if special != "" {
			c.Special[special] += line + "\n"
			continue
		}
		if comment, ok := strings.CutPrefix(line, "#"); ok {
			c.Description = append(c.Description, comment)
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok || key == "" {
			continue
		}
		into[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	if gone, ok := c.Pending["delete"]; ok {
		delete(c.Pending, "delete")
		c.Deleted = strings.FieldsFunc(gone, func(r rune) bool { return r == ',' || r == ' ' || r == ';' })
	}
	return c
}

// String is the file as Proxmox writes it: options sorted, then what is pending, then the snapshots.
func (c *Config) String() string {
	var b strings.Builder
	for _, line := range c.Description {
		b.WriteString("#" + line + "\n")
	}
	section := func(values map[string]string) {
		for _, key := range slices.Sorted(maps.Keys(values)) {
			fmt.Fprintf(&b, "%s: %s\n", key, values[key])
		}
	}
	section(c.Values)
	if len(c.Pending) > 0 || len(c.Deleted) > 0 {
		b.WriteString("\n[PENDING]\n")
		pending := maps.Clone(c.Pending)
		if len(c.Deleted) > 0 {
			pending["delete"] = strings.Join(c.Deleted, ",")
		}
		section(pending)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Special)) {
		b.WriteString("\n[" + name + "]\n" + strings.TrimSpace(c.Special[name]) + "\n")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Snapshots)) {
		b.WriteString("\n[" + name + "]\n")
		section(c.Snapshots[name])
	}
	return b.String()
}

// merged are the options as they will be after the next start.
func (c *Config) merged() map[string]string {
	out := maps.Clone(c.Values)
	for _, key := range c.Deleted {
		delete(out, key)
	}
	maps.Copy(out, c.Pending)
	return out
}

// applyPending makes pending changes current, as a start does.
func (c *Config) applyPending() {
	c.Values, c.Pending, c.Deleted = c.merged(), map[string]string{}, nil
}

func (c *Config) is(key string) bool { return c.Values[key] == "1" }

func (c *Config) number(key string, fallback int) int {
	// Memory may be a property string: "current=2048".
	value := strings.TrimPrefix(c.Values[key], "current=")
	if n, err := strconv.Atoi(value); err == nil {
		return n
	}
	return fallback
}

// kind is what a guest is.
type kind struct {
	api      string // in paths of the API and .vmlist: qemu, lxc
	dir      string // of the configs
	noun     string // in messages: VM, CT
	task     string // prefix of task types: qm, vz
	sid      string // in the HA manager: vm, ct
	memory   int    // MiB that a guest without the option has
	nameKey  string
	diskType string // content of its volumes
}

var (
	vm = &kind{api: "qemu", dir: "qemu-server", noun: "VM", task: "qm", sid: "vm", memory: 512, nameKey: "name", diskType: "images"}
	ct = &kind{api: "lxc", dir: "lxc", noun: "CT", task: "vz", sid: "ct", memory: 512, nameKey: "hostname", diskType: "rootdir"}
)

// migrateTask is the type of a migration's task.
func (k *kind) migrateTask() string {
	if k == vm {
		return "qmigrate"
	}
	return "vzmigrate"
}

// memoryOf is the guest's configured maximum in bytes.
func (k *kind) memoryOf(c *Config) int64 { return int64(c.number("memory", k.memory)) << 20 }

// cpusOf are the guest's virtual processors.
func (k *kind) cpusOf(c *Config) int {
	cores := c.number("cores", 1)
	if k == vm {
		return cores * c.number("sockets", 1)
	}
	return cores
}

// nameOf is what lists show.
func (k *kind) nameOf(c *Config, id int) string {
	if name := c.Values[k.nameKey]; name != "" {
		return name
	}
	if k == vm {
		return fmt.Sprintf("VM %d", id)
	}
	return fmt.Sprintf("CT%d", id)
}

// file is the path of a guest's config, as messages have it.
func (k *kind) file(node string, id int) string {
	return fmt.Sprintf("nodes/%s/%s/%d.conf", node, k.dir, id)
}
