package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/guest"
)

// Request is one question to a running lab over its control socket: a JSON object on a line.
type Request struct {
	// Op is status, fault-add, fault-list, fault-clear, guest-add, guest-remove, guest-list, updates-add, updates-list, writes, writes-reset, reach or down.
	Op    string `json:"op"`
	Fault Fault  `json:"fault"`
	// Address is of reach: where somebody wants to connect to.
	Address string `json:"address,omitempty"`
	// Node and Guest are of guest-add and guest-remove.
	Node  string      `json:"node,omitempty"`
	Guest *guest.Spec `json:"guest,omitempty"`
	// Nodes and Updates are of updates-add; no node means all.
	Nodes   []string `json:"nodes,omitempty"`
	Updates []string `json:"updates,omitempty"`
}

// Response is the answer: a JSON object on a line.
type Response struct {
	Error  string  `json:"error,omitempty"`
	ID     int     `json:"id,omitempty"`
	Faults []Fault `json:"faults,omitempty"`
	Status *Status `json:"status,omitempty"`
	Writes []Write `json:"writes,omitempty"`
	// Guests is the answer to guest-list.
	Guests []guest.State `json:"guests,omitempty"`
	// Reach is the answer to reach: why no connection can be made, "" if one can.
	Reach string `json:"reach,omitempty"`
	// Updates is the answer to updates-list.
	Updates []Pending `json:"updates,omitempty"`
}

// Status is how a lab stands.
type Status struct {
	// Elapsed is the model time since the start.
	Elapsed time.Duration `json:"elapsed"`
	Speed   float64       `json:"speed"`
	Hosts   []HostStatus  `json:"hosts"`
	Faults  []Fault       `json:"faults,omitempty"`
}

// HostStatus is how one machine stands. Node is nil for a plain Debian host.
type HostStatus struct {
	Name    string        `json:"name"`
	Address string        `json:"address"`
	Listen  string        `json:"listen"`
	Up      bool          `json:"up"`
	Node    *cluster.View `json:"node,omitempty"`
}

// Status returns how the lab stands now.
func (l *Lab) Status() Status {
	s := Status{Elapsed: l.clock.Elapsed(), Speed: l.spec.Speed, Faults: l.Faults()}
	for _, h := range l.hosts {
		one := HostStatus{Name: h.spec.Name, Address: h.spec.Address, Listen: h.listen(), Up: h.machine.Up()}
		if v, ok := l.Node(h.spec.Name); ok {
			one.Node = &v
		}
		s.Hosts = append(s.Hosts, one)
	}
	return s
}

// maxSocketPath is how long the name of a unix socket may be, with some room.
const maxSocketPath = 100

// serveControl opens the control socket and serves it until Close.
func (l *Lab) serveControl(dir string) (string, error) {
	name := filepath.Join(dir, "control.sock")
	if len(name) > maxSocketPath {
		short, err := os.MkdirTemp("", "lab")
		if err != nil {
			return "", err
		}
		name = filepath.Join(short, "control.sock")
	}
	_ = os.Remove(name) // of a lab that was killed
	var config net.ListenConfig
	listener, err := config.Listen(l.ctx, "unix", name)
	if err != nil {
		return "", err
	}
	l.mu.Lock()
	l.control = listener
	l.mu.Unlock()
	l.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l.wg.Go(func() { l.answer(conn) })
		}
	})
	return name, nil
}

// answer serves one connection of the control socket.
func (l *Lab) answer(conn net.Conn) {
	stop := context.AfterFunc(l.ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	encoder := json.NewEncoder(conn)
	for lines.Scan() {
		var request Request
		response := Response{}
		if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
			response.Error = fmt.Sprintf("malformed request: %v", err)
		} else {
			response = l.handle(request)
		}
		if encoder.Encode(response) != nil {
			return
		}
		if request.Op == "down" && response.Error == "" {
			l.down()
			return
		}
	}
}

func (l *Lab) handle(r Request) Response {
	switch r.Op {
	case "status":
		s := l.Status()
		return Response{Status: &s}
	case "fault-add":
		id, err := l.AddFault(r.Fault)
		if err != nil {
			return Response{Error: err.Error()}
		}
		return Response{ID: id}
	case "fault-list":
		return Response{Faults: l.Faults()}
	case "fault-clear":
		if err := l.ClearFault(r.Fault.ID); err != nil {
			return Response{Error: err.Error()}
		}
		return Response{}
	case "guest-list":
		return Response{Guests: l.guests.List()}
	case "guest-add", "guest-remove":
		if r.Guest == nil {
			return Response{Error: "no guest is named"}
		}
		err := l.changeGuest(r)
		if err != nil {
			return Response{Error: err.Error()}
		}
		return Response{}
	case "updates-list":
		return Response{Updates: l.Updates()}
	case "updates-add":
		if err := l.AddUpdates(r.Nodes, r.Updates...); err != nil {
			return Response{Error: err.Error()}
		}
		return Response{}
	case "writes":
		return Response{Writes: l.Writes()}
	case "writes-reset":
		l.ResetWrites()
		return Response{}
	case "reach":
		return l.reachOf(r.Address)
	case "down":
		return Response{}
	}
	return Response{Error: fmt.Sprintf("unknown request %q", r.Op)}
}

// Ask sends a request to a running lab and returns its answer. A lab that does not answer is ErrNoLab.
func (a Access) Ask(ctx context.Context, r Request) (Response, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", a.Control)
	if err != nil {
		return Response{}, fmt.Errorf("%w: %w", ErrNoLab, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := json.NewEncoder(conn).Encode(r); err != nil {
		return Response{}, err
	}
	var response Response
	if err := json.NewDecoder(conn).Decode(&response); err != nil {
		return Response{}, fmt.Errorf("the lab's answer to %s: %w", r.Op, err)
	}
	if response.Error != "" {
		return response, errors.New(response.Error)
	}
	return response, nil
}

// Status asks a running lab how it stands.
func (a Access) Status(ctx context.Context) (Status, error) {
	r, err := a.Ask(ctx, Request{Op: "status"})
	if err != nil {
		return Status{}, err
	}
	if r.Status == nil {
		return Status{}, errors.New("the lab answered without a status")
	}
	return *r.Status, nil
}

// AddFault plans a fault in a running lab and returns its id.
func (a Access) AddFault(ctx context.Context, f Fault) (int, error) {
	r, err := a.Ask(ctx, Request{Op: "fault-add", Fault: f})
	return r.ID, err
}

// Faults lists the planned faults of a running lab.
func (a Access) Faults(ctx context.Context) ([]Fault, error) {
	r, err := a.Ask(ctx, Request{Op: "fault-list"})
	return r.Faults, err
}

// ClearFault takes a fault of a running lab away; id 0 means all.
func (a Access) ClearFault(ctx context.Context, id int) error {
	_, err := a.Ask(ctx, Request{Op: "fault-clear", Fault: Fault{ID: id}})
	return err
}

// Writes returns the changes that programs have made to files in a running lab. With reset it forgets them.
func (a Access) Writes(ctx context.Context, reset bool) ([]Write, error) {
	r, err := a.Ask(ctx, Request{Op: "writes"})
	if err == nil && reset {
		_, err = a.Ask(ctx, Request{Op: "writes-reset"})
	}
	return r.Writes, err
}

// Down ends a running lab.
func (a Access) Down(ctx context.Context) error {
	_, err := a.Ask(ctx, Request{Op: "down"})
	return err
}
