package storage

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/config"
)

// Backup is a backup of a guest on a storage.
type Backup struct {
	Guest  int
	Volume string
	Time   time.Time
}

// ParseBackups reads what `pvesh get /nodes/…/storage/…/content --content backup` prints.
func ParseBackups(text []byte) ([]Backup, error) {
	var raw []struct {
		Volid string          `json:"volid"`
		CTime float64         `json:"ctime"`
		VMID  json.RawMessage `json:"vmid"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("list of backups: %w", err)
	}
	var out []Backup
	for _, b := range raw {
		id, err := strconv.Atoi(strings.Trim(string(b.VMID), `"`))
		if err != nil || b.CTime <= 0 {
			continue
		}
		out = append(out, Backup{Guest: id, Volume: b.Volid, Time: time.Unix(int64(b.CTime), 0)})
	}
	return out, nil
}

// Newest is the newest backup of each guest.
func Newest(all []Backup) map[int]Backup {
	out := map[int]Backup{}
	for _, b := range all {
		if old, there := out[b.Guest]; !there || b.Time.After(old.Time) {
			out[b.Guest] = b
		}
	}
	return out
}

// backupBooleans are options of backup jobs whose value has many spellings, with what they are when they are not set.
var backupBooleans = map[string]bool{
	"enabled": true, "all": false, "protected": false, "remove": true, "repeat-missed": false, "stdexcludes": true, "quiet": false,
}

// backupNormal is what options are when a job does not name them.
var backupNormal = map[string]string{"mode": "snapshot", "compress": "0"}

// CompareBackup says in which of the wanted options a backup job differs. remove names options that should not be there.
func CompareBackup(have config.Section, want map[string]string, remove []string) []Difference {
	var out []Difference
	for _, option := range slices.Sorted(maps.Keys(want)) {
		if !sameBackupOption(have, option, want[option]) {
			out = append(out, Difference{Option: option, Have: shown(have, option), Want: want[option]})
		}
	}
	for _, option := range slices.Sorted(slices.Values(remove)) {
		if _, there := have.Values[option]; there {
			out = append(out, Difference{Option: option, Have: shown(have, option)})
		}
	}
	return out
}

func sameBackupOption(have config.Section, option, want string) bool {
	value, given := have.Values[option]
	if normal, is := backupBooleans[option]; is {
		on := have.Is(option)
		if !given {
			on = normal
		}
		return on == config.Bool(want)
	}
	switch option {
	case "vmid", "exclude", "mailto":
		return slices.Equal(have.List(option), config.SplitList(want))
	case "prune-backups", "fleecing", "performance":
		bare := map[string]string{"fleecing": "enabled"}[option]
		return maps.Equal(config.ParseProperties(value, bare), config.ParseProperties(want, bare))
	}
	if !given {
		value = backupNormal[option]
	}
	return value == want
}

// Covered lists the guests that a backup job backs up, sorted. Guests that the job names and that are not there are not in
// it.
func Covered(job config.Section, guests []pve.Guest, pools map[string][]int) []int {
	named, excluded := job.List("vmid"), job.List("exclude")
	members := pools[job.Values["pool"]]
	var out []int
	for _, g := range guests {
		id, err := strconv.Atoi(g.ID)
		if err != nil || slices.Contains(excluded, g.ID) || job.Values["node"] != "" && job.Values["node"] != g.Node {
			continue
		}
		if job.Is("all") || slices.Contains(named, g.ID) || slices.Contains(members, id) {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// Stale lists the guests without a backup that is newer than a limit.
func Stale(guests []int, newest map[int]Backup, now time.Time, limit time.Duration) []int {
	var out []int
	for _, id := range guests {
		if b, there := newest[id]; !there || now.Sub(b.Time) > limit {
			out = append(out, id)
		}
	}
	return out
}
