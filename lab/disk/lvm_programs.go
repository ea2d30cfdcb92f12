package disk

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// reports are what pvs, vgs and lvs show without -o.
var reports = map[string]struct{ kind, columns string }{
	"pvs": {"pv", "pv_name,vg_name,pv_fmt,pv_attr,pv_size,pv_free"},
	"vgs": {"vg", "vg_name,pv_count,lv_count,snap_count,vg_attr,vg_size,vg_free"},
	"lvs": {"lv", "lv_name,vg_name,lv_attr,lv_size,pool_lv,origin,data_percent,metadata_percent,move_pv,mirror_log,copy_percent,convert_lv"},
}

// report is pvs, vgs and lvs.
func (d *Disks) report(_ context.Context, p *machine.Proc) int {
	o, rest, bad := options(p.Args(), "o:O:S:", "options", "sort", "select", "units", "reportformat", "separator", "config", "configreport")
	if bad != "" {
		return 3
	}
	kind := reports[p.Name()]
	columns := kind.columns
	switch list := o.get("o", "options"); {
	case strings.HasPrefix(list, "+"):
		columns += "," + list[1:]
	case list != "":
		columns = list
	}
	names := strings.Split(columns, ",")
	d.mu.Lock()
	defer d.mu.Unlock()
	size := func(n int64) string {
		switch o.get("units") {
		case "b", "B":
			text := strconv.FormatInt(n, 10)
			if !o.has("nosuffix") {
				text += "B"
			}
			return text
		}
		text := fmt.Sprintf("%.2f", float64(n)/gib)
		if !o.has("nosuffix") {
			text += "g"
		}
		return text
	}
	rows := d.lvmRows(kind.kind, size)
	status := 0
	if len(rest) > 0 {
		rows, status = d.named(p, rows, kind.kind, rest)
	}
	if o.get("reportformat") == "json" {
		p.Println(lvmJSON(kind.kind, rows, names))
		return status
	}
	table := [][]string{{}}
	right := map[int]bool{}
	for i, n := range names {
		table[0] = append(table[0], heading(n))
		right[i] = strings.HasSuffix(n, "size") || strings.HasSuffix(n, "free") || strings.HasSuffix(n, "count")
	}
	if o.has("noheadings") {
		table = nil
	}
	for _, r := range rows {
		var line []string
		for _, n := range names {
			line = append(line, r[n])
		}
		table = append(table, line)
	}
	if sep := o.get("separator"); o.has("separator") {
		for _, line := range table {
			p.Println("  " + strings.Join(line, sep))
		}
		return status
	}
	var out bytes.Buffer
	printTable(&out, table, right)
	for line := range strings.Lines(out.String()) {
		_, _ = p.Stdout.Write([]byte("  " + line))
	}
	return status
}

func heading(column string) string {
	switch column {
	case "pv_name", "vg_name", "lv_name":
		return map[string]string{"pv_name": "PV", "vg_name": "VG", "lv_name": "LV"}[column]
	}
	words := strings.Split(column, "_")
	last := words[len(words)-1]
	return map[string]string{"pv": "P", "vg": "V", "lv": "L"}[words[0]] + strings.ToUpper(last[:1]) + last[1:]
}

