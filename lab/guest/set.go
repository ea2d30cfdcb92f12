package guest

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// plain are options that a running machine takes over at once; every other one waits for its next start.
var plain = []string{"name", "tags", "lock", "onboot", "startup", "description", "protection", "hookscript", "template", "digest"}

// hotplug are kinds of devices that a running machine takes over at once.
var hotplug = regexp.MustCompile(`^(scsi|virtio|sata|ide|net|usb|unused)\d+$`)

func (c *call) waits(key string) bool {
	return c.k == vm && c.runs(c.id) && !slices.Contains(plain, key) && !hotplug.MatchString(key)
}

// set is qm set and pct set.
func set(ctx context.Context, c *call) int {
	if _, err := c.load(c.k, c.id); err != nil {
		return c.fail(err)
	}
	var words []string
	for _, key := range slices.Sorted(maps.Keys(c.o.Values)) {
		if key != "digest" && key != "skiplock" {
			words = append(words, "-"+key+" "+c.o.Values[key])
		}
	}
	if len(words) == 0 {
		return pvetool.Usage(c.p, &pvetool.ParamError{Head: "no options specified"}, c.k.tool()+" set <vmid> [OPTIONS]")
	}
	if c.k == vm {
		c.p.Printf("update VM %d: %s\n", c.id, strings.Join(words, " "))
	}
	err := c.change(ctx, c.k, c.id, func(conf *Config) error {
		if err := locked(c.k, conf); err != nil && !c.o.Is("skiplock") {
			return err
		}
		for key := range strings.FieldsFuncSeq(c.o.Values["delete"], func(r rune) bool { return r == ',' || r == ' ' }) {
			c.unset(conf, key)
		}
		for _, key := range slices.Sorted(maps.Keys(c.o.Values)) {
			if slices.Contains([]string{"delete", "digest", "skiplock", "force"}, key) {
				continue
			}
			if err := c.assign(conf, key, c.o.Values[key]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return c.fail(err)
	}
	return 0
}

func (c *call) unset(conf *Config, key string) {
	if _, ok := conf.Pending[key]; ok {
		delete(conf.Pending, key)
	}
	value, ok := conf.Values[key]
	switch {
	case !ok:
	case c.waits(key):
		conf.Deleted = append(conf.Deleted, key)
	default:
		delete(conf.Values, key)
		for _, d := range c.k.drivesOf(map[string]string{key: value}) {
			if _, _, isVolume := d.volume(); isVolume && !d.unused && !d.cdrom {
				conf.Values[conf.freeKey("unused")] = d.file
			}
		}
	}
}

// freeKey is the first key of a family that is not taken: unused0, unused1, ….
func (c *Config) freeKey(family string) string {
	for n := 0; ; n++ {
		key := family + strconv.Itoa(n)
		if _, taken := c.Values[key]; !taken {
			return key
		}
	}
}

var newDisk = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9._-]*):(\d+(?:\.\d+)?)(,.*)?$`)

// assign sets one option, with the disk that "storage:GiB" asks for.
func (c *call) assign(conf *Config, key, value string) error {
	if m := newDisk.FindStringSubmatch(value); m != nil && (diskKey.MatchString(key) || mountKey.MatchString(key)) {
		all := c.storages()
		if err := checkStorage(all, m[1], c.name); err != nil {
			return err
		}
		gib, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return err
		}
		at := all[m[1]]
		if !slices.Contains(at.content, c.k.diskType) {
			return fmt.Errorf("storage '%s' does not support content-type '%s'", at.id, c.k.diskType)
		}
		volume := at.newVolume(c.k, c.id, properties(m[3])["format"], conf.names(c.k))
		value = fmt.Sprintf("%s%s,size=%s", volume, m[3], formatSize(int64(gib*(1<<30))))
		c.p.Printf("%s: successfully created disk '%s,size=%s'\n", key, volume, formatSize(int64(gib*(1<<30))))
	}
	if c.waits(key) {
		conf.Pending[key] = value
		conf.Deleted = slices.DeleteFunc(conf.Deleted, func(gone string) bool { return gone == key })
		return nil
	}
	conf.Values[key] = value
	return nil
}

// names are the names of all volumes that a config knows, with their storage and without folder and format.
func (c *Config) names(k *kind) map[string]bool {
	out := map[string]bool{}
	sections := []map[string]string{c.Values, c.Pending}
	for _, snapshot := range c.Snapshots {
		sections = append(sections, snapshot)
	}
	for _, values := range sections {
		for _, d := range k.drivesOf(values) {
			if sid, name, ok := d.volume(); ok {
				out[sid+":"+baseName(name)] = true
			}
		}
	}
	return out
}

// unlock is qm unlock and pct unlock.
func unlock(ctx context.Context, c *call) int {
	if err := c.change(ctx, c.k, c.id, func(conf *Config) error { delete(conf.Values, "lock"); return nil }); err != nil {
		return c.fail(err)
	}
	return 0
}

// create is qm create and pct create: a guest from its options, without an operating system.
func create(ctx context.Context, c *call) int {
	path := configPath(c.k, c.name, c.id)
	if where, ok := c.anywhere(c.id); ok {
		return c.fail(fmt.Errorf("unable to create %s %d - %s %d already exists on node '%s'", c.k.noun, c.id, c.k.noun, c.id, where))
	}
	return c.task(ctx, c.k.task+"create", func(context.Context, func(string)) error {
		conf := newConfig()
		if c.k == vm {
			conf.Values["boot"] = " "
		}
		conf.Values["memory"] = strconv.Itoa(c.k.memory)
		for _, key := range slices.Sorted(maps.Keys(c.o.Values)) {
			switch key {
			case "start", "storage", "password", "pool":
			default:
				if err := c.assign(conf, key, c.o.Values[key]); err != nil {
					return err
				}
			}
		}
		if err := c.view.WriteFile(path, []byte(conf.String()), 0o640); err != nil {
			return fmt.Errorf("unable to create %s %d - %w", c.k.noun, c.id, err)
		}
		return nil
	})
}

// anywhere finds the node on which a guest's config lies.
func (a *actor) anywhere(id int) (node string, ok bool) {
	if _, err := a.view.Lstat("/etc/pve/nodes"); err != nil {
		return "", false
	}
	return a.node.HolderOf(id)
}

// destroy is qm destroy and pct destroy.
func destroy(ctx context.Context, c *call) int {
	conf, err := c.load(c.k, c.id)
	switch {
	case err != nil:
		return c.fail(err)
	case c.managed(c.k, c.id) && !c.o.Is("purge"):
		return c.fail(fmt.Errorf("unable to remove %s %d - used in HA resources and purge parameter not set", c.k.noun, c.id))
	case c.runs(c.id):
		return c.fail(&statusError{fmt.Sprintf("%s %d is running - destroy failed", c.k.noun, c.id), 25})
	case locked(c.k, conf) != nil && !c.o.Is("skiplock"):
		return c.fail(locked(c.k, conf))
	}
	return c.task(ctx, c.k.task+"destroy", func(context.Context, func(string)) error {
		return c.view.Remove(configPath(c.k, c.name, c.id))
	})
}
