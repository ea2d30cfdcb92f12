package ceph

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Status is what ceph -s says.
type Status struct {
	FSID   string `json:"fsid"`
	Health struct {
		Status string           `json:"status"` // HEALTH_OK, HEALTH_WARN, HEALTH_ERR
		Checks map[string]Check `json:"checks"`
	} `json:"health"`
	QuorumNames []string `json:"quorum_names"`
	MonMap      struct {
		NumMons int `json:"num_mons"`
	} `json:"monmap"`
	OSDs struct {
		Total int `json:"num_osds"`
		Up    int `json:"num_up_osds"`
		In    int `json:"num_in_osds"`
	} `json:"osdmap"`
	PGs struct {
		States   []PGState `json:"pgs_by_state"`
		Total    int       `json:"num_pgs"`
		Degraded int       `json:"degraded_objects"`
		// Misplaced are objects that have all their copies, and not where they belong.
		Misplaced int   `json:"misplaced_objects"`
		Data      int64 `json:"data_bytes"`
		Used      int64 `json:"bytes_used"`
		Avail     int64 `json:"bytes_avail"`
		Bytes     int64 `json:"bytes_total"`
	} `json:"pgmap"`
	FS struct {
		ByRank []struct {
			Name   string `json:"name"`
			Status string `json:"status"`
		} `json:"by_rank"`
		Standby int `json:"up:standby"`
	} `json:"fsmap"`
	Mgr struct {
		Available bool `json:"available"`
		Standbys  int  `json:"num_standbys"`
	} `json:"mgrmap"`
}

// Check is one of the health checks that complain.
type Check struct {
	Severity string `json:"severity"`
	Summary  struct {
		Message string `json:"message"`
	} `json:"summary"`
	Muted bool `json:"muted"`
}

// PGState is how many placement groups are in a state.
type PGState struct {
	Name  string `json:"state_name"`
	Count int    `json:"count"`
}

// ParseStatus reads the output of ceph -s -f json.
func ParseStatus(text []byte) (*Status, error) {
	var s Status
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("ceph -s: %w", err)
	}
	if s.Health.Status == "" {
		return nil, fmt.Errorf("ceph -s: no health in the answer")
	}
	return &s, nil
}

// cleanStates are the states of a placement group that lacks nothing (reference §8.4).
var cleanStates = []string{"active+clean", "active+clean+scrubbing", "active+clean+scrubbing+deep"}

// Clean says what keeps the placement groups from being all active and clean; "" if nothing does. Counts that do not add
// up count as not clean.
func (s *Status) Clean() string {
	sum := 0
	var dirty []string
	for _, p := range s.PGs.States {
		sum += p.Count
		if !slices.Contains(cleanStates, p.Name) {
			dirty = append(dirty, fmt.Sprintf("%d %s", p.Count, p.Name))
		}
	}
	switch {
	case len(dirty) > 0:
		return "placement groups: " + strings.Join(dirty, ", ")
	case sum != s.PGs.Total:
		return fmt.Sprintf("%d of %d placement groups have a state", sum, s.PGs.Total)
	}
	return ""
}

// Unclean is how many placement groups are not known to be active and clean.
func (s *Status) Unclean() int {
	clean := 0
	for _, p := range s.PGs.States {
		if slices.Contains(cleanStates, p.Name) {
			clean += p.Count
		}
	}
	return max(s.PGs.Total-clean, 0)
}

// Serving says what keeps placement groups from serving reads and writes; "" if all are active.
func (s *Status) Serving() string {
	sum := 0
	for _, p := range s.PGs.States {
		if slices.Contains(strings.Split(p.Name, "+"), "active") {
			sum += p.Count
		}
	}
	if sum < s.PGs.Total {
		return fmt.Sprintf("%d of %d placement groups are active: %s", sum, s.PGs.Total, s.states())
	}
	return ""
}

func (s *Status) states() string {
	parts := make([]string, len(s.PGs.States))
	for i, p := range s.PGs.States {
		parts[i] = fmt.Sprintf("%d %s", p.Count, p.Name)
	}
	return strings.Join(parts, ", ")
}

// Complaints are the health checks that are not muted, as "NAME: message", in alphabetical order.
func (s *Status) Complaints() []string {
	var out []string
	for name, c := range s.Health.Checks {
		if !c.Muted {
			out = append(out, name+": "+c.Summary.Message)
		}
	}
	slices.Sort(out)
	return out
}

// InQuorum reports whether a monitor is part of the quorum.
func (s *Status) InQuorum(mon string) bool { return s != nil && slices.Contains(s.QuorumNames, mon) }

// MonNames reads the output of ceph mon dump -f json: all monitors, in quorum or not.
func MonNames(text []byte) ([]string, error) {
	var raw struct {
		Mons []struct {
			Name string `json:"name"`
		} `json:"mons"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("ceph mon dump: %w", err)
	}
	names := make([]string, len(raw.Mons))
	for i, m := range raw.Mons {
		names[i] = m.Name
	}
	return names, nil
}
