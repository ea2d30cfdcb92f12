package ceph

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

// dieError is an error with the exit status that perl happens to give it.
type dieError struct {
	code int
	text string
}

func (e *dieError) Error() string { return e.text }

// ExitCode is the exit status.
func (e *dieError) ExitCode() int { return e.code }

// exitCode is the exit status of an error of pveceph.
func exitCode(err error) int {
	if d, ok := errors.AsType[*dieError](err); ok {
		return d.code
	}
	return pvetool.ExitDie
}

// openError words a failed write as perl does.
func openError(path string, err error) error {
	return &dieError{code: pvetool.ExitAccess, text: fmt.Sprintf("unable to open file '%s.tmp.2174' - %s", path, machine.Reason(err))}
}

// command is one of pveceph's with how it reads its arguments.
type command struct {
	usage   string
	options map[string]pvetool.Option
	args    int // positional arguments that must be given
	run     func(ctx context.Context, p *machine.Proc, o pvetool.Options) int
}

// pveceph is the program of that name.
func (n *Node) pveceph(ctx context.Context, p *machine.Proc) int {
	if p.UID != 0 {
		return pvetool.Die(p, pvetool.ExitDie, "please run as root")
	}
	const start = 800 * time.Millisecond // it loads the whole API
	if n.m.Sleep(ctx, start) != nil {
		return pvetool.ExitKilled
	}
	args := p.Args()
	if len(args) == 0 {
		fmt.Fprintln(p.Stderr, "ERROR: no command specified\nUSAGE: pveceph <COMMAND> [ARGS] [OPTIONS]")
		return pvetool.ExitDie
	}
	if args[0] == "install" {
		return n.pvecephInstall(ctx, p, args[1:])
	}
	table := n.commands()
	for words := min(2, len(args)); words > 0; words-- {
		name := strings.Join(args[:words], " ")
		if long, ok := aliases[name]; ok {
			name = long
		}
		c, ok := table[name]
		if !ok {
			continue
		}
		c.usage = "pveceph " + name + c.usage
		return runCommand(ctx, p, c, args[words:])
	}
	return pvetool.Die(p, pvetool.ExitDie, "ERROR: unknown command 'pveceph %s'\nUSAGE: pveceph <COMMAND> [ARGS] [OPTIONS]", strings.Join(args[:min(2, len(args))], " "))
}

// aliases are the old names of commands.
var aliases = map[string]string{
	"createmon": "mon create", "destroymon": "mon destroy", "createmgr": "mgr create", "destroymgr": "mgr destroy", "createosd": "osd create", "destroyosd": "osd destroy",
	"createpool": "pool create", "destroypool": "pool destroy", "lspools": "pool ls",
}

func runCommand(ctx context.Context, p *machine.Proc, c command, args []string) int {
	o, perr := pvetool.Parse(args, c.options)
	switch {
	case perr != nil:
	case len(o.Positional) < c.args:
		perr = &pvetool.ParamError{Head: "not enough arguments"}
	case len(o.Positional) > c.args:
		perr = &pvetool.ParamError{Head: "too many arguments"}
	}
	if perr != nil {
		return pvetool.Usage(p, perr, c.usage)
	}
	return c.run(ctx, p, o)
}

