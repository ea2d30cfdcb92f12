package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sourcegraph/conc/pool"

	"github.com/pxrun/pxrun/lab/ceph"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/pxrun/pxrun/lab/machine"
)

// Formed is a cluster that has been there for long, as opposed to the fresh nodes that a lab begins with.
type Formed struct {
	// Corosync is the corosync.conf; "" leaves the nodes standalone.
	Corosync string
	// Files are written below /etc/pve: "storage.cfg", "datacenter.cfg".
	Files map[string]string
	// HA are the files of the HA manager, "resources.cfg" and so on; they are written when the guests are there.
	HA map[string]string
	// Guests are put on nodes as they are.
	Guests map[string][]guest.Spec
	Ceph   *ceph.Formed
	// Lists is how old the package lists of nodes are; less than 0 is older than the repositories' last change. Nodes that are not
	// in it have never fetched any.
	Lists map[string]time.Duration
	// Maintenance are the nodes for which HA's maintenance is on, Off those that are switched off.
	Maintenance, Off []string
}

// formers is how many nodes are worked on at once.
const formers = 16

// Form makes the nodes of a lab, which are fresh, a cluster in a given state, without the commands that would lead there: what
// a copy of a cluster begins with. It returns when the cluster has settled. What it writes does not count as written.
func (l *Lab) Form(ctx context.Context, f Formed) error {
	first := l.firstNode()
	if first == nil {
		return errors.New("the lab has no Proxmox node")
	}
	if f.Corosync != "" {
		if err := l.world.Form(ctx, f.Corosync); err != nil {
			return err
		}
	}
	if err := first.writeFiles(f.Files); err != nil {
		return err
	}
	if f.Ceph != nil {
		if err := l.ceph.Form(ctx, *f.Ceph); err != nil {
			return err
		}
	}
	for _, node := range slices.Sorted(maps.Keys(f.Guests)) {
		if err := l.addGuests(ctx, node, f.Guests[node]); err != nil {
			return err
		}
	}
	high := map[string]string{}
	for name, text := range f.HA {
		high["ha/"+name] = text
	}
	if err := first.writeFiles(high); err != nil {
		return err
	}
	if err := l.fetchLists(ctx, f.Lists); err != nil {
		return err
	}
	if err := l.settleHA(ctx, first, f); err != nil {
		return err
	}
	for _, name := range f.Off {
		if h := l.net.host(name); h != nil {
			h.machine.PowerOff()
		}
	}
	const round = 12 * time.Second // daemons tell of themselves every ten
	if err := l.clock.Sleep(ctx, round); err != nil {
		return err
	}
	l.ResetWrites()
	return nil
}

func (l *Lab) firstNode() *host {
	for _, h := range l.hosts {
		if h.spec.PVE != "" {
			return h
		}
	}
	return nil
}

// writeFiles writes below /etc/pve.
func (h *host) writeFiles(files map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		at := "/etc/pve/" + name
		if err := h.machine.FS.MkdirAll(path.Dir(at), 0o755); err != nil {
			return fmt.Errorf("%s: %s", at, machine.Reason(err))
		}
		if err := h.machine.FS.WriteFile(at, []byte(files[name]), 0o640); err != nil {
			return fmt.Errorf("%s: %s", at, machine.Reason(err))
		}
	}
	return nil
}

// fetchLists lets nodes know what their repositories have, as of some time ago.
func (l *Lab) fetchLists(ctx context.Context, ages map[string]time.Duration) error {
	work := pool.New().WithMaxGoroutines(formers).WithErrors()
	for name, age := range ages {
		h := l.net.host(name)
		if h == nil {
			continue
		}
		work.Go(func() error {
			// A repository that refuses leaves the others' lists: that is how the node stands, too.
			h.machine.Exec(ctx, machine.Proc{Argv: []string{"apt-get", "-qq", "update"}, Dir: "/", Stdout: io.Discard, Stderr: io.Discard})
			at := h.machine.Now().Add(-age)
			if age < 0 {
				at = time.Unix(0, 0)
			}
			return h.machine.FS.Chtimes("/var/lib/apt/lists", at, at)
		})
	}
	return work.Wait()
}

// settleHA waits until the HA manager knows all its services, and asks for the maintenance of nodes.
func (l *Lab) settleHA(ctx context.Context, first *host, f Formed) error {
	wanted := strings.Count("\n"+f.HA["resources.cfg"], "\nvm: ") + strings.Count("\n"+f.HA["resources.cfg"], "\nct: ")
	for _, node := range f.Maintenance {
		first.machine.Exec(ctx, machine.Proc{Argv: []string{"ha-manager", "crm-command", "node-maintenance", "enable", node}, Dir: "/", Stdout: io.Discard, Stderr: io.Discard})
	}
	if wanted == 0 && len(f.Maintenance) == 0 {
		return nil
	}
	const patience = 5 * time.Minute
	for end := l.clock.Elapsed() + patience; ; {
		if first.manages(wanted, f.Maintenance) {
			return nil
		}
		if l.clock.Elapsed() > end {
			return errors.New("the HA manager of the lab does not settle")
		}
		if err := l.clock.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
}

// manages reports whether the HA manager has so many services, none of them on its way, and the nodes in maintenance.
func (h *host) manages(services int, maintenance []string) bool {
	text, err := h.machine.FS.ReadFile("/etc/pve/ha/manager_status")
	if err != nil {
		return false
	}
	var status struct {
		Nodes    map[string]string `json:"node_status"`
		Services map[string]struct {
			State string `json:"state"`
		} `json:"service_status"`
	}
	if json.Unmarshal(text, &status) != nil || len(status.Services) < services {
		return false
	}
	for _, s := range status.Services {
		if slices.Contains([]string{"", "queued", "migrate", "relocate", "request_start", "request_start_balance"}, s.State) {
			return false
		}
	}
	for _, node := range maintenance {
		if status.Nodes[node] != "maintenance" {
			return false
		}
	}
	return true
}
