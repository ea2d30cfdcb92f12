package upgrade

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/packages"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/modules/internal/gates"
)

//go:embed reboot.md
var rebootDoc string

type rebootArgs struct {
	Mode     string         `hcl:"mode,optional" default:"auto" oneof:"auto always never" doc:"When to restart: auto, when there is a reason such as a newer kernel; always; never."`
	Return   time.Duration  `hcl:"return_within,optional" default:"30m" min:"10s" doc:"How long the node may take from the command to a new start that answers. Servers may need 15 minutes for their self-test."`
	Guests   []string       `hcl:"guests,optional" doc:"Guests that may still run on the node; they are shut down with it, and start again if they are set to. Any other running guest is a refusal." example:"[\"ct:200\"]"`
	Fallback bool           `hcl:"fallback_kernel,optional" default:"false" doc:"Keep the kernel that runs now as the one for every start but this, until the new one has come up."`
	Wait     time.Duration  `hcl:"wait,optional" default:"5m" doc:"For how long gates that may open by themselves, such as a backup that runs, are read again before the restart is refused."`
	Tolerate inventory.Refs `hcl:"tolerate,optional" doc:"Other nodes that may be down or in maintenance." example:"[cluster.lab.pve5]"`
	Accept   []string       `hcl:"ceph_accept,optional" doc:"Health checks of Ceph that do not count." example:"[\"POOL_TOO_MANY_PGS\"]"`
	Ignore   []string       `hcl:"ignore,optional" doc:"Gates that do not count: others, links, ha, tasks, ceph_flags." example:"[\"ha\"]"`
}

var guestID = regexp.MustCompile(`^(vm|ct):[1-9][0-9]*$`)

// Validate checks the names of guests and gates.
func (a *rebootArgs) Validate() error {
	var errs []error
	for i, g := range a.Guests {
		if !guestID.MatchString(g) {
			errs = append(errs, schema.At(fmt.Sprintf("guests[%d]", i), fmt.Errorf("%q is no guest: write vm:100 or ct:100", g)))
		}
	}
	if err := gates.CheckIgnore(a.Ignore); err != nil {
		errs = append(errs, schema.At("ignore", err))
	}
	return errors.Join(errs...)
}

type rebootOut struct {
	Kernel     string   `hcl:"kernel" doc:"The kernel that runs."`
	NextKernel string   `hcl:"next_kernel" doc:"The kernel that the next start takes."`
	BootID     string   `hcl:"boot_id" doc:"The identity of the running system: another one after each start."`
	Required   bool     `hcl:"required" doc:"Whether there is a reason to restart."`
	Reasons    []string `hcl:"reasons" doc:"The reasons."`
	Signals    []string `hcl:"signals" doc:"What speaks for a restart and alone decides nothing."`
}

// rebooter is the module with what it knows of the machine that pxrun runs on.
type rebooter struct {
	// ownBootID is that of the system that pxrun runs on, in a container that of its host; "" if it cannot be told.
	ownBootID func() string
}

func reboot(ownBootID func() string) module.Module {
	r := rebooter{ownBootID}
	return module.Define(module.Spec{
		Name: "reboot", Summary: "Restart a node once if there is a reason, when the cluster bears it, and see it come back", Doc: rebootDoc, Risk: module.RiskDisruptive,
	}, module.Funcs[rebootArgs, rebootOut]{
		Probes: func(t module.Target, _ rebootArgs) []module.Probe {
			host := t.Host().Name
			return []module.Probe{{Host: host, Command: packages.BootProbe()}, {Host: host, Command: notesProbe}}
		},
		Plan: r.plan,
		Read: func(ctx context.Context, t module.Target, _ rebootArgs) (rebootOut, error) {
			s, err := readStart(ctx, t, t.Host().Name)
			if err != nil {
				return rebootOut{}, err
			}
			reasons := s.Reasons()
			return rebootOut{
				Kernel: s.Running, NextKernel: s.Next(), BootID: s.BootID, Required: len(reasons) > 0, Reasons: packages.Texts(reasons), Signals: packages.Texts(s.Signals()),
			}, nil
		},
	})
}

// start is what a node says about its last and its next start, with the notes that pxrun left there.
type start struct {
	packages.Boot
	// sent is the restart that pxrun asked for last, pinned are the kernels that it holds for a fallback. nil if there is none.
	sent   *sentNote
	pinned *pinNote
}

