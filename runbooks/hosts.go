package runbooks

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// maxLinks is how many links corosync has: 0 to 7.
const maxLinks = 8

// evalHost evaluates everything of a host or node but its ssh block, and gives the object that expressions see.
func (l *loader) evalHost(h *hostDecl) cty.Value {
	a := l.attributes(h.content, scope{})
	host := inventory.Host{Name: h.name, Range: h.block.DefRange}
	if at, ok := a.text("address", &host.Address); ok {
		if why := checkAddress(host.Address); why != "" {
			l.report(diag.Error("Invalid address", why, at))
			host.Address = ""
		}
	}
	a.object("vars", &host.Vars)
	if h.cluster != nil {
		host.Cluster = h.cluster.name
		host.Node = &inventory.Node{Votes: 1}
		a.whole("votes", 0, 255, &host.Node.Votes)
		a.whole("id", 1, math.MaxInt32, &host.Node.ID)
		host.Node.Links, h.linkRanges = l.evalLinks(h)
		host.Node.OSDs = l.evalOSDs(h)
	}
	h.host = host
	h.object = hostObject(host)
	return h.object
}

// elementRange is the range of the i-th element of a list as it is written, or of the whole expression.
func elementRange(expr hcl.Expression, i int) hcl.Range {
	if list, diags := hcl.ExprList(expr); !diags.HasErrors() && i < len(list) {
		return list[i].Range()
	}
	return expr.Range()
}

func (l *loader) evalLinks(h *hostDecl) ([]inventory.Link, []hcl.Range) {
	v, at, ok := l.attributes(h.content, scope{}).value("links")
	if !ok {
		return nil, nil
	}
	plain, _ := v.UnmarkDeep()
	if t := plain.Type(); !t.IsTupleType() && !t.IsListType() {
		l.report(wrongType("links", `a list such as ["10.0.1.1", "10.0.2.1"]`, v, at))
		return nil, nil
	}
	expr := h.content.Attributes["links"].Expr
	items := plain.AsValueSlice()
	if len(items) > maxLinks {
		l.report(diag.Error("Too many links", fmt.Sprintf("The node has %d links; corosync has %d, numbered 0 to %d.", len(items), maxLinks, maxLinks-1), elementRange(expr, maxLinks)))
		return nil, nil
	}
	var (
		links  []inventory.Link
		ranges []hcl.Range
	)
	for i, item := range items {
		at := elementRange(expr, i)
		link, diags := linkOf(item, at)
		l.report(diags)
		links, ranges = append(links, link), append(ranges, at)
	}
	return links, ranges
}

// linkOf reads "10.0.1.1" or { address = "10.0.1.1", priority = 20 }.
func linkOf(v cty.Value, at hcl.Range) (inventory.Link, diag.List) {
	var link inventory.Link
	address := v
	if t := v.Type(); !v.IsNull() && v.IsKnown() && (t.IsObjectType() || t.IsMapType()) {
		parts := v.AsValueMap()
		for name, part := range parts {
			switch name {
			case "address":
			case "priority":
				n, diags := wholeNumber("priority", part, 0, 255, at)
				if diags.HasErrors() {
					return link, diags
				}
				link.Priority = n
			default:
				return link, diag.Error("Unknown attribute", fmt.Sprintf("A link has an address and a priority, no %q.%s", name, diag.DidYouMean(name, []string{"address", "priority"})), at)
			}
		}
		var given bool
		if address, given = parts["address"]; !given {
			return link, diag.Error("Missing address", "A link needs an address.", at)
		}
	}
	if !address.IsKnown() {
		return link, nil // reported where it comes from
	}
	if address.IsNull() || address.Type() != cty.String {
		return link, wrongType("A link", `an address such as "10.0.1.1"`, address, at)
	}
	addr, why := checkLink(address.AsString())
	if why != "" {
		return link, diag.Error("Invalid link address", why, at)
	}
	link.Address = addr
	return link, nil
}

func (l *loader) evalOSDs(h *hostDecl) []inventory.OSD {
	v, at, ok := l.attributes(h.content, scope{}).value("osds")
	if !ok {
		return nil
	}
	plain, _ := v.UnmarkDeep()
	if t := plain.Type(); !t.IsTupleType() && !t.IsListType() {
		l.report(wrongType("osds", "a list of objects such as [{ device = \"/dev/disk/by-id/…\" }]", v, at))
		return nil
	}
	expr, seen := h.content.Attributes["osds"].Expr, map[string]bool{}
	var osds []inventory.OSD
	for i, item := range plain.AsValueSlice() {
		at := elementRange(expr, i)
		osd, diags := osdOf(item, at)
		if osd.Device != "" && seen[osd.Device] {
			diags = append(diags, diag.Error("Duplicate disk", fmt.Sprintf("The disk %q is already listed for this node.", osd.Device), at)...)
		}
		seen[osd.Device] = true
		l.report(diags)
		osds = append(osds, osd)
	}
	return osds
}

