package upgrade

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
	"github.com/pxrun/pxrun/internal/pve/packages"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
)

//go:embed upgrade.md
var upgradeDoc string

type upgradeArgs struct {
	MaxAge      time.Duration      `hcl:"max_age,optional" default:"1h" min:"1m" doc:"How old the package lists may be before they are fetched anew. Lists from before the last change of the repositories always are."`
	Hold        []string           `hcl:"hold,optional" doc:"Packages that are kept at their version: they are put on hold and stay so." example:"[\"pve-qemu-kvm\"]"`
	Removals    []string           `hcl:"allow_removals,optional" doc:"Packages that the upgrade may remove, by their exact names. What makes a Proxmox VE node is never removed." example:"[\"libfoo1\"]"`
	MinFreeRoot int                `hcl:"min_free_root,optional" default:"2048" min:"0" doc:"How many MiB have to be free at /, beside what is still to be downloaded."`
	MinFreeBoot int                `hcl:"min_free_boot,optional" default:"200" min:"0" doc:"How many MiB have to be free at /boot."`
	Tolerate    inventory.NodeRefs `hcl:"tolerate,optional" doc:"Other nodes that may be down or in maintenance." example:"[cluster.lab.pve5]"`
	Ignore      []string           `hcl:"ignore,optional" doc:"Gates that do not count: others (no other node down or in maintenance), quorum (the cluster keeps its quorum while corosync restarts on this node)." example:"[\"quorum\"]"`
}

var debianName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

// ignorable are the gates of an upgrade.
var ignorable = []string{"others", "quorum"}

// Validate checks names.
func (a *upgradeArgs) Validate() error {
	var errs []error
	for field, names := range map[string][]string{"hold": a.Hold, "allow_removals": a.Removals} {
		for i, name := range names {
			if !debianName.MatchString(name) {
				errs = append(errs, schema.At(fmt.Sprintf("%s[%d]", field, i), fmt.Errorf("%q is no name of a Debian package", name)))
			}
		}
	}
	for i, name := range a.Ignore {
		if !slices.Contains(ignorable, name) {
			errs = append(errs, schema.At(fmt.Sprintf("ignore[%d]", i), fmt.Errorf("%q is none of %s", name, strings.Join(ignorable, ", "))))
		}
	}
	return errors.Join(errs...)
}

type upgradeOut struct {
	RebootRequired bool              `hcl:"reboot_required" doc:"Whether there is a reason to restart the host."`
	RebootReasons  []string          `hcl:"reboot_reasons" doc:"The reasons: a newer kernel, microcode, libraries that corosync or pmxcfs still use."`
	Upgraded       map[string]string `hcl:"upgraded" doc:"The packages that this run has installed or upgraded, with their new versions."`
	KeptFiles      []string          `hcl:"kept_files" doc:"Configuration files that a package wanted to replace in this run, and that were kept."`
	Pending        int               `hcl:"pending" doc:"How many packages could be upgraded still."`
	Kernel         string            `hcl:"kernel" doc:"The kernel that runs."`
	NextKernel     string            `hcl:"next_kernel" doc:"The kernel that the next start takes."`
}

func upgradePackages() module.Module {
	return module.Define(module.Spec{
		Name: "upgrade", Summary: "Upgrade all packages of a host, and tell whether it has to be restarted", Doc: upgradeDoc, Risk: module.RiskDisruptive,
	}, module.Funcs[upgradeArgs, upgradeOut]{
		Probes: func(t module.Target, _ upgradeArgs) []module.Probe { return packageProbes(t) },
		Plan:   planUpgrade,
		Read:   readUpgrade,
	})
}

func (a upgradeArgs) limits() packages.Limits {
	return packages.Limits{Removals: a.Removals, Holds: a.Hold, FreeRoot: int64(a.MinFreeRoot) * mib, FreeBoot: int64(a.MinFreeBoot) * mib}
}

// The names of the jobs on a node, by which a later run finds them again.
const (
	upgradeJob   = "upgrade"
	configureJob = "dpkg-configure"
)

func planUpgrade(ctx context.Context, t module.Target, args upgradeArgs) ([]module.Change, error) {
	host := t.Host().Name
	s, err := readPackages(ctx, t)
	if err != nil {
		return nil, err
	}
	if job, ok := s.Running(upgradeJob); ok {
		c := upgradeChange(t, args, s)
		c.Summary, c.Predicted = fmt.Sprintf("wait for the upgrade that run %s has begun", job.Run), "it is at work"
		return []module.Change{c}, nil
	}
	var changes []module.Change
	if len(s.Unfinished) > 0 || s.Interrupted {
		changes = append(changes, configureChange(host, s))
	}
	hold, err := holdChange(ctx, t, args, s)
	if err != nil {
		return nil, err
	}
	changes = append(changes, hold...)
	c := upgradeChange(t, args, s)
	if c.Predicted != "" || !s.Upgrade.Nothing() {
		changes = append(changes, c)
	}
	if len(changes) == 0 {
		return nil, nil
	}
	objections := s.Objections(args.limits())
	if plannedBy(t, "repository") != "" {
		objections = objections.Except("sources", "release")
	}
	rs := append(together(t, host), refused(host, "upgrade "+host, objections)...)
	if len(rs) > 0 {
		return nil, rs
	}
	for _, text := range s.Warnings(args.limits()) {
		t.Warn(host, text)
	}
	return changes, nil
}

