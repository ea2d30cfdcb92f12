package ceph

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/transport"
)

//go:embed ceph_install.md
var installDoc string

// software is what to install, for ceph_install and ceph_init.
type software struct {
	Version        string        `hcl:"version,optional" default:"squid" doc:"The release of Ceph: quincy, reef or squid on Proxmox VE 8, squid or tentacle on 9." example:"\"squid\""`
	Repository     string        `hcl:"repository,optional" default:"enterprise" oneof:"enterprise no-subscription test manual" doc:"Where the packages come from. The enterprise repository needs a subscription on every node; manual leaves the sources alone."`
	Experimental   bool          `hcl:"experimental,optional" doc:"Whether a release that Proxmox calls a technology preview may be installed."`
	InstallTimeout time.Duration `hcl:"install_timeout,optional" default:"30m" min:"1m" doc:"How long the installation may take on a node."`
}

func (s software) validate() error {
	if known := append(ceph.Offered(8), ceph.Offered(9)...); !slices.Contains(known, s.Version) {
		slices.Sort(known)
		return schema.At("version", fmt.Errorf("%q is no release of Ceph that Proxmox VE ships: %s", s.Version, strings.Join(slices.Compact(known), ", ")))
	}
	return nil
}

type installArgs struct {
	software
}

// Validate checks the release.
func (a *installArgs) Validate() error { return a.validate() }

func cephInstall() module.Module {
	return module.Define(module.Spec{
		Name: "ceph_install", Summary: "Install Ceph on nodes, all at once", Doc: installDoc, Scope: module.PerCluster,
	}, module.Funcs[installArgs, cephOut]{
		Probes: func(t module.Target, _ installArgs) []module.Probe { return probes(t) },
		Plan: func(ctx context.Context, t module.Target, args installArgs) ([]module.Change, error) {
			w, err := look(ctx, t)
			if err != nil {
				return nil, err
			}
			return w.done(t, w.install(hostsOf(t), args.software))
		},
		Read: func(ctx context.Context, t module.Target, _ installArgs) (cephOut, error) { return outputs(ctx, t) },
	})
}

// install plans the installation on each host that lacks it. Nodes install beside each other.
func (w *world) install(hosts []string, s software) []module.Change {
	var changes []module.Change
	for _, host := range hosts {
		gate := "install Ceph on " + host
		if !w.needInstall(host, gate) || !w.installable(host, gate, s) {
			continue
		}
		n := w.local[host]
		if n.Installed() {
			if s.Repository != "manual" && n.Repository != "" && n.Repository != s.Repository {
				w.warn(host, "Ceph's repository is %s, wanted %s; it is not changed (a repository task does)", n.Repository, s.Repository)
			}
			continue
		}
		if w.will.installed[host] {
			continue
		}
		changes = append(changes, w.installChange(host, s))
	}
	return w.plan(changes)
}

// needInstall is need without the membership: packages do not ask for a cluster.
func (w *world) needInstall(host, gate string) bool {
	n, s := w.local[host], w.states[host]
	switch {
	case n == nil:
		return w.need(host, gate)
	case n.Err != nil:
		w.fail(n.Err)
	case s.Err != nil:
		w.fail(s.Err)
	case n.Unread["packages"] != "" || n.Unread["here"] != "" || n.Unread["installing"] != "":
		w.refuse(host, gate, fmt.Sprintf("what is installed could not be read: %s%s%s", n.Unread["packages"], n.Unread["here"], n.Unread["installing"]), "a node that answers", "dpkg -l 'ceph*'", "")
	case !s.IsPVE():
		w.refuse(host, gate, "Proxmox VE is not installed", "a Proxmox VE node", "pveversion", "")
	default:
		return true
	}
	return false
}

// installable checks the release against Proxmox VE, against what is there, and against the other nodes.
func (w *world) installable(host, gate string, s software) bool {
	n, version := w.local[host], w.states[host].Version()
	if offered := ceph.Offered(pve.Major(version)); !slices.Contains(offered, s.Version) {
		w.refuse(host, gate, fmt.Sprintf("Ceph %s on Proxmox VE %s", s.Version, version), "one of "+strings.Join(offered, ", "), "pveversion", "set version")
		return false
	}
	have := n.Release()
	if n.Installed() && have != s.Version {
		w.refuse(host, gate, fmt.Sprintf("Ceph %s (%s) is installed", have, n.Packages["ceph-mon"]), "Ceph "+s.Version, "ceph-mon --version",
			"none: a change of the major release is done by Proxmox's upgrade guide, with all daemons in their order; or set version to what is there")
		return false
	}
	for _, other := range w.nodes {
		if o := w.local[other]; other != host && o.Err == nil && o.Installed() && o.Release() != s.Version {
			w.refuse(host, gate, fmt.Sprintf("%s has Ceph %s", other, o.Release()), "one release on all nodes", "ceph-mon --version", "set version to what is there")
			return false
		}
	}
	if n.Flag && !n.Installing && n.Audit != "" {
		w.refuse(host, gate, "an installation was cut off, and packages are half configured: "+oneLine(n.Audit), "a package database at rest", "dpkg --audit",
			"dpkg --configure -a, once you know what was interrupted; then apply again")
		return false
	}
	return true
}

