package ceph

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
)

var storageName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]$`)

// poolStorage plans the storage of a pool: its disks for guests. Without monhost Proxmox finds the monitors by itself and
// keeps a copy of the key (reference §8.8).
func (w *world) poolStorage(name string, erasure bool) []module.Change {
	want := map[string]string{"pool": name, "content": "images,rootdir", "krbd": "0"}
	order := []string{"pool", "content", "krbd"}
	if erasure {
		want["pool"], want["data-pool"] = name+"-metadata", name+"-data"
		order = append(order, "data-pool")
	}
	return w.storage(name, "rbd", "pool", want, order)
}

func (w *world) fsStorage(name string) []module.Change {
	return w.storage(name, "cephfs", "fs-name", map[string]string{"fs-name": name, "content": "backup,iso,vztmpl"}, []string{"fs-name", "content"})
}

// storage plans an entry that is missing. One that is there is left as it is, as long as it means the same: its settings are
// for the module storage.
func (w *world) storage(id, kind, key string, want map[string]string, order []string) []module.Change {
	gate := "register storage " + id
	if !storageName.MatchString(id) {
		w.refuse("", gate, fmt.Sprintf("%q is no name for a storage", id), "a letter first, then letters, digits, dots, _ and -, at least two characters", "", "choose another name, or storage = false")
		return nil
	}
	if have, there := w.Storage(id); there {
		value := have.Values[key]
		if value == "" && kind == "rbd" {
			value = "rbd"
		}
		sameFS := kind == "cephfs" && value == ""
		if have.Type != kind || value != want[key] && !sameFS {
			w.refuse("", gate, fmt.Sprintf("there is a storage %s of type %s on %q", id, have.Type, value), fmt.Sprintf("type %s on %q, or none", kind, want[key]), "cat /etc/pve/storage.cfg", "choose another name")
		}
		return nil
	}
	if w.will.storages[id] {
		return nil
	}
	if why, bad := w.Unread["storages"]; bad {
		w.refuse(w.From, gate, "/etc/pve/storage.cfg could not be read: "+why, "a node whose /etc/pve answers", "timeout 5 cat /etc/pve/storage.cfg", "")
		return nil
	}
	actor := w.actor()
	if !w.need(actor, gate) || !w.writable(actor, gate) {
		return nil
	}
	argv := []string{"pvesm", "add", kind, id}
	after := map[string]any{"storage": id, "type": kind}
	for _, o := range order {
		argv = append(argv, "--"+o, want[o])
		after[o] = want[o]
	}
	return w.plan([]module.Change{{
		ID: actor + "/" + kindStorage + "/" + id, Host: actor, Action: module.Create, Summary: gate, After: after,
		Apply: func(ctx context.Context, t module.Target) error {
			failed := work(ctx, t, actor, tool("ceph-storage-"+id, daemonTimeout, argv...))
			c, err := readCluster(ctx, t, actor)
			if err != nil {
				return err
			}
			if _, there := c.Storage(id); !there {
				why := "the entry is not there"
				if failed != nil {
					why = said(failed)
				}
				return fmt.Errorf("%s: %s: %s (look: cat /etc/pve/storage.cfg)", actor, strings.Join(argv, " "), why)
			}
			return nil
		},
	}})
}
