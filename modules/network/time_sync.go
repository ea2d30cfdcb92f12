package network

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
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/apt"
)

//go:embed time_sync.md
var timeSyncDoc string

type timeSyncArgs struct {
	Servers   []string      `hcl:"servers,optional" doc:"Time servers that chrony must ask, by name or address; others that it has are kept." example:"[\"192.0.2.53\"]"`
	MaxOffset time.Duration `hcl:"max_offset,optional" default:"50ms" min:"1ms" doc:"How far the clock may be off. Ceph complains from 50 ms on."`
	Step      bool          `hcl:"step,optional" default:"false" doc:"Whether a clock that is further off is set at once. Programs that run see time jump."`
	Wait      time.Duration `hcl:"wait,optional" default:"2m" min:"5s" doc:"How long the clock may take to be synchronised after something was changed."`
}

var serverName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.:-]*[A-Za-z0-9])?$`)

// Validate checks the names, which go into a configuration file.
func (a *timeSyncArgs) Validate() error {
	var errs []error
	for i, name := range a.Servers {
		at := fmt.Sprintf("servers[%d]", i)
		if !serverName.MatchString(name) {
			errs = append(errs, schema.At(at, fmt.Errorf("%q is neither a name nor an address", name)))
		}
		if slices.Contains(a.Servers[:i], name) {
			errs = append(errs, schema.At(at, fmt.Errorf("%q stands there twice", name)))
		}
	}
	return errors.Join(errs...)
}

type timeSyncOut struct {
	Synced  bool     `hcl:"synced" doc:"Whether chrony trusts its time."`
	Offset  float64  `hcl:"offset_ms" doc:"How far the clock is off, in milliseconds."`
	Sources []string `hcl:"sources" doc:"The servers that chrony asks."`
}

func timeSync() module.Module {
	return module.Define(module.Spec{
		Name: "time_sync", Summary: "Keep the clock right: chrony installed, running, with the wanted servers, and close to them", Doc: timeSyncDoc,
	}, module.Funcs[timeSyncArgs, timeSyncOut]{
		Probes: func(t module.Target, _ timeSyncArgs) []module.Probe {
			return []module.Probe{{Host: t.Host().Name, Command: timeProbe()}}
		},
		Plan: planTime,
		Read: func(ctx context.Context, t module.Target, _ timeSyncArgs) (timeSyncOut, error) {
			s, err := readTime(ctx, t)
			out := timeSyncOut{Sources: []string{}}
			if err != nil {
				return out, err
			}
			if s.tracking != nil {
				out.Synced, out.Offset = s.tracking.Synced, float64(s.tracking.Offset)/float64(time.Millisecond)
			}
			for _, source := range s.sources {
				out.Sources = append(out.Sources, source.name)
			}
			return out, nil
		},
	})
}

// ownSources is the file of the servers that this module adds. Debian's chrony.conf reads that folder.
const ownSources = "/etc/chrony/sources.d/pxrun.sources"

var timeScript = frame.Script(
	frame.Read{Name: "package", Seconds: 10, Command: `dpkg-query -W -f '${Package} ${Version} ${db:Status-Status}\n' chrony`},
	frame.Read{Name: "unit", Seconds: 10, Command: `systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState chrony`},
	frame.Read{Name: "own", Seconds: 5, Command: `cat ` + ownSources},
	frame.Read{Name: "conf", Seconds: 5, Command: `cat /etc/chrony/chrony.conf`},
	frame.Read{Name: "tracking", Seconds: 10, Command: `chronyc -c tracking`},
	frame.Read{Name: "sources", Seconds: 10, Command: `chronyc -c -N sources`},
)

func timeProbe() transport.Command {
	return transport.Command{Script: timeScript, Timeout: 45 * time.Second}
}

// timeSource is a server that chrony asks.
type timeSource struct {
	name  string
	reach string // octal digits; "0" has not answered
	state string // * chosen, + good, ? unreachable, …
}

// timeState is what a host says about its clock.
type timeState struct {
	installed bool
	unit      pve.Unit
	own       string
	folder    bool          // chrony.conf reads the folder of our file
	tracking  *pve.Tracking // nil while chrony does not answer
	sources   []timeSource
}

func readTime(ctx context.Context, t module.Target) (timeState, error) {
	conn, err := t.Conn(ctx, t.Host().Name)
	if err != nil {
		return timeState{}, err
	}
	r, err := conn.Run(ctx, timeProbe())
	if err != nil {
		return timeState{}, fmt.Errorf("%s: look at the clock: %w", t.Host().Name, err)
	}
	return parseTime(r.Stdout)
}

func parseTime(out []byte) (timeState, error) {
	frames, err := frame.Parse(out)
	if err != nil {
		return timeState{}, fmt.Errorf("look at the clock: %w", err)
	}
	s := timeState{
		installed: pve.ParsePackages(frames["package"].Text)["chrony"] != "",
		unit:      pve.ParseUnits(append(frames["unit"].Text, "\n\n"...))["chrony"],
	}
	if frames["own"].RC == 0 {
		s.own = string(frames["own"].Text)
	}
	for line := range strings.Lines(string(frames["conf"].Text)) {
		f := strings.Fields(line)
		s.folder = s.folder || len(f) > 1 && f[0] == "sourcedir" && slices.Contains(f[1:], "/etc/chrony/sources.d")
	}
	if frames["tracking"].RC == 0 {
		if t, err := pve.ParseTracking(frames["tracking"].Text); err == nil {
			s.tracking = &t
		}
	}
	if frames["sources"].RC == 0 {
		s.sources = parseSources(string(frames["sources"].Text))
	}
	return s, nil
}

// parseSources reads lines "^,*,192.0.2.53,2,6,377,…": mode, state, name, stratum, poll, reach.
func parseSources(text string) []timeSource {
	var list []timeSource
	for line := range strings.Lines(text) {
		if f := strings.Split(strings.TrimSpace(line), ","); len(f) >= 6 {
			list = append(list, timeSource{name: f[2], reach: f[5], state: f[1]})
		}
	}
	return list
}

// ownText is the file for the wanted servers.
func (a timeSyncArgs) ownText() string {
	var b strings.Builder
	b.WriteString("# written by pxrun\n")
	for _, name := range a.Servers {
		fmt.Fprintf(&b, "server %s iburst\n", name)
	}
	return b.String()
}

// missing are the wanted servers that chrony does not ask.
func (a timeSyncArgs) missing(s timeState) []string {
	return slices.DeleteFunc(slices.Clone(a.Servers), func(name string) bool {
		return slices.ContainsFunc(s.sources, func(have timeSource) bool { return have.name == name })
	})
}

func planTime(ctx context.Context, t module.Target, a timeSyncArgs) ([]module.Change, error) {
	s, err := readTime(ctx, t)
	if err != nil {
		return nil, err
	}
	host := t.Host().Name
	var changes []module.Change
	if !s.installed {
		if changes, err = apt.Plan(ctx, t, host, apt.Request{Names: []string{"chrony"}, State: apt.Present, UpdateCache: true}); err != nil {
			return nil, err
		}
	} else if !s.unit.Running() || s.unit.Enabled != "enabled" {
		changes = append(changes, module.Change{
			ID: host + "/chrony", Host: host, Action: module.Update, Summary: "start chrony, now and at each boot", Before: map[string]any{"state": s.unit.Active, "enabled": s.unit.Enabled},
			Apply: func(ctx context.Context, t module.Target) error {
				return act(ctx, t, transport.Command{Argv: []string{"systemctl", "enable", "--now", "chrony"}, Mutates: true})
			},
		})
	}
	if a.wantsFile(s) {
		if s.installed && !s.folder {
			return nil, &module.Refusal{
				Host: host, Gate: "time servers", Saw: "chrony.conf does not read /etc/chrony/sources.d", Want: "the line that Debian's has: sourcedir /etc/chrony/sources.d", Look: "grep sourcedir /etc/chrony/chrony.conf",
				Override: "add the line, or write the servers into chrony.conf yourself",
			}
		}
		changes = append(changes, a.fileChange(host, s))
	}
	if s.tracking != nil && s.tracking.Synced && s.tracking.Offset.Abs() > a.MaxOffset && a.Step {
		changes = append(changes, module.Change{
			ID: host + "/step", Host: host, Action: module.Update, Risk: module.RiskDisruptive, Summary: "set the clock", Before: map[string]any{"offset": s.tracking.Offset.String()},
			Apply: func(ctx context.Context, t module.Target) error {
				return act(ctx, t, transport.Command{Argv: []string{"chronyc", "makestep"}, Mutates: true})
			},
		})
	}
	if len(changes) == 0 {
		if why := a.off(s); why != nil {
			why.Host = host
			return nil, why
		}
		return nil, nil
	}
	last := changes[len(changes)-1].Apply
	changes[len(changes)-1].Apply = func(ctx context.Context, t module.Target) error {
		if err := last(ctx, t); err != nil {
			return err
		}
		return a.settle(ctx, t)
	}
	return changes, nil
}

// wantsFile reports whether the file of the servers must be written: one of them is not asked, or the file has others.
func (a timeSyncArgs) wantsFile(s timeState) bool {
	if len(a.Servers) == 0 {
		return false
	}
	return len(a.missing(s)) > 0 && s.unit.Running() || !s.unit.Running() && s.own != a.ownText() || s.own != "" && s.own != a.ownText()
}

func (a timeSyncArgs) fileChange(host string, s timeState) module.Change {
	text := a.ownText()
	c := module.Change{ID: host + "/servers", Host: host, Action: module.Update, Summary: "have chrony ask " + strings.Join(a.Servers, ", "), Before: s.own, After: text}
	if s.own == "" {
		c.Action, c.Before = module.Create, nil
	}
	c.Apply = func(ctx context.Context, t module.Target) error {
		conn, err := t.Conn(ctx, host)
		if err != nil {
			return err
		}
		if err := conn.Put(ctx, transport.File{Path: ownSources, Mode: 0o644, Content: strings.NewReader(text), Size: int64(len(text))}); err != nil {
			return err
		}
		return act(ctx, t, transport.Command{Argv: []string{"chronyc", "reload", "sources"}, Mutates: true})
	}
	return c
}

// off says why the clock is not as it should be, nil if it is.
func (a timeSyncArgs) off(s timeState) *module.Refusal {
	r := &module.Refusal{Gate: "time", Want: fmt.Sprintf("a synchronised clock, at most %s off", a.MaxOffset), Look: "chronyc tracking; chronyc sources"}
	switch {
	case s.tracking == nil:
		r.Saw, r.Override = "chrony does not answer", "systemctl status chrony"
	case !s.tracking.Synced:
		var silent []string
		for _, source := range s.sources {
			if source.reach == "0" {
				silent = append(silent, source.name)
			}
		}
		r.Saw, r.Override = "the clock is not synchronised", "let UDP 123 to the servers through, or name others in servers"
		if len(silent) > 0 {
			r.Saw += ": no answer from " + strings.Join(silent, ", ")
		}
	case s.tracking.Offset.Abs() > a.MaxOffset:
		r.Saw, r.Override = fmt.Sprintf("the clock is %s off", s.tracking.Offset.Round(time.Microsecond)), "chrony brings it closer little by little; step = true sets it at once"
	default:
		return nil
	}
	return r
}

// settle waits until the clock is right.
func (a timeSyncArgs) settle(ctx context.Context, t module.Target) error {
	return t.WaitFor(ctx, module.Condition{
		Name: "the clock of " + t.Host().Name + " is synchronised", Timeout: a.Wait, Every: time.Second,
		Check: func(ctx context.Context) error {
			s, err := readTime(ctx, t)
			if err != nil {
				return err
			}
			if missing := a.missing(s); len(missing) > 0 {
				return fmt.Errorf("chrony does not ask %s", strings.Join(missing, ", "))
			}
			if why := a.off(s); why != nil {
				return errors.New(why.Saw + " (look: " + why.Look + ")")
			}
			return nil
		},
	})
}

func act(ctx context.Context, t module.Target, c transport.Command) error {
	conn, err := t.Conn(ctx, t.Host().Name)
	if err != nil {
		return err
	}
	r, err := conn.Run(ctx, c)
	if err != nil {
		return err
	}
	return r.Err(c)
}
