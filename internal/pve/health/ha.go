package health

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ha"
)

// stale is the age from which the word of an HA daemon counts as old: they write every ten seconds.
const stale = 30 * time.Second

// highAvailability judges what the HA manager does.
func (r *Report) highAvailability(s *ha.State, members []pve.NodeState) {
	for _, name := range slices.Sorted(maps.Keys(s.Unread)) {
		r.add(pve.Finding{Severity: pve.Critical, Node: s.From, Check: "ha", Saw: fmt.Sprintf("the read of %s failed: %s", name, s.Unread[name]), Look: "ls -l /etc/pve/ha", Remedy: "systemctl status pve-cluster"})
	}
	if len(s.Resources) == 0 && s.Manager == nil {
		return
	}
	h := &HA{Resources: len(s.Resources), States: map[string]int{}}
	r.HA = h
	if s.Manager != nil {
		h.Master, h.Maintenance, h.Disarmed = s.Manager.Master, s.Manager.Maintenance, s.Manager.Disarmed
		if !s.Now.IsZero() && !s.Manager.Time.IsZero() {
			h.Age = max(s.Now.Sub(s.Manager.Time), 0)
		}
	}
	r.haDaemons(s, members)
	r.haServices(s, h)
	r.haLeftovers(s)
}

// haDaemons: where guests are under HA, the CRM's master and every LRM must have written lately.
func (r *Report) haDaemons(s *ha.State, members []pve.NodeState) {
	if len(s.Resources) == 0 || s.Now.IsZero() {
		return
	}
	switch {
	case s.Manager == nil:
		r.add(pve.Finding{Severity: pve.Critical, Check: "ha", Saw: "guests are under HA and no CRM has ever run", Look: "systemctl status pve-ha-crm", Remedy: "systemctl start pve-ha-crm on the nodes"})
	case s.Now.Sub(s.Manager.Time) > stale:
		follows := pve.CauseOf(r.Lost, s.Manager.Master)
		if r.Stale != "" && !r.Quorate {
			follows = pve.CauseQuorum
		}
		r.add(pve.Finding{
			Severity: pve.Critical, Node: s.Manager.Master, Check: "ha", Follows: follows, Saw: fmt.Sprintf("the HA master has not written for %s", s.Now.Sub(s.Manager.Time).Round(time.Second)),
			Look: "ha-manager status; systemctl status pve-ha-crm", Remedy: "another node takes over within two minutes if the master is gone",
		})
	}
	for _, m := range members {
		l, there := s.LRMs[m.Hostname]
		if !m.Writable || there && s.Now.Sub(l.Time) <= stale {
			continue
		}
		saw := "the LRM has never written"
		if there {
			saw = fmt.Sprintf("the LRM has not written for %s", s.Now.Sub(l.Time).Round(time.Second))
		}
		r.add(pve.Finding{
			Severity: pve.Critical, Node: m.Host, Check: "ha", Saw: saw, Look: "systemctl status pve-ha-lrm",
			Remedy: "systemctl start pve-ha-lrm; never stop watchdog-mux",
		})
	}
}

// haServices: states in which a guest is not where it should be, or cannot be helped.
func (r *Report) haServices(s *ha.State, h *HA) {
	if s.Manager == nil {
		return
	}
	bad, nodes := map[string][]string{}, map[string][]string{}
	for sid, v := range s.Manager.Services {
		h.States[v.State]++
		switch v.State {
		case "error", "fence", "recovery", "freeze":
			bad[v.State], nodes[v.State] = append(bad[v.State], sid+" on "+v.Node), append(nodes[v.State], v.Node)
		}
	}
	remedies := map[string]string{
		"error":    "mend the cause; ha-manager set <sid> --state disabled, wait until it is stopped, then --state started",
		"fence":    "the node is being fenced: its guests start elsewhere in two or three minutes",
		"recovery": "no node may take them: look at rules and at the nodes that are left",
		"freeze":   "they go on when their node's HA services are back",
	}
	for _, state := range slices.Sorted(maps.Keys(bad)) {
		slices.Sort(bad[state])
		follows := ""
		if state == "fence" { // HA recovers them by itself; in another state they need somebody
			follows = pve.CauseOf(r.Lost, nodes[state]...)
		}
		r.add(pve.Finding{
			Severity: pve.Critical, Check: "ha", Follows: follows, Saw: fmt.Sprintf("in state %s: %s", state, few(bad[state])), Look: "ha-manager status; journalctl -u pve-ha-crm", Remedy: remedies[state],
		})
	}
}

// few lists the first things of many.
func few(items []string) string {
	const most = 5
	if len(items) <= most {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), len(items)-most)
}

// haLeftovers: what somebody may have forgotten.
func (r *Report) haLeftovers(s *ha.State) {
	if s.Manager == nil {
		return
	}
	for _, node := range s.Manager.Maintenance {
		r.add(pve.Finding{
			Severity: pve.Warning, Node: node, Check: "maintenance", Saw: node + " is in maintenance: no HA guest runs there", Look: "ha-manager status",
			Remedy: "ha-manager crm-command node-maintenance disable " + node + ", if nobody works on it",
		})
	}
	if s.Manager.Disarmed != "" {
		r.add(pve.Finding{
			Severity: pve.Warning, Check: "maintenance", Saw: "HA is disarmed (" + s.Manager.Disarmed + "): no guest is recovered", Look: "ha-manager status", Remedy: "ha-manager crm-command arm-ha, if nobody works on the network",
		})
	}
}