// commands are all but install.
func (n *Node) commands() map[string]command {
	str, boolean := pvetool.Option{}, pvetool.Option{Kind: pvetool.Bool}
	die := func(do func(ctx context.Context, p *machine.Proc, o pvetool.Options) error) func(context.Context, *machine.Proc, pvetool.Options) int {
		return func(ctx context.Context, p *machine.Proc, o pvetool.Options) int {
			err := do(ctx, p, o)
			switch {
			case errors.Is(err, pvetool.ErrKilled), ctx.Err() != nil:
				return pvetool.ExitKilled
			case errors.Is(err, errTold):
				return pvetool.ExitDie
			case err != nil:
				return pvetool.Die(p, exitCode(err), "%s", strings.TrimRight(err.Error(), "\n"))
			}
			return 0
		}
	}
	return map[string]command{
		"init": {usage: "  [OPTIONS]", options: map[string]pvetool.Option{
			"network": {Check: checkNetwork}, "cluster-network": {Check: checkNetwork}, "size": {Kind: pvetool.Int, Check: between(1, 7)}, "min_size": {Kind: pvetool.Int, Check: between(1, 7)},
			"pg_bits": {Kind: pvetool.Int, Check: between(6, 14)}, "disable_cephx": boolean,
		}, run: die(n.initialise)},
		"status":      {usage: "", run: func(ctx context.Context, p *machine.Proc, _ pvetool.Options) int { return n.pvecephStatus(ctx, p) }},
		"mon create":  {usage: "  [OPTIONS]", options: map[string]pvetool.Option{"monid": str, "mon-address": str}, run: die(n.monCreate)},
		"mon destroy": {usage: " <monid>", args: 1, run: die(n.monDestroy)},
		"mgr create":  {usage: "  [OPTIONS]", options: map[string]pvetool.Option{"id": str}, run: die(n.mgrCreate)},
		"mgr destroy": {usage: " <id>", args: 1, run: die(n.mgrDestroy)},
		"mds create":  {usage: "  [OPTIONS]", options: map[string]pvetool.Option{"name": str, "hotstandby": boolean}, run: die(n.mdsCreate)},
		"mds destroy": {usage: " <name>", args: 1, run: die(n.mdsDestroy)},
		"osd create": {usage: " <dev> [OPTIONS]", args: 1, options: map[string]pvetool.Option{
			"db_dev": str, "db_dev_size": {Check: atLeast(1)}, "wal_dev": str, "wal_dev_size": {Check: atLeast(0.5)}, "encrypted": boolean, "crush-device-class": str, "osds-per-device": {Kind: pvetool.Int, Check: between(1, 100)},
		}, run: die(n.osdCreate)},
		"osd destroy": {usage: " <osdid> [OPTIONS]", args: 1, options: map[string]pvetool.Option{"cleanup": boolean}, run: die(n.osdDestroy)},
		"start":       {usage: "  [OPTIONS]", options: map[string]pvetool.Option{"service": str}, run: die(n.service("start"))},
		"stop":        {usage: "  [OPTIONS]", options: map[string]pvetool.Option{"service": str}, run: die(n.service("stop"))},
		"purge":       {usage: "  [OPTIONS]", options: map[string]pvetool.Option{"logs": boolean, "crash": boolean}, run: die(n.purge)},
		"pool create": {usage: " <name> [OPTIONS]", args: 1, options: poolOptions(), run: die(n.poolCreate)},
		"pool set":    {usage: " <name> [OPTIONS]", args: 1, options: poolOptions(), run: die(n.poolSet)},
		"pool destroy": {usage: " <name> [OPTIONS]", args: 1, options: map[string]pvetool.Option{
			"force": boolean, "remove_storages": boolean, "remove_ecprofile": boolean,
		}, run: die(n.poolDestroy)},
		"pool ls":    {usage: "  [FORMAT_OPTIONS]", options: formatOptions(), run: die(n.poolList)},
		"pool get":   {usage: " <name> [OPTIONS]", args: 1, options: formatOptions(), run: die(n.poolGet)},
		"fs create":  {usage: "  [OPTIONS]", options: map[string]pvetool.Option{"name": str, "pg_num": {Kind: pvetool.Int, Check: between(8, 32768)}, "add-storage": boolean}, run: die(n.fsCreate)},
		"fs destroy": {usage: " <name> [OPTIONS]", args: 1, options: map[string]pvetool.Option{"remove-storages": boolean, "remove-pools": boolean}, run: die(n.fsDestroy)},
	}
}

func formatOptions() map[string]pvetool.Option {
	return map[string]pvetool.Option{"output-format": {}, "noborder": {Kind: pvetool.Bool}, "noheader": {Kind: pvetool.Bool}, "human-readable": {Kind: pvetool.Bool}, "verbose": {Kind: pvetool.Bool}}
}

