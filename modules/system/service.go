package system

import (
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

//go:embed service.md
var serviceDoc string

type serviceArgs struct {
	Name    string `hcl:"name" doc:"The systemd unit; .service is added to a bare name." example:"chrony"`
	State   string `hcl:"state,optional" doc:"What it must be; restarted and reloaded are done on every run." oneof:"started stopped restarted reloaded"`
	Enabled *bool  `hcl:"enabled,optional" doc:"Whether it starts with the host; left alone when not given."`
}

var unitName = regexp.MustCompile(`^[A-Za-z0-9_:][A-Za-z0-9_:.@\\-]*$`)

// Validate checks what the tags can't say.
func (a serviceArgs) Validate() error {
	var errs []error
	if !unitName.MatchString(a.Name) {
		errs = append(errs, schema.At("name", fmt.Errorf("%q is no name of a unit", a.Name)))
	}
	if a.State == "" && a.Enabled == nil {
		errs = append(errs, errors.New("give state, enabled or both"))
	}
	return errors.Join(errs...)
}

func newService() module.Module {
	return module.Define(module.Spec{
		Name: "service", Summary: "Keep a systemd unit started or stopped, enabled or disabled", Doc: serviceDoc, Risk: module.RiskDisruptive,
	}, module.Funcs[serviceArgs, serviceResult]{
		Probes: func(t module.Target, a serviceArgs) []module.Probe { return probesOf(t, a.reads()...) },
		Plan:   planService,
		Read:   readService,
	})
}

type serviceResult struct {
	Active  string `hcl:"active" doc:"The unit's ActiveState: active, inactive, failed, activating, deactivating."`
	Enabled string `hcl:"enabled" doc:"The unit's UnitFileState: enabled, disabled, static, masked."`
}

// reads are the unit's state and, for units that the cluster's life hangs on, what the guard needs.
func (a serviceArgs) reads() []transport.Command {
	cs := []transport.Command{a.show()}
	if a.guarded() {
		cs = append(cs, haActivity())
	}
	return cs
}

func (a serviceArgs) show() transport.Command {
	return transport.Command{Argv: []string{"systemctl", "show", "-p", "Id,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload", a.unit()}}
}

// unit is the full name.
func (a serviceArgs) unit() string {
	for _, kind := range []string{".service", ".socket", ".timer", ".target", ".mount", ".path", ".slice", ".automount", ".swap"} {
		if strings.HasSuffix(a.Name, kind) {
			return a.Name
		}
	}
	return a.Name + ".service"
}

// unitState is what systemd says about a unit.
type unitState struct {
	id, load, active, sub, file string
	reload                      bool
}

func parseUnit(out string) (unitState, error) {
	var u unitState
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch key {
		case "Id":
			u.id = value
		case "LoadState":
			u.load = value
		case "ActiveState":
			u.active = value
		case "SubState":
			u.sub = value
		case "UnitFileState":
			u.file = value
		case "NeedDaemonReload":
			u.reload = value == "yes"
		}
	}
	if u.load == "" || u.active == "" {
		return u, fmt.Errorf("systemctl show said nothing of use: %q", oneLine(out))
	}
	return u, nil
}

func readUnit(ctx context.Context, t module.Target, a serviceArgs) (unitState, transport.Result, error) {
	results, err := lookAll(ctx, t, a.reads())
	if err != nil {
		return unitState{}, transport.Result{}, err
	}
	if err := results[0].Err(a.show()); err != nil {
		return unitState{}, transport.Result{}, err
	}
	u, err := parseUnit(string(results[0].Stdout))
	return u, results[len(results)-1], err
}

func readService(ctx context.Context, t module.Target, a serviceArgs) (serviceResult, error) {
	u, _, err := readUnit(ctx, t, a)
	return serviceResult{Active: u.active, Enabled: u.file}, err
}

func planService(ctx context.Context, t module.Target, a serviceArgs) ([]module.Change, error) {
	u, activity, err := readUnit(ctx, t, a)
	if err != nil {
		return nil, err
	}
	predicted := ""
	if u.load == "not-found" {
		if a.State == "stopped" && (a.Enabled == nil || !*a.Enabled) || a.State == "" && !*a.Enabled {
			return nil, nil // what does not exist neither runs nor starts
		}
		if predicted = a.mayAppear(t); predicted == "" {
			return nil, fmt.Errorf("there is no unit %s; does its package have to be installed first?", a.unit())
		}
	}
	changes, err := a.decide(t.Host().Name, u)
	if err != nil {
		return nil, err
	}
	for i := range changes {
		changes[i].Predicted = predicted
		if r := a.refuse(t, changes[i], u, activity); r != nil {
			return nil, r
		}
	}
	return changes, nil
}

