package health

import (
	"strconv"
	"strings"
)

// rrd is what pvestatd of all nodes has told in the last five minutes (/etc/pve/.rrd, reference §2.2).
type rrd struct {
	known    bool
	nodes    map[string]bool
	guests   map[string]rrdGuest
	storages map[string]map[string]rrdStorage // by id, then node
}

type rrdGuest struct {
	name, status string
	template     bool
	memory       int64 // configured maximum, bytes
}

type rrdStorage struct{ total, used int64 }

// readRRD reads the file of a node. Keys have other names on Proxmox VE 8.
func readRRD(n Node) rrd {
	r := rrd{nodes: map[string]bool{}, guests: map[string]rrdGuest{}, storages: map[string]map[string]rrdStorage{}}
	text, err := n.text("h_rrd")
	if err != nil {
		return r
	}
	r.known = true
	for line := range strings.Lines(text) {
		key, rest, ok := strings.Cut(strings.TrimRight(line, "\n\x00"), ":")
		kind, id, slash := strings.Cut(key, "/")
		if !ok || !slash {
			continue
		}
		f := strings.Split(rest, ":")
		switch {
		case strings.HasPrefix(kind, "pve-node-") || kind == "pve2-node":
			r.nodes[id] = true
		case (strings.HasPrefix(kind, "pve-vm-") || kind == "pve2.3-vm") && len(f) > 7:
			memory, _ := strconv.ParseInt(f[7], 10, 64)
			r.guests[id] = rrdGuest{name: f[1], status: f[2], template: f[3] == "1", memory: memory}
		case (strings.HasPrefix(kind, "pve-storage-") || kind == "pve2-storage") && len(f) > 2:
			node, storage, ok := strings.Cut(id, "/")
			if !ok {
				continue
			}
			total, _ := strconv.ParseInt(f[1], 10, 64)
			used, _ := strconv.ParseInt(f[2], 10, 64)
			if r.storages[storage] == nil {
				r.storages[storage] = map[string]rrdStorage{}
			}
			r.storages[storage][node] = rrdStorage{total, used}
		}
	}
	return r
}
