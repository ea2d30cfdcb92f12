package health

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
)

// Limits of a node's own checks (reference §12.3).
const (
	fullWarning  = 85 // percent of a file system
	fullCritical = 95
	certWarning  = 14 * 24 * time.Hour
	bootNeeds    = 200 << 20 // bytes that a new kernel wants on /boot
	taskAge      = 24 * time.Hour
)

// node adds what a node says of itself.
func (r *Report) node(n Node) {
	l := Load{Node: n.Host, CPUs: n.CPUs, MemoryTotal: n.MemoryTotal, MemoryFree: n.MemoryAvailable}
	if text, err := n.text("h_load"); err == nil {
		f := strings.Fields(text)
		if len(f) > 2 {
			seconds, _ := strconv.ParseFloat(f[0], 64)
			l.Uptime = time.Duration(seconds * float64(time.Second))
			l.Load, _ = strconv.ParseFloat(f[2], 64)
		}
	}
	r.fileSystems(n, &l)
	r.kernel(n, &l)
	r.watchdog(n, &l)
	r.failedUnits(n)
	r.certificate(n)
	r.replication(n)
	r.tasks(n)
	r.jobs(n)
	r.outOfService(n)
	r.Loads = append(r.Loads, l)
}

// fileSystems judges what df says. A folder that is missing makes df exit 1 and still answer for the others.
func (r *Report) fileSystems(n Node, l *Load) {
	text, err := n.text("h_df", 1)
	if err != nil {
		return
	}
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 6 || seen[f[5]] {
			continue
		}
		total, err := strconv.ParseInt(f[1], 10, 64)
		if err != nil || total == 0 {
			continue
		}
		seen[f[5]] = true
		used, _ := strconv.ParseInt(f[2], 10, 64)
		free, _ := strconv.ParseInt(f[3], 10, 64)
		if f[5] == "/" {
			l.RootTotal, l.RootUsed = total, used
		}
		finding := pve.Finding{
			Node: n.Host, Check: "disk", Saw: fmt.Sprintf("%s is %d %% full, %s free", f[5], 100*used/total, size(free)), Look: "df -h " + f[5],
			Remedy: "remove old backups, images or kernels, or make it larger",
		}
		switch percent := 100 * used / total; {
		case percent >= fullCritical:
			finding.Severity = pve.Critical
		case percent >= fullWarning || f[5] == "/boot" && free < bootNeeds:
			finding.Severity = pve.Warning
		default:
			continue
		}
		r.add(finding)
	}
}

// size is a number of bytes for people.
func size(bytes int64) string {
	const step = 1024
	value, unit := float64(bytes), 0
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}
	for value >= step && unit < len(units)-1 {
		value /= step
		unit++
	}
	return strconv.FormatFloat(value, 'f', map[bool]int{true: 0, false: 1}[unit == 0], 64) + " " + units[unit]
}

// kernel compares the running kernel with the one that the next boot takes: a pin counts, else the newest (reference §7.4).
func (r *Report) kernel(n Node, l *Load) {
	text, err := n.text("h_kernels", 1, 2)
	if err != nil {
		return
	}
	next := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if pin, ok := strings.CutPrefix(line, "pin "); ok {
			next = pin
			break
		}
		if _, version, ok := strings.Cut(line, "/vmlinuz-"); ok {
			next = version
		}
	}
	if next == "" || next == n.Kernel {
		return
	}
	l.PendingKernel = next
	r.add(pve.Finding{
		Severity: pve.Info, Node: n.Host, Check: "kernel", Saw: fmt.Sprintf("runs %s, and the next boot takes %s", n.Kernel, next), Look: "uname -r; proxmox-boot-tool kernel list",
		Remedy: "restart the node when it is empty",
	})
}

func (r *Report) watchdog(n Node, l *Load) {
	text, err := n.text("h_watchdog", 1, 2)
	if err != nil {
		return
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "/") && !strings.Contains(line, ": ") {
			l.Watchdog = line
			return
		}
	}
}

