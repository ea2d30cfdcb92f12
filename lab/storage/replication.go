package storage

import (
	"cmp"
	"context"
	"crypto/sha1" //nolint:gosec // the digest that Proxmox shows is a SHA-1
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

const replicationFile = "/etc/pve/replication.cfg"

// job is a replication job.
type job struct {
	id     string // 100-0
	guest  int
	values map[string]string
}

func (j job) target() string { return j.values["target"] }
func (j job) enabled() bool  { _, off := j.values["disable"]; return !off }
func (j job) unique() string { return "local/" + j.target() }
func (j job) schedule() string {
	return cmp.Or(j.values["schedule"], "*/15")
}

// readJobs reads replication.cfg.
func readJobs(v *vfs.View) (jobs []job, digest string) {
	raw, _ := v.ReadFile(replicationFile) // none is fine
	for _, s := range pvetool.ParseSections(string(raw)) {
		guestID, _, _ := strings.Cut(s.ID, "-")
		if id, err := strconv.Atoi(guestID); err == nil && s.Type == "local" {
			jobs = append(jobs, job{id: s.ID, guest: id, values: s.Values})
		}
	}
	return jobs, fmt.Sprintf("%x", sha1.Sum(raw)) //nolint:gosec // as above
}

// writeJobs writes replication.cfg. Two jobs of a guest to one target are refused.
func writeJobs(v *vfs.View, jobs []job) error {
	seen := map[string]bool{}
	var out []pvetool.Section
	for _, j := range jobs {
		key := fmt.Sprintf("%d %s", j.guest, j.unique())
		if seen[key] {
			return fmt.Errorf("replication job for guest '%d' to target '%s' already exists", j.guest, j.unique())
		}
		seen[key] = true
		out = append(out, pvetool.Section{Type: "local", ID: j.id, Values: j.values})
	}
	return cluster.ReplaceFile(v, replicationFile, format(out, map[string][]string{"local": {"target"}}))
}

// changeJobs edits replication.cfg under its lock.
func (n *Node) changeJobs(ctx context.Context, p *machine.Proc, edit func([]job, string) ([]job, error)) error {
	return n.n.Locked(ctx, p.View(), p.Stderr, "file-replication_cfg", func() error {
		jobs, digest := readJobs(p.View())
		jobs, err := edit(jobs, digest)
		if err != nil {
			return err
		}
		return writeJobs(p.View(), jobs)
	})
}

var jobID = regexp.MustCompile(`^[1-9][0-9]{2,8}-\d{1,9}$`)

func checkJobID(id string) *pvetool.ParamError {
	if jobID.MatchString(id) {
		return nil
	}
	return &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{fmt.Sprintf("id: invalid format - invalid replication job id '%s'", id)}}
}

func jobOptions(more ...string) map[string]pvetool.Option {
	known := map[string]pvetool.Option{
		"schedule": {Check: checkSchedule}, "comment": {}, "disable": {Kind: pvetool.Bool}, "source": {},
		"rate": {Check: func(v string) string {
			if f, err := strconv.ParseFloat(v, 64); err != nil {
				return "type check ('number') failed - got '" + v + "'"
			} else if f < 1 {
				return "value must have a minimum value of 1"
			}
			return ""
		}},
	}
	for _, name := range more {
		known[name] = pvetool.Option{}
	}
	return known
}

func checkSchedule(text string) string {
	if _, err := period(text); err != nil {
		return "invalid format - " + err.Error()
	}
	return ""
}

// createJob is the API's method.
func (n *Node) createJob(ctx context.Context, p *machine.Proc, id, target string, values map[string]string) error {
	v := p.View()
	number, _, _ := strings.Cut(id, "-")
	vmid, _ := strconv.Atoi(number)
	g, there := guest(v, vmid)
	switch {
	case !there:
		return fmt.Errorf("Guest '%d' does not exist.", vmid) //nolint:revive,staticcheck // Proxmox's words
	case !slices.Contains(n.n.Members(), target):
		return fmt.Errorf("Target '%s' does not exist.", target) //nolint:revive,staticcheck // Proxmox's words
	case values["source"] != "" && values["source"] != g.node:
		return fmt.Errorf("Source '%s' does not match current node of guest '%d' (%s)", values["source"], vmid, g.node) //nolint:revive,staticcheck // Proxmox's words
	case target == g.node:
		return errors.New("Source and target must not be identical") //nolint:revive,staticcheck // Proxmox's words
	}
	disks, err := g.replicatable(readConfig(v))
	if err != nil {
		return err
	}
	if len(disks) == 0 {
		return errors.New("No replicatable volumes found") //nolint:revive,staticcheck // Proxmox's words
	}
	values = maps.Clone(values)
	values["target"], values["source"] = target, g.node
	clean(values)
	return n.changeJobs(ctx, p, func(jobs []job, _ string) ([]job, error) {
		if slices.ContainsFunc(jobs, func(j job) bool { return j.id == id }) {
			return nil, fmt.Errorf("replication job '%s' already exists", id)
		}
		return append(jobs, job{id: id, guest: vmid, values: values}), nil
	})
}

