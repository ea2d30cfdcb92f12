package apt

import (
	"context"
	"strings"

	"github.com/pxrun/pxrun/engine/module"
)

// The states that a request may want.
const (
	Present = "present"
	Latest  = "latest"
	Absent  = "absent"
)

// Request is what is wanted of packages on a host.
type Request struct {
	Names []string // Debian packages, without version or architecture
	State string   // Present, Latest or Absent
	// UpdateCache refreshes the lists first when something may have to be installed and they are old.
	UpdateCache bool
}

// Plan compares and returns the one change that is needed, or none. The refusals are those of a node that apt would take
// apart and of a dpkg that was interrupted. A package that the lists do not know is an error, unless they will be fresh,
// or an earlier task of the plan works on the host, when it is a forecast.
func Plan(ctx context.Context, t module.Target, host string, r Request) ([]module.Change, error) {
	have, err := Read(ctx, t, host, r)
	if err != nil {
		return nil, err
	}
	todo := decide(have, r)
	if len(todo.names) == 0 {
		return nil, nil
	}
	if have.Interrupted {
		return nil, &module.Refusal{
			Host: host, Gate: todo.summary(r), Saw: "dpkg was interrupted, packages are half configured", Want: "a package database at rest",
			Look: "dpkg --audit", Override: "dpkg --configure -a, once you know what was interrupted",
		}
	}
	c := module.Change{
		ID: host + "/" + todo.verb, Host: host, Summary: todo.summary(r), Action: todo.action(r),
		Before: have.versionsOf(todo.names), After: todo.wanted,
		Apply: func(ctx context.Context, t module.Target) error { return todo.apply(ctx, t, host) },
	}
	effects, err := simulate(ctx, t, host, todo)
	switch {
	case err == nil:
		if r := effects.Refuse(host, c.Summary); r != nil {
			return nil, r
		}
		c.After, c.Risk = effects.Shown(todo.wanted), effects.Risk()
	case todo.refresh || plannedOn(t, host): // the lists may know more once they are fresh, or an earlier task has added to them
		c.Predicted = "the package lists do not know all of it yet"
	default:
		return nil, err
	}
	return []module.Change{c}, nil
}

func plannedOn(t module.Target, host string) bool {
	for _, p := range t.Planned() {
		if p.Host == host {
			return true
		}
	}
	return false
}

// work is what apt has to do.
type work struct {
	verb    string // install or remove
	names   []string
	refresh bool
	wanted  map[string]any
}

// decide compares. With state latest and old lists it can't know what the newest version is: refreshing is part of the
// work then.
func decide(have State, r Request) work {
	w := work{verb: "install", wanted: map[string]any{}}
	if r.State == Absent {
		w.verb = "remove"
	}
	stale := r.UpdateCache && have.Stale()
	for _, name := range r.Names {
		version, installed := have.Installed[name]
		switch {
		case r.State == Absent && installed:
			w.wanted[name] = nil
		case r.State == Absent:
			continue
		case !installed:
			w.wanted[name] = orNewest(have.Candidate[name])
		case r.State == Latest && stale:
			w.wanted[name] = "the newest"
		case r.State == Latest && have.Candidate[name] != "" && have.Candidate[name] != version:
			w.wanted[name] = have.Candidate[name]
		default:
			continue
		}
		w.names = append(w.names, name)
	}
	w.refresh = stale && r.State != Absent && len(w.names) > 0
	return w
}

func orNewest(version string) string {
	if version == "" {
		return "the newest"
	}
	return version
}

func (w work) action(r Request) module.Action {
	switch r.State {
	case Absent:
		return module.Delete
	case Latest:
		return module.Update
	}
	return module.Create
}

func (w work) summary(r Request) string {
	verb := w.verb
	if r.State == Latest {
		verb = "bring to the newest version:"
	}
	text := verb + " " + strings.Join(w.names, ", ")
	if w.refresh {
		text = "refresh the package lists, " + text
	}
	return text
}

// apply refreshes the lists, looks again at what apt would do, and has it done as a job that outlives the connection:
// a dpkg that is cut off leaves the host half configured.
func (w work) apply(ctx context.Context, t module.Target, host string) error {
	if w.refresh {
		if _, err := Refresh(ctx, t, host); err != nil {
			return err
		}
	}
	effects, err := simulate(ctx, t, host, w)
	if err != nil {
		return err
	}
	if r := effects.Refuse(host, w.verb+" "+strings.Join(w.names, ", ")); r != nil {
		return r
	}
	c := Get(append([]string{"-y", "-q", "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold", "-o", lockTimeout, w.verb}, w.names...)...)
	_, err = Job(ctx, t, host, "package-"+fingerprint(c), c)
	return err
}
