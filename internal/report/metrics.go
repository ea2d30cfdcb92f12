package report

import (
	"fmt"
	"io"
	"maps"
	"slices"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/health"
)

// Metrics writes the state of a cluster in the text format of Prometheus, for a file that node_exporter picks up or for a
// monitoring that runs commands. Units are in the names.
func Metrics(w io.Writer, r health.Report) error {
	m := metrics{cluster: r.Cluster, families: map[string]*dto.MetricFamily{}}
	m.votes(r)
	for _, n := range r.Nodes {
		m.node(n)
	}
	for _, l := range r.Loads {
		m.load(l)
	}
	m.services(r)
	for _, name := range slices.Sorted(maps.Keys(m.families)) {
		if _, err := expfmt.MetricFamilyToText(w, m.families[name]); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	return nil
}

type metrics struct {
	cluster  string
	families map[string]*dto.MetricFamily
}

// set adds a value of a gauge. labels are names and values in turn; every value has the cluster too.
func (m *metrics) set(name, help string, value float64, labels ...string) {
	name = "pxrun_" + name
	family := m.families[name]
	if family == nil {
		family = &dto.MetricFamily{Name: &name, Help: &help, Type: dto.MetricType_GAUGE.Enum()}
		m.families[name] = family
	}
	metric := &dto.Metric{Gauge: &dto.Gauge{Value: &value}}
	labels = append([]string{"cluster", m.cluster}, labels...)
	for i := 0; i+1 < len(labels); i += 2 {
		metric.Label = append(metric.Label, &dto.LabelPair{Name: &labels[i], Value: &labels[i+1]})
	}
	family.Metric = append(family.Metric, metric)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (m *metrics) votes(r health.Report) {
	m.set("cluster_quorate", "Whether a node that answered is quorate.", truth(r.Quorate))
	m.set("cluster_votes", "Votes that are there.", float64(r.Votes.Total))
	m.set("cluster_votes_expected", "All votes.", float64(r.Votes.Expected))
	m.set("cluster_votes_needed", "Votes that quorum needs.", float64(r.Votes.Quorum))
	m.set("cluster_bearable_failures", "Nodes that may fail before quorum is lost; -1 when it is.", float64(r.Votes.Bearable))
	m.set("cluster_config_version", "Version of corosync.conf.", float64(r.Version))
	if r.Votes.Device != "" {
		m.set("qdevice_casting", "Whether the QDevice casts its vote.", truth(r.Votes.DeviceOnline))
	}
	counts := map[pve.Severity]int{pve.Critical: 0, pve.Warning: 0, pve.Info: 0}
	for _, f := range r.Findings {
		counts[f.Severity]++
	}
	for _, severity := range []pve.Severity{pve.Critical, pve.Warning, pve.Info} {
		m.set("findings", "Findings by severity.", float64(counts[severity]), "severity", string(severity))
	}
}

func (m *metrics) node(n pve.NodeReport) {
	m.set("node_reachable", "Whether the node answered.", truth(n.Error == ""), "node", n.Name)
	m.set("node_online", "Whether the others see the node.", truth(n.Online), "node", n.Name)
	m.set("node_quorate", "Whether the node itself is quorate.", truth(n.Quorate), "node", n.Name)
	for _, unit := range slices.Sorted(maps.Keys(n.Services)) {
		m.set("node_service_up", "Whether a service runs.", truth(n.Services[unit]), "node", n.Name, "service", unit)
	}
	for _, l := range n.Links {
		labels := []string{"node", n.Name, "peer", fmt.Sprint(l.NodeID), "link", fmt.Sprint(l.Link)}
		m.set("link_up", "Whether a corosync link is connected; peer is the other's node id.", truth(l.Connected), labels...)
		m.set("link_rtt_seconds", "Round trip of a corosync link.", l.RTT.Seconds(), labels...)
	}
}

func (m *metrics) load(l health.Load) {
	m.set("node_uptime_seconds", "Time since the node started.", l.Uptime.Seconds(), "node", l.Node)
	m.set("node_load1", "Load average of one minute.", l.Load, "node", l.Node)
	m.set("node_memory_bytes", "Memory.", float64(l.MemoryTotal), "node", l.Node)
	m.set("node_memory_available_bytes", "Memory that programs may have.", float64(l.MemoryFree), "node", l.Node)
	m.set("node_root_bytes", "Size of the root file system.", float64(l.RootTotal), "node", l.Node)
	m.set("node_root_used_bytes", "What is used of it.", float64(l.RootUsed), "node", l.Node)
	m.set("node_kernel_pending", "Whether the next boot takes another kernel.", truth(l.PendingKernel != ""), "node", l.Node)
}

func (m *metrics) services(r health.Report) {
	m.set("guests", "Guests of the cluster.", float64(r.Guests.Total))
	m.set("guests_running", "Guests that run.", float64(r.Guests.Running))
	m.set("guests_locked", "Guests that a task has locked.", float64(r.Guests.Locked))
	if h := r.HA; h != nil {
		m.set("ha_resources", "Guests under HA.", float64(h.Resources))
		for _, state := range slices.Sorted(maps.Keys(h.States)) {
			m.set("ha_services", "HA services by state.", float64(h.States[state]), "state", state)
		}
		m.set("ha_nodes_in_maintenance", "Nodes in maintenance.", float64(len(h.Maintenance)))
	}
	if c := r.Ceph; c != nil {
		m.set("ceph_healthy", "Whether Ceph says HEALTH_OK.", truth(c.Health == "HEALTH_OK"))
		m.set("ceph_monitors", "Monitors.", float64(c.Mons))
		m.set("ceph_monitors_in_quorum", "Monitors in quorum.", float64(c.InQuorum))
		m.set("ceph_osds", "OSDs.", float64(c.OSDs))
		m.set("ceph_osds_up", "OSDs that are up.", float64(c.Up))
		m.set("ceph_osds_in", "OSDs that are in.", float64(c.In))
		m.set("ceph_pgs_clean", "Whether all placement groups are active and clean.", truth(c.NotClean == ""))
		m.set("ceph_bytes", "Capacity.", float64(c.Bytes))
		m.set("ceph_used_bytes", "What is used of it.", float64(c.Used))
	}
	for _, s := range r.Storages {
		m.set("storage_missing_nodes", "Nodes that should have the storage and have told nothing of it.", float64(len(s.Missing)), "storage", s.ID, "type", s.Type)
		if s.Total > 0 {
			m.set("storage_bytes", "Size.", float64(s.Total), "storage", s.ID, "type", s.Type)
			m.set("storage_used_bytes", "What is used of it.", float64(s.Used), "storage", s.ID, "type", s.Type)
		}
	}
}