// readStart reads a node in one round trip.
func readStart(ctx context.Context, t module.Target, host string) (start, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return start{}, err
	}
	results, err := conn.Batch(ctx, []transport.Command{packages.BootProbe(), notesProbe})
	if err != nil {
		return start{}, fmt.Errorf("%s: look at its kernels: %w", host, err)
	}
	boot, err := packages.ReadBoot(results[0].Stdout)
	if err != nil {
		return start{}, fmt.Errorf("%s: %w", host, err)
	}
	s := start{Boot: boot}
	if err := results[1].Err(notesProbe); err != nil {
		return start{}, fmt.Errorf("%s: read the notes of pxrun: %w", host, err)
	}
	s.sent, s.pinned = parseNotes(results[1].Out())
	return s, nil
}

// own refuses to let pxrun restart itself.
func (r rebooter) own(host string, s start) *module.Refusal {
	if own := r.ownBootID(); own == "" || own != s.BootID {
		return nil
	}
	return &module.Refusal{
		Host: host, Gate: "restart " + host, Saw: "pxrun runs on it, or in a container of it", Want: "pxrun on another machine, where it can wait for the node and go on",
		Look: "hostname", Override: "none: run pxrun elsewhere, or restart this node by hand when it is empty",
	}
}

func (r rebooter) plan(ctx context.Context, t module.Target, args rebootArgs) ([]module.Change, error) {
	host := t.Host().Name
	s, err := readStart(ctx, t, host)
	if err != nil {
		return nil, err
	}
	next, err := decide(s, args, t.Run(), coming(t, host))
	if err != nil || !next.restart && !next.unpin {
		return nil, withHost(host, err)
	}
	if next.restart {
		refusals := alone(t, host)
		if own := r.own(host, s); own != nil {
			refusals = append(refusals, own)
		}
		if t.Block() == nil && next.predicted == "" && len(refusals) == 0 {
			// In a rolling block they are read when the host's turn has come; what they would say now is no news.
			refusals = gates.Look(ctx, t, host, gateOptionsOf(ctx, t, host, args)).Refusals("restart " + host)
		}
		if len(refusals) > 0 {
			return nil, refusals
		}
	}
	return changesOf(host, s, args, next), nil
}

func withHost(host string, err error) error {
	if r, ok := errors.AsType[*module.Refusal](err); ok {
		r.Host, r.Gate = host, "restart "+host
		return module.Refusals{r}
	}
	return err
}

// coming is why the packages of a host are going to be others than now; "" if they are not.
func coming(t module.Target, host string) string {
	for _, p := range t.Planned() {
		if p.Module == "upgrade" && p.Host == host {
			return "an earlier task installs packages; whether they ask for a restart is seen then"
		}
	}
	return ""
}

// alone refuses a task that would restart several nodes of a cluster at once: outside of a rolling block the hosts of a task are
// worked on together.
func alone(t module.Target, host string) module.Refusals {
	h, _ := t.Site().Host(host)
	if t.Block() != nil || h.Cluster == "" {
		return nil
	}
	var others []string
	for _, name := range module.TaskHosts(t) {
		if o, ok := t.Site().Host(name); ok && name != host && o.Cluster == h.Cluster {
			others = append(others, name)
		}
	}
	if len(others) == 0 {
		return nil
	}
	return module.Refusals{{
		Host: host, Gate: "restart " + host, Saw: "the task is for " + strings.Join(others, ", ") + " too, and works on all of its hosts at once",
		Want: "one node of a cluster at a time", Override: `put the task into a rolling block, or name one host: hosts = ["` + host + `"]`,
	}}
}

// decision is what is to be done about a node.
type decision struct {
	restart, pin, unpin bool
	reasons             []string
	predicted           string
}

