package guest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// list is qm list and pct list: only the guests of this node.
func list(_ context.Context, c *call) int {
	ids := c.ids(c.k, c.name)
	if len(ids) == 0 {
		return 0
	}
	if c.k == vm {
		c.p.Printf("%10s %-20s %-10s %-10s %12s %-10s\n", "VMID", "NAME", "STATUS", "MEM(MB)", "BOOTDISK(GB)", "PID")
	} else {
		c.p.Printf("%-10s %-10s %-12s %-20s\n", "VMID", "Status", "Lock", "Name")
	}
	for _, id := range ids {
		conf, err := c.load(c.k, id)
		if err != nil {
			continue // it moved meanwhile
		}
		if c.k == ct {
			c.p.Printf("%-10d %-10s %-12s %-20s\n", id, c.stateOf(id), conf.Values["lock"], c.k.nameOf(conf, id))
			continue
		}
		pid := 0
		if i := c.instanceOf(id); i != nil {
			pid = i.daemon.PID()
		}
		c.p.Printf("%10d %-20s %-10s %-10d %12.2f %-10d\n", id, c.k.nameOf(conf, id), c.stateOf(id), c.k.memoryOf(conf)>>20, float64(c.k.bootDisk(conf))/(1<<30), pid)
	}
	return 0
}

// stateOf is running or stopped, as list and status have it.
func (h *Host) stateOf(id int) string {
	if h.runs(id) {
		return "running"
	}
	return "stopped"
}

// bootDisk is the size of the disk that a guest boots from, in bytes.
func (k *kind) bootDisk(c *Config) int64 {
	for _, d := range k.drivesOf(c.Values) {
		if !d.unused && !d.cdrom && d.size() > 0 {
			return d.size()
		}
	}
	return 0
}

// status is qm status and pct status.
func status(_ context.Context, c *call) int {
	conf, err := c.load(c.k, c.id)
	if err != nil {
		return c.fail(err)
	}
	if !c.o.Is("verbose") {
		c.p.Printf("status: %s\n", c.stateOf(c.id))
		return 0
	}
	values := c.summary(c.k, c.id, conf)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		c.p.Printf("%s: %v\n", key, values[key])
	}
	return 0
}

// summary is a guest as lists of the API show it.
func (h *Host) summary(k *kind, id int, conf *Config) pvetool.Object {
	o := pvetool.Object{
		"vmid": id, "name": k.nameOf(conf, id), "status": h.stateOf(id), "maxmem": k.memoryOf(conf), "cpus": k.cpusOf(conf),
		"maxdisk": k.bootDisk(conf), "cpu": 0, "mem": 0, "uptime": 0, "disk": 0, "netin": 0, "netout": 0, "diskread": 0, "diskwrite": 0,
	}
	if i := h.instanceOf(id); i != nil {
		o["uptime"] = int((h.m.Clock().Elapsed() - i.started).Seconds())
		o["pid"] = i.daemon.PID()
		o["cpu"], o["mem"] = 0.01, k.memoryOf(conf)/2
		if k == vm {
			o["qmpstatus"] = h.statusOf(i)
		}
	} else if k == vm {
		o["qmpstatus"] = "stopped"
	}
	if k == ct {
		o["type"] = "lxc"
	}
	for _, key := range []string{"lock", "tags"} {
		if v := conf.Values[key]; v != "" {
			o[key] = v
		}
	}
	if conf.is("template") {
		o["template"] = 1
	}
	return o
}

// showConfig is qm config and pct config.
func showConfig(_ context.Context, c *call) int {
	conf, err := c.load(c.k, c.id)
	if err != nil {
		return c.fail(err)
	}
	values := conf.merged()
	if c.o.Is("current") {
		values = conf.Values
	}
	if name := c.o.Values["snapshot"]; name != "" {
		if values = conf.Snapshots[name]; values == nil {
			return c.fail(fmt.Errorf("snapshot '%s' does not exist", name))
		}
	}
	if len(conf.Description) > 0 {
		c.p.Printf("description: %s\n", strings.Join(conf.Description, "%0A"))
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		c.p.Printf("%s: %s\n", key, values[key])
	}
	return 0
}

// pending is qm pending and pct pending.
func pending(_ context.Context, c *call) int {
	conf, err := c.load(c.k, c.id)
	if err != nil {
		return c.fail(err)
	}
	keys := map[string]bool{}
	for _, set := range []map[string]string{conf.Values, conf.Pending} {
		for key := range set {
			keys[key] = true
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		now, ok := conf.Values[key]
		if ok {
			c.p.Printf("cur %s: %s\n", key, now)
		}
		if next, ok := conf.Pending[key]; ok {
			c.p.Printf("new %s: %s\n", key, next)
		}
		if slices.Contains(conf.Deleted, key) {
			c.p.Printf("del %s: %s\n", key, now)
		}
	}
	return 0
}
