package ceph

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Found is what was found of a disk that shall become an OSD.
type Found string

// The findings.
const (
	Free      Found = "free"      // nothing lies on it
	HasOSD    Found = "osd"       // an OSD of this cluster lies on it: as wanted
	Carries   Found = "carries"   // something else does
	Serves    Found = "serves"    // databases or logs of OSDs of this cluster do
	Missing   Found = "missing"   // the node has no such disk
	Swapped   Found = "swapped"   // it is not the disk that the cluster knows
	Cut       Found = "cut"       // an OSD whose creation was cut off
	Unmatched Found = "unmatched" // it cannot be told
)

// Match is a finding with what was seen, and the command to look for oneself.
type Match struct {
	Found     Found
	Disk      *Disk
	OSD       int // of HasOSD, Swapped and Cut
	Saw, Look string
}

// MatchDisk compares a disk that a runbook names by its path in /dev/disk/by-id with what is really on the node. m is nil
// while the cluster has no OSDs that could be asked about. fsid is that of the cluster, "" if there is none.
func MatchDisk(n *Node, m *OSDMap, fsid, byID string) Match {
	if why := n.unreadDisks(); why != "" {
		return Match{Found: Unmatched, Saw: why, Look: "lsblk -f; ls -l /dev/disk/by-id"}
	}
	d, ok := n.Disk(byID)
	if !ok {
		return n.missing(m, byID)
	}
	look := "lsblk -f " + d.Path
	on := n.OSDsOn(d)
	for _, id := range slices.Sorted(maps.Keys(on)) {
		if slices.Contains(on[id], "block") {
			return n.matchOSD(m, fsid, d, id)
		}
	}
	if len(on) > 0 {
		// Those of OSDs that the cluster knows are its data as much as the OSDs are; unasked, it may know any.
		found := Match{Found: Carries, Disk: d, Look: "ceph-volume lvm list"}
		var users []string
		for id, parts := range on {
			users = append(users, fmt.Sprintf("the %s of osd.%d", strings.Join(parts, " and "), id))
			if _, known := m.OSD(id); known || m == nil && fsid != "" {
				found.Found = Serves
			}
		}
		slices.Sort(users)
		found.Saw = "it holds " + strings.Join(users, ", ")
		return found
	}
	if what := d.Carries(); len(what) > 0 {
		return Match{Found: Carries, Disk: d, Saw: strings.Join(what, "; "), Look: look}
	}
	return Match{Found: Free, Disk: d, Look: look}
}

func (n *Node) unreadDisks() string {
	for _, name := range []string{"disks", "links", "osds", "volumes"} {
		if why, bad := n.Unread[name]; bad {
			return fmt.Sprintf("the node's disks could not be read (%s: %s)", name, why)
		}
	}
	return ""
}

// missing says what the node has in place of a disk that is not there.
func (n *Node) missing(m *OSDMap, byID string) Match {
	if device, ok := n.Links[byID]; ok {
		return Match{Found: Missing, Saw: fmt.Sprintf("%s is %s, which is no whole disk", byID, device), Look: "lsblk"}
	}
	saw := fmt.Sprintf("the node has no %s", byID)
	if o, ok := n.lastOn(m, byID); ok {
		saw += fmt.Sprintf("; osd.%d was on it and is %s", o.ID, upDown(o.Up))
	}
	var free []string
	for i := range n.Disks {
		d := &n.Disks[i]
		if names := n.Names(d); d.Type == "disk" && len(names) > 0 && len(d.Carries()) == 0 {
			free = append(free, fmt.Sprintf("%s (%s)", names[0], d.Describe()))
		}
	}
	if len(free) > 0 {
		saw += "; disks with nothing on them: " + strings.Join(free, ", ")
	}
	return Match{Found: Missing, Saw: saw, Look: "ls -l /dev/disk/by-id"}
}

func upDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

