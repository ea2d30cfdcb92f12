package storage

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

// item is one thing that a storage holds.
type item struct {
	volid, format, content string
	size                   int64
	vmid                   int
	ctime                  int64
	notes                  string
	protected              bool
}

// object is an item as the API shows it.
func (i item) object() pvetool.Object {
	o := pvetool.Object{"volid": i.volid, "format": i.format, "content": i.content, "size": i.size}
	if i.vmid != 0 {
		o["vmid"] = i.vmid
	}
	if i.ctime != 0 {
		o["ctime"] = i.ctime
	}
	if i.notes != "" {
		o["notes"] = i.notes
	}
	if i.content == "backup" {
		o["subtype"] = map[bool]string{true: "lxc", false: "qemu"}[strings.Contains(i.volid, "-lxc-") || strings.Contains(i.volid, "/ct/")]
	}
	if i.protected {
		o["protected"] = 1
	}
	return o
}

// contents lists what a storage holds, after activating it; content "" is everything, vmid 0 of everybody.
func (n *Node) contents(ctx context.Context, p *machine.Proc, id, content string, vmid int) ([]item, error) {
	s, err := readConfig(p.View()).enabled(id, n.n.Name())
	if err == nil {
		err = n.activate(ctx, p.View(), s)
	}
	if err != nil {
		return nil, err
	}
	wanted := []string{"rootdir", "images", "vztmpl", "iso", "backup", "snippets", "import"}
	if content != "" {
		wanted = []string{content}
	}
	var out []item
	for _, c := range wanted {
		if !holds(s, c) {
			continue
		}
		found, err := n.itemsOf(p.View(), s, c)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	out = slices.DeleteFunc(out, func(i item) bool { return vmid != 0 && i.vmid != vmid })
	slices.SortFunc(out, func(a, b item) int { return strings.Compare(strings.ToLower(a.volid), strings.ToLower(b.volid)) })
	return slices.CompactFunc(out, func(a, b item) bool { return a.volid == b.volid }), nil
}

func (n *Node) itemsOf(v *vfs.View, s pvetool.Section, content string) ([]item, error) {
	switch {
	case s.Type == "pbs":
		return n.snapshots(v, s)
	case s.Values["path"] == "":
		return n.blockVolumes(v, s), nil
	case content == "images" || content == "rootdir":
		return images(v, s)
	}
	entries, err := v.ReadDir(subdir(s, content))
	if err != nil {
		return nil, nil //nolint:nilerr // a folder that is not there holds nothing
	}
	var out []item
	for _, e := range entries {
		if e.Mode.IsDir() || strings.HasSuffix(e.Name, ".log") || strings.HasSuffix(e.Name, ".notes") || strings.HasSuffix(e.Name, ".protected") {
			continue
		}
		i := item{volid: s.ID + ":" + content + "/" + e.Name, format: extension(e.Name), content: content, size: e.Size, ctime: e.ModTime.Unix()}
		if content == "backup" {
			if !backupName.MatchString(e.Name) {
				continue
			}
			i = n.describeBackup(v, s, i, e.Name)
		}
		out = append(out, i)
	}
	return out, nil
}

// backupName is how vzdump calls its files: type, guest, time and format.
var backupName = regexp.MustCompile(`^vzdump-(qemu|lxc)-(\d+)-(\d{4}_\d\d_\d\d-\d\d_\d\d_\d\d)\.(vma|tar)(\.(?:gz|lzo|zst))?$`)

const backupTime = "2006_01_02-15_04_05"

// describeBackup reads guest and time out of a backup's name, and its notes.
func (n *Node) describeBackup(v *vfs.View, s pvetool.Section, i item, name string) item {
	match := backupName.FindStringSubmatch(name)
	i.vmid, _ = strconv.Atoi(match[2])
	if made, err := time.ParseInLocation(backupTime, match[3], n.n.Machine().Now().Location()); err == nil {
		i.ctime = made.Unix()
	}
	file := subdir(s, "backup") + "/" + name
	if notes, err := v.ReadFile(file + ".notes"); err == nil {
		i.notes, _, _ = strings.Cut(string(notes), "\n")
	}
	_, err := v.Stat(file + ".protected")
	i.protected = err == nil
	return i
}

func extension(name string) string {
	for _, double := range []string{".vma.zst", ".vma.gz", ".vma.lzo", ".tar.zst", ".tar.gz", ".tar.lzo"} {
		if strings.HasSuffix(name, double) {
			return double[1:]
		}
	}
	return strings.TrimPrefix(path.Ext(name), ".")
}

// images lists disk images in files.
func images(v *vfs.View, s pvetool.Section) ([]item, error) {
	guests, err := v.ReadDir(subdir(s, "images"))
	if err != nil {
		return nil, nil //nolint:nilerr // a folder that is not there holds nothing
	}
	var out []item
	for _, g := range guests {
		vmid, err := strconv.Atoi(g.Name)
		if err != nil {
			continue
		}
		files, err := v.ReadDir(subdir(s, "images") + "/" + g.Name)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			size := f.Size
			if said, err := v.ReadFile(subdir(s, "images") + "/" + g.Name + "/" + f.Name); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(said)), 10, 64); err == nil {
					size = n // an image of the lab holds nothing but its size
				}
			}
			out = append(out, item{volid: s.ID + ":" + g.Name + "/" + f.Name, format: extension(f.Name), content: "images", size: size, vmid: vmid, ctime: f.ModTime.Unix()})
		}
	}
	return out, nil
}