func (d *Disks) lvmRows(kind string, size func(int64) string) []map[string]string {
	var rows []map[string]string
	for _, g := range d.sortedGroups() {
		total, free := g.size()
		of := map[string]string{
			"vg_name": g.name, "vg_uuid": g.uuid, "vg_fmt": "lvm2", "vg_attr": "wz--n-", "vg_size": size(total), "vg_free": size(free), "vg_extent_size": size(extent),
			"pv_count": strconv.Itoa(len(g.pvs)), "lv_count": strconv.Itoa(len(g.volumes)), "snap_count": "0", "vg_tags": "",
			"vg_extent_count": strconv.FormatInt(total/extent, 10), "vg_free_count": strconv.FormatInt(free/extent, 10),
		}
		pv := map[string]string{
			"pv_name": "/dev/" + g.pvs[0].name, "pv_uuid": g.pvs[0].uuid, "pv_fmt": "lvm2", "pv_attr": "a--", "pv_size": size(total), "pv_free": size(free), "pv_used": size(total - free),
			"dev_size": size(g.pvs[0].size), "pv_tags": "",
		}
		switch kind {
		case "vg":
			rows = append(rows, merged(of, pv))
		case "pv":
			rows = append(rows, merged(pv, of))
		}
		for _, v := range g.volumes {
			if kind != "lv" {
				break
			}
			var tags []string
			for _, key := range slices.Sorted(maps.Keys(v.tags)) {
				tags = append(tags, key+"="+v.tags[key])
			}
			attr := "-wi-a-----"
			if v.mount != "" || v.holder != "" || v.fs == "ceph_bluestore" {
				attr = "-wi-ao----"
			}
			rows = append(rows, merged(map[string]string{
				"lv_name": v.lv, "lv_uuid": v.uuid, "lv_path": "/dev/" + v.name, "lv_full_name": v.name, "lv_size": size(v.size), "lv_attr": attr, "lv_tags": strings.Join(tags, ","),
				"devices": fmt.Sprintf("/dev/%s(0)", v.pv.name), "lv_active": "active", "pool_lv": "", "origin": "", "data_percent": "", "metadata_percent": "",
			}, of))
		}
	}
	if kind == "pv" {
		for _, b := range d.orphanPVs() {
			rows = append(rows, map[string]string{"pv_name": "/dev/" + b.name, "pv_fmt": "lvm2", "pv_attr": "---", "pv_size": size(b.size), "pv_free": size(b.size), "pv_used": size(0), "pv_uuid": b.uuid})
		}
		slices.SortFunc(rows, func(a, b map[string]string) int { return strings.Compare(a["pv_name"], b["pv_name"]) })
	}
	return rows
}

// orphanPVs are physical volumes without a group.
func (d *Disks) orphanPVs() []*block {
	var out []*block
	for _, r := range d.everything() {
		if r.b.fs == "LVM2_member" && r.b.group == "" {
			out = append(out, r.b)
		}
	}
	return out
}

func merged(a, b map[string]string) map[string]string {
	out := maps.Clone(b)
	maps.Copy(out, a)
	return out
}

// named keeps the rows that are asked for.
func (d *Disks) named(p *machine.Proc, rows []map[string]string, kind string, names []string) (out []map[string]string, status int) {
	for _, name := range names {
		found := false
		path := "/dev/" + d.resolveLocked(p.View(), name)
		for _, r := range rows {
			short := strings.TrimPrefix(name, "/dev/")
			if kind == "pv" && r["pv_name"] == path || kind != "pv" && (r["vg_name"] == short || r["lv_full_name"] == short) {
				out, found = append(out, r), true
			}
		}
		if !found {
			text := map[string]string{"pv": "Failed to find physical volume \"%s\".", "vg": "Volume group \"%s\" not found", "lv": "Failed to find logical volume \"%s\""}[kind]
			fmt.Fprintf(p.Stderr, "  "+text+"\n", name)
			status = 5
		}
	}
	return out, status
}

// lvmJSON is a report; all values are strings.
func lvmJSON(kind string, rows []map[string]string, columns []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "  {\n      \"report\": [\n          {\n              %q: [", kind)
	for i, r := range rows {
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n                  {")
		for j, c := range columns {
			if j > 0 {
				b.WriteString(", ")
			}
			value, _ := json.Marshal(r[c]) // a string
			fmt.Fprintf(&b, "%q:%s", c, value)
		}
		b.WriteString("}")
	}
	b.WriteString("\n              ]\n          }\n      ]\n  }")
	return b.String()
}

func complain(p *machine.Proc, format string, args ...any) int {
	fmt.Fprintf(p.Stderr, "  "+format+"\n", args...)
	return 5
}

