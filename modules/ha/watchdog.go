package ha

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/frame"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
)

//go:embed watchdog.md
var watchdogDoc string

type watchdogArgs struct {
	Module string `hcl:"module,optional" doc:"The kernel module that watches: softdog, iTCO_wdt, ipmi_watchdog, … (default: left as it is, which is softdog on a fresh node)." example:"\"ipmi_watchdog\""`
}

var kernelModule = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// Validate checks the name, which is written into a file of shell variables.
func (a *watchdogArgs) Validate() error {
	if a.Module != "" && !kernelModule.MatchString(a.Module) {
		return schema.At("module", fmt.Errorf("%q is no name of a kernel module", a.Module))
	}
	return nil
}

type watchdogOut struct {
	Active     string `hcl:"active" doc:"What watches now: its identity, such as Software Watchdog."`
	Configured string `hcl:"configured" doc:"The kernel module that the next boot takes."`
	Armed      bool   `hcl:"armed" doc:"Whether an HA daemon holds it: the node restarts if that falls silent."`
}

func watchdog() module.Module {
	return module.Define(module.Spec{
		Name: "watchdog", Summary: "Check the watchdog that fences a node, and choose its kernel module", Doc: watchdogDoc, Scope: module.PerHost,
	}, module.Funcs[watchdogArgs, watchdogOut]{
		Probes: func(t module.Target, _ watchdogArgs) []module.Probe {
			return []module.Probe{{Host: t.Host().Name, Command: watchdogProbe}}
		},
		Plan: func(ctx context.Context, t module.Target, args watchdogArgs) ([]module.Change, error) {
			w, err := readWatchdog(ctx, t)
			if err != nil {
				return nil, err
			}
			if refusal := w.refusal(t.Host().Name); refusal != nil {
				return nil, module.Refusals{refusal}
			}
			return w.decide(t, args), nil
		},
		Read: func(ctx context.Context, t module.Target, _ watchdogArgs) (watchdogOut, error) {
			w, err := readWatchdog(ctx, t)
			return watchdogOut{Active: w.identity, Configured: w.configured, Armed: w.armed}, err
		},
	})
}

const (
	watchdogFile    = "/etc/default/pve-ha-manager"
	defaultWatchdog = "softdog"
)

var watchdogProbe = transport.Command{Timeout: 30 * time.Second, Script: frame.Script(
	frame.Read{Name: "default", Seconds: 5, Command: "cat " + watchdogFile},
	frame.Read{Name: "identity", Seconds: 5, Command: "cat /sys/class/watchdog/watchdog0/identity"},
	frame.Read{Name: "device", Seconds: 5, Command: "test -e /dev/watchdog"},
	frame.Read{Name: "armed", Seconds: 5, Command: "test -e /run/watchdog-mux.active"},
	frame.Read{Name: "units", Seconds: 5, Command: "systemctl show -p Id,LoadState,ActiveState,SubState,UnitFileState watchdog-mux watchdog"},
	frame.Read{Name: "systemd", Seconds: 5, Command: `sh -c 'grep -hsE "^[[:space:]]*RuntimeWatchdogSec=" /etc/systemd/system.conf /etc/systemd/system.conf.d/*.conf || true'`},
)}

// watchState is what a node says of its watchdog.
type watchState struct {
	identity   string
	configured string // the kernel module in the file, the default without one
	device     bool
	armed      bool
	units      map[string]pve.Unit
	systemd    string // a line that gives the watchdog to systemd, "" without one
}

func readWatchdog(ctx context.Context, t module.Target) (watchState, error) {
	return watchdogOn(ctx, t, t.Host().Name)
}

func watchdogOn(ctx context.Context, t module.Target, host string) (watchState, error) {
	w := watchState{configured: defaultWatchdog}
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return w, err
	}
	r, err := conn.Run(ctx, watchdogProbe)
	if err != nil {
		return w, err
	}
	answers, err := frame.Parse(r.Stdout)
	if err != nil {
		return w, fmt.Errorf("%s: %w", host, err)
	}
	return watchOf(answers)
}