// clean drops what is not written.
func clean(values map[string]string) {
	if values["disable"] == "0" {
		delete(values, "disable")
	}
	maps.DeleteFunc(values, func(_, value string) bool { return value == "" })
}

// updateJob is the API's method.
func (n *Node) updateJob(ctx context.Context, p *machine.Proc, id string, values map[string]string) error {
	values = maps.Clone(values)
	remove, digest := list(values["delete"]), values["digest"]
	delete(values, "delete")
	delete(values, "digest")
	return n.changeJobs(ctx, p, func(jobs []job, now string) ([]job, error) {
		if digest != "" && digest != now {
			return nil, errors.New("detected modified configuration - file changed by other user? Try again.") //nolint:revive,staticcheck // Proxmox's words
		}
		i := slices.IndexFunc(jobs, func(j job) bool { return j.id == id })
		if i < 0 {
			return nil, fmt.Errorf("no such job '%s'", id)
		}
		for _, key := range remove {
			switch key {
			case "target":
				return nil, fmt.Errorf("unable to delete required option '%s'", key)
			case "disable", "comment", "rate", "schedule", "remove_job", "source":
				delete(jobs[i].values, key)
			default:
				return nil, fmt.Errorf("no such option '%s'", key)
			}
		}
		maps.Copy(jobs[i].values, values)
		clean(jobs[i].values)
		return jobs, nil
	})
}

// deleteJob marks a job for removal, which the scheduler of the source does later.
func (n *Node) deleteJob(ctx context.Context, p *machine.Proc, id string, keep, force bool) error {
	if keep && force {
		return &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"keep: conflicts with parameter 'force'"}}
	}
	return n.changeJobs(ctx, p, func(jobs []job, _ string) ([]job, error) {
		i := slices.IndexFunc(jobs, func(j job) bool { return j.id == id })
		switch {
		case force:
			return slices.DeleteFunc(jobs, func(j job) bool { return j.id == id }), nil
		case i < 0:
			return nil, fmt.Errorf("no such job '%s'", id)
		}
		jobs[i].values["remove_job"] = map[bool]string{true: "local", false: "full"}[keep]
		fmt.Fprintln(p.Stderr, "Replication job removal is a background task and will take some time.")
		return jobs, nil
	})
}

// object is a job as the API shows it.
func (j job) object() pvetool.Object {
	_, number, _ := strings.Cut(j.id, "-")
	o := pvetool.Object{"id": j.id, "type": "local", "guest": strconv.Itoa(j.guest), "jobnum": number}
	for key, value := range j.values {
		switch key {
		case "disable":
			o[key] = 1
		case "rate":
			if f, err := strconv.ParseFloat(value, 64); err == nil {
				o[key] = f
			}
		default:
			o[key] = value
		}
	}
	return o
}

// pvesr is the program of that name.
func (n *Node) pvesr(ctx context.Context, p *machine.Proc) int {
	if code := n.start(ctx, p); code >= 0 {
		return code
	}
	args := p.Args()
	if len(args) == 0 {
		return pvetool.Die(p, pvetool.ExitDie, "ERROR: no command specified\nUSAGE: pvesr <COMMAND> [ARGS] [OPTIONS]")
	}
	err := error(nil)
	switch args[0] {
	case "list":
		jobs, _ := readJobs(p.View())
		printJobs(p, jobs)
	case "status":
		o, perr := pvetool.Parse(args[1:], map[string]pvetool.Option{"guest": {Kind: pvetool.Int}})
		if perr != nil {
			return pvetool.Usage(p, perr, "pvesr status [OPTIONS]")
		}
		n.printReplication(p, o.Int("guest"))
	default:
		code := -1
		if code, err = n.pvesrJob(ctx, p, args[0], args[1:]); code >= 0 {
			return code
		}
	}
	if err != nil {
		return n.die(ctx, p, err)
	}
	return 0
}

