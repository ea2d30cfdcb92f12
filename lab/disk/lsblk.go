package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// row is one device with what hangs below it.
type row struct {
	b        *block
	on       *device // of a disk and its partitions
	volume   *volume
	table    string // of a disk
	number   int
	parent   string
	children []*row
}

// tree is all devices as lsblk shows them. The lock is held.
func (d *Disks) tree() []*row {
	var out []*row
	for i, one := range d.disks {
		if one.gone {
			continue
		}
		r := &row{b: &one.block, on: one, table: one.table, number: i}
		for _, p := range one.parts {
			r.children = append(r.children, &row{b: p, on: one, number: i, parent: one.name})
		}
		for _, x := range append(slices.Clone(r.children), r) {
			if g := d.vgs[x.b.group]; g != nil && x.b == g.pvs[0] {
				for _, v := range g.volumes {
					r := &row{b: &v.block, volume: v, number: len(out), parent: x.b.name}
					if v.opened != nil {
						r.children = []*row{{b: &v.opened.block, volume: v.opened, number: len(out), parent: v.kernel()}}
					}
					x.children = append(x.children, r)
				}
			}
		}
		out = append(out, r)
	}
	return out
}

// everything is the tree without its shape. The lock is held.
func (d *Disks) everything() []*row {
	var out []*row
	var walk func([]*row)
	walk = func(list []*row) {
		for _, r := range list {
			out = append(out, r)
			walk(r.children)
		}
	}
	walk(d.tree())
	return out
}

func (r *row) kind() string {
	switch {
	case r.volume != nil && r.volume.mapped != "":
		return "crypt"
	case r.volume != nil:
		return "lvm"
	case r.parent != "":
		return "part"
	}
	return "disk"
}

func (r *row) shortName() string {
	if r.volume != nil {
		return r.volume.mapper()
	}
	return r.b.name
}

func (r *row) path() string {
	if r.volume != nil {
		return "/dev/mapper/" + r.volume.mapper()
	}
	return "/dev/" + r.b.name
}

// column is the value of one of lsblk's columns: a string, a number, a bool, a list or nil.
func (r *row) column(name string) any {
	text := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	disk := r.parent == ""
	ofDisk := func(s string) any {
		if !disk {
			return nil
		}
		return text(s)
	}
	spec := Spec{}
	if r.on != nil {
		spec = r.on.spec
	}
	switch name {
	case "NAME":
		return r.shortName()
	case "KNAME":
		if r.volume != nil {
			return r.volume.kernel()
		}
		return r.b.name
	case "PATH":
		return r.path()
	case "PKNAME":
		return text(r.parent)
	case "TYPE":
		return r.kind()
	case "SIZE":
		return r.b.size
	case "FSTYPE":
		return text(r.b.fs)
	case "UUID":
		if r.b.fs == "" {
			return nil
		}
		return text(r.b.uuid)
	case "LABEL":
		return text(r.b.label)
	case "MOUNTPOINT":
		return text(r.b.mount)
	case "MOUNTPOINTS":
		return []any{text(r.b.mount)}
	case "SERIAL":
		return ofDisk(spec.Serial)
	case "MODEL":
		return ofDisk(spec.Model)
	case "VENDOR":
		return ofDisk(spec.Vendor)
	case "TRAN":
		return ofDisk(map[bool]string{true: "nvme", false: "sata"}[spec.nvme()])
	case "WWN":
		if r.on == nil {
			return nil
		}
		return r.on.wwn()
	case "ID", "ID-LINK":
		if r.on == nil || spec.ID == "" {
			return nil
		}
		if !disk {
			return fmt.Sprintf("%s-part%d", spec.ID, r.b.partnum)
		}
		return spec.ID
	case "STATE":
		if r.volume != nil {
			return "running"
		}
		return ofDisk("running")
	case "PTTYPE":
		if r.on == nil {
			return nil
		}
		return text(r.on.table)
	case "PTUUID":
		if r.on == nil {
			return nil
		}
		return text(r.on.tableID)
	case "PARTUUID":
		return text(r.b.partID)
	case "PARTTYPENAME", "PARTLABEL":
		return text(r.b.kind)
	case "PARTTYPE":
		return text(partTypes[r.b.kind])
	case "PARTN":
		if r.b.partnum == 0 {
			return nil
		}
		return r.b.partnum
	case "MAJ:MIN":
		if r.volume != nil {
			return fmt.Sprintf("252:%d", r.volume.dm)
		}
		return fmt.Sprintf("8:%d", r.number*16+r.b.partnum)
	case "ROTA":
		return spec.Rotational
	case "RM", "RO", "HOTPLUG":
		return false
	case "LOG-SEC", "PHY-SEC":
		return 512
	}
	return nil
}

