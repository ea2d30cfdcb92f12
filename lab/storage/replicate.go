package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/vfs"
)

const stateFile = "/var/lib/pve-manager/pve-replication-state.json"

// jobState is a job in the state file of the node that the guest is on.
type jobState struct {
	Duration      float64  `json:"duration,omitempty"`
	Error         string   `json:"error,omitempty"`
	FailCount     int      `json:"fail_count"`
	LastIteration int64    `json:"last_iteration"`
	LastNode      string   `json:"last_node,omitempty"`
	LastSync      int64    `json:"last_sync"`
	LastTry       int64    `json:"last_try"`
	PID           int      `json:"pid,omitempty"`
	PTime         string   `json:"ptime,omitempty"`
	StoreIDs      []string `json:"storeid_list,omitempty"`
}

type states map[string]map[string]*jobState // by guest and target

func (n *Node) readStates() states {
	out := states{}
	if raw, err := n.n.Machine().FS.ReadFile(stateFile); err == nil {
		_ = json.Unmarshal(raw, &out) // a broken file is one without states
	}
	return out
}

// changeStates edits the state file. A disk that is full loses the state, as the real one does.
func (n *Node) changeStates(edit func(states)) {
	s := n.readStates()
	edit(s)
	raw, err := json.Marshal(s)
	if err != nil {
		return
	}
	v := n.n.Machine().FS.View
	_ = v.MkdirAll("/var/lib/pve-manager", 0o755)
	_ = v.WriteFile(stateFile, raw, 0o644)
}

func (n *Node) changeState(j job, edit func(*jobState)) {
	n.changeStates(func(all states) {
		id := strconv.Itoa(j.guest)
		if all[id] == nil {
			all[id] = map[string]*jobState{}
		}
		if all[id][j.unique()] == nil {
			all[id][j.unique()] = &jobState{}
		}
		edit(all[id][j.unique()])
	})
}

// status is a job with its state on this node.
type status struct {
	job
	state jobState
	next  int64
	kind  string
}

// statuses lists the jobs of guests that are on this node. Jobs of a guest that came here without a migration are turned
// round.
func (n *Node) statuses(v *vfs.View) []status {
	jobs, _ := readJobs(v)
	all, here := n.readStates(), n.n.Name()
	var out []status
	for _, j := range jobs {
		g, there := guest(v, j.guest)
		if !there || g.node != here || j.target() == here && j.values["remove_job"] == "" {
			continue
		}
		s := status{job: j, kind: g.kind}
		if st := all[strconv.Itoa(j.guest)][j.unique()]; st != nil {
			s.state = *st
		}
		switch {
		case j.values["remove_job"] != "":
			s.next = 1
		case s.state.FailCount > 0:
			if n.n.Online(j.target()) {
				s.next = s.state.LastTry + int64(retryAfter(s.state.FailCount)/time.Second)
			}
		default:
			s.next = next(j.schedule(), s.state.LastTry)
		}
		out = append(out, s)
	}
	return out
}

func retryAfter(failures int) time.Duration {
	if failures <= 3 {
		return time.Duration(failures) * 5 * time.Minute
	}
	return 30 * time.Minute
}

// replicateDue runs what is due.
func (n *Node) replicateDue() {
	v := n.n.Machine().FS.View
	n.followStolen(v)
	for _, s := range n.statuses(v) {
		if !s.enabled() && s.values["remove_job"] == "" {
			continue
		}
		wait, err := period(s.schedule())
		if err != nil {
			continue
		}
		if s.state.FailCount > 0 {
			wait = retryAfter(s.state.FailCount)
		}
		n.w.mu.Lock()
		last := n.runs[s.id]
		due := s.values["remove_job"] != "" || s.state.LastTry == 0 || !last.known || n.elapsed()-last.tried >= wait
		n.w.mu.Unlock()
		if !due || s.state.FailCount > 0 && !n.n.Online(s.target()) {
			continue
		}
		_ = n.replicate(n.w.ctx, v, s.job) // its state says how it went
	}
}

// followStolen turns jobs round whose guest was brought here by others, as HA does.
func (n *Node) followStolen(v *vfs.View) {
	jobs, _ := readJobs(v)
	changed := false
	for _, j := range jobs {
		source := j.values["source"]
		g, there := guest(v, j.guest)
		if !there || g.node != n.n.Name() || source == "" || source == n.n.Name() {
			continue
		}
		if j.target() == n.n.Name() {
			j.values["target"] = source
		}
		j.values["source"] = n.n.Name()
		changed = true
	}
	if changed {
		_ = writeJobs(v, jobs) // without quorum it is tried again next minute
	}
}

// GuestMoved turns a guest's jobs round after it was migrated: the node that it left becomes the target of the job to the
// node that it went to, and the state goes with it.
func (w *World) GuestMoved(vmid int, from, to string) {
	w.mu.Lock()
	source, target := w.nodes[from], w.nodes[to]
	w.mu.Unlock()
	if source == nil || target == nil {
		return
	}
	v := source.n.Machine().FS.View
	jobs, _ := readJobs(v)
	for _, j := range jobs {
		if j.guest != vmid {
			continue
		}
		if j.target() == to {
			j.values["target"] = from
		}
		j.values["source"] = to
	}
	_ = writeJobs(v, jobs) // without quorum the guest could not have moved
	id := strconv.Itoa(vmid)
	moved := source.readStates()[id]
	if moved["local/"+to] != nil {
		moved["local/"+from] = moved["local/"+to]
		delete(moved, "local/"+to)
	}
	source.changeStates(func(s states) { delete(s, id) })
	if moved != nil {
		target.changeStates(func(s states) { s[id] = moved })
	}
}