// pvcreate puts LVM's mark on a device.
func (d *Disks) pvcreate(_ context.Context, p *machine.Proc) int {
	_, rest, _ := options(p.Args(), "", "metadatasize", "dataalignment")
	for _, path := range rest {
		name := d.Resolve(p.View(), path)
		d.mu.Lock()
		b, on := d.find(name)
		switch {
		case b == nil:
			d.mu.Unlock()
			return complain(p, "No device found for %s.", path)
		case b.group != "":
			d.mu.Unlock()
			return complain(p, "Can't initialize physical volume \"%s\" of volume group \"%s\" without -ff", path, b.group)
		case d.busy(b, on) != "":
			d.mu.Unlock()
			return complain(p, "Can't open %s exclusively.  Mounted filesystem?", path)
		}
		d.wipe(b)
		b.fs, b.uuid = "LVM2_member", d.newUUID()
		d.mu.Unlock()
		p.Printf("  Physical volume \"%s\" successfully created.\n", path)
	}
	d.link()
	return 0
}

// vgcreate makes a volume group.
func (d *Disks) vgcreate(_ context.Context, p *machine.Proc) int {
	_, rest, _ := options(p.Args(), "s:", "physicalextentsize", "addtag")
	if len(rest) < 2 {
		return complain(p, "Please enter physical volume name(s)")
	}
	name := d.Resolve(p.View(), rest[1])
	d.mu.Lock()
	b, _ := d.find(name)
	err := fmt.Errorf("No device found for %s.", rest[1]) //nolint:revive,staticcheck // LVM's words
	if b != nil {
		err = d.createGroup(rest[0], b)
	}
	d.mu.Unlock()
	if err != nil {
		return complain(p, "%v", err)
	}
	d.link()
	p.Printf("  Volume group \"%s\" successfully created\n", rest[0])
	return 0
}

// lvcreate makes a logical volume: -L in KiB, MiB, GiB or bytes, -l 100%FREE.
func (d *Disks) lvcreate(_ context.Context, p *machine.Proc) int {
	o, rest, _ := options(p.Args(), "n:L:l:W:a:Z:", "name", "size", "extents", "addtag", "wipesignatures", "setautoactivation")
	if len(rest) < 1 {
		return complain(p, "No command with matching syntax recognised.")
	}
	d.mu.Lock()
	size := parseSize(o.get("L", "size"))
	if g := d.vgs[rest[0]]; g != nil && o.has("l", "extents") {
		_, size = g.size()
	}
	name := o.get("n", "name")
	_, err := d.createVolume(rest[0], name, size, nil)
	d.mu.Unlock()
	if err != nil {
		return complain(p, "%v", err)
	}
	d.link()
	p.Printf("  Logical volume \"%s\" created.\n", name)
	return 0
}

func parseSize(text string) int64 {
	units := map[string]int64{"b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
	number := strings.TrimRight(strings.ToLower(text), "bkmgtie")
	n, _ := strconv.ParseFloat(number, 64)
	unit := strings.ToLower(text[len(number):])
	if unit == "" {
		unit = "m"
	}
	return int64(n * float64(units[unit[:1]]))
}

// lvmRemove is pvremove, vgremove and lvremove.
func (d *Disks) lvmRemove(_ context.Context, p *machine.Proc) int {
	_, rest, _ := options(p.Args(), "")
	for _, arg := range rest {
		name := d.Resolve(p.View(), arg)
		d.mu.Lock()
		short := strings.TrimPrefix(arg, "/dev/")
		b, _ := d.find(name)
		v, g := d.volume(short), d.vgs[short]
		code := 0
		switch {
		case p.Name() == "lvremove" && v != nil:
			d.removeVolume(v, false)
			p.Printf("  Logical volume \"%s\" successfully removed.\n", v.lv)
		case p.Name() == "vgremove" && g != nil:
			for _, pv := range g.pvs {
				pv.group = ""
			}
			delete(d.vgs, short)
			p.Printf("  Volume group \"%s\" successfully removed\n", short)
		case p.Name() == "pvremove" && b != nil && b.group == "":
			d.wipe(b)
			p.Printf("  Labels on physical volume \"%s\" successfully wiped.\n", arg)
		case p.Name() == "pvremove" && b != nil:
			code = complain(p, "PV %s is used by VG %s so please use vgreduce first.", arg, b.group)
		default:
			code = complain(p, "Failed to find \"%s\"", arg)
		}
		d.mu.Unlock()
		if code != 0 {
			return code
		}
	}
	d.link()
	return 0
}