// lastOn finds the OSD that last ran on this node with a disk whose model and serial number are part of the name.
func (n *Node) lastOn(m *OSDMap, byID string) (OSD, bool) {
	if m == nil {
		return OSD{}, false
	}
	for _, o := range m.OSDs {
		if o.NodeName != n.Host {
			continue
		}
		for _, id := range o.DeviceIDs {
			serial := id[strings.LastIndexByte(id, '_')+1:]
			if strings.HasSuffix(byID, "-"+id) || len(serial) > 3 && strings.HasSuffix(byID, serial) {
				return o, true
			}
		}
	}
	return OSD{}, false
}

// matchOSD judges a disk with an OSD's data on it.
func (n *Node) matchOSD(m *OSDMap, fsid string, d *Disk, id int) Match {
	found := Match{Disk: d, OSD: id, Look: "ceph-volume lvm list; ceph osd tree"}
	for _, v := range n.Volumes {
		if v.OSD == id && v.FSID != "" && fsid != "" && v.FSID != fsid {
			found.Found, found.Saw = Carries, fmt.Sprintf("osd.%d of another Ceph cluster (%s)", id, v.FSID)
			return found
		}
	}
	if fsid == "" {
		found.Found, found.Saw = Carries, fmt.Sprintf("osd.%d of a Ceph cluster that this one knows nothing of", id)
		return found
	}
	if m == nil {
		found.Found, found.Saw = Unmatched, fmt.Sprintf("osd.%d, and the monitors cannot be asked about it", id)
		return found
	}
	o, known := m.OSD(id)
	switch {
	case !known:
		found.Found, found.Saw = Carries, fmt.Sprintf("osd.%d, which the cluster does not know: it was removed, or belongs to another cluster", id)
	case o.NodeName != "" && o.NodeName != n.Host:
		found.Found = Swapped
		found.Saw = fmt.Sprintf("the disk says osd.%d, and osd.%d last ran on %s (it is %s)", id, id, o.NodeName, upDown(o.Up))
	case !o.sameDisk(d):
		found.Found = Swapped
		found.Saw = fmt.Sprintf("osd.%d last ran on the disk %s, and lies on one with serial %s now", id, strings.Join(o.disks(), " and "), d.Serial)
	case o.Host == "" && !o.Up && !o.NeverIn():
		// It was taken out of the CRUSH map, or hangs elsewhere in it: it may hold the only copy of something.
		found.Found = Unmatched
		found.Saw = fmt.Sprintf("osd.%d is on it, down, and part of no host, and it has held data before", id)
	case o.Host == "" && !o.Up:
		found.Found = Cut
		found.Saw = fmt.Sprintf("osd.%d is on it, down, and part of no host: its creation was cut off", id)
	default:
		found.Found = HasOSD
	}
	return found
}

// sameDisk reports whether a disk can be one of those that the OSD last ran on. Disks without a serial number can always.
func (o OSD) sameDisk(d *Disk) bool {
	if d.Serial == "" || len(o.DeviceIDs) == 0 {
		return true
	}
	serial := strings.ReplaceAll(d.Serial, " ", "_")
	return slices.ContainsFunc(o.disks(), func(id string) bool { return strings.HasSuffix(id, serial) })
}

func (o OSD) disks() []string {
	var ids []string
	for _, id := range o.DeviceIDs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// MatchPart judges a disk that shall hold the database or log of an OSD. It may hold those of others: then it must be a
// physical volume of Ceph. why is "" when it can be used (reference §8.3).
func MatchPart(n *Node, byID string) (d *Disk, why string) {
	if why := n.unreadDisks(); why != "" {
		return nil, why
	}
	d, ok := n.Disk(byID)
	if !ok {
		return nil, n.missing(nil, byID).Saw
	}
	what := d.Carries()
	switch {
	case len(what) == 0, d.hasCephGroup() && !d.hasOSDVolume() && len(d.Busy()) == 0:
		return d, ""
	}
	return d, strings.Join(what, "; ")
}
