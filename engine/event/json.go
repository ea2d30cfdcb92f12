package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/pxrun/pxrun/engine/module"
)

// kinds are all bodies, in the order in which docs/events.md tells them.
var kinds = []Body{
	RunStarted{}, HostConnected{}, StepStarted{}, StepPlanned{}, ChangeStarted{}, ChangeDone{}, HostDone{}, StepDone{},
	Output{}, Dropped{}, CommandRan{}, Note{}, Warning{}, UndoRegistered{}, UndoDone{},
	BlockPlanned{}, NodeStarted{}, NodeDone{}, Paused{}, Continued{},
	module.Moved{}, module.Downtime{}, module.Votes{}, module.Reading{}, module.Version{}, module.Phase{}, module.KeptFile{},
	Interrupted{}, RunDone{},
}

// head is what every event has. The field "type" tells which body follows.
type head struct {
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"`
	Run  string    `json:"run,omitempty"`
	Type string    `json:"type"`
	Step string    `json:"step,omitempty"`
	Host string    `json:"host,omitempty"`
}

// MarshalJSON writes one flat object: the fields of the event, "type", and the fields of the body.
func (e Event) MarshalJSON() ([]byte, error) {
	if e.Body == nil {
		return nil, fmt.Errorf("event %d has no body", e.Seq)
	}
	first, err := json.Marshal(head{e.Seq, e.Time, e.Run, e.Body.Kind(), e.Step, e.Host})
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(listed(e.Body))
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", e.Body.Kind(), err)
	}
	if len(body) <= len("{}") {
		return first, nil
	}
	first[len(first)-1] = ','
	return append(first, body[1:]...), nil
}

// listed writes empty lists as lists, so that readers need not ask for null.
func listed(body Body) Body {
	switch b := body.(type) {
	case RunStarted:
		b.Hosts = some(b.Hosts)
		return b
	case StepStarted:
		b.Hosts = some(b.Hosts)
		return b
	case StepPlanned:
		b.Changes = some(b.Changes)
		return b
	case BlockPlanned:
		b.Order = some(b.Order)
		return b
	case RunDone:
		b.Summary.Steps = some(b.Summary.Steps)
		return b
	default:
		return body
	}
}

func some[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// UnmarshalJSON reads what MarshalJSON wrote. An event of a kind that this version does not know becomes an Other, so
// that a newer journal can still be listed.
func (e *Event) UnmarshalJSON(data []byte) error {
	var h head
	if err := json.Unmarshal(data, &h); err != nil {
		return err
	}
	if h.Type == "" {
		return fmt.Errorf("event %d has no type", h.Seq)
	}
	*e = Event{Seq: h.Seq, Time: h.Time, Run: h.Run, Step: h.Step, Host: h.Host}
	i := slices.IndexFunc(kinds, func(b Body) bool { return b.Kind() == h.Type })
	if i < 0 {
		e.Body = Other{Type: h.Type, Raw: bytes.Clone(data)}
		return nil
	}
	body := reflect.New(reflect.TypeOf(kinds[i]))
	if err := json.Unmarshal(data, body.Interface()); err != nil {
		return fmt.Errorf("event %s: %w", h.Type, err)
	}
	e.Body = body.Elem().Interface().(Body)
	return nil
}

// Other is an event that this version does not know.
type Other struct {
	Type string
	Raw  json.RawMessage
}

// Kind is the type as it was read.
func (o Other) Kind() string { return o.Type }

// MarshalJSON gives back the fields that were read.
func (o Other) MarshalJSON() ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(o.Raw, &fields); err != nil {
		return nil, err
	}
	for _, k := range []string{"seq", "time", "run", "type", "step", "host"} {
		delete(fields, k)
	}
	return json.Marshal(fields)
}
