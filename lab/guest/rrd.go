package guest

import (
	"fmt"
	"strings"
	"time"
)

// How often pvestatd tells of the guests, and when what it told is dropped.
const (
	statusEvery = 10 * time.Second
	statusKept  = 5 * time.Minute
)

// row is what pvestatd told of a guest. Of two nodes that tell of the same guest, the last one counts.
type row struct {
	writer string
	at     time.Duration
	line   string
	stamp  string // of the config file that conf was read from
	conf   *Config
}

// statusLoop tells of the node's guests every ten seconds, as long as the lab lives.
func (h *Host) statusLoop() {
	h.m.Clock().AfterFunc(statusEvery, func() {
		h.post()
		h.statusLoop()
	})
}

// post is one round of pvestatd.
func (h *Host) post() {
	if !h.m.Up() || !h.m.UnitActive("pvestatd") || !h.node.Mounted() {
		return
	}
	major := h.node.Release().Major()
	now, date := h.m.Clock().Elapsed(), h.m.Now().Unix()
	for _, k := range []*kind{vm, ct} {
		entries, err := h.m.FS.ReadDir("/etc/pve/nodes/" + h.name + "/" + k.dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			id, err := parseID(strings.TrimSuffix(e.Name, ".conf"))
			if err != nil {
				continue
			}
			conf, stamp := h.confOf(k, id, fmt.Sprintf("%d %d", e.ModTime.UnixNano(), e.Size))
			if conf == nil {
				continue
			}
			line := h.line(k, id, conf, major, date)
			h.w.mu.Lock()
			h.w.rows[id] = &row{writer: h.name, at: now, line: line, stamp: stamp, conf: conf}
			h.w.mu.Unlock()
		}
	}
}

// confOf returns a guest's config, read again only when the file has changed.
func (h *Host) confOf(k *kind, id int, stamp string) (*Config, string) {
	h.w.mu.Lock()
	known := h.w.rows[id]
	h.w.mu.Unlock()
	if known != nil && known.writer == h.name && known.stamp == stamp {
		return known.conf, stamp
	}
	text, err := h.m.FS.ReadFile(configPath(k, h.name, id))
	if err != nil {
		return nil, ""
	}
	return ParseConfig(string(text)), stamp
}

// line is a guest in .rrd (reference §2.2).
func (h *Host) line(k *kind, id int, conf *Config, major int, date int64) string {
	uptime, state, cpu, memory := 0, "stopped", "", int64(0)
	if i := h.instanceOf(id); i != nil {
		uptime, state, cpu, memory = int((h.m.Clock().Elapsed() - i.started).Seconds()), h.statusOf(i), "0.0125", k.memoryOf(conf)/2
		conf = i.conf
	}
	template := 0
	if conf.is("template") {
		template = 1
	}
	key, tail := "pve2.3-vm", ""
	if major >= 9 {
		key, tail = "pve-vm-9.0", fmt.Sprintf(":%d:0:0:0:0:0:0", memory)
	}
	if cpu == "" {
		cpu = "0"
	}
	return fmt.Sprintf("%s/%d:%d:%s:%s:%d:%d:%d:%s:%d:%d:%d:0:0:0:0:0%s\n", key, id, uptime, k.nameOf(conf, id), state, template, date,
		k.cpusOf(conf), cpu, k.memoryOf(conf), memory, k.bootDisk(conf), tail)
}

// rrdLines are the rows that this node told last. The cluster's lock is held: nothing is asked here.
func (h *Host) rrdLines() string {
	now := h.m.Clock().Elapsed()
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	var b strings.Builder
	for _, r := range h.w.rows {
		if r.writer == h.name && now-r.at < statusKept {
			b.WriteString(r.line)
		}
	}
	return b.String()
}