// decide looks at the reasons, and at what earlier attempts have left.
func decide(s start, args rebootArgs, run, coming string) (decision, error) {
	if args.Mode == packages.RebootNever {
		return decision{unpin: s.pinned != nil && s.Running == s.pinned.New}, nil
	}
	if p := s.pinned; p != nil {
		switch {
		case s.Running == p.New:
			return decision{unpin: true}, nil
		case s.BootID == p.BootID:
			return decision{restart: true, unpin: true, reasons: []string{"kernel " + p.New + " is pinned for the next start"}}, nil
		}
		return decision{}, &module.Refusal{
			Saw: fmt.Sprintf("it came back on kernel %s instead of %s, which was to be started with this one as its fallback", s.Running, p.New), Want: "kernel " + p.New,
			Look: "journalctl -b -1 -e; proxmox-boot-tool kernel list", Override: "find out why it did not come up; then take the pin back with pxrun release, after which the next start takes the newest kernel again",
		}
	}
	needed, reasons := s.Reboot(args.Mode)
	restarted := s.sent != nil && run != "" && s.sent.Run == run && s.sent.BootID != s.BootID
	switch {
	case restarted && s.sent.Expect != "" && s.sent.Expect != s.Running:
		return decision{}, &module.Refusal{
			Saw:  fmt.Sprintf("this run has restarted it, and it came back on kernel %s instead of %s", s.Running, s.sent.Expect),
			Want: "kernel " + s.sent.Expect, Look: "uname -r; proxmox-boot-tool kernel list; proxmox-boot-tool status", Override: bootLoaderHelp,
		}
	case restarted && args.Mode == packages.RebootAlways:
		needed = len(s.Reasons()) > 0
	}
	switch {
	case !needed && coming == "":
		return decision{}, nil
	case coming == "" && s.Doubt() != "":
		return decision{}, &module.Refusal{
			Saw: s.Doubt(), Want: "a next start that is known", Look: "proxmox-boot-tool kernel list; ls /boot", Override: "mend it: update-initramfs -u -k <kernel>; or, if a pin names it, proxmox-boot-tool kernel unpin",
		}
	}
	d := decision{restart: true, reasons: packages.Texts(reasons), predicted: coming}
	if args.Fallback && coming == "" && s.Next() != s.Running {
		d.pin, d.unpin = true, true
	}
	return d, nil
}

// bootLoaderHelp is what to do about a boot loader that does not know the kernel.
const bootLoaderHelp = "let the boot loader know it (proxmox-boot-tool refresh, or update-grub) and restart the node by hand, which has no guests; then pxrun resume"

func changesOf(host string, s start, args rebootArgs, d decision) []module.Change {
	var changes []module.Change
	next := s.Next()
	if s.pinned != nil {
		next = s.pinned.New
	}
	if d.pin {
		changes = append(changes, module.Change{
			ID: host + "/pin", Host: host, Action: module.Update, Summary: fmt.Sprintf("pin kernel %s for the next start of %s, %s for those after it", next, host, s.Running),
			Undo: unpinUndo(host),
			Apply: func(ctx context.Context, t module.Target) error {
				return pinKernels(ctx, t, host, s.BootID, s.Running, next)
			},
		})
	}
	if d.restart {
		c := module.Change{
			ID: host + "/reboot", Host: host, Action: module.Reboot, Risk: module.RiskDisruptive, Predicted: d.predicted,
			Summary: "restart " + host + ": " + strings.Join(d.reasons, "; "),
			Before:  map[string]any{"kernel": s.Running}, After: map[string]any{"kernel": next},
			Apply: func(ctx context.Context, t module.Target) error { return restart(ctx, t, host, args) },
		}
		if d.predicted != "" {
			c.Summary, c.Before, c.After = "restart "+host+" if what is installed asks for it", nil, nil
			if len(d.reasons) > 0 {
				c.Summary = "restart " + host + ": " + strings.Join(d.reasons, "; ")
			}
		}
		changes = append(changes, c)
	}
	if d.unpin {
		changes = append(changes, module.Change{
			ID: host + "/unpin", Host: host, Action: module.Update, Summary: "take the pins of kernels on " + host + " back", Predicted: d.predicted,
			Undoes: []string{host + "/pin"},
			Apply:  func(ctx context.Context, t module.Target) error { return unpinKernels(ctx, t, host) },
		})
	}
	return changes
}

// gateOptionsOf are what the gates let pass for a restart.
func gateOptionsOf(ctx context.Context, t module.Target, host string, args rebootArgs) gateOptions {
	noout, left := fromLedger(ctx, t, host)
	return inBlock(t, host, gateOptions{
		Gate: "restart " + host, Empty: true, Stay: append(left, args.Guests...), Tolerate: args.Tolerate, CephAccept: args.Accept, Ignore: args.Ignore, Noout: noout,
	})
}