// down reports whether it has been told already that a service does not run.
func (r *Report) down(host, unit string) bool {
	return slices.ContainsFunc(r.Nodes, func(n pve.NodeReport) bool {
		running, known := n.Services[unit]
		return n.Name == host && known && !running
	})
}

func (r *Report) failedUnits(n Node) {
	text, err := n.text("h_failed")
	if err != nil {
		return
	}
	var failed []string
	for line := range strings.Lines(text) {
		if f := strings.Fields(strings.TrimLeft(line, "● *")); len(f) > 0 && !r.down(n.Host, strings.TrimSuffix(f[0], ".service")) {
			failed = append(failed, f[0])
		}
	}
	if len(failed) > 0 {
		r.add(pve.Finding{
			Severity: pve.Warning, Node: n.Host, Check: "units", Saw: "failed: " + strings.Join(failed, ", "), Look: "systemctl status " + failed[0],
			Remedy: "mend the cause, then systemctl restart, or systemctl reset-failed",
		})
	}
}

func (r *Report) certificate(n Node) {
	text, err := n.text("h_cert")
	if err != nil {
		return
	}
	_, date, _ := strings.Cut(strings.TrimSpace(text), "=")
	end, err := time.Parse("Jan _2 15:04:05 2006 MST", date)
	if err != nil || n.Time.IsZero() {
		return
	}
	if left := end.Sub(n.Time); left < certWarning {
		f := pve.Finding{
			Severity: pve.Warning, Node: n.Host, Check: "certificate", Saw: fmt.Sprintf("the API's certificate ends on %s", end.Format(time.DateOnly)),
			Look: "openssl x509 -enddate -noout -in /etc/pve/local/pve-ssl.pem", Remedy: "pvecm updatecerts --force 1; systemctl reload pveproxy",
		}
		if left < 0 {
			f.Severity, f.Saw = pve.Critical, fmt.Sprintf("the API's certificate ended on %s", end.Format(time.DateOnly))
		}
		r.add(f)
	}
}

// replication reads the state of the node's own replication jobs.
func (r *Report) replication(n Node) {
	text, err := n.text("h_replication")
	if err != nil {
		return
	}
	var guests map[string]map[string]struct {
		FailCount int    `json:"fail_count"`
		Error     string `json:"error"`
	}
	if json.Unmarshal([]byte(text), &guests) != nil {
		return
	}
	for _, guest := range slices.Sorted(maps.Keys(guests)) {
		for _, target := range slices.Sorted(maps.Keys(guests[guest])) {
			if state := guests[guest][target]; state.FailCount > 0 {
				r.add(pve.Finding{
					Severity: pve.Warning, Node: n.Host, Check: "replication", Saw: fmt.Sprintf("replication of guest %s to %s has failed %d times: %s", guest, target, state.FailCount, state.Error),
					Look: "pvesr status", Remedy: "mend the cause; the next run follows by itself",
				})
			}
		}
	}
}

// tasks counts tasks that failed lately, by the index of the node.
func (r *Report) tasks(n Node) {
	text, err := n.text("h_tasks")
	if err != nil || n.Time.IsZero() {
		return
	}
	count, last := 0, ""
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 3 || f[2] == "OK" || strings.HasPrefix(f[2], "WARNINGS") {
			continue
		}
		ended, err := strconv.ParseInt(f[1], 16, 64)
		if err != nil || n.Time.Sub(time.Unix(ended, 0)) > taskAge {
			continue
		}
		if part := strings.Split(f[0], ":"); len(part) > 6 {
			count++
			last = strings.TrimSpace(part[5]+" "+part[6]) + ": " + strings.Join(f[2:], " ")
		}
	}
	if count > 0 {
		r.add(pve.Finding{
			Severity: pve.Info, Node: n.Host, Check: "tasks", Saw: fmt.Sprintf("%d of the last tasks failed, the latest: %s", count, last),
			Look: "pvenode task list --errors 1", Remedy: "see the log of the task",
		})
	}
}
