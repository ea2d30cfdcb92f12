package storage

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/storage"
)

const (
	// settling is how long after a change of storage.cfg a node may not have told of a storage yet.
	settling = time.Minute
	// silence is how long a node may tell nothing of a storage: pvestatd goes round every ten seconds (reference §2.2).
	silence = time.Minute
)

// warnSilent tells of nodes on which a storage that is as wanted does not seem to work. It asks what can be asked without
// waiting long: the mounts of shares, and what the nodes have told the cluster.
func (w *world) warnSilent(ctx context.Context, t module.Target, a storageArgs, have config.Section, changing bool) {
	if have.Is("disable") {
		if a.Disable == nil {
			t.Warn("", fmt.Sprintf("storage %s is disabled, so that nobody uses it; disable = false would turn it on", have.ID))
		}
		return
	}
	var nodes []string
	for _, node := range storage.NodesOf(have, w.Nodes) {
		if w.View.Online(node) {
			nodes = append(nodes, node)
		}
	}
	hanging := storage.Hanging(ctx, have, nodes, t.Conn)
	for _, node := range nodes {
		saw := ""
		switch {
		case slices.Contains(hanging, node):
			saw = fmt.Sprintf("gives no answer here: looking at %s took more than %d s", storage.MountOf(have), storage.HangSeconds)
		case !changing:
			saw = w.silent(node, have.ID)
		}
		if saw != "" {
			t.Warn(node, fmt.Sprintf("storage %s %s (look: timeout 30 pvesm status; %s)", have.ID, saw, lookFurther(a)))
		}
	}
}

func lookFurther(a storageArgs) string {
	if look := lookAt(a); look != lookAt(storageArgs{}) {
		return look
	}
	return "systemctl status pvestatd"
}

// silent says what a node has not told of a storage that it may use; "" if it has, or cannot have yet.
func (w *world) silent(node, id string) string {
	rows := w.Rows[node]
	row, told := rows[id]
	switch {
	case w.Now.Sub(w.Changed) < settling:
		return ""
	case !told && len(rows) == 0:
		return "may or may not work here: the node has told of none of its storages for five minutes"
	case !told:
		return "has not been active here for five minutes"
	}
	if ago := w.Now.Sub(time.Unix(row.Time, 0)); ago > silence {
		return fmt.Sprintf("was last told of here %s ago, which is every ten seconds where nothing hangs", ago.Round(time.Second))
	}
	return ""
}