// partTypes are the GUIDs of partition types.
var partTypes = map[string]string{
	"BIOS boot": "21686148-6449-6e6f-744e-656564454649", "EFI System": "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
	"Linux LVM": "e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux filesystem": "0fc63daf-8483-4772-8e79-3d69d8477de4",
	"Solaris /usr & Apple ZFS": "6a898cc3-1dd2-11b2-99a6-080020736631", "Solaris reserved 1": "6a945a3b-1dd2-11b2-99a6-080020736631",
}

var knownColumns = strings.Fields("NAME KNAME PATH PKNAME TYPE SIZE FSTYPE UUID LABEL MOUNTPOINT MOUNTPOINTS SERIAL MODEL VENDOR TRAN WWN ID ID-LINK STATE PTTYPE PTUUID PARTTYPENAME PARTLABEL PARTTYPE PARTN MAJ:MIN ROTA RM RO HOTPLUG LOG-SEC PHY-SEC PARTUUID FSVER FSSIZE FSAVAIL FSUSED FSUSE% OWNER GROUP MODE")

func (d *Disks) lsblk(_ context.Context, p *machine.Proc) int {
	o, rest, bad := options(p.Args(), "o:e:I:x:w:", "output", "exclude", "include", "sort")
	if bad != "" {
		fmt.Fprintf(p.Stderr, "lsblk: option requires an argument -- '%s'\n", bad)
		return 1
	}
	columns := strings.Split("NAME,MAJ:MIN,RM,SIZE,RO,TYPE,MOUNTPOINTS", ",")
	switch list := o.get("o", "output"); {
	case strings.HasPrefix(list, "+"):
		columns = append(columns, strings.Split(strings.ToUpper(list[1:]), ",")...)
	case list != "":
		columns = strings.Split(strings.ToUpper(list), ",")
	case o.has("f", "fs"):
		columns = strings.Split("NAME,FSTYPE,FSVER,LABEL,UUID,MOUNTPOINTS", ",")
	case o.has("O", "output-all"):
		columns = knownColumns
	}
	for _, c := range columns {
		if !slices.Contains(knownColumns, c) {
			fmt.Fprintf(p.Stderr, "lsblk: unknown column: %s\n", c)
			return 1
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	rows, status := d.tree(), 0
	if len(rest) > 0 {
		rows, status = d.chosen(p, rest)
	}
	if o.has("d", "nodeps") {
		for _, r := range rows {
			r.children = nil
		}
	}
	if o.has("J", "json") {
		d.lsblkJSON(p, rows, columns, o.has("b", "bytes"), o.has("l", "list"))
		return status
	}
	d.lsblkText(p, rows, columns, o)
	return status
}

// chosen are the named devices only.
func (d *Disks) chosen(p *machine.Proc, paths []string) (out []*row, status int) {
	all := d.everything()
	for _, path := range paths {
		name := d.resolveLocked(p.View(), path)
		if b, _ := d.find(name); b != nil {
			name = b.name
		}
		at := slices.IndexFunc(all, func(r *row) bool { return r.b.name == name })
		if at < 0 {
			fmt.Fprintf(p.Stderr, "lsblk: %s: not a block device\n", path)
			status = 32
			continue
		}
		out = append(out, all[at])
	}
	if len(out) > 0 && status != 0 {
		status = 64 // some found, some not
	}
	return out, status
}

// humanBytes is a size as lsblk prints it.
func humanBytes(n int64) string {
	for _, u := range []struct {
		letter string
		size   float64
	}{{"T", 1 << 40}, {"G", 1 << 30}, {"M", 1 << 20}, {"K", 1 << 10}} {
		if v := float64(n) / u.size; v >= 1 {
			return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") + u.letter
		}
	}
	return fmt.Sprintf("%dB", n)
}

// lsblkJSON prints the tree as one object. Keys keep the order of the columns.
func (d *Disks) lsblkJSON(p *machine.Proc, rows []*row, columns []string, inBytes, flat bool) {
	var write func(out *bytes.Buffer, list []*row, indent string)
	write = func(out *bytes.Buffer, list []*row, indent string) {
		for i, r := range list {
			if i > 0 {
				out.WriteString(",")
			}
			out.WriteString("\n" + indent + "{")
			for j, c := range columns {
				value := r.column(c)
				if size, ok := value.(int64); ok && !inBytes {
					value = humanBytes(size)
				}
				text, _ := json.Marshal(value) // strings, numbers, bools
				if j > 0 {
					out.WriteString(",")
				}
				fmt.Fprintf(out, "\n%s   %q: %s", indent, strings.ToLower(c), text)
			}
			if len(r.children) > 0 && !flat {
				out.WriteString(",\n" + indent + "   \"children\": [")
				write(out, r.children, indent+"      ")
				out.WriteString("\n" + indent + "   ]")
			}
			out.WriteString("\n" + indent + "}")
		}
	}
	if flat {
		rows = flatten(rows)
	}
	var out bytes.Buffer
	out.WriteString("{\n   \"blockdevices\": [")
	write(&out, rows, "      ")
	out.WriteString("\n   ]\n}\n")
	_, _ = p.Stdout.Write(out.Bytes())
}

func flatten(rows []*row) []*row {
	var out []*row
	for _, r := range rows {
		out = append(out, r)
		out = append(out, flatten(r.children)...)
	}
	return out
}

func (d *Disks) lsblkText(p *machine.Proc, rows []*row, columns []string, o flags) {
	table := [][]string{columns}
	if o.has("n", "noheadings") {
		table = nil
	}
	cell := func(r *row, c, prefix string) string {
		value := r.column(c)
		switch v := value.(type) {
		case nil:
			return ""
		case int64:
			if o.has("b", "bytes") {
				return strconv.FormatInt(v, 10)
			}
			return humanBytes(v)
		case bool:
			return map[bool]string{true: "1", false: "0"}[v]
		case []any:
			if v[0] == nil {
				return ""
			}
			return fmt.Sprint(v[0])
		}
		if c == "NAME" {
			if o.has("p", "paths") {
				value = r.path()
			}
			return prefix + fmt.Sprint(value)
		}
		return fmt.Sprint(value)
	}
	plain := o.has("l", "list", "r", "raw", "P", "pairs")
	var walk func(list []*row, prefix string)
	walk = func(list []*row, prefix string) {
		for i, r := range list {
			branch, below := "", ""
			if r.parent != "" && !plain {
				branch, below = "├─", "│ "
				if i == len(list)-1 {
					branch, below = "└─", "  "
				}
			}
			var line []string
			for _, c := range columns {
				line = append(line, cell(r, c, prefix+branch))
			}
			table = append(table, line)
			walk(r.children, prefix+below)
		}
	}
	walk(rows, "")
	if o.has("P", "pairs") {
		for _, line := range table {
			var parts []string
			for i, c := range columns {
				parts = append(parts, fmt.Sprintf("%s=%q", c, line[i]))
			}
			p.Println(strings.Join(parts, " "))
		}
		return
	}
	if o.has("r", "raw") {
		for _, line := range table {
			p.Println(strings.Join(line, " "))
		}
		return
	}
	printTable(p.Stdout, table, map[int]bool{slices.Index(columns, "SIZE"): true})
}

// printTable prints columns; those in right are aligned to the right.
func printTable(to io.Writer, table [][]string, right map[int]bool) {
	width := map[int]int{}
	for _, line := range table {
		for i, c := range line {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	for _, line := range table {
		out := make([]string, len(line))
		for i, c := range line {
			pad := strings.Repeat(" ", width[i]-len([]rune(c)))
			if right[i] {
				out[i] = pad + c
			} else {
				out[i] = c + pad
			}
		}
		fmt.Fprintln(to, strings.TrimRight(strings.Join(out, " "), " "))
	}
}

// sortedGroups lists the volume groups by name. The lock is held.
func (d *Disks) sortedGroups() []*group {
	var out []*group
	for _, name := range slices.Sorted(maps.Keys(d.vgs)) {
		out = append(out, d.vgs[name])
	}
	return out
}