// pvesrJob is a command of pvesr about one job. code is -1 unless its arguments are wrong.
func (n *Node) pvesrJob(ctx context.Context, p *machine.Proc, command string, args []string) (code int, err error) {
	known := map[string]map[string]pvetool.Option{
		"create-local-job": jobOptions(), "update": jobOptions("delete", "digest"), "delete": {"keep": {Kind: pvetool.Bool}, "force": {Kind: pvetool.Bool}},
		"read": {}, "enable": {}, "disable": {}, "schedule-now": {}, "run": {"id": {}, "verbose": {Kind: pvetool.Bool}, "mail": {Kind: pvetool.Bool}},
	}
	options, exists := known[command]
	if !exists {
		return pvetool.Die(p, pvetool.ExitDie, "ERROR: unknown command 'pvesr %s'", command), nil
	}
	o, perr := pvetool.Parse(args, options)
	want := map[string]int{"create-local-job": 2, "run": 0}
	words, special := want[command]
	if !special {
		words = 1
	}
	if perr == nil && len(o.Positional) != words {
		perr = &pvetool.ParamError{Head: map[bool]string{true: "not enough arguments", false: "too many arguments"}[len(o.Positional) < words]}
	}
	id := o.Values["id"]
	if words > 0 && perr == nil {
		id = o.Positional[0]
	}
	if perr == nil && id != "" {
		perr = checkJobID(id)
	}
	if perr != nil {
		return pvetool.Usage(p, perr, "pvesr "+command+" [OPTIONS]"), nil
	}
	switch command {
	case "create-local-job":
		err = n.createJob(ctx, p, id, o.Positional[1], o.Values)
	case "update":
		err = n.updateJob(ctx, p, id, o.Values)
	case "enable":
		err = n.updateJob(ctx, p, id, map[string]string{"disable": "0"})
	case "disable":
		err = n.updateJob(ctx, p, id, map[string]string{"disable": "1"})
	case "delete":
		err = n.deleteJob(ctx, p, id, o.Is("keep"), o.Is("force"))
	case "schedule-now":
		err = n.scheduleNow(p.View(), id)
	case "run":
		err = n.runNow(ctx, p, id)
	case "read":
		err = n.readJob(p, id)
	}
	return -1, err
}

func (n *Node) readJob(p *machine.Proc, id string) error {
	jobs, digest := readJobs(p.View())
	i := slices.IndexFunc(jobs, func(j job) bool { return j.id == id })
	if i < 0 {
		return fmt.Errorf("no such replication job '%s'", id)
	}
	o := jobs[i].object()
	o["digest"] = digest
	text, err := json.MarshalIndent(o, "", "   ")
	p.Printf("%s\n", text)
	return err
}

func printJobs(p *machine.Proc, jobs []job) {
	const format = "%-20s %-20s %10s %5s %8s\n"
	p.Printf(format, "JobID", "Target", "Schedule", "Rate", "Enabled")
	slices.SortFunc(jobs, func(a, b job) int { return a.guest - b.guest })
	for _, j := range jobs {
		p.Printf(format, j.id, j.unique(), j.schedule(), cmp.Or(j.values["rate"], "-"), map[bool]string{true: "yes", false: "no"}[j.enabled()])
	}
}

func (n *Node) printReplication(p *machine.Proc, only int) {
	const format = "%-10s %-10s %-20s %20s %20s %10s %10s %s\n"
	p.Printf(format, "JobID", "Enabled", "Target", "LastSync", "NextSync", "Duration", "FailCount", "State")
	now := n.n.Machine().Now()
	for _, s := range n.statuses(p.View()) {
		if only != 0 && s.guest != only {
			continue
		}
		clock := func(t int64) string {
			if t == 0 {
				return "-"
			}
			return time.Unix(t, 0).UTC().Format("2006-01-02_15:04:05")
		}
		next := clock(s.next)
		if s.next > 0 && s.next <= now.Unix() {
			next = "pending"
		}
		word := cmp.Or(s.state.Error, "OK")
		if s.state.PID != 0 {
			word = "SYNCING"
		}
		p.Printf(format, s.id, map[bool]string{true: "Yes", false: "No"}[s.enabled()], s.unique(), clock(s.state.LastSync), next,
			strconv.FormatFloat(s.state.Duration, 'f', -1, 64), strconv.Itoa(s.state.FailCount), word)
	}
}
