package gates

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/internal/pve/frame"
)

// Worker is a running task.
type Worker struct {
	Node, Type, ID string
	// To is where a migration leads, "" if its log does not say so yet.
	To string
}

func (w Worker) String() string {
	text := strings.TrimSpace(w.Type+" "+w.ID) + " on " + w.Node
	if w.To != "" {
		text += " to " + w.To
	}
	return text
}

func (w Worker) migrates() bool { return w.Type == "qmigrate" || w.Type == "vzmigrate" }

// workers lists the running tasks of a node: those in the list of active tasks whose process still is the one that they name
// (reference §1.5), with the line of a migration's log that says where it leads.
const workers = `sh -c 'f=/var/log/pve/tasks/active; [ -e "$f" ] || exit 0
while read -r upid rest; do
	case $upid in UPID:*:*:*:*:*:*) ;; *) continue;; esac
	old=$IFS; IFS=:; set -- $upid; IFS=$old
	[ -n "$3" ] || continue
	read -r stat <"/proc/$((0x$3))/stat" || continue
	echo "$upid ${stat##*) }"
	case $6 in qmigrate|vzmigrate) ;; *) continue;; esac
	d=${5%?}; grep -m 1 -o "to node .[A-Za-z0-9-]*" "/var/log/pve/tasks/${5#"$d"}/$upid"
done <"$f" 2>/dev/null; exit 0'`

// replicating shows the state of the replication jobs of the guests on a node, and which of the processes in it exist.
const replicating = `sh -c 'f=/var/lib/pve-manager/pve-replication-state.json; [ -e "$f" ] || exit 0
tr -d "\n" <"$f"; echo
for p in $(grep -oE "\"pid\" *: *\"?[0-9]+" "$f" | grep -oE "[0-9]+$"); do [ -d "/proc/$p" ] && echo "$p"; done; exit 0'`

var taskReads = []frame.Read{{Name: "workers", Seconds: readSeconds, Command: workers}, {Name: "replicating", Seconds: readSeconds, Command: replicating}}

// tasks takes what runs on the node, and what leads to it from elsewhere: migrations, and replication. A migration whose log does not say
// yet where it leads may lead to it. Nodes that do not answer at all are for another gate.
func (r *reader) tasks() {
	own := r.f.own()
	for _, s := range r.f.States {
		answers, asked := r.said[s.Host]
		if !asked {
			continue
		}
		list, err := parseWorkers(s.Host, answers["workers"])
		more, failed := parseReplication(s.Host, answers["replicating"])
		if err = errors.Join(err, failed); err != nil && r.f.WorkersErr == nil {
			r.f.WorkersErr = err
		}
		for _, w := range append(list, more...) {
			if s.Host == r.node || w.To == own || w.To == "" && w.migrates() {
				r.f.Workers = append(r.f.Workers, w)
			}
		}
	}
	if r.f.Err != nil {
		r.f.WorkersErr = r.f.Err
	}
}

// parseReplication reads the answer to the question for replication that is under way.
func parseReplication(host string, a frame.Answer) ([]Worker, error) {
	text, why := a.Found()
	if why != "" {
		return nil, fmt.Errorf("%s: whether replication runs cannot be read: %s", host, why)
	}
	state, alive, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if strings.TrimSpace(alive) == "" {
		return nil, nil // no process of it exists
	}
	var jobs map[string]map[string]struct {
		PID json.RawMessage `json:"pid"`
	}
	if err := json.Unmarshal([]byte(state), &jobs); err != nil {
		return nil, fmt.Errorf("%s: the state of replication makes no sense: %w", host, err)
	}
	var out []Worker
	for id, targets := range jobs {
		for target, job := range targets {
			if slices.Contains(strings.Fields(alive), strings.Trim(string(job.PID), `"`)) {
				out = append(out, Worker{Node: host, Type: "replication", ID: id, To: target[strings.LastIndex(target, "/")+1:]})
			}
		}
	}
	slices.SortFunc(out, func(a, b Worker) int { return strings.Compare(a.ID+a.To, b.ID+b.To) })
	return out, nil
}

// parseWorkers reads the answer to the question for running tasks.
func parseWorkers(host string, a frame.Answer) ([]Worker, error) {
	if a.RC != 0 {
		return nil, fmt.Errorf("%s: its running tasks cannot be read: %s", host, strings.TrimSpace(string(a.Text)))
	}
	var out []Worker
	current := -1
	for line := range strings.Lines(string(a.Text)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[0] == "to" && f[1] == "node" && current >= 0 {
			out[current].To = strings.Trim(f[2], "'\"")
			continue
		}
		current = -1
		if len(f) < 21 || !strings.HasPrefix(f[0], "UPID:") {
			continue
		}
		part := strings.Split(f[0], ":")
		// Of a process with that number: state is its third field, the time of its start the 22nd.
		if start, err := strconv.ParseUint(part[3], 16, 64); err != nil || strconv.FormatUint(start, 10) != f[20] {
			continue // the number is another process's by now
		}
		out = append(out, Worker{Node: host, Type: part[5], ID: part[6]})
		current = len(out) - 1
	}
	return out, nil
}
