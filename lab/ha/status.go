package ha

import (
	"encoding/json"
	"slices"
)

// The states of a service as the CRM keeps them (reference §5.4).
const (
	stateStopped      = "stopped"
	stateRequestStop  = "request_stop"
	stateRequestStart = "request_start"
	stateBalance      = "request_start_balance"
	stateStarted      = "started"
	stateFence        = "fence"
	stateRecovery     = "recovery"
	stateMigrate      = "migrate"
	stateRelocate     = "relocate"
	stateFreeze       = "freeze"
	stateError        = "error"
)

// The states that a resource's configuration asks for, besides started and stopped.
const (
	wantDisabled = "disabled"
	wantIgnored  = "ignored"
	wantEnabled  = "enabled" // an old word for started
)

// The states of a node as the CRM keeps them.
const (
	nodeOnline      = "online"
	nodeMaintenance = "maintenance"
	nodeUnknown     = "unknown"
	nodeFence       = "fence"
	nodeGone        = "gone"
)

// The modes of an LRM.
const (
	modeActive      = "active"
	modeMaintenance = "maintenance"
	modeRestart     = "restart"
	modeShutdown    = "shutdown"
	modeDisarm      = "disarm"
)

// The states of an LRM.
const (
	lrmWait        = "wait_for_agent_lock"
	lrmActive      = "active"
	lrmMaintenance = "maintenance"
	lrmLost        = "lost_agent_lock"
)

// managerStatus is /etc/pve/ha/manager_status. The timestamp must come last: see cluster's aging of it.
type managerStatus struct {
	Disarm   *disarm                `json:"disarm,omitempty"`
	Master   string                 `json:"master_node"`
	Requests map[string]nodeRequest `json:"node_request,omitempty"`
	Nodes    map[string]string      `json:"node_status"`
	Services map[string]*service    `json:"service_status"`
	Time     int64                  `json:"timestamp"`
}

// disarm is how far the HA stack has let go of the watchdogs: state "disarming" or "disarmed", mode "freeze" or "ignore".
type disarm struct {
	Mode  string `json:"mode"`
	State string `json:"state"`
}

// nodeRequest is what administrators asked of a node. It stays, empty, after it was taken back.
type nodeRequest struct {
	Maintenance int `json:"maintenance,omitempty"`
}

// service is what the CRM knows of one resource.
type service struct {
	Command     []string `json:"cmd,omitempty"`
	Failed      []string `json:"failed_nodes,omitempty"`
	Maintenance string   `json:"maintenance_node,omitempty"`
	Node        string   `json:"node"`
	Running     int      `json:"running,omitempty"`
	State       string   `json:"state"`
	Target      string   `json:"target,omitempty"`
	Timeout     string   `json:"timeout,omitempty"` // of a stop, in seconds
	UID         string   `json:"uid"`
}

// lrmStatus is /etc/pve/nodes/NODE/lrm_status.
type lrmStatus struct {
	Mode    string               `json:"mode"`
	Results map[string]lrmResult `json:"results"`
	State   string               `json:"state"`
	Time    int64                `json:"timestamp"`
}

// lrmResult is the outcome of what an LRM did, under the UID that the service had.
type lrmResult struct {
	Exit  int    `json:"exit_code"`
	SID   string `json:"sid"`
	State string `json:"state"`
}

// parseManagerStatus reads the file; an empty one is that of a cluster that never used HA.
func parseManagerStatus(text []byte) (*managerStatus, error) {
	status := &managerStatus{}
	if len(text) == 0 {
		return status, nil
	}
	if err := json.Unmarshal(text, status); err != nil {
		return &managerStatus{}, err
	}
	for sid, s := range status.Services {
		if s == nil {
			delete(status.Services, sid)
		}
	}
	return status, nil
}

func parseLRMStatus(text []byte) (*lrmStatus, error) {
	status := &lrmStatus{}
	if len(text) == 0 {
		return status, nil
	}
	err := json.Unmarshal(text, status)
	return status, err
}

// encode writes a status as one line of JSON.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic("the types of this file can be encoded: " + err.Error())
	}
	return text
}

// requested reports whether a node is to go into maintenance.
func (s *managerStatus) requested(node string) bool { return s.Requests[node].Maintenance != 0 }

// activeOn counts the services for which a node must hold its lock.
func (s *managerStatus) activeOn(node string) int {
	count := 0
	for _, one := range s.Services {
		if one.Node == node && !slices.Contains([]string{stateStopped, stateFreeze, stateError}, one.State) {
			count++
		}
	}
	return count
}

// anyOn reports whether a service belongs to a node, whatever its state.
func (s *managerStatus) anyOn(node string) bool {
	for _, one := range s.Services {
		if one.Node == node {
			return true
		}
	}
	return false
}

// fenced reports whether a node is to be fenced.
func (s *managerStatus) fenced(node string) bool {
	if s.Nodes[node] == nodeFence {
		return true
	}
	for _, one := range s.Services {
		if one.Node == node && one.State == stateFence {
			return true
		}
	}
	return false
}

// verbose is the state of a service as ha-manager shows it. s is nil while the CRM does not know it, conf is nil when it is
// no longer configured.
func verbose(s *service, conf *serviceConf) string {
	switch {
	case conf == nil:
		return "deleting"
	case conf.State == wantIgnored:
		return wantIgnored
	case conf.Node == "":
		return "not found"
	case s == nil:
		return "queued"
	case s.State == stateStopped && conf.State == stateStarted, s.State == stateStarted && s.Running == 0:
		return "starting"
	case s.State == stateStopped && conf.State == wantDisabled:
		return wantDisabled
	case s.State == stateStarted && (conf.State == stateStopped || conf.State == wantDisabled):
		return "stopping"
	case s.State == stateError && conf.State == wantDisabled:
		return "clearing error flag"
	}
	return s.State
}
