package ha

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/lab/clock"
	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/vfs"
)

// The files of the HA stack below /etc/pve.
const (
	pve           = "/etc/pve/"
	haDir         = "ha"
	resourcesFile = "ha/resources.cfg"
	groupsFile    = "ha/groups.cfg"
	rulesFile     = "ha/rules.cfg"
	commandsFile  = "ha/crm_commands"
	managerFile   = "ha/manager_status"
	dcFile        = "datacenter.cfg"
)

func lrmFile(node string) string { return "nodes/" + node + "/lrm_status" }

// read returns a file below /etc/pve, empty if there is none.
func read(v *vfs.View, name string) ([]byte, error) {
	text, err := v.ReadFile(pve + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// replace writes a file below /etc/pve beside its place and renames it, so that nobody sees half of it.
func replace(v *vfs.View, name string, text []byte) error {
	temp := pve + name + ".tmp.1207"
	if err := v.WriteFile(temp, text, 0o640); err != nil {
		return err
	}
	return v.Rename(temp, pve+name)
}

// locked runs code under the lock of the HA configuration, "domain-ha". What it says about waiting goes to messages.
func locked(ctx context.Context, c clock.Clock, v *vfs.View, messages io.Writer, code func() error) error {
	const id, attempts = "domain-ha", 10
	dir := pve + "priv/lock/" + id
	_ = v.Mkdir(pve+"priv/lock", 0o755) // it is there, or the next call says what is wrong
	for i := 0; ; i++ {
		err := v.Mkdir(dir, 0o755)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("cfs-lock '%s' error: no quorum!", id) //nolint:revive // Proxmox's words
		}
		if i == attempts-1 {
			return fmt.Errorf("cfs-lock '%s' error: got lock request timeout", id)
		}
		_ = v.Chtimes(dir, time.Unix(0, 0), time.Unix(0, 0)) // asks for an expired lock to be taken away
		fmt.Fprintf(messages, "trying to acquire cfs lock '%s' ...\n", id)
		if err := c.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	defer func() { _ = v.Remove(dir) }()
	return code()
}

// guestNodes reads .vmlist: the node and kind of each guest by its number.
func guestNodes(text []byte) map[string]guest {
	var file struct {
		IDs map[string]guest `json:"ids"`
	}
	if json.Unmarshal(text, &file) != nil {
		return nil
	}
	return file.IDs
}

// guest is an entry of .vmlist.
type guest struct {
	Node string `json:"node"`
	Type string `json:"type"` // qemu or lxc
}

// sid is what the HA manager calls a guest.
func (g guest) sid(id string) string {
	if g.Type == "lxc" {
		return "ct:" + id
	}
	return "vm:" + id
}

// nodesOf are the nodes of guests by their numbers.
func nodesOf(guests map[string]guest) map[string]string {
	out := make(map[string]string, len(guests))
	for id, g := range guests {
		out[id] = g.Node
	}
	return out
}

// datacenter is what the HA stack reads in datacenter.cfg.
type datacenter struct {
	policy     string // ha: shutdown_policy
	maxWorkers int
	scheduler  string // crs: ha
	balance    bool   // crs: ha-rebalance-on-start
}

func parseDatacenter(text string) datacenter {
	d := datacenter{policy: "conditional", maxWorkers: 4, scheduler: "basic"}
	for line := range strings.SplitSeq(text, "\n") {
		key, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !ok {
			continue
		}
		for part := range strings.SplitSeq(value, ",") {
			name, setting, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch key + "." + name {
			case "ha.shutdown_policy":
				d.policy = setting
			case "crs.ha":
				d.scheduler = setting
			case "crs.ha-rebalance-on-start":
				d.balance = setting == "1" || setting == "on" || setting == "yes" || setting == "true"
			}
		}
		if n, err := strconv.Atoi(value); key == "max_workers" && err == nil && n > 0 {
			d.maxWorkers = n
		}
	}
	return d
}

// memory remembers what files parse to, so that a cluster of many nodes reads each state of a file once. What it returns is
// shared and must not be changed.
type memory[T any] struct {
	mu   sync.Mutex
	last []remembered[T]
}

type remembered[T any] struct {
	stamp any
	value T
}

// get returns what a stamp stands for, calling read if it is new. A partition has several states of a file at once.
func (m *memory[T]) get(stamp any, read func() (T, error)) (T, error) {
	const states = 4
	m.mu.Lock()
	for _, r := range m.last {
		if r.stamp == stamp {
			m.mu.Unlock()
			return r.value, nil
		}
	}
	m.mu.Unlock()
	value, err := read()                    // may hang with pmxcfs, hence without the lock
	if err != nil || stamp == any(absent) { // of a file that was not there it is not known when it comes
		return value, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = append(m.last, remembered[T]{stamp: stamp, value: value})
	if len(m.last) > states {
		m.last = m.last[1:]
	}
	return value, nil
}

// configured is the state of all that the configuration says, with the guests' nodes.
type configured struct {
	conf   map[string]*serviceConf
	groups map[string]*group
	rules  []*rule
}

// configStamp changes when anything does that configured depends on.
type configStamp struct{ resources, groups, rules, guests cluster.Stamp }