// runNow is `pvesr run`.
func (n *Node) runNow(ctx context.Context, p *machine.Proc, id string) error {
	v := p.View()
	if id == "" {
		for _, s := range n.statuses(v) {
			if s.enabled() {
				_ = n.replicate(ctx, v, s.job) // its state says how it went
			}
		}
		return nil
	}
	jobs, _ := readJobs(v)
	i := slices.IndexFunc(jobs, func(j job) bool { return j.id == id })
	if i < 0 {
		return fmt.Errorf("no such job '%s'", id)
	}
	j := jobs[i]
	g, there := guest(v, j.guest)
	switch {
	case !j.enabled():
		return fmt.Errorf("job '%s' is disabled", id)
	case !there:
		return fmt.Errorf("no such guest '%d'", j.guest)
	case g.node != n.n.Name():
		return fmt.Errorf("guest '%d' is not on local node", j.guest)
	case j.target() == n.n.Name():
		return errors.New("unable to sync to local node")
	}
	return n.replicate(ctx, v, j)
}

// scheduleNow lets the scheduler run a job at its next round.
func (n *Node) scheduleNow(v *vfs.View, id string) error {
	jobs, _ := readJobs(v)
	i := slices.IndexFunc(jobs, func(j job) bool { return j.id == id })
	if i < 0 {
		return fmt.Errorf("no such replication job '%s'", id)
	}
	if n.readStates()[strconv.Itoa(jobs[i].guest)][jobs[i].unique()] != nil {
		n.changeState(jobs[i], func(s *jobState) { s.LastTry = 0 })
	}
	return nil
}

// syncTime is how long a sync of a small guest takes.
const syncTime = 3 * time.Second

// replicate runs a job, or removes one that is marked for that, and notes how it went.
func (n *Node) replicate(ctx context.Context, v *vfs.View, j job) error {
	m := n.n.Machine()
	begin, started := m.Now().Unix(), n.elapsed()
	n.w.mu.Lock()
	n.runs[j.id] = run{tried: started, known: true}
	n.w.mu.Unlock()
	worker, ok := m.Spawn([]string{"pvescheduler"}, func(machine.Signal) {})
	if !ok {
		return context.Canceled // the power went
	}
	defer worker.End()
	n.changeState(j, func(s *jobState) {
		s.PID, s.PTime, s.LastNode, s.LastTry, s.LastIteration = worker.PID(), strconv.FormatInt(worker.Started().Milliseconds()/10, 10), n.n.Name(), begin, begin
	})
	err := n.n.Phase(ctx, "replication:sync", syncTime)
	if err == nil {
		err = n.sync(v, j)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil && j.values["remove_job"] != "" {
		return n.dropJob(v, j)
	}
	n.changeState(j, func(s *jobState) {
		s.PID, s.PTime, s.Duration = 0, "", (n.elapsed() - started).Seconds()
		if err != nil {
			s.FailCount++
			s.Error = strings.ReplaceAll(err.Error(), "\n", " ")
			return
		}
		s.LastSync, s.FailCount, s.Error = begin, 0, ""
	})
	return err
}

// sync copies the volumes of a guest to the target.
func (n *Node) sync(v *vfs.View, j job) error {
	n.w.mu.Lock()
	target := n.w.nodes[j.target()]
	n.w.mu.Unlock()
	g, there := guest(v, j.guest)
	switch {
	case !there:
		return fmt.Errorf("no such guest '%d'", j.guest)
	case target == nil || !n.n.Online(j.target()) || !target.n.Machine().Up():
		if j.values["remove_job"] == "local" {
			return nil
		}
		return fmt.Errorf("command '/usr/bin/ssh -e none -o 'BatchMode=yes' -o 'HostKeyAlias=%s' root@%s -- pvesr prepare-local-job %s' failed: exit code 255", j.target(), j.target(), j.id)
	}
	c := readConfig(v)
	disks, err := g.replicatable(c)
	if err != nil {
		return err
	}
	if j.values["remove_job"] != "" {
		if j.values["remove_job"] == "full" {
			target.drop(g.id)
		}
		return nil
	}
	for _, d := range disks {
		s, err := c.enabled(d.storage, j.target())
		if err != nil {
			return err
		}
		for _, node := range []*Node{n, target} {
			if !node.dataset(s.Values["pool"]) {
				return fmt.Errorf("command 'zfs list -o name -H %s' failed: exit code 1", s.Values["pool"])
			}
		}
		target.store(&volume{storage: d.storage, name: d.name, vmid: g.id, size: d.size})
	}
	return nil
}

func (n *Node) store(v *volume) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if !slices.ContainsFunc(n.held, func(o *volume) bool { return o.storage == v.storage && o.name == v.name }) {
		n.held = append(n.held, v)
	}
}

// drop removes the copies of a guest's volumes.
func (n *Node) drop(vmid int) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.held = slices.DeleteFunc(n.held, func(o *volume) bool { return o.vmid == vmid })
}

// dropJob takes a job out of the config and the state.
func (n *Node) dropJob(v *vfs.View, j job) error {
	n.changeStates(func(all states) {
		id := strconv.Itoa(j.guest)
		delete(all[id], j.unique())
		if len(all[id]) == 0 {
			delete(all, id)
		}
	})
	jobs, _ := readJobs(v)
	return writeJobs(v, slices.DeleteFunc(jobs, func(o job) bool { return o.id == j.id }))
}