// together refuses a task that would upgrade several nodes of a cluster at once: packages restart corosync and pmxcfs.
func together(t module.Target, host string) module.Refusals {
	if t.Block() != nil || t.Cluster() == nil || !slices.Contains(t.Cluster().Nodes, host) {
		return nil
	}
	var nodes []string
	for _, name := range module.TaskHosts(t) {
		if slices.Contains(t.Cluster().Nodes, name) {
			nodes = append(nodes, name)
		}
	}
	if len(nodes) < 2 {
		return nil
	}
	return module.Refusals{{
		Host: host, Gate: "upgrade " + host, Saw: "the task would upgrade " + strings.Join(nodes, ", ") + " at once", Want: "one node of a cluster at a time",
		Look: "the hosts of the task", Override: "none; put the task into a rolling block, or name one node in hosts",
	}}
}

// upgradeChange is the upgrade as far as it is known.
func upgradeChange(t module.Target, args upgradeArgs, s packages.State) module.Change {
	host := t.Host().Name
	c := module.Change{
		ID: host + "/upgrade", Host: host, Action: module.Update, Risk: module.RiskDisruptive,
		Apply: func(ctx context.Context, t module.Target) error { return args.upgrade(ctx, t) },
	}
	before, after := versions(s.Upgrade)
	var effects []string
	for _, touch := range s.Upgrade.Touches() {
		effects = append(effects, touch.Text)
	}
	if len(effects) > 0 {
		after["effects"] = strings.Join(effects, "; ")
	}
	if reasons := packages.Texts(s.Expect()); len(reasons) > 0 && !s.Upgrade.Nothing() {
		after["restart"] = strings.Join(reasons, "; ")
	}
	c.Before, c.After = before, after
	c.Summary = "upgrade packages: " + s.Upgrade.Count()
	if m, ok := s.Upgrade.Find("pve-manager"); ok {
		c.Summary += fmt.Sprintf(", pve-manager %s to %s", m.From, m.To)
	}
	switch {
	case plannedBy(t, "packages_download", "repository") != "":
		c.Predicted = "the package lists will be newer by then"
	case s.ListAge > args.MaxAge:
		c.Predicted = "the package lists are " + old(s.ListAge)
	case len(s.Unfinished) > 0 || s.Interrupted:
		c.Predicted = "dpkg was interrupted: what is left to do is known when that is mended"
	}
	if c.Predicted != "" && s.Upgrade.Nothing() {
		c.Summary = "upgrade packages: whatever the repositories offer by then"
	}
	return c
}

// configureChange finishes what dpkg has begun. That is all that is done by itself (reference §7.3): what apt-get -f install would
// remove is for a person to judge.
func configureChange(host string, s packages.State) module.Change {
	names := map[string]any{}
	var list []string
	for _, b := range s.Unfinished {
		names[b.Name] = b.State
		list = append(list, b.Name)
	}
	what := "dpkg was interrupted"
	if len(list) > 0 {
		what = "not finished: " + strings.Join(list, ", ")
	}
	after := map[string]any{}
	for _, name := range list {
		after[name] = "installed"
	}
	return module.Change{
		ID: host + "/configure", Host: host, Summary: "finish what dpkg has begun with dpkg --configure -a (" + what + ")", Action: module.Update, Risk: module.RiskDisruptive,
		Before: names, After: after, Apply: configure,
	}
}

// holdChange puts installed packages on hold that are not.
func holdChange(ctx context.Context, t module.Target, args upgradeArgs, s packages.State) ([]module.Change, error) {
	var names []string
	for _, name := range args.Hold {
		if !slices.Contains(s.Held, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, nil
	}
	host := t.Host().Name
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return nil, err
	}
	// A package that is not installed cannot be on hold, and makes dpkg-query fail.
	r, err := conn.Run(ctx, transport.Command{Argv: append([]string{"dpkg-query", "-W", "-f", `${Package} ${Version} ${db:Status-Status}\n`}, names...)})
	if err != nil {
		return nil, err
	}
	var there []string
	for line := range strings.Lines(string(r.Stdout)) {
		if f := strings.Fields(line); len(f) == 3 && slices.Contains(names, f[0]) {
			there = append(there, f[0])
		}
	}
	if len(there) == 0 {
		return nil, nil
	}
	return []module.Change{{
		ID: host + "/hold", Host: host, Summary: "put on hold: " + strings.Join(there, ", "), Action: module.Update, Before: []string{}, After: there,
		Apply: func(ctx context.Context, t module.Target) error {
			return act(ctx, t, host, transport.Command{Argv: append([]string{"apt-mark", "hold"}, there...), Mutates: true})
		},
	}}, nil
}

// act runs a command; a status other than 0 is an error.
func act(ctx context.Context, t module.Target, host string, c transport.Command) error {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return err
	}
	r, err := conn.Run(ctx, c)
	if err != nil {
		return err
	}
	return r.Err(c)
}

func readUpgrade(ctx context.Context, t module.Target, _ upgradeArgs) (upgradeOut, error) {
	out := upgradeOut{Upgraded: map[string]string{}, KeptFiles: []string{}, RebootReasons: []string{}}
	s, err := readPackages(ctx, t)
	if err != nil {
		return out, err
	}
	needed, reasons := s.Boot.Reboot(packages.RebootAuto)
	out.RebootRequired, out.RebootReasons = needed, packages.Texts(reasons)
	out.Pending, out.Kernel, out.NextKernel = len(s.Upgrade.Installs), s.Boot.Running, s.Boot.Next()
	done, err := readSummary(ctx, t)
	if err != nil {
		return out, err
	}
	for _, c := range done.Packages {
		out.Upgraded[c.Name] = c.To
	}
	out.KeptFiles = append(out.KeptFiles, done.Kept...)
	return out, nil
}