func (w *world) installChange(host string, s software) module.Change {
	n := w.local[host]
	c := module.Change{
		ID: host + "/" + kindInstall, Host: host, Action: module.Create, Group: kindInstall, Summary: fmt.Sprintf("install Ceph %s on %s", s.Version, host),
		After: map[string]any{"ceph": s.Version, "repository": s.Repository},
		Apply: func(ctx context.Context, t module.Target) error { return s.install(ctx, t, host) },
	}
	switch {
	case n.Installing:
		c.Before = map[string]any{"state": "pveceph install is running"}
	case n.Flag:
		c.Summary = fmt.Sprintf("finish the installation of Ceph %s on %s", s.Version, host)
		c.Before = map[string]any{"state": ceph.InstallFlag + " was left behind by an installation that was cut off"}
	}
	if s.Repository == "enterprise" && !n.Subscription {
		w.warn(host, "the enterprise repository is wanted and there is no subscription: the download will be refused (401)")
	}
	return c
}

// installScript answers every question before it is asked: apt by its own configuration, and by yes where that does not
// reach (reference §8.1). The exit status is that of pveceph.
const installScript = `# install Ceph without questions
cd / || exit 1
mkdir -p /run/pxrun || exit 1
printf '%s\n' 'APT::Get::Assume-Yes "true";' 'DPkg::Lock::Timeout "300";' >/run/pxrun/ceph-apt.conf || exit 1
APT_CONFIG=/run/pxrun/ceph-apt.conf; export APT_CONFIG
yes | pveceph install "$@"`

// install brings Ceph onto a node, from wherever it stands.
func (s software) install(ctx context.Context, t module.Target, host string) error {
	n, err := readNode(ctx, t, host)
	if err != nil {
		return err
	}
	if n.Installing {
		t.Log(host, "pveceph install is running already: waiting for its end")
		if n, err = s.awaitOther(ctx, t, host); err != nil {
			return err
		}
	}
	if n.Installed() {
		return s.rightRelease(n)
	}
	if n.Flag {
		if n.Audit != "" {
			return &module.Refusal{Host: host, Gate: "finish the installation of Ceph", Saw: oneLine(n.Audit), Want: "a package database at rest", Look: "dpkg --audit", Override: "dpkg --configure -a"}
		}
		if err := run(ctx, t, host, "rm", "-f", ceph.InstallFlag); err != nil {
			return fmt.Errorf("%s: remove %s: %w", host, ceph.InstallFlag, err)
		}
	}
	args := []string{"--version", s.Version, "--repository", s.Repository}
	if s.Experimental {
		args = append(args, "--allow-experimental", "1")
	}
	job := module.Job{Name: "ceph-install", Timeout: s.InstallTimeout, Command: transport.Command{
		Script: installScript, Argv: args, Mutates: true,
		Env: map[string]string{"DEBIAN_FRONTEND": "noninteractive", "DEBIAN_PRIORITY": "critical", "APT_LISTCHANGES_FRONTEND": "none", "NEEDRESTART_MODE": "l", "NEEDRESTART_SUSPEND": "1", "LC_ALL": "C"},
	}}
	r, err := t.Detach(ctx, host, job)
	if err != nil {
		return fmt.Errorf("%s: pveceph install: %w", host, err)
	}
	if n, err = readNode(ctx, t, host); err != nil {
		return err
	}
	if r.Exit != 0 || !n.Installed() {
		return fmt.Errorf("%s: pveceph install (exit %d): %s", host, r.Exit, whyNot(string(r.Stdout)+"\n"+string(r.Stderr), s.Repository))
	}
	return s.rightRelease(n)
}

func (s software) rightRelease(n *ceph.Node) error {
	if have := n.Release(); have != s.Version {
		return fmt.Errorf("%s: Ceph %s is installed, wanted %s (look: ceph-mon --version)", n.Host, have, s.Version)
	}
	return nil
}

func (s software) awaitOther(ctx context.Context, t module.Target, host string) (*ceph.Node, error) {
	var n *ceph.Node
	err := t.WaitFor(ctx, module.Condition{
		Name: "the installation that runs on " + host + " ends", Timeout: s.InstallTimeout, Every: 5 * time.Second,
		Check: func(ctx context.Context) error {
			var err error
			if n, err = readNode(ctx, t, host); err != nil {
				return err
			}
			if n.Installing {
				return errors.New("pveceph install is still running (look: pgrep -af 'pveceph install')")
			}
			return nil
		},
	})
	return n, err
}

// whyNot finds the line of apt and pveceph that explains a failure: their last one is often an afterthought.
func whyNot(out, repository string) string {
	last, told := "", ""
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		switch {
		case line == "":
			continue
		case strings.Contains(line, "401"):
			return line + ": the " + repository + ` repository wants a subscription; set repository = "no-subscription", or give the node one`
		case strings.HasPrefix(line, "E: ") && told == "":
			told = strings.TrimPrefix(line, "E: ")
		case strings.HasPrefix(line, "W: Failed to fetch") && told == "":
			told = strings.TrimPrefix(line, "W: ")
		}
		last = line
	}
	switch {
	case strings.Contains(out, "Do you want to continue?") && strings.Contains(out, "Abort."):
		return "apt asked whether to continue and got no answer"
	case told != "" && told != last:
		return told + "; " + last
	case last == "":
		return "it said nothing, and Ceph is not installed"
	}
	return last
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