func osdOf(v cty.Value, at hcl.Range) (inventory.OSD, diag.List) {
	var osd inventory.OSD
	if t := v.Type(); v.IsNull() || !v.IsKnown() || (!t.IsObjectType() && !t.IsMapType()) {
		if !v.IsKnown() {
			return osd, nil
		}
		return osd, wrongType("An OSD", "an object such as { device = \"/dev/disk/by-id/…\" }", v, at)
	}
	texts := map[string]*string{"device": &osd.Device, "db_device": &osd.DBDevice, "wal_device": &osd.WALDevice, "class": &osd.Class, "wipe": &osd.Wipe}
	names := []string{"class", "db_device", "device", "wal_device", "wipe"}
	var diags diag.List
	for name, part := range v.AsValueMap() {
		into, isText := texts[name]
		if !isText {
			diags = append(diags, diag.Error("Unknown attribute", fmt.Sprintf("An OSD has no attribute %q.%s", name, suggestion(name, names)), at)...)
			continue
		}
		converted, err := convert.Convert(part, cty.String)
		switch {
		case part.IsNull() || !part.IsKnown():
		case err != nil:
			diags = append(diags, wrongType(name, "a string", part, at)...)
		default:
			*into = converted.AsString()
		}
	}
	if osd.Device == "" && !diags.HasErrors() {
		diags = append(diags, diag.Error("Missing device", "An OSD needs a device, named by its path in /dev/disk/by-id.", at)...)
	}
	if osd.Wipe != "" && !inventory.WipeWord(osd.Wipe) {
		diags = append(diags, diag.Error("Invalid permission to wipe", fmt.Sprintf("wipe is for what lies on the disk now, not for whatever may lie there one day: leave it out, and the plan "+
			"prints the word to write, such as wipe = \"ext4-3f9a1c2e\", not %q.", osd.Wipe), at)...)
	}
	for name, path := range map[string]string{"device": osd.Device, "db_device": osd.DBDevice, "wal_device": osd.WALDevice} {
		switch {
		case path == "":
		case !strings.HasPrefix(path, "/dev/"):
			diags = append(diags, diag.Error("Invalid device", fmt.Sprintf("%s must be a path in /dev, not %q.", name, path), at)...)
		case !strings.HasPrefix(path, "/dev/disk/by-"):
			diags = append(diags, diag.Warning("Unstable device name", fmt.Sprintf("%s is %q, which may name another disk after the next start. Use its path in /dev/disk/by-id.", name, path), at)...)
		}
	}
	return osd, diags
}

// hostObject is what expressions see of a host, without what only the current host has.
func hostObject(h inventory.Host) cty.Value { return cty.ObjectVal(hostParts(h)) }

func hostParts(h inventory.Host) map[string]cty.Value {
	parts := map[string]cty.Value{
		"name": cty.StringVal(h.Name), "address": cty.StringVal(h.Address), "cluster": cty.NullVal(cty.String),
		"vars": cty.ObjectVal(h.Vars), "links": cty.ListValEmpty(cty.String), "osds": cty.ListValEmpty(osdType),
		"votes": cty.Zero, "id": cty.NullVal(cty.Number),
	}
	if h.Address == "" {
		parts["address"] = cty.UnknownVal(cty.String) // wrong, and reported; what uses it is not wrong too
	}
	n := h.Node
	if n == nil {
		return parts
	}
	parts["cluster"], parts["votes"] = cty.StringVal(h.Cluster), cty.NumberIntVal(int64(n.Votes))
	if n.ID != 0 {
		parts["id"] = cty.NumberIntVal(int64(n.ID))
	}
	if len(n.Links) > 0 {
		parts["links"] = cty.ListVal(valuesOf(n.Links, func(l inventory.Link) cty.Value { return cty.StringVal(l.Address.String()) }))
	}
	if len(n.OSDs) > 0 {
		parts["osds"] = cty.ListVal(valuesOf(n.OSDs, osdObject))
	}
	return parts
}

var osdType = osdObject(inventory.OSD{}).Type()

func osdObject(o inventory.OSD) cty.Value {
	return cty.ObjectVal(map[string]cty.Value{
		"device": cty.StringVal(o.Device), "db_device": textOrNull(o.DBDevice), "wal_device": textOrNull(o.WALDevice),
		"class": textOrNull(o.Class), "wipe": textOrNull(o.Wipe),
	})
}

func textOrNull(text string) cty.Value {
	if text == "" {
		return cty.NullVal(cty.String)
	}
	return cty.StringVal(text)
}

func valuesOf[T, V any](list []T, value func(T) V) []V {
	values := make([]V, len(list))
	for i, item := range list {
		values[i] = value(item)
	}
	return values
}

// checkHostKey says what is wrong with a line such as "ssh-ed25519 AAAA…", or "".
func checkHostKey(line string) string {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return `A host key has a type and a key: "ssh-ed25519 AAAA…". It stands in /etc/ssh/ssh_host_ed25519_key.pub on the host.`
	}
	raw, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil || len(raw) < 4 {
		return "The second word of a host key is the key in base64, and this one is not."
	}
	n := binary.BigEndian.Uint32(raw)
	if uint64(n) > uint64(len(raw)-4) || string(raw[4:4+n]) != fields[0] {
		return fmt.Sprintf("The key is not of the type %q that stands before it. Was it cut off?", fields[0])
	}
	return ""
}