func checkNetwork(value string) string {
	for one := range strings.SplitSeq(value, ",") {
		if _, err := netip.ParsePrefix(strings.TrimSpace(one)); err != nil {
			return "invalid format - value does not look like a valid CIDR network list"
		}
	}
	return ""
}

func between(low, high int) func(string) string {
	return func(value string) string {
		var n int
		_, _ = fmt.Sscan(value, &n) // checked to be a number before
		switch {
		case n < low:
			return fmt.Sprintf("value must have a minimum value of %d", low)
		case n > high:
			return fmt.Sprintf("value must have a maximum value of %d", high)
		}
		return ""
	}
}

func atLeast(low float64) func(string) string {
	return func(value string) string {
		var n float64
		if _, err := fmt.Sscan(value, &n); err != nil {
			return fmt.Sprintf("type check ('number') failed - got '%s'", value)
		}
		if n < low {
			return fmt.Sprintf("value must have a minimum value of %g", low)
		}
		return ""
	}
}

// initialise is `pveceph init`.
func (n *Node) initialise(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	if err := n.checkInstalled(); err != nil {
		return err
	}
	network, clusterNetwork := o.Values["network"], o.Values["cluster-network"]
	if clusterNetwork != "" && network == "" {
		return &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"cluster-network: missing property - 'network' requires this property"}}
	}
	v := p.View()
	if err := symlinkConf(v); err != nil {
		return err
	}
	err := n.locked(ctx, v, p.Stderr, confLockID, func() error {
		c := readConf(v, confPath)
		g := c["global"]
		if g["fsid"] == "" {
			auth := "cephx"
			if o.Is("disable_cephx") {
				auth = "none"
			}
			size, minSize := or(o.Int("size"), 3), or(o.Int("min_size"), 2)
			for key, value := range map[string]string{
				"fsid": n.newUUID(), "auth_cluster_required": auth, "auth_service_required": auth, "auth_client_required": auth,
				"osd_pool_default_size": fmt.Sprint(size), "osd_pool_default_min_size": fmt.Sprint(minSize), "mon_allow_pool_delete": "true",
			} {
				c.set("global", key, value)
			}
			c.set("client", "keyring", "/etc/pve/priv/$cluster.$name.keyring")
		}
		c.set("client.crash", "keyring", "/etc/pve/ceph/$cluster.$name.keyring")
		if network != "" {
			c.set("global", "public_network", network)
			c.set("global", "cluster_network", network)
		}
		if clusterNetwork != "" {
			c.set("global", "cluster_network", clusterNetwork)
		}
		first := c["global"]["public_network"]
		if first != "" && strings.Contains(first, ":") {
			c.set("global", "ms_bind_ipv6", "true")
			c.set("global", "ms_bind_ipv4", "false")
		} else {
			c.set("global", "ms_bind_ipv4", "true")
			c.set("global", "ms_bind_ipv6", "false")
		}
		return write(v, confPath, c.String())
	})
	if err != nil {
		return err
	}
	if err := n.adminKey(v); err != nil {
		return err
	}
	return n.dir(v, "/etc/pve/ceph")
}

// dir makes a folder in /etc/pve.
func (n *Node) dir(v *vfs.View, path string) error {
	if err := v.MkdirAll(path, 0o755); err != nil {
		return openError(path, err)
	}
	return nil
}

// adminKey makes the administrator's keyring.
func (n *Node) adminKey(v *vfs.View) error {
	if exists(v, adminKeyring) {
		return nil
	}
	return write(v, adminKeyring, fmt.Sprintf("[client.admin]\n\tkey = %s\n\tcaps mds = \"allow *\"\n\tcaps mgr = \"allow *\"\n\tcaps mon = \"allow *\"\n\tcaps osd = \"allow *\"\n", n.newKey()))
}

