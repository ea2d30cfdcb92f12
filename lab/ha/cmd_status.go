package ha

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

type object = pvetool.Object

// quorate is what PVE's tools mean by it.
func (s *Stack) quorate() bool { return s.node.Mounted() && s.node.Writable() }

// ageWord judges a timestamp by the node's clock.
func ageWord(now, stamp int64) string {
	switch age := now - stamp; {
	case age > 30:
		return "old timestamp - dead?"
	case age < -2:
		return "detected time drift!"
	}
	return "active"
}

// localTime is how perl writes a time.
func localTime(stamp int64) string {
	return time.Unix(stamp, 0).UTC().Format("Mon Jan _2 15:04:05 2006")
}

// current is /cluster/ha/status/current: one entry for each line of `ha-manager status`.
func (s *Stack) current(v *vfs.View) ([]object, error) {
	config, err := readConfig(v)
	if err != nil {
		return nil, err
	}
	status, err := readManagerStatus(v)
	if err != nil {
		return nil, err
	}
	quorate := s.quorate()
	word := "OK"
	if !quorate {
		word = fmt.Sprintf("No quorum on node '%s'!", s.node.Name())
	}
	out := []object{{"id": "quorum", "type": "quorum", "node": s.node.Name(), "status": word, "quorate": flag(quorate)}}
	out = append(out, s.managerRows(v, status, len(config.conf), quorate)...)
	for _, node := range slices.Sorted(maps.Keys(status.Nodes)) {
		out = append(out, s.lrmRow(v, status, node))
	}
	ignoring := status.Disarm != nil && status.Disarm.Mode == "ignore"
	for _, sid := range slices.Sorted(maps.Keys(status.Services)) {
		out = append(out, s.serviceRow(sid, status.Services[sid], config.conf[sid], ignoring))
	}
	for _, sid := range slices.Sorted(maps.Keys(config.conf)) {
		if status.Services[sid] == nil {
			out = append(out, s.serviceRow(sid, nil, config.conf[sid], ignoring))
		}
	}
	return out, nil
}

func readManagerStatus(v *vfs.View) (*managerStatus, error) {
	text, err := read(v, managerFile)
	if err != nil {
		return nil, err
	}
	return parseManagerStatus(text)
}

// managerRows are those of the master and of fencing.
func (s *Stack) managerRows(v *vfs.View, status *managerStatus, resources int, quorate bool) []object {
	var out []object
	now := s.machine.Now().Unix()
	known := status.Master != "" && status.Time != 0
	active := known && ageWord(now, status.Time) == "active"
	if known {
		word := ageWord(now, status.Time)
		if quorate && word != "active" && resources == 0 {
			word = "idle"
		}
		text := fmt.Sprintf("%s (%s, %s)", status.Master, word, localTime(status.Time))
		if d := status.Disarm; d != nil {
			text += fmt.Sprintf(" - %s, resource mode: %s", d.State, d.Mode)
		}
		if dc, err := read(v, dcFile); err == nil {
			if load := parseDatacenter(string(dc)).scheduler; load != "basic" {
				text += " - " + load + " load CRS"
			}
		}
		out = append(out, object{"id": "master", "type": "master", "node": status.Master, "status": text, "timestamp": status.Time})
	}
	if !featuresOf(s.node.Release()).fencing {
		return out
	}
	node := status.Master
	if node == "" {
		node = s.node.Name()
	}
	row := object{"id": "fencing", "type": "fencing", "node": node}
	switch d := status.Disarm; {
	case d != nil:
		crm := "CRM watchdog active"
		if d.State == "disarmed" {
			crm = "CRM watchdog released"
		}
		row["armed-state"], row["resource_mode"] = d.State, d.Mode
		row["status"] = fmt.Sprintf("%s, resource mode: %s (%s)", d.State, d.Mode, crm)
	case active:
		row["armed-state"], row["status"] = "armed", "armed (CRM watchdog active)"
	default:
		row["armed-state"], row["status"] = "standby", "standby (CRM watchdog standby)"
	}
	return append(out, row)
}

func (s *Stack) lrmRow(v *vfs.View, status *managerStatus, node string) object {
	row := object{"id": "lrm:" + node, "type": "lrm", "node": node}
	text, err := read(v, lrmFile(node))
	lrm, parseErr := parseLRMStatus(text)
	if err != nil || parseErr != nil || lrm.Time == 0 {
		row["status"] = node + " (unable to read lrm status)"
		return row
	}
	word := ageWord(s.machine.Now().Unix(), lrm.Time)
	dog := "watchdog standby"
	switch {
	case word == "active" && (lrm.State == lrmActive || lrm.State == lrmMaintenance):
		dog = "watchdog active"
	case lrm.Mode == modeDisarm:
		dog = "watchdog released"
	}
	switch {
	case word == "active" && lrm.Mode != "" && lrm.Mode != modeActive:
		word = lrm.Mode + " mode"
	case word == "active" && lrm.State == lrmWait && status.activeOn(node) == 0:
		word = "idle"
	case word == "active":
		word = lrm.State
	case lrm.Mode == modeMaintenance, lrm.Mode == modeDisarm:
		word = lrm.Mode + " mode"
	}
	if featuresOf(s.node.Release()).fencing {
		word += ", " + dog
	}
	row["status"], row["timestamp"] = fmt.Sprintf("%s (%s, %s)", node, word, localTime(lrm.Time)), lrm.Time
	return row
}

func (s *Stack) serviceRow(sid string, one *service, c *serviceConf, ignoring bool) object {
	row := object{"id": "service:" + sid, "type": "service", "sid": sid}
	node := "---"
	if one != nil {
		row["crm_state"], node = one.State, one.Node
	} else if c != nil && c.Node != "" {
		node = c.Node
	}
	if node != "---" {
		row["node"] = node
	}
	word := verbose(one, c)
	if ignoring {
		word = "ignore"
	}
	row["state"], row["status"] = word, fmt.Sprintf("%s (%s, %s)", sid, node, word)
	if c == nil {
		return row
	}
	row["request_state"], row["max_restart"], row["max_relocate"] = c.State, c.MaxRestart, c.MaxRelocate
	if featuresOf(s.node.Release()).rules {
		row["failback"] = flag(c.Failback)
	}
	if c.Group != "" {
		row["group"] = c.Group
	}
	if c.Comment != "" {
		row["comment"] = c.Comment
	}
	return row
}

// fullStatus is /cluster/ha/status/manager_status.
func (s *Stack) fullStatus(v *vfs.View) (object, error) {
	status, err := readManagerStatus(v)
	if err != nil {
		return nil, err
	}
	quorate := "" // perl's false
	if s.quorate() {
		quorate = "1"
	}
	out := object{"manager_status": rawObject(v, managerFile), "quorum": object{"node": s.node.Name(), "quorate": quorate}}
	if len(status.Nodes) > 0 {
		lrms := object{}
		for node := range status.Nodes {
			lrms[node] = rawObject(v, lrmFile(node))
		}
		out["lrm_status"] = lrms
	}
	return out, nil
}

// rawObject is a JSON file as it is, empty if it cannot be read.
func rawObject(v *vfs.View, name string) any {
	text, err := read(v, name)
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	out := object{}
	if err != nil || decoder.Decode(&out) != nil {
		return object{}
	}
	return out
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

var jsonKey = regexp.MustCompile(`(?m)^(\s*"(?:[^"\\]|\\.)*"):`)

// pretty is how perl's to_json lays out JSON.
func pretty(v any) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "   ")
	if encoder.Encode(v) != nil {
		return ""
	}
	return jsonKey.ReplaceAllString(out.String(), "$1 :")
}
