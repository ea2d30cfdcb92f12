package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
)

// readyProbe reads what the nodes of a running cluster have room for, before anything is done to them.
var readyProbe = transport.Command{Timeout: 90 * time.Second, Script: frame.Script(
	frame.Read{Name: "storages", Seconds: 30, Command: `sh -c 'if [ -e /etc/pve/storage.cfg ]; then exec pvesm status; fi'`, Pmxcfs: true},
	frame.Read{Name: "config", Seconds: 10, Command: "cat /etc/pve/storage.cfg", Pmxcfs: true},
	frame.Read{Name: "room", Seconds: 10, Command: `sh -c 'df -PB1 / /boot; true'`},
	frame.Read{Name: "zfs", Seconds: 20, Command: `sh -c 'if command -v zpool >/dev/null 2>&1; then exec zpool list -H; fi'`},
	frame.Read{Name: "templates", Seconds: 10, Command: `sh -c 'grep -l "^template: 1" /etc/pve/local/qemu-server/*.conf /etc/pve/local/lxc/*.conf 2>/dev/null; true'`, Pmxcfs: true},
)}

// bootRoom is what has to be free at /boot for a kernel and its initrd, rootRoom at / for packages (reference §7.6).
const (
	bootRoom = 200 << 20
	rootRoom = 1 << 30
)

// readyNode is what a node says of its room.
type readyNode struct {
	host    string
	err     error
	answers map[string]frame.Answer
}

// ready checks what work on a running cluster needs of its nodes: storages that are active and not full, room, sound pools of ZFS, and
// backups if they are asked for.
func (v siteView) ready(ctx context.Context, t module.Target, args preflightArgs) []problem {
	nodes := make([]readyNode, len(v.states))
	p := pool.New().WithMaxGoroutines(64)
	for i, s := range v.states {
		p.Go(func() { nodes[i] = readReady(ctx, t, s.Host) })
	}
	p.Wait()
	var found []problem
	for _, n := range nodes {
		found = append(found, n.judge(args)...)
	}
	found = foldShared(found)
	if args.Backups > 0 {
		found = append(found, v.backups(ctx, t, nodes, args.Backups)...)
	}
	return found
}

func readReady(ctx context.Context, t module.Target, host string) readyNode {
	n := readyNode{host: host}
	conn, err := t.Conn(ctx, host)
	if err != nil {
		n.err = err
		return n
	}
	r, err := conn.Run(ctx, readyProbe)
	if err != nil {
		n.err = err
		return n
	}
	n.answers, n.err = frame.Parse(r.Stdout)
	return n
}

func (n readyNode) judge(args preflightArgs) []problem {
	if n.err != nil {
		return []problem{{check: checkRead, host: n.host, saw: "its room cannot be read: " + n.err.Error(), want: "an answer", look: "pvesm status; df -h"}}
	}
	return slices.Concat(n.storages(args.Full), n.room(), n.zfs(args.Full))
}

// storages wants every storage that is for the node active, and not full.
func (n readyNode) storages(full int) []problem {
	const look = "pvesm status"
	bad := func(saw, want, cure string) problem {
		return problem{check: checkStorages, host: n.host, saw: saw, want: want, look: look, cure: cure}
	}
	a := n.answers["storages"]
	switch {
	case a.Hung():
		return []problem{bad("pvesm status does not answer: a storage hangs", "every storage that is for the node active", "mend the storage, or disable it")}
	case a.RC != 0:
		return []problem{bad("pvesm status: "+lastLineOf(a.Text), "every storage that is for the node active", "")}
	}
	var found []problem
	for _, s := range storage.ParseStatus(a.Text) {
		switch {
		case s.Status == "inactive":
			found = append(found, bad("storage "+s.ID+" is inactive", "every storage that is for the node active", "mend the storage, or disable it"))
		case s.Status == "active" && s.Total > 0 && 100*s.Used >= int64(full)*s.Total:
			found = append(found, bad(fmt.Sprintf("storage %s is %d %% full", s.ID, 100*s.Used/s.Total), fmt.Sprintf("less than %d %%", full), "remove what is not needed, or make it larger"))
		}
	}
	return found
}

// room wants some at / and /boot. A folder without a file system of its own is that above it.
func (n readyNode) room() []problem {
	text, why := n.answers["room"].Found()
	if why != "" {
		return []problem{{check: checkSpace, host: n.host, saw: "df: " + why, want: "an answer", look: "df -h / /boot"}}
	}
	var found []problem
	seen := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 6 || seen[f[5]] {
			continue
		}
		free, err := strconv.ParseInt(f[3], 10, 64)
		if err != nil {
			continue // the heading
		}
		seen[f[5]] = true
		needs := int64(rootRoom)
		if f[5] == "/boot" {
			needs = bootRoom
		}
		if free < needs {
			found = append(found, problem{
				check: checkSpace, host: n.host, saw: fmt.Sprintf("%d MiB are free at %s", free>>20, f[5]), want: fmt.Sprintf("%d MiB at least", needs>>20), look: "df -h " + f[5],
				cure: "remove old kernels (apt-get autoremove), packages (apt-get clean) and logs",
			})
		}
	}
	return found
}

// zfs wants the pools of ZFS online and not full.
func (n readyNode) zfs(full int) []problem {
	text, why := n.answers["zfs"].Found()
	if why != "" {
		return []problem{{check: checkZFS, host: n.host, saw: "zpool list: " + why, want: "an answer", look: "zpool status"}}
	}
	var found []problem
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 10 {
			continue
		}
		if health := f[9]; health != "ONLINE" {
			found = append(found, problem{
				check: checkZFS, host: n.host, saw: "the pool " + f[0] + " is " + health, want: "ONLINE", look: "zpool status " + f[0], cure: "replace the disk that failed, and wait for the resilver",
			})
		}
		if used, err := strconv.Atoi(strings.TrimSuffix(f[7], "%")); err == nil && used >= full {
			found = append(found, problem{
				check: checkZFS, host: n.host, saw: fmt.Sprintf("the pool %s is %d %% full", f[0], used), want: fmt.Sprintf("less than %d %%", full), look: "zpool list " + f[0], cure: "remove old snapshots and volumes",
			})
		}
	}
	return found
}

