package health

import (
	"fmt"
	"strings"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ceph"
)

// causeCeph is the cause of what does not work because Ceph does not serve.
const causeCeph = "ceph"

// Ceph is the short form of what its monitors say.
type Ceph struct {
	Health    string   `json:"health"`
	Mons      int      `json:"mons"`
	InQuorum  int      `json:"mons_in_quorum"`
	OSDs      int      `json:"osds"`
	Up        int      `json:"osds_up"`
	In        int      `json:"osds_in"`
	PGs       int      `json:"pgs"`
	NotClean  string   `json:"pgs_not_clean,omitempty"`
	Bytes     int64    `json:"bytes_total"`
	Used      int64    `json:"bytes_used"`
	Complains []string `json:"checks,omitempty"`
}

// ceph judges what the monitors say. What the nodes that are lost explain follows from their loss.
func (r *Report) ceph(n Node, all Snapshot) {
	text, err := n.text("h_ceph")
	if err == nil && strings.TrimSpace(text) == "" {
		return // there is no Ceph
	}
	var s *ceph.Status
	if err == nil {
		s, err = ceph.ParseStatus([]byte(text))
	}
	if err != nil {
		r.Ceph = &Ceph{Health: "unknown"}
		r.add(pve.Finding{
			Severity: pve.Critical, Node: n.Host, Check: "ceph", Cause: causeCeph, Follows: r.silence(n), Saw: "Ceph does not answer: " + err.Error(), Look: "timeout 15 ceph --connect-timeout 10 -s", Remedy: "check the monitors: systemctl status 'ceph-mon@*' on their nodes",
		})
		return
	}
	c := &Ceph{
		Health: s.Health.Status, Mons: s.MonMap.NumMons, InQuorum: len(s.QuorumNames), OSDs: s.OSDs.Total, Up: s.OSDs.Up, In: s.OSDs.In, PGs: s.PGs.Total, NotClean: s.Clean(),
		Bytes: s.PGs.Bytes, Used: s.PGs.Used, Complains: s.Complaints(),
	}
	r.Ceph = c
	why := r.explain(n, all, s)
	for _, text := range c.Complains {
		remedy, maintenance := cephRemedy(text)
		f := pve.Finding{Severity: pve.Warning, Check: "ceph", Saw: text, Look: "ceph health detail", Remedy: remedy}
		name, _, _ := strings.Cut(text, ":")
		if s.Health.Checks[name].Severity == "HEALTH_ERR" {
			f.Severity = pve.Critical
		}
		if maintenance {
			f.Check = "maintenance"
		}
		f.Follows, f.Brief = why.of(name, s)
		r.add(f)
	}
	if c.InQuorum < c.Mons && s.Health.Checks["MON_DOWN"].Severity == "" {
		r.add(pve.Finding{Severity: pve.Warning, Check: "ceph", Follows: why.monitors, Saw: fmt.Sprintf("%d of %d monitors are in quorum", c.InQuorum, c.Mons), Look: "ceph quorum_status", Remedy: "start the monitor that is missing"})
	}
	if saw := s.Serving(); saw != "" {
		r.add(pve.Finding{Severity: pve.Critical, Check: "ceph", Cause: causeCeph, Follows: why.osds, Saw: saw, Look: "ceph pg stat", Remedy: "bring OSDs back: data of the others cannot be reached"})
	}
}
