package system

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
)

//go:embed package.md
var packageDoc string

type packageArgs struct {
	Names       []string `hcl:"names" doc:"The Debian packages, without version or architecture." min:"1" example:"[\"chrony\"]"`
	State       string   `hcl:"state,optional" doc:"Present installs what is missing, latest also brings the newest version that the lists know, absent removes." default:"present" oneof:"present latest absent"`
	UpdateCache bool     `hcl:"update_cache,optional" doc:"Refresh the package lists first, when something may have to be installed and they are older than an hour or than the repositories in /etc/apt." default:"true"`
}

var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

// Validate checks what the tags can't say.
func (a packageArgs) Validate() error {
	var errs []error
	for i, name := range a.Names {
		at := fmt.Sprintf("names[%d]", i)
		if !packageName.MatchString(name) {
			errs = append(errs, schema.At(at, fmt.Errorf("%q is no name of a Debian package", name)))
		}
		if slices.Contains(a.Names[:i], name) {
			errs = append(errs, schema.At(at, fmt.Errorf("%q stands there twice", name)))
		}
	}
	return errors.Join(errs...)
}

func newPackage() module.Module {
	return module.Define(module.Spec{
		Name: "package", Summary: "Keep Debian packages installed or away", Doc: packageDoc, Risk: module.RiskDisruptive,
	}, module.Funcs[packageArgs, packageResult]{
		Probes: func(t module.Target, a packageArgs) []module.Probe { return probesOf(t, a.probe()) },
		Plan:   planPackage,
		Read:   readPackage,
	})
}

type packageResult struct {
	Versions map[string]string `hcl:"versions" doc:"The installed version of each package; those that are not installed are missing."`
}

func readPackage(ctx context.Context, t module.Target, a packageArgs) (packageResult, error) {
	have, err := readPackages(ctx, t, a)
	if err != nil {
		return packageResult{}, err
	}
	return packageResult{have.installed}, nil
}

func planPackage(ctx context.Context, t module.Target, a packageArgs) ([]module.Change, error) {
	have, err := readPackages(ctx, t, a)
	if err != nil {
		return nil, err
	}
	todo := decidePackages(have, a)
	if len(todo.names) == 0 {
		return nil, nil
	}
	host := t.Host().Name
	if have.interrupted {
		return nil, &module.Refusal{
			Host: host, Gate: todo.summary(a), Saw: "dpkg was interrupted, packages are half configured", Want: "a package database at rest",
			Look: "dpkg --audit", Override: "dpkg --configure -a, once you know what was interrupted",
		}
	}
	c := module.Change{
		ID: host + "/" + todo.verb, Host: host, Summary: todo.summary(a), Action: todo.action(a),
		Before: have.versionsOf(todo.names), After: todo.wanted,
		Apply: func(ctx context.Context, t module.Target) error { return todo.apply(ctx, t, have) },
	}
	effects, err := simulate(ctx, t, todo)
	switch {
	case err == nil:
		if r := effects.refuse(host, c.Summary); r != nil {
			return nil, r
		}
		c.After, c.Risk = effects.shown(todo.wanted), effects.risk()
	case todo.refresh || plannedHere(t) != "": // the lists may know more once they are fresh, or an earlier task has added to them
		c.Predicted = "the package lists do not know all of it yet"
	default:
		return nil, err
	}
	return []module.Change{c}, nil
}

// packageWork is what apt has to do.
type packageWork struct {
	verb    string // install or remove
	names   []string
	refresh bool
	wanted  map[string]any
}

// decidePackages compares. With state latest and old lists it can't know what the newest version is: refreshing is part
// of the work then.
func decidePackages(have packageState, a packageArgs) packageWork {
	w := packageWork{verb: "install", wanted: map[string]any{}}
	if a.State == "absent" {
		w.verb = "remove"
	}
	stale := a.UpdateCache && have.listAge > cacheValid
	for _, name := range a.Names {
		version, installed := have.installed[name]
		switch {
		case a.State == "absent" && installed:
			w.wanted[name] = nil
		case a.State == "absent":
			continue
		case !installed:
			w.wanted[name] = orNewest(have.candidate[name])
		case a.State == "latest" && stale:
			w.wanted[name] = "the newest"
		case a.State == "latest" && have.candidate[name] != "" && have.candidate[name] != version:
			w.wanted[name] = have.candidate[name]
		default:
			continue
		}
		w.names = append(w.names, name)
	}
	w.refresh = stale && a.State != "absent" && len(w.names) > 0
	return w
}

func orNewest(version string) string {
	if version == "" {
		return "the newest"
	}
	return version
}

func (w packageWork) action(a packageArgs) module.Action {
	switch a.State {
	case "absent":
		return module.Delete
	case "latest":
		return module.Update
	}
	return module.Create
}

func (w packageWork) summary(a packageArgs) string {
	verb := w.verb
	if a.State == "latest" {
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
func (w packageWork) apply(ctx context.Context, t module.Target, have packageState) error {
	if w.refresh {
		if err := refreshLists(ctx, t); err != nil {
			return err
		}
	}
	effects, err := simulate(ctx, t, w)
	if err != nil {
		return err
	}
	if r := effects.refuse(t.Host().Name, w.verb+" "+strings.Join(w.names, ", ")); r != nil {
		return r
	}
	c := aptGet(append([]string{"-y", "-q", "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold", "-o", lockTimeout, w.verb}, w.names...)...)
	return aptJob(ctx, t, "package-"+fingerprint(c), c)
}

// refreshAttempts and refreshPause are how a lock on the package lists is waited for: DPkg::Lock::Timeout may not cover
// that one (reference §15).
const (
	refreshAttempts = 10
	refreshPause    = 30 * time.Second
)

func refreshLists(ctx context.Context, t module.Target) error {
	c := aptGet("-q", "-o", lockTimeout, "update")
	var err error
	for attempt := range refreshAttempts {
		if attempt > 0 {
			t.Log(t.Host().Name, "the package lists are locked by another program, waiting")
			if err := t.Sleep(ctx, refreshPause); err != nil {
				return err
			}
		}
		if err = aptJob(ctx, t, "apt-update", c); err == nil || !strings.Contains(err.Error(), "Could not get lock") {
			break
		}
	}
	// The date of the directory is how the next plan knows how old the lists are. apt leaves it alone when no list has
	// changed, and sets it when it has failed halfway.
	date := "now"
	if err != nil {
		date = "@0"
	}
	_, failed := run(ctx, t, transport.Command{Argv: []string{"touch", "-c", "-d", date, listsDir}, Mutates: true})
	return cmp.Or(err, failed)
}
