package guest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Spec is a guest that a lab begins with, or that is put into it.
type Spec struct {
	ID int `json:"id"`
	// Type is "qemu" (or "") for a virtual machine, "lxc" for a container.
	Type string `json:"type,omitempty"`
	Name string `json:"name,omitempty"`
	// MemoryMiB and Cores are 512 and 1 unless they are given.
	MemoryMiB int    `json:"memory_mib,omitempty"`
	Cores     int    `json:"cores,omitempty"`
	Disks     []Disk `json:"disks,omitempty"`
	Running   bool   `json:"running,omitempty"`
	Template  bool   `json:"template,omitempty"`
	OnBoot    bool   `json:"onboot,omitempty"`
	// Tags and Lock are the options of the config; Pool is the resource pool, which stands in user.cfg.
	Tags []string `json:"tags,omitempty"`
	Lock string   `json:"lock,omitempty"`
	Pool string   `json:"pool,omitempty"`
	// Snapshots are the names of snapshots of all disks.
	Snapshots []string `json:"snapshots,omitempty"`
	// Options are further lines of the config: "hostpci0": "0000:01:00", "net0": "virtio,bridge=vmbr1", "cpu": "host".
	Options map[string]string `json:"options,omitempty"`
	// Config is the whole config of a guest that was seen somewhere: then what stands above about the config is not looked at,
	// and a guest that runs is taken to fit on its node.
	Config string `json:"config,omitempty"`
	// Dirty machines write memory faster than any network moves it: a live migration never ends.
	Dirty bool `json:"dirty,omitempty"`
	// Deaf guests do not react to a shutdown.
	Deaf bool `json:"deaf,omitempty"`
}

// Disk is a disk of a Spec.
type Disk struct {
	// Key is the option; scsi0, scsi1, … (rootfs, mp0, … of a container) unless it is given.
	Key     string `json:"key,omitempty"`
	Storage string `json:"storage"`
	SizeGiB int    `json:"size_gib"`
}

func (s Spec) kind() *kind {
	if s.Type == "lxc" {
		return ct
	}
	return vm
}

// Validate reports what is wrong with a spec.
func (s Spec) Validate() error {
	if s.ID < 100 || s.ID > 999999999 {
		return fmt.Errorf("guest %d: an id is 100 or more", s.ID)
	}
	if s.Type != "" && s.Type != "qemu" && s.Type != "lxc" {
		return fmt.Errorf("guest %d: type %q is neither qemu nor lxc", s.ID, s.Type)
	}
	if s.Template && s.Running {
		return fmt.Errorf("guest %d: a template does not run", s.ID)
	}
	for _, d := range s.Disks {
		if d.Storage == "" || d.SizeGiB < 1 {
			return fmt.Errorf("guest %d: a disk needs a storage and a size", s.ID)
		}
	}
	return nil
}

// config makes the guest's config file.
func (s Spec) config(storages map[string]*storage) *Config {
	if s.Config != "" {
		return ParseConfig(s.Config)
	}
	k, c := s.kind(), newConfig()
	c.Values["memory"] = strconv.Itoa(max(s.MemoryMiB, 0))
	if s.MemoryMiB == 0 {
		c.Values["memory"] = strconv.Itoa(k.memory)
	}
	c.Values["cores"] = strconv.Itoa(max(s.Cores, 1))
	c.Values[k.nameKey] = s.Name
	if s.Name == "" {
		c.Values[k.nameKey] = fmt.Sprintf("guest%d", s.ID)
	}
	if k == ct {
		c.Values["arch"], c.Values["ostype"], c.Values["unprivileged"] = "amd64", "debian", "1"
		c.Values["net0"] = fmt.Sprintf("name=eth0,bridge=vmbr0,hwaddr=%s,ip=dhcp,type=veth", mac(s.ID))
	} else {
		c.Values["ostype"], c.Values["scsihw"] = "l26", "virtio-scsi-single"
		c.Values["net0"] = fmt.Sprintf("virtio=%s,bridge=vmbr0,firewall=1", mac(s.ID))
	}
	for key, on := range map[string]bool{"template": s.Template, "onboot": s.OnBoot} {
		if on {
			c.Values[key] = "1"
		}
	}
	if len(s.Tags) > 0 {
		c.Values["tags"] = strings.Join(s.Tags, ";")
	}
	if s.Lock != "" {
		c.Values["lock"] = s.Lock
	}
	maps.Copy(c.Values, s.Options)
	s.addDisks(c, storages)
	for _, name := range s.Snapshots {
		c.Snapshots[name] = maps.Clone(c.Values)
		delete(c.Snapshots[name], "lock")
		c.Snapshots[name]["snaptime"] = "1732291200"
	}
	if n := len(s.Snapshots); n > 0 {
		c.Values["parent"] = s.Snapshots[n-1]
	}
	return c
}

