package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

// task runs a worker of pvecm, which exits 0 whatever became of it.
func (n *Node) task(ctx context.Context, p *machine.Proc, kind string, worker func(context.Context, io.Writer) error) int {
	_, code := n.tasks.Run(ctx, p, &pvetool.Task{Kind: kind}, worker)
	return code
}

func createOptions() map[string]pvetool.Option {
	return withLinks(map[string]pvetool.Option{
		"nodeid": {Kind: pvetool.Int, Check: pvetool.AtLeast(1)}, "votes": {Kind: pvetool.Int, Check: pvetool.AtLeast(1)},
		"token-coefficient": {Kind: pvetool.Int, Check: pvetool.AtLeast(0)}, "clustername": {Check: checkClusterName},
	})
}

// pvecmCreate is `pvecm create`.
func (n *Node) pvecmCreate(ctx context.Context, p *machine.Proc, args []string) int {
	o, perr := pvetool.Parse(args, createOptions())
	if _, given := o.Values["token-coefficient"]; given && n.Release().Major() < 9 {
		perr = &pvetool.ParamError{Head: "unable to parse option"}
	}
	if perr == nil && len(o.Positional) != 1 {
		perr = &pvetool.ParamError{Head: "not enough arguments"}
	}
	if perr == nil {
		if problem := checkClusterName(o.Positional[0]); problem != "" {
			perr = &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"clustername: " + problem}}
		}
	}
	if perr != nil {
		return pvetool.Usage(p, perr, pvecmUsage["create"])
	}
	if n.hasConf() {
		return pvetool.Die(p, pvetool.ExitDie, "cluster config '/etc/pve/corosync.conf' already exists")
	}
	return n.task(ctx, p, "clustercreate", func(ctx context.Context, out io.Writer) error {
		return n.create(ctx, p, out, o)
	})
}

func (n *Node) create(ctx context.Context, p *machine.Proc, out io.Writer, o pvetool.Options) error {
	phase := func(name string, d time.Duration) error { return n.phase(ctx, "create:"+name, d) }
	if err := phase("start", 200*time.Millisecond); err != nil {
		return err
	}
	v := p.View()
	if err := n.prepareSSH(ctx, p, v); err != nil {
		return err
	}
	if !exists(v, authkeyPath) {
		if pvetool.Run(ctx, p, out, out, "corosync-keygen", "-l", "-k", authkeyPath) != 0 {
			return fmt.Errorf("command 'corosync-keygen -lk %s' failed: exit code 1", authkeyPath)
		}
	}
	if err := phase("keygen", 300*time.Millisecond); err != nil {
		return err
	}
	fmt.Fprintln(out, "Writing corosync config to /etc/pve/corosync.conf")
	conf := n.newConf(o)
	if err := replace(v, "/etc/pve/corosync.conf", []byte(conf.String()), 0o640); err != nil {
		return openError("/etc/pve/corosync.conf", err)
	}
	if err := put(v, localConfPath, []byte(conf.String()), 0o644); err != nil {
		return openError(localConfPath, err)
	}
	if err := n.updateCerts(v, false, func(string) {}); err != nil {
		return err
	}
	if err := phase("conf", 200*time.Millisecond); err != nil {
		return err
	}
	fmt.Fprintln(out, "Restart corosync and cluster filesystem")
	// Both restarts run side by side: /etc/pve is away while the first is on.
	if n.units(ctx, n.m.StopUnit, "pve-cluster", "corosync") != nil {
		return errors.New("command 'systemctl restart corosync pve-cluster' failed: exit code 1")
	}
	if err := phase("restart", 700*time.Millisecond); err != nil {
		return err
	}
	if n.units(ctx, n.m.StartUnit, "pve-cluster", "corosync") != nil {
		return errors.New("command 'systemctl restart corosync pve-cluster' failed: exit code 1")
	}
	return phase("end", 200*time.Millisecond)
}

// newConf is the config that create writes.
func (n *Node) newConf(o pvetool.Options) *Conf {
	addrs, priorities := linksOf(o)
	if len(addrs) == 0 {
		addrs[0] = n.ownAddress().String()
	}
	create := CreateOptions{
		Name: o.Positional[0], Priorities: priorities, TokenCoefficient: -1,
		Node: ConfNode{Name: n.name, ID: max(1, o.Int("nodeid")), Votes: max(1, o.Int("votes")), Rings: addrs},
	}
	if n.Release().Major() >= 9 {
		create.TokenCoefficient = 125
		if _, given := o.Values["token-coefficient"]; given {
			create.TokenCoefficient = o.Int("token-coefficient")
		}
	}
	return NewConf(create)
}

// phase lets faults cut in and model time pass.
func (n *Node) phase(ctx context.Context, name string, d time.Duration) error {
	if err := n.w.interrupt(ctx, n.name, name); err != nil {
		return err
	}
	return n.w.clock.Sleep(ctx, d)
}

// prepareSSH is what create and add do to sshd and root's keys.
func (n *Node) prepareSSH(ctx context.Context, p *machine.Proc, v *vfs.View) error {
	const config = "/etc/ssh/sshd_config"
	if data, err := v.ReadFile(config); err == nil {
		kept := make([]string, 0, 64)
		found := false
		for line := range strings.SplitSeq(strings.TrimRight(string(data), "\n"), "\n") {
			if strings.HasPrefix(strings.TrimLeft(line, "# "), "PermitRootLogin") {
				if found {
					continue
				}
				line, found = "PermitRootLogin yes", true
			}
			kept = append(kept, line)
		}
		if !found {
			kept = append(kept, "PermitRootLogin yes")
		}
		text := strings.Join(kept, "\n") + "\n"
		if text != string(data) {
			if err := put(v, config, []byte(text), 0o644); err != nil {
				return err
			}
			if err := n.units(ctx, n.m.ReloadUnit, "ssh"); err != nil {
				return err
			}
		}
	}
	if !exists(v, "/root/.ssh/id_rsa") {
		if pvetool.Run(ctx, p, io.Discard, io.Discard, "ssh-keygen", "-q", "-t", "rsa", "-b", "4096", "-N", "", "-f", "/root/.ssh/id_rsa") != 0 {
			return errors.New("command 'ssh-keygen' failed: exit code 1")
		}
	}
	return nil
}

// units does something to systemd units, one after the other.
func (n *Node) units(ctx context.Context, do func(context.Context, string) error, names ...string) error {
	for _, name := range names {
		if err := do(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// openError words a failed write as perl does.
func openError(name string, err error) error {
	return fmt.Errorf("unable to open file '%s.new.tmp.3087' - %s", name, machine.Reason(err))
}

// knownAddr turns what an option names into an address: itself, or what the name resolves to.
func (n *Node) knownAddr(value string) netip.Addr {
	if a, err := netip.ParseAddr(value); err == nil {
		return a
	}
	if m := n.w.find(value); m != nil {
		if addrs := m.Addresses(); len(addrs) > 0 {
			return addrs[0]
		}
	}
	return netip.Addr{}
}
