package health

import (
	"fmt"

	"github.com/pxrun/pxrun/internal/detach"
	"github.com/pxrun/pxrun/internal/pve"
)

// jobs tells of long commands that runs have started on a node and not taken the results of.
func (r *Report) jobs(n Node) {
	text, err := n.text("h_jobs")
	if err != nil {
		return
	}
	list := detach.ParseList(text)
	if len(list) == 0 {
		return
	}
	if r.Jobs == nil {
		r.Jobs = map[string][]detach.Left{}
	}
	r.Jobs[n.Host] = list
	for _, j := range list {
		f := pve.Finding{Severity: pve.Info, Node: n.Host, Check: "jobs", Look: "systemctl status " + j.Unit, Remedy: "pxrun resume " + j.Run + " follows it, if no run does"}
		what := j.Name
		if what == "" {
			what = j.Unit
		}
		switch j.State {
		case "running":
			f.Saw = fmt.Sprintf("the job %q of run %s is at work", what, j.Run)
		case "done":
			f.Saw = fmt.Sprintf("the job %q of run %s has ended with exit %d, and no run has taken its result", what, j.Run, j.Exit)
			f.Look = "tail /run/pxrun/" + j.Unit + "/out"
			f.Remedy = "pxrun resume " + j.Run + " takes it; pxrun release " + n.Host + " clears it away; so does a restart of the node"
		default:
			f.Saw = fmt.Sprintf("the job %q of run %s was killed", what, j.Run)
			f.Look = "journalctl -u " + j.Unit
			f.Remedy = "pxrun resume " + j.Run + " starts it anew; a restart of the node clears it away"
		}
		r.add(f)
	}
}