func watchOf(answers map[string]frame.Answer) (watchState, error) {
	w := watchState{configured: defaultWatchdog}
	if answers["units"].RC != 0 {
		return w, errors.New("the state of watchdog-mux cannot be read (look: systemctl status watchdog-mux)")
	}
	w.units = pve.ParseUnits(answers["units"].Text)
	w.device, w.armed = answers["device"].RC == 0, answers["armed"].RC == 0
	if a := answers["identity"]; a.RC == 0 {
		w.identity = strings.TrimSpace(string(a.Text))
	}
	if a := answers["default"]; a.RC == 0 {
		for line := range strings.Lines(string(a.Text)) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), "WATCHDOG_MODULE="); ok {
				w.configured = strings.Trim(value, `"' `)
			}
		}
	}
	if a := answers["systemd"]; a.RC == 0 {
		for line := range strings.Lines(string(a.Text)) {
			_, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			if value != "" && value != "0" && value != "off" && value != "infinity" {
				w.systemd = strings.TrimSpace(line)
			}
		}
	}
	return w, nil
}

// refusal: without a watchdog that works a node that lost quorum goes on running guests that HA starts elsewhere.
func (w watchState) refusal(host string) *module.Refusal {
	refuse := func(saw, want, look, override string) *module.Refusal {
		return &module.Refusal{Host: host, Gate: "watchdog of " + host, Saw: saw, Want: want, Look: look, Override: override}
	}
	switch {
	case !w.units["watchdog-mux"].Installed():
		return refuse("the unit watchdog-mux is not there", "a Proxmox VE node", "systemctl status watchdog-mux", "")
	case !w.units["watchdog-mux"].Running():
		return refuse("watchdog-mux does not run", "watchdog-mux running since the boot", "systemctl status watchdog-mux; journalctl -u watchdog-mux", "restart the node: watchdog-mux is never restarted on one with HA guests")
	case w.units["watchdog"].Running():
		return refuse("the unit watchdog runs and holds /dev/watchdog", "watchdog-mux as the only holder", "systemctl status watchdog", "remove the package watchdog")
	case w.systemd != "":
		return refuse("systemd holds the watchdog: "+w.systemd, "watchdog-mux as the only holder", "grep -r RuntimeWatchdogSec /etc/systemd/system.conf*", "remove the line and restart the node")
	case !w.device:
		return refuse("/dev/watchdog is not there", "a watchdog device", "ls -l /dev/watchdog; dmesg | grep -i watchdog", "choose a module that the hardware has, or softdog")
	}
	return nil
}

// decide writes the choice down. The module that watches is never exchanged while the node runs.
func (w watchState) decide(t module.Target, args watchdogArgs) []module.Change {
	host := t.Host().Name
	if args.Module == "" || args.Module == w.configured {
		if args.Module != "" && (args.Module == defaultWatchdog) != (w.identity == "Software Watchdog") {
			t.Warn(host, fmt.Sprintf("%s is chosen and %q still watches: it changes when the node is restarted", args.Module, w.identity))
		}
		return nil
	}
	return []module.Change{{
		ID: host + "/watchdog", Host: host, Action: module.Update, Summary: fmt.Sprintf("choose %s as the watchdog of %s from its next boot on", args.Module, host),
		Before: map[string]any{"module": w.configured}, After: map[string]any{"module": args.Module},
		Apply: func(ctx context.Context, t module.Target) error {
			conn, err := t.Conn(ctx, host)
			if err != nil {
				return err
			}
			command := transport.Command{Script: chooseWatchdog, Argv: []string{watchdogFile, args.Module}, Mutates: true, Timeout: 30 * time.Second}
			r, err := conn.Run(ctx, command)
			if err == nil {
				err = r.Err(command)
			}
			if err == nil {
				t.Warn(host, "the watchdog changes when the node is restarted")
			}
			return err
		},
	}}
}

// chooseWatchdog puts one line into the file and leaves the others.
const chooseWatchdog = `new=$1.pxrun
{ if [ -e "$1" ]; then grep -v '^[[:space:]]*WATCHDOG_MODULE=' "$1"; fi; echo "WATCHDOG_MODULE=$2"; } >"$new" && chmod 644 "$new" && mv "$new" "$1"`
