package storage

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/internal/pve/config"
)

// Job is a replication job (reference §10).
type Job struct {
	ID             string // 100-0
	Guest          int
	Source, Target string
	Schedule       string // "*/15" unless it is set
	Rate           string // MB/s; "" is no limit
	Comment        string
	Disabled       bool
	// Removing is how a job is being removed: "full", "local", or "" if it is not.
	Removing string
}

// DefaultSchedule is that of a job which names none.
const DefaultSchedule = "*/15"

var jobForm = regexp.MustCompile(`^([1-9][0-9]{2,8})-([0-9]{1,9})$`)

// ParseJobs reads replication.cfg.
func ParseJobs(text []byte) []Job {
	sections, _ := config.ParseSections(text)
	var out []Job
	for _, s := range sections {
		m := jobForm.FindStringSubmatch(s.ID)
		if s.Type != "local" || m == nil {
			continue
		}
		j := Job{
			ID: s.ID, Source: s.Values["source"], Target: s.Values["target"], Schedule: s.Values["schedule"], Rate: s.Values["rate"],
			Comment: config.DecodeText(s.Values["comment"]), Disabled: s.Is("disable"), Removing: s.Values["remove_job"],
		}
		j.Guest, _ = strconv.Atoi(m[1])
		if j.Schedule == "" {
			j.Schedule = DefaultSchedule
		}
		out = append(out, j)
	}
	return out
}

// FreeNumber is the lowest number that no job of a guest has.
func FreeNumber(jobs []Job, guest int) int {
	for n := 0; ; n++ {
		if !slices.ContainsFunc(jobs, func(j Job) bool { return j.ID == fmt.Sprintf("%d-%d", guest, n) }) {
			return n
		}
	}
}

// Sync is how a job went last, as its source node has it.
type Sync struct {
	LastSync, LastTry int64 // seconds since 1970; 0 is never
	Duration          float64
	Failures          int
	Error             string
	Running           bool
}

// ParseSyncs reads pve-replication-state.json: by guest and target.
func ParseSyncs(text []byte) (map[int]map[string]Sync, error) {
	out := map[int]map[string]Sync{}
	if len(strings.TrimSpace(string(text))) == 0 {
		return out, nil
	}
	var raw map[string]map[string]struct {
		LastSync  float64         `json:"last_sync"`
		LastTry   float64         `json:"last_try"`
		Duration  float64         `json:"duration"`
		FailCount float64         `json:"fail_count"`
		Error     string          `json:"error"`
		PID       json.RawMessage `json:"pid"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("pve-replication-state.json: %w", err)
	}
	for guest, targets := range raw {
		id, err := strconv.Atoi(guest)
		if err != nil {
			continue
		}
		out[id] = map[string]Sync{}
		for target, s := range targets {
			out[id][strings.TrimPrefix(target, "local/")] = Sync{
				LastSync: int64(s.LastSync), LastTry: int64(s.LastTry), Duration: s.Duration, Failures: int(s.FailCount), Error: s.Error, Running: len(s.PID) > 0,
			}
		}
	}
	return out, nil
}

// Replicatable says why a guest's volumes cannot be replicated: those that are on no ZFS. None at all is a reason too.
func Replicatable(guest int, all []Reference, storages []config.Section) (ids []string, why string) {
	var wrong []string
	seen := map[string]bool{}
	for _, r := range all {
		if r.Guest != guest || !r.Replicate || r.Spare || seen[r.Volume] {
			continue
		}
		seen[r.Volume] = true
		s, there := config.FindSection(storages, r.Storage())
		switch {
		case !there:
			wrong = append(wrong, fmt.Sprintf("%s is on storage %s, which is not there", r.Volume, r.Storage()))
		case s.Type != "zfspool":
			wrong = append(wrong, fmt.Sprintf("%s is on storage %s of type %s", r.Volume, s.ID, s.Type))
		case !slices.Contains(ids, s.ID):
			ids = append(ids, s.ID)
		}
	}
	switch {
	case len(wrong) > 0:
		return nil, strings.Join(wrong, "; ")
	case len(ids) == 0:
		return nil, "it has no disk that replication would copy"
	}
	return ids, ""
}