// mayAppear says which earlier change could bring the unit.
func (a serviceArgs) mayAppear(t module.Target) string {
	for _, p := range t.Planned() {
		if p.Host == t.Host().Name && slices.Contains([]string{"package", "file", "template", "command", "script", "repository"}, p.Module) {
			return "the unit does not exist yet; an earlier task may bring it: " + p.Summary
		}
	}
	return ""
}

// decide is what has to be done to a unit, in the order in which it is done.
func (a serviceArgs) decide(host string, u unitState) ([]module.Change, error) {
	var changes []module.Change
	add := func(verb string, risk module.Risk, imperative bool, before, after any) {
		changes = append(changes, module.Change{
			ID: host + "/" + verb, Host: host, Summary: verb + " " + a.unit(), Action: module.Update, Risk: risk, Imperative: imperative,
			Before: before, After: after,
			Apply: func(ctx context.Context, t module.Target) error { return a.systemctl(ctx, t, verb) },
		})
	}
	if u.load == "masked" && (a.State == "started" || a.State == "restarted" || a.Enabled != nil && *a.Enabled) {
		return nil, fmt.Errorf("%s is masked, so it can't be started or enabled: unmask it first", a.unit())
	}
	if a.Enabled != nil {
		enabled := strings.HasPrefix(u.file, "enabled") || u.file == "alias"
		fixed := u.file == "static" || u.file == "generated" || u.file == "transient" || u.file == "indirect"
		switch {
		case fixed && *a.Enabled:
			return nil, fmt.Errorf("%s is %s: other units start it, it can't be enabled. Leave out enabled", a.unit(), u.file)
		case *a.Enabled && !enabled:
			add("enable", module.RiskNone, false, map[string]any{"enabled": u.file}, map[string]any{"enabled": "enabled"})
		case !*a.Enabled && enabled:
			add("disable", module.RiskNone, false, map[string]any{"enabled": u.file}, map[string]any{"enabled": "disabled"})
		}
	}
	running := u.active == "active" || u.active == "reloading" || u.active == "activating"
	switch {
	case a.State == "started" && !running:
		add("start", module.RiskNone, false, map[string]any{"active": u.active}, map[string]any{"active": "active"})
	case a.State == "stopped" && u.active != "inactive" && u.active != "failed":
		add("stop", module.RiskDisruptive, false, map[string]any{"active": u.active}, map[string]any{"active": "inactive"})
	case a.State == "restarted":
		add("restart", module.RiskDisruptive, true, nil, nil)
	case a.State == "reloaded":
		add("reload", module.RiskNone, true, nil, nil)
	}
	if u.reload && len(changes) > 0 {
		changes[0].Apply = afterDaemonReload(changes[0].Apply)
	}
	return changes, nil
}

// afterDaemonReload makes systemd read changed unit files before it acts on them.
func afterDaemonReload(apply func(context.Context, module.Target) error) func(context.Context, module.Target) error {
	return func(ctx context.Context, t module.Target) error {
		if _, err := run(ctx, t, transport.Command{Argv: []string{"systemctl", "daemon-reload"}, Mutates: true}); err != nil {
			return err
		}
		return apply(ctx, t)
	}
}

// settleLimit is how long a unit may take to start or stop.
const settleLimit = 2 * time.Minute

// systemctl acts and waits until the unit has come to rest, since a type of unit can say "started" and still fail.
func (a serviceArgs) systemctl(ctx context.Context, t module.Target, verb string) error {
	c := transport.Command{Argv: []string{"systemctl", verb, a.unit()}, Mutates: true, Timeout: limit(ctx, settleLimit)}
	if _, err := run(ctx, t, c); err != nil {
		return fmt.Errorf("%w; see journalctl -u %s", err, a.unit())
	}
	if verb == "enable" || verb == "disable" {
		return nil
	}
	return t.WaitFor(ctx, module.Condition{
		Name: a.unit() + " has come to rest", Timeout: limit(ctx, settleLimit),
		Check: func(ctx context.Context) error {
			r, err := run(ctx, t, a.show())
			if err != nil {
				return err
			}
			u, err := parseUnit(string(r.Stdout))
			switch {
			case err != nil:
				return err
			case verb != "stop" && u.active == "failed":
				return module.Fatal(fmt.Errorf("%s failed after %s; see journalctl -u %s", a.unit(), verb, a.unit()))
			case strings.HasSuffix(u.active, "ating") || u.active == "reloading":
				return fmt.Errorf("%s is %s (%s)", a.unit(), u.active, u.sub)
			}
			return nil
		},
	})
}
