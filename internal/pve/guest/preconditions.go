package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

// Preconditions are what Proxmox VE itself says of a machine's migration (reference §6.4). They are the authority on
// storages, devices and HA rules; they say nothing of bridges, processors and memory.
type Preconditions struct {
	Running bool
	// Not holds, for each node that will not do, why.
	Not map[string][]string
	// LocalDisks and LocalResources are what must be copied, and what keeps the machine where it is.
	LocalDisks     []string
	LocalResources []string
	// Refused is what the call itself failed with: VM is locked (backup).
	Refused string
}

// checksAtOnce bounds the questions that a node answers at a time: each starts an interpreter that loads the whole API.
const checksAtOnce = 4

// Check is the command that asks a node about one of its machines.
func Check(node string, id int) transport.Command {
	return transport.Command{Argv: []string{"pvesh", "get", fmt.Sprintf("/nodes/%s/qemu/%d/migrate", node, id), "--output-format", "json"}, Timeout: time.Minute, Own: true}
}

// ReadPreconditions asks a node about its machines, by id. The node must be the one that conn leads to: about others, Proxmox VE
// would ask by SSH itself.
func ReadPreconditions(ctx context.Context, node string, conn transport.Conn, ids []int) (map[int]Preconditions, error) {
	out := map[int]Preconditions{}
	var mu sync.Mutex
	asking := pool.New().WithErrors().WithMaxGoroutines(checksAtOnce)
	for _, id := range ids {
		asking.Go(func() error {
			r, err := conn.Run(ctx, Check(node, id))
			if err != nil {
				return fmt.Errorf("ask %s about the migration of %d: %w", node, id, err)
			}
			text := string(r.Stdout)
			if r.Exit != 0 {
				text = string(r.Stderr)
			}
			mu.Lock()
			defer mu.Unlock()
			out[id] = ParsePreconditions(strings.TrimSpace(text), r.Exit)
			return nil
		})
	}
	return out, asking.Wait()
}

// ParsePreconditions reads the answer to Check: JSON, or what the call failed with. Noise before the JSON is skipped.
func ParsePreconditions(body string, exit int) Preconditions {
	var raw struct {
		Running json.RawMessage `json:"running"`
		Not     map[string]struct {
			Storages  []string `json:"unavailable_storages"`
			Resources []string `json:"unavailable-resources"`
			HA        []struct {
				SID   string `json:"sid"`
				Cause string `json:"cause"`
			} `json:"blocking-ha-resources"`
		} `json:"not_allowed_nodes"`
		Disks []struct {
			Volume string          `json:"volid"`
			CDROM  json.RawMessage `json:"cdrom"`
		} `json:"local_disks"`
		Resources []string `json:"local_resources"`
	}
	at := strings.IndexByte(body, '{')
	if exit != 0 || at < 0 || json.NewDecoder(strings.NewReader(body[at:])).Decode(&raw) != nil {
		said := strings.Join(strings.Fields(body), " ")
		if said == "" {
			said = fmt.Sprintf("nothing (exit %d)", exit)
		}
		return Preconditions{Refused: said}
	}
	p := Preconditions{Running: strings.Trim(string(raw.Running), `"`) == "1", Not: map[string][]string{}, LocalResources: raw.Resources}
	for node, why := range raw.Not {
		for _, s := range why.Storages {
			p.Not[node] = append(p.Not[node], "storage "+s+" is not available there")
		}
		for _, r := range why.Resources {
			p.Not[node] = append(p.Not[node], "the mapped device "+r+" is not available there")
		}
		for _, h := range why.HA {
			p.Not[node] = append(p.Not[node], fmt.Sprintf("%s keeps it away by a rule (%s)", h.SID, h.Cause))
		}
		slices.Sort(p.Not[node])
	}
	for _, disk := range raw.Disks {
		p.LocalDisks = append(p.LocalDisks, disk.Volume)
	}
	return p
}

// Add puts what Proxmox VE says of the target among the reasons of a move. Storages that are mapped to others are the
// caller's affair, and left out.
func (m *Move) Add(p Preconditions, o Options) {
	look := "pvesh get /nodes/$(hostname)/qemu/<id>/migrate"
	if p.Refused != "" {
		if !m.Has(IsLocked) {
			m.Reasons = append(m.Reasons, Reason{PreconditionsSaid, "Proxmox VE says: " + p.Refused, "its consent", look, ""})
		}
		m.Way = Nowhere
		return
	}
	for _, why := range p.Not[m.Target] {
		if strings.HasPrefix(why, "storage ") && (len(o.Storages) > 0 || m.Has(StorageMissing)) || strings.HasPrefix(why, "the mapped") && m.Has(MappingMissing) {
			continue
		}
		m.Reasons = append(m.Reasons, Reason{PreconditionsSaid, "Proxmox VE says of " + m.Target + ": " + why, "a node that it allows", look, "name another target"})
		m.Way = Nowhere
	}
}
