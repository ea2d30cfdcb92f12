package engine

import (
	"cmp"
	"slices"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

// summary tells of every task and host what was and what was not done.
func (r *run) summary(p *Plan, why error) event.Summary {
	s := event.Summary{Steps: make([]event.StepSummary, 0, len(r.records))}
	for i, rec := range r.records {
		tp := TaskPlan{}
		if i < len(p.Tasks) {
			tp = p.Tasks[i]
		}
		s.Steps = append(s.Steps, r.stepSummary(rec, tp, why))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, u := range r.pending {
		if u.Run == r.e.cfg.RunID {
			s.Left = append(s.Left, u.Undo)
		}
	}
	return s
}

func (r *run) stepSummary(rec *record, tp TaskPlan, why error) event.StepSummary {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	n := rec.n
	step := event.StepSummary{Step: n.task.Path, Module: n.spec.Name, Reason: rec.reason, Status: event.Skipped, Hosts: []event.HostSummary{}}
	for _, host := range r.hostsOfRecord(rec, tp) {
		h := event.HostSummary{Host: host, Status: event.NotRun}
		o := rec.outcomes[host]
		switch {
		case o != nil:
			h.Status, h.Done, h.NotDone = o.status, summaries(o.done), summaries(o.notDone)
			if o.err != nil {
				h.Error = transport.Explain(o.err)
			}
			if o.status == event.NotRun && len(h.NotDone) == 0 {
				h.NotDone = announced(n, tp, host)
			}
		case tp.Skipped != "":
			h.Status = event.Skipped
		default:
			if failed := failedPlan(tp, host); failed != nil {
				h.Status, h.Error = failed.status(), failed.Error
			}
			h.NotDone = announced(n, tp, host)
		}
		step.Status = stepStatus(step.Status, h.Status)
		step.Hosts = append(step.Hosts, h)
	}
	switch {
	case tp.Skipped != "":
		step.Status, step.Reason = event.Skipped, cmp.Or(step.Reason, tp.Skipped)
	case !rec.begun:
		step.Status = worse(step.Status, event.NotRun)
		if why != nil {
			step.Reason = cmp.Or(step.Reason, reason(why))
		}
	case len(step.Hosts) == 0 && rec.reason != "" && n.left == "":
		step.Status = event.Failed
	}
	return step
}

// reason is the first line of an error: the rest stands where it belongs.
func reason(err error) string {
	if blocked, ok := err.(*BlockedError); ok { //nolint:errorlint // only the bare one has its details elsewhere
		return "the plan has " + plural(len(blocked.Failures), "problem")
	}
	return err.Error()
}

func (r *run) hostsOfRecord(rec *record, tp TaskPlan) []string {
	rec.n.mu.Lock()
	hosts := slices.Clone(rec.n.hosts)
	rec.n.mu.Unlock()
	for _, h := range tp.Hosts {
		if !slices.Contains(hosts, h.Host) {
			hosts = append(hosts, h.Host)
		}
		for _, a := range h.Away {
			if !slices.Contains(hosts, a.Host) {
				hosts = append(hosts, a.Host)
			}
		}
	}
	for host := range rec.outcomes {
		if !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// failedPlan is why a task could not be planned for a host. Gates that name the host that they concern count for that
// host, not for the one by which the task is known.
func failedPlan(tp TaskPlan, host string) *HostPlan {
	for _, h := range tp.Hosts {
		if h.Error == "" {
			continue
		}
		if i := slices.IndexFunc(h.Away, func(a Away) bool { return a.Host == host }); i >= 0 {
			return &HostPlan{Host: host, Error: h.Away[i].Error, Unreachable: true}
		}
		if len(h.Away) > 0 {
			continue
		}
		var mine module.Refusals
		named := false
		for _, refusal := range h.Refused {
			named = named || refusal.Host != ""
			if refusal.Host == host || refusal.Host == "" && h.Host == host {
				mine = append(mine, refusal)
			}
		}
		switch {
		case len(mine) > 0:
			h.Refused = mine
			if h.Follows == "" {
				h.Error = mine.Error()
			}
			return &h
		case h.Host == host && !named:
			return &h
		}
	}
	return nil
}

// announced are the changes that the plan had for a host.
func announced(n *node, tp TaskPlan, host string) []string {
	var all []module.Change
	for _, h := range tp.Hosts {
		for _, c := range h.Changes {
			if h.Host == host && !n.whole() || c.Host == host && n.whole() {
				all = append(all, c)
			}
		}
	}
	return summaries(promises(all))
}

func summaries(all []made) []string {
	if len(all) == 0 {
		return nil
	}
	texts := make([]string, len(all))
	for i, m := range all {
		texts[i] = m.summary
	}
	return texts
}