// blockVolumes lists the volumes of a block storage: those that were allocated, and those that configs of guests name.
func (n *Node) blockVolumes(v *vfs.View, s pvetool.Section) []item {
	var out []item
	n.w.mu.Lock()
	for _, other := range n.w.nodes {
		if other != n && !sharedStorage(s) {
			continue
		}
		for _, one := range other.held {
			if one.storage == s.ID {
				out = append(out, item{volid: s.ID + ":" + one.name, format: "raw", content: "images", size: one.size, vmid: one.vmid})
			}
		}
	}
	n.w.mu.Unlock()
	for _, g := range guests(v) {
		if g.node != n.n.Name() && !sharedStorage(s) {
			continue
		}
		for _, d := range g.disks {
			if d.storage == s.ID {
				out = append(out, item{volid: s.ID + ":" + d.name, format: "raw", content: "images", size: d.size, vmid: g.id})
			}
		}
	}
	return out
}

// allocated is what `pvesm alloc` took of a storage.
func (n *Node) allocated(id string) int64 {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	var sum int64
	for _, v := range n.held {
		if v.storage == id {
			sum += v.size
		}
	}
	return sum
}

// alloc is `pvesm alloc`.
func (n *Node) alloc(ctx context.Context, p *machine.Proc, args []string) int {
	o, code := arguments(p, args, map[string]pvetool.Option{"format": {}}, 4, "alloc <storage> <vmid> <filename> <size> [OPTIONS]")
	if code >= 0 {
		return code
	}
	id, name := o.Positional[0], o.Positional[2]
	vmid, err := strconv.Atoi(o.Positional[1])
	size, sizeErr := parseKiB(o.Positional[3])
	if err != nil || sizeErr != nil {
		return pvetool.Usage(p, &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"size: unable to parse size '" + o.Positional[3] + "'"}}, "pvesm alloc <storage> <vmid> <filename> <size> [OPTIONS]")
	}
	volid, err := n.allocate(ctx, p, id, vmid, name, size)
	if err != nil {
		return n.die(ctx, p, err)
	}
	p.Printf("successfully created '%s'\n", volid)
	return 0
}

func parseKiB(text string) (int64, error) {
	unit := int64(1024)
	switch {
	case strings.HasSuffix(text, "M"):
		unit, text = 1<<20, strings.TrimSuffix(text, "M")
	case strings.HasSuffix(text, "G"):
		unit, text = 1<<30, strings.TrimSuffix(text, "G")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n * unit, err
}

func (n *Node) allocate(ctx context.Context, p *machine.Proc, id string, vmid int, name string, size int64) (string, error) {
	s, err := readConfig(p.View()).enabled(id, n.n.Name())
	if err == nil {
		err = n.activate(ctx, p.View(), s)
	}
	if err != nil {
		return "", err
	}
	if s.Values["path"] != "" {
		if name == "" {
			name = fmt.Sprintf("vm-%d-disk-0.raw", vmid)
		}
		file := fmt.Sprintf("%s/%d/%s", subdir(s, "images"), vmid, name)
		if _, err := p.View().Stat(file); err == nil {
			return "", fmt.Errorf("disk image '%s' already exists", file)
		}
		if err := mkdirs(p.View(), path.Dir(file)); err != nil {
			return "", err
		}
		if err := p.View().WriteFile(file, fmt.Appendf(nil, "%d\n", size), 0o640); err != nil {
			return "", fmt.Errorf("unable to create image: qemu-img: %s: Could not create '%s': %s", file, file, machine.Reason(err))
		}
		return fmt.Sprintf("%s:%d/%s", id, vmid, name), nil
	}
	taken := n.blockVolumes(p.View(), s)
	has := func(name string) bool {
		return slices.ContainsFunc(taken, func(i item) bool { return i.volid == id+":"+name })
	}
	if has(name) {
		return "", fmt.Errorf("volume '%s' already exists", name)
	}
	for i := 0; name == ""; i++ {
		if free := fmt.Sprintf("vm-%d-disk-%d", vmid, i); !has(free) {
			name = free
		}
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.held = append(n.held, &volume{storage: id, name: name, vmid: vmid, size: size})
	return id + ":" + name, nil
}

// free is `pvesm free`.
func (n *Node) free(ctx context.Context, p *machine.Proc, args []string) int {
	o, code := arguments(p, args, map[string]pvetool.Option{"storage": {}, "delay": {Kind: pvetool.Int}}, 1, "free <volume> [OPTIONS]")
	if code >= 0 {
		return code
	}
	volid := o.Positional[0]
	if !strings.Contains(volid, ":") {
		volid = o.Values["storage"] + ":" + volid
	}
	if err := n.release(ctx, p, volid); err != nil {
		return n.die(ctx, p, err)
	}
	p.Printf("Removed volume '%s'\n", volid)
	return 0
}

func (n *Node) release(ctx context.Context, p *machine.Proc, volid string) error {
	id, name, _ := strings.Cut(volid, ":")
	s, err := readConfig(p.View()).enabled(id, n.n.Name())
	if err == nil {
		err = n.activate(ctx, p.View(), s)
	}
	if err != nil {
		return err
	}
	if s.Values["path"] != "" {
		file, err := volumePath(s, name)
		if err != nil {
			return err
		}
		if _, err := p.View().Stat(file); err != nil {
			fmt.Fprintf(p.Stderr, "disk image '%s' does not exist\n", file)
			return nil
		}
		return p.View().Remove(file)
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	for _, other := range n.w.nodes {
		before := len(other.held)
		other.held = slices.DeleteFunc(other.held, func(v *volume) bool {
			return (other == n || sharedStorage(s)) && v.storage == id && v.name == name
		})
		if len(other.held) < before {
			return nil
		}
	}
	return errors.New("no such volume '" + volid + "'")
}