// newKey looks like one of Ceph's keys.
func (n *Node) newKey() string {
	var b [28]byte
	n.m.Random(b[:])
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, len(b))
	for i, x := range b {
		out[i] = letters[int(x)%len(letters)]
	}
	return "AQ" + string(out) + "abcdefgh=="
}

// symlinkConf makes /etc/ceph/ceph.conf the link that it is on a Proxmox node.
func symlinkConf(v *vfs.View) error {
	i, err := v.Lstat(confLink)
	switch {
	case err != nil:
		if err := v.MkdirAll("/etc/ceph", 0o755); err != nil {
			return openError(confLink, err)
		}
		return v.Symlink(confPath, confLink)
	case i.Target != confPath:
		return fmt.Errorf("file '%s' already exists and is not a symlink to %s", confLink, confPath)
	}
	return nil
}

func or(a, b int) int {
	if a == 0 {
		return b
	}
	return a
}

// checkInited is the second check of most commands.
func (n *Node) checkInited(v *vfs.View) error {
	if !exists(v, confPath) {
		return &dieError{code: pvetool.ExitNoEntry, text: fmt.Sprintf("pveceph configuration not initialized - missing '%s'", confPath)}
	}
	if !exists(v, adminKeyring) {
		return &dieError{code: pvetool.ExitNoEntry, text: fmt.Sprintf("ceph not fully configured - missing '%s'", adminKeyring)}
	}
	return nil
}

// ready is what most commands check first.
func (n *Node) ready(v *vfs.View, programs ...string) error {
	if err := n.checkInstalled(programs...); err != nil {
		return err
	}
	return n.checkInited(v)
}

// locked runs code under a lock of the cluster file system.
func (n *Node) locked(ctx context.Context, v *vfs.View, messages io.Writer, id string, code func() error) error {
	return n.pve.Locked(ctx, v, messages, id, code)
}

// task runs a worker, whose failure is the command's where pveceph has a hook for it.
func (n *Node) task(ctx context.Context, p *machine.Proc, kind, id string, hook bool, worker func(context.Context, io.Writer) error) error {
	_, code := n.pve.Tasks().Run(ctx, p, &pvetool.Task{Kind: kind, ID: id, Hook: hook}, worker)
	switch code {
	case 0:
		return nil
	case pvetool.ExitKilled:
		return pvetool.ErrKilled
	}
	return errTold
}

// errTold is a failure that the worker has told already.
var errTold = &dieError{code: pvetool.ExitDie}

// pvecephStatus is `pveceph status`.
func (n *Node) pvecephStatus(ctx context.Context, p *machine.Proc) int {
	if err := n.ready(p.View()); err != nil {
		return pvetool.Die(p, exitCode(err), "%v", err)
	}
	return pvetool.Run(ctx, p, p.Stdout, p.Stderr, "ceph", "-s")
}

// service is `pveceph start` and `stop`.
func (n *Node) service(verb string) func(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
	return func(ctx context.Context, p *machine.Proc, o pvetool.Options) error {
		if err := n.ready(p.View()); err != nil {
			return err
		}
		name := o.Values["service"]
		unit := "ceph.target"
		if kind, id, found := strings.Cut(name, "."); found {
			unit = "ceph-" + kind + "@" + id + ".service"
		} else if name != "" && name != "ceph" {
			unit = "ceph-" + name + ".target"
			if !slices.Contains(targets, name) {
				return &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"service: value does not match the regex pattern"}}
			}
		}
		return n.task(ctx, p, "srv"+verb, or2(name, "ceph"), true, func(ctx context.Context, _ io.Writer) error {
			do := n.m.StartUnit
			if verb == "stop" {
				do = n.m.StopUnit
			}
			if err := do(ctx, unit); err != nil {
				return fmt.Errorf("command 'systemctl %s %s' failed: exit code %d", verb, strings.TrimSuffix(unit, ".service"), map[bool]int{true: 5, false: 1}[strings.Contains(err.Error(), "not found")])
			}
			return nil
		})
	}
}

func or2(a, b string) string {
	if a == "" {
		return b
	}
	return a
}