func (s Spec) addDisks(c *Config, storages map[string]*storage) {
	k := s.kind()
	taken := map[string]bool{}
	for i, d := range s.Disks {
		key := d.Key
		switch {
		case key != "":
		case k == vm:
			key = fmt.Sprintf("scsi%d", i)
		case i == 0:
			key = "rootfs"
		default:
			key = fmt.Sprintf("mp%d", i-1)
		}
		at := storages[d.Storage]
		if at == nil {
			at = &storage{id: d.Storage, kind: "lvmthin"}
		}
		volume := at.newVolume(k, s.ID, "", taken)
		_, name, _ := strings.Cut(volume, ":")
		taken[at.id+":"+baseName(name)] = true
		if s.Template {
			volume = strings.Replace(volume, fmt.Sprintf("vm-%d", s.ID), fmt.Sprintf("base-%d", s.ID), 1)
		}
		extra := ""
		if k == ct && key != "rootfs" {
			extra = ",mp=/mnt/" + key
		}
		c.Values[key] = fmt.Sprintf("%s%s,size=%dG", volume, extra, d.SizeGiB)
	}
}

func mac(id int) string {
	return fmt.Sprintf("BC:24:11:%02X:%02X:%02X", id>>16&0xff, id>>8&0xff, id&0xff)
}

// ParseSpec reads a guest as people write it: its id and words like type=lxc, name=web, memory=2048, cores=4,
// disk=local-lvm:32 (several times), running=1, template=1, onboot=1, tags=a;b, pool=p, lock=backup, snapshot=s, dirty=1,
// deaf=1. Every other key is a line of the config.
func ParseSpec(id string, words []string) (Spec, error) {
	n, err := strconv.Atoi(id)
	if err != nil {
		return Spec{}, fmt.Errorf("%q is not the id of a guest", id)
	}
	s := Spec{ID: n, Options: map[string]string{}}
	flags := map[string]*bool{"running": &s.Running, "template": &s.Template, "onboot": &s.OnBoot, "dirty": &s.Dirty, "deaf": &s.Deaf}
	texts := map[string]*string{"type": &s.Type, "name": &s.Name, "lock": &s.Lock, "pool": &s.Pool}
	numbers := map[string]*int{"memory": &s.MemoryMiB, "cores": &s.Cores}
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if flag := flags[key]; flag != nil {
			*flag = !ok || slices.Contains([]string{"1", "true", "yes", "on"}, value)
			continue
		}
		if !ok {
			return s, fmt.Errorf("%q is not like key=value", word)
		}
		switch {
		case texts[key] != nil:
			*texts[key] = value
		case numbers[key] != nil:
			if *numbers[key], err = strconv.Atoi(value); err != nil {
				return s, fmt.Errorf("%s=%s: not a number", key, value)
			}
		case key == "tags":
			s.Tags = strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ';' })
		case key == "snapshot":
			s.Snapshots = append(s.Snapshots, value)
		case key == "disk":
			at, size, ok := strings.Cut(value, ":")
			gib, err := strconv.Atoi(size)
			if !ok || err != nil {
				return s, fmt.Errorf("disk=%s: not like storage:GiB", value)
			}
			s.Disks = append(s.Disks, Disk{Storage: at, SizeGiB: gib})
		default:
			s.Options[key] = value
		}
	}
	return s, s.Validate()
}
