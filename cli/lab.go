package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/spf13/cobra"
)

func newLabCommand(a *app) *cobra.Command {
	var site siteOptions
	cmd := &cobra.Command{
		Use: "lab", Short: "Simulate the hosts of a site", GroupID: groupLab,
		Long: long(`A lab is a simulated Proxmox VE cluster, made from the inventory of a site. Every machine has a real SSH server on a loopback port.
While a lab runs, --lab on plan, apply, status and exec uses it; without one, --lab makes a lab for that command alone.

  pxrun lab up -i site.hcl --detach
  pxrun apply site.hcl --lab
  pxrun lab ssh -i site.hcl pve1
  pxrun lab fault add -i site.hcl power-off pve3
  pxrun lab down -i site.hcl`, exitOK),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return invalid("unknown command %q of lab\nSee: pxrun lab --help", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	site.flags(cmd.PersistentFlags())
	cmd.AddCommand(newLabUpCommand(a, &site), newLabDownCommand(a, &site), newLabStatusCommand(a, &site), newLabSSHCommand(a, &site), newLabFaultCommand(a, &site), newLabGuestCommand(a, &site), newLabUpdatesCommand(a, &site))
	return cmd
}

// labUpOptions are the flags of lab up.
type labUpOptions struct {
	site    siteOptions
	detach  bool
	speed   float64
	release string
	seed    uint64
	updates []string
	copyOf  string
	ready   int
}

func newLabUpCommand(a *app, site *siteOptions) *cobra.Command {
	var o labUpOptions
	cmd := &cobra.Command{
		Use: "up [PATH...]", Short: "Start the lab of a site",
		Long: long(`Starts a lab and serves it until it is interrupted or taken down; with --detach in the background. Nodes of clusters are fresh
Proxmox VE nodes that are in no cluster, other hosts are plain Debian. Time in the lab runs faster than yours by --speed.`, exitOK, exitFailed),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.site = *site
			o.site.paths = args
			if o.detach {
				return runLabDetached(cmd.Context(), a, o)
			}
			return runLabUp(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.detach, "detach", false, "serve it in the background")
	f.Float64Var(&o.speed, "speed", defaultSpeed, "how many times faster than real time the lab runs")
	f.StringVar(&o.release, "pve", defaultRelease, "version of Proxmox VE on the nodes")
	f.Uint64Var(&o.seed, "seed", 1, "the same seed makes the same ids")
	f.StringSliceVar(&o.updates, "updates", nil, "what the repositories have for an upgrade, `WHAT` being release, kernel and so on: see lab updates add")
	f.StringVar(&o.copyOf, "snapshot", "", "make it a copy of the cluster in this `FILE`, which pxrun snapshot wrote, in place of fresh nodes")
	f.IntVar(&o.ready, "ready-fd", 0, "close this file descriptor when the lab is ready")
	_ = f.MarkHidden("ready-fd")
	return cmd
}

func runLabUp(ctx context.Context, a *app, o labUpOptions) error {
	ctx, stop := interruptible(ctx, a.Streams)
	defer stop()
	doc, err := a.loadForLab(ctx, o.site)
	if err != nil {
		return err
	}
	if a.labRuns(ctx, doc) {
		return invalid("the lab of this site is running already\nSee: pxrun lab status")
	}
	dir, err := a.labDir(doc)
	if err != nil {
		return err
	}
	made, err := makeLab(ctx, doc, o)
	if err != nil {
		return err
	}
	defer func() {
		made.Close()
		_ = os.Remove(dir) // only if it is empty
	}()
	access, err := made.Access(dir)
	if err != nil {
		return err
	}
	if err := a.showLab(access); err != nil {
		return err
	}
	if o.ready > 0 {
		if err := os.NewFile(uintptr(o.ready), "ready").Close(); err != nil {
			return err
		}
	} else if !a.global.json && !a.global.quiet {
		if _, err := fmt.Fprintln(a.Out, "\nServing until you press Ctrl-C."); err != nil {
			return err
		}
	}
	if err := made.Wait(ctx); err != nil && !errors.Is(context.Cause(ctx), errInterrupted) {
		return err
	}
	return nil
}

// runLabDetached starts this program again in the background, in a session of its own, and waits until its lab is ready.
func runLabDetached(ctx context.Context, a *app, o labUpOptions) error {
	ctx, stop := interruptible(ctx, a.Streams)
	defer stop()
	doc, err := a.load(ctx, o.site, false)
	if err != nil {
		return err
	}
	dir, err := a.labDir(doc)
	if err != nil {
		return err
	}
	if a.labRuns(ctx, doc) {
		return invalid("the lab of this site is running already\nSee: pxrun lab status")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	logFile := filepath.Join(filepath.Dir(dir), filepath.Base(dir)+".log")
	if err := a.spawnLab(o, logFile); err != nil {
		return err
	}
	access, err := a.runningLab(ctx, doc)
	if err != nil {
		text, _ := os.ReadFile(logFile)
		return fmt.Errorf("the lab did not start: %s", bytes.TrimSpace(text))
	}
	return a.showLab(access)
}

// spawnLab returns when the background process has said that it is ready, or has ended.
func (a *app) spawnLab(o labUpOptions, logFile string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	state, err := a.stateDir()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	ready, done, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	args := []string{
		"pxrun", "lab", "up", "--ready-fd", "3", "--no-color", "--state-dir", state,
		"--speed", strconv.FormatFloat(o.speed, 'f', -1, 64), "--pve", o.release, "--seed", strconv.FormatUint(o.seed, 10),
	}
	if o.copyOf != "" {
		args = append(args, "--snapshot", o.copyOf)
	}
	for _, u := range o.updates {
		args = append(args, "--updates", u)
	}
	for _, v := range o.site.vars {
		args = append(args, "--var", v)
	}
	for _, v := range o.site.varFiles {
		args = append(args, "--var-file", v)
	}
	args = append(append(args, "--"), o.site.files(a)...)
	env := a.Environ
	if a.Env("GOGC") == "" {
		env = append(slices.Clone(env), "GOGC=200") // a lab of many nodes lives long: it may take memory rather than time
	}
	//nolint:noctx // it must outlive this process
	child := &exec.Cmd{Path: self, Args: args, Env: env, Stdout: out, Stderr: out, ExtraFiles: []*os.File{done}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	err = child.Start()
	_ = done.Close()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, ready) // ends when the child closes its end, also by dying
	return errors.Join(err, child.Process.Release())
}

// labObject is a lab in the JSON form.
type labObject struct {
	Type         string            `json:"type"`
	IdentityFile string            `json:"identity_file"`
	KnownHosts   string            `json:"known_hosts"`
	SSHConfig    string            `json:"ssh_config"`
	Listen       map[string]string `json:"listen"`
	PID          int               `json:"pid"`
	Status       *lab.Status       `json:"status,omitempty"`
}

// showLab says how to reach the machines.
func (a *app) showLab(access lab.Access) error {
	if a.global.json {
		return report.WriteObject(a.Out, labObject{"lab", access.IdentityFile, access.KnownHosts, access.SSHConfig, access.Listen, access.PID, nil})
	}
	if a.global.quiet {
		return nil
	}
	var rows [][]string
	for _, h := range access.Spec.Hosts {
		rows = append(rows, []string{h.Name, h.Address, access.Listen[h.Name], labKind(h)})
	}
	if err := report.Table(a.Out, []string{"host", "address", "listens on", "what it is"}, rows, a.look()); err != nil {
		return err
	}
	_, err := fmt.Fprintf(a.Out, "\nLog in with: ssh -F %s %s\n", access.SSHConfig, access.Spec.Hosts[0].Name)
	return err
}

func labKind(h lab.HostSpec) string {
	if h.PVE == "" {
		return "Debian"
	}
	return "Proxmox VE " + h.PVE
}

func newLabDownCommand(a *app, site *siteOptions) *cobra.Command {
	return &cobra.Command{
		Use: "down [PATH...]", Short: "Take the lab of a site down",
		Long: long("Ends the running lab of a site and removes its files. Everything in it is lost.", exitOK),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, access, err := a.openLab(cmd.Context(), *site, args)
			if err != nil {
				return err
			}
			if _, err := access.Ask(cmd.Context(), lab.Request{Op: "down"}); err != nil {
				return err
			}
			return awaitEnd(cmd.Context(), access)
		},
	}
}

// awaitEnd waits until a lab that was told to end has taken its files away.
func awaitEnd(ctx context.Context, access lab.Access) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 10*time.Second, fmt.Errorf("the lab (process %d) does not end", access.PID))
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := lab.LoadAccess(access.Dir); errors.Is(err, lab.ErrNoLab) {
			_ = os.Remove(filepath.Join(filepath.Dir(access.Dir), filepath.Base(access.Dir)+".log"))
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// openLab finds the running lab of the site that flags and arguments name.
func (a *app) openLab(ctx context.Context, site siteOptions, paths []string) (*runbooks.Document, lab.Access, error) {
	site.paths = paths
	doc, err := a.load(ctx, site, false)
	if err != nil {
		return nil, lab.Access{}, err
	}
	access, err := a.runningLab(ctx, doc)
	if errors.Is(err, lab.ErrNoLab) {
		return nil, lab.Access{}, invalid("no lab of this site is running\nStart it with: pxrun lab up")
	}
	return doc, access, err
}

func newLabStatusCommand(a *app, site *siteOptions) *cobra.Command {
	return &cobra.Command{
		Use: "status [PATH...]", Short: "Show the lab of a site",
		Long: long(`Shows the machines of the running lab as the simulation knows them, and planned faults. "pxrun status --lab" shows the cluster as it
looks from outside.`, exitOK),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, access, err := a.openLab(cmd.Context(), *site, args)
			if err != nil {
				return err
			}
			answer, err := access.Ask(cmd.Context(), lab.Request{Op: "status"})
			if err != nil {
				return err
			}
			return a.showLabStatus(access, answer.Status)
		},
	}
}

func (a *app) showLabStatus(access lab.Access, s *lab.Status) error {
	if a.global.json {
		return report.WriteObject(a.Out, labObject{"lab", access.IdentityFile, access.KnownHosts, access.SSHConfig, access.Listen, access.PID, s})
	}
	var rows [][]string
	for _, h := range s.Hosts {
		power, member := "on", ""
		if !h.Up {
			power = "off"
		}
		if h.Node != nil {
			member = h.Node.Cluster
			if member != "" && !h.Node.Quorate {
				member += " (not quorate)"
			}
		}
		rows = append(rows, []string{h.Name, h.Address, h.Listen, power, member})
	}
	if err := report.Table(a.Out, []string{"host", "address", "listens on", "power", "cluster"}, rows, a.look()); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(a.Out, "\nModel time %s at speed %g, process %d\n", report.Duration(s.Elapsed), s.Speed, access.PID); err != nil {
		return err
	}
	for _, f := range s.Faults {
		if _, err := fmt.Fprintf(a.Out, "fault %s\n", f); err != nil {
			return err
		}
	}
	return nil
}

func newLabSSHCommand(a *app, site *siteOptions) *cobra.Command {
	return &cobra.Command{
		Use: "ssh HOST [-- COMMAND...]", Short: "Log in to a machine of the lab",
		Long: long(`Runs OpenSSH's client with the lab's key and known hosts. Its exit status is that of the command.`, exitOK),
		Args: checked(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			_, access, err := a.openLab(cmd.Context(), *site, nil)
			if err != nil {
				return err
			}
			if _, ok := access.Listen[args[0]]; !ok {
				return invalid("the lab has no host %q; it has %s", args[0], labHosts(access.Spec))
			}
			return a.ssh(cmd.Context(), access, args)
		},
	}
}

// ssh hands the terminal over to OpenSSH.
func (a *app) ssh(ctx context.Context, access lab.Access, args []string) error {
	client, err := exec.LookPath("ssh")
	if err != nil {
		return fmt.Errorf("OpenSSH's client is not installed; use any other with %s", access.SSHConfig)
	}
	child := exec.CommandContext(ctx, client, append([]string{"-F", access.SSHConfig}, args...)...)
	child.Stdin, child.Stdout, child.Stderr, child.Env = a.In, a.Out, a.Err, a.Environ
	err = child.Run()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitWith(ended.ExitCode())
	}
	return err
}
