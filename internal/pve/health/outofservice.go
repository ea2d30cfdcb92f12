package health

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
)

// OutOfService is where a run that takes a node out of service writes down what was where (module drain): it is there until the node
// is given back.
const OutOfService = "/var/lib/pxrun/rolling.json"

// outOfService tells of a node that a run has taken out of service and not given back, whoever started it. It may be at work now.
func (r *Report) outOfService(n Node) {
	text, err := n.text("h_service")
	if err != nil || strings.TrimSpace(text) == "" {
		return
	}
	f := pve.Finding{
		Severity: pve.Warning, Node: n.Host, Check: "service", Look: "cat " + OutOfService,
		Remedy: "pxrun resume where the run was started; or pxrun apply release_nodes -i … --limit " + n.Host,
	}
	var written struct {
		Run    string     `json:"run"`
		Since  int64      `json:"since"`
		Guests []struct{} `json:"guests"`
	}
	if err := json.Unmarshal([]byte(text), &written); err != nil {
		f.Saw = "a run has taken it out of service, and what it wrote down makes no sense: " + err.Error()
		r.add(f)
		return
	}
	f.Saw = fmt.Sprintf("run %s has taken it out of service at %s and has not given it back; %d guests ran on it", written.Run, time.Unix(written.Since, 0).UTC().Format("2006-01-02 15:04 MST"), len(written.Guests))
	r.add(f)
}