// foldShared says once what all nodes say of a storage that they share.
func foldShared(found []problem) []problem {
	var out []problem
	for _, p := range found {
		i := slices.IndexFunc(out, func(o problem) bool {
			return o.check == checkStorages && p.check == checkStorages && o.saw == p.saw && strings.Contains(p.saw, "% full")
		})
		if i >= 0 {
			continue
		}
		out = append(out, p)
	}
	return out
}

// shares are the types of storages that all nodes see alike.
var shares = []string{"nfs", "cifs", "pbs", "cephfs", "glusterfs"}

// backups wants a backup of every guest but templates that is no older than a limit, on any storage for backups.
func (v siteView) backups(ctx context.Context, t module.Target, nodes []readyNode, limit time.Duration) []problem {
	newest, found := map[string]time.Time{}, []problem{}
	asked := map[string]bool{}
	for _, n := range nodes {
		for _, id := range n.backupStorages() {
			if asked[id.name] {
				continue
			}
			asked[id.name] = id.shared
			list, err := readBackups(ctx, t, n.host, id.name)
			if err != nil {
				found = append(found, problem{check: checkBackups, host: n.host, saw: fmt.Sprintf("the backups on %s cannot be read: %s", id.name, err), want: "a list of them", look: "pvesm list " + id.name + " --content backup"})
			}
			for vmid, at := range list {
				if at.After(newest[vmid]) {
					newest[vmid] = at
				}
			}
		}
	}
	now, err := nodeClock(ctx, t, v.states)
	if err != nil {
		return append(found, problem{check: checkBackups, saw: "the age of backups cannot be told: " + err.Error(), want: "the time of a node", look: "date"})
	}
	// Every node knows all guests, and of its own whether they are templates.
	wanted := map[string]bool{}
	for _, s := range v.states {
		for _, g := range s.Guests {
			wanted[g.ID] = true
		}
	}
	for _, n := range nodes {
		for _, id := range n.templates() {
			delete(wanted, id)
		}
	}
	var late []string
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		at, any := newest[id]
		switch {
		case !any:
			late = append(late, id+" (none)")
		case now.Sub(at) > limit:
			late = append(late, fmt.Sprintf("%s (%s old)", id, now.Sub(at).Round(time.Minute)))
		}
	}
	if len(late) > 0 {
		found = append(found, problem{
			check: checkBackups, saw: "guests without a recent backup: " + strings.Join(late, ", "), want: "one of every guest that is at most " + limit.String() + " old", look: "pvesm list <storage> --content backup",
			cure: "back them up: vzdump <id> --storage <storage>",
		})
	}
	return found
}

type backupStorage struct {
	name   string
	shared bool
}

// backupStorages are the active storages of a node that hold backups.
func (n readyNode) backupStorages() []backupStorage {
	text, _ := n.answers["config"].Found()
	sections, _ := config.ParseSections(text)
	var out []backupStorage
	for _, s := range storage.ParseStatus(n.answers["storages"].Text) {
		section, ok := config.FindSection(sections, s.ID)
		if s.Status == "active" && ok && (slices.Contains(section.List("content"), "backup") || s.Type == "pbs") {
			out = append(out, backupStorage{s.ID, slices.Contains(shares, s.Type) || section.Is("shared")})
		}
	}
	return out
}

func (n readyNode) templates() []string {
	text, _ := n.answers["templates"].Found()
	var out []string
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		out = append(out, strings.TrimSuffix(line[strings.LastIndexByte(line, '/')+1:], ".conf"))
	}
	return out
}

// readBackups gives the time of the newest backup of each guest on a storage.
func readBackups(ctx context.Context, t module.Target, host, id string) (map[string]time.Time, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return nil, err
	}
	r, err := conn.Run(ctx, transport.Command{
		Script: `exec pvesh get "/nodes/$(hostname)/storage/$1/content" --content backup --output-format json`, Argv: []string{id}, Timeout: 2 * time.Minute,
	})
	if err != nil {
		return nil, err
	}
	if r.Exit != 0 {
		return nil, fmt.Errorf("exit %d: %s", r.Exit, lastLineOf(r.Stderr))
	}
	return parseBackups(r.Stdout)
}

func parseBackups(text []byte) (map[string]time.Time, error) {
	var list []struct {
		Made  int64       `json:"ctime"`
		Guest json.Number `json:"vmid"`
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	out := map[string]time.Time{}
	for _, b := range list {
		if at := time.Unix(b.Made, 0); at.After(out[b.Guest.String()]) {
			out[b.Guest.String()] = at
		}
	}
	return out, nil
}

// nodeClock is the time by the clock of the first node that tells it: backups bear the times of nodes.
func nodeClock(ctx context.Context, t module.Target, states []pve.NodeState) (time.Time, error) {
	var last error
	for _, s := range states {
		conn, err := t.Conn(ctx, s.Host)
		if err == nil {
			var r transport.Result
			if r, err = conn.Run(ctx, transport.Command{Argv: []string{"date", "+%s.%N"}, Timeout: 10 * time.Second}); err == nil {
				return unixTime(r.Out())
			}
		}
		last = err
	}
	return time.Time{}, last
}

func lastLineOf(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}
