package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// perlStart is what any of Proxmox's command line tools needs before it does something.
const perlStart = 400 * time.Millisecond

const noCluster = "Error: Corosync config '/etc/pve/corosync.conf' does not exist - is this node part of a cluster?"

// pvecmUsage is the synopsis of each subcommand.
var pvecmUsage = map[string]string{
	"add":            "pvecm add <hostname>  [OPTIONS]",
	"addnode":        "pvecm addnode <node>  [OPTIONS]",
	"apiver":         "pvecm apiver ",
	"create":         "pvecm create <clustername>  [OPTIONS]",
	"delnode":        "pvecm delnode <node>",
	"expected":       "pvecm expected <expected>",
	"keygen":         "pvecm keygen <filename>",
	"mtunnel":        "pvecm mtunnel  [<extra-args>] [OPTIONS]",
	"nodes":          "pvecm nodes ",
	"qdevice remove": "pvecm qdevice remove ",
	"qdevice setup":  "pvecm qdevice setup <address>  [OPTIONS]",
	"status":         "pvecm status ",
	"updatecerts":    "pvecm updatecerts  [OPTIONS]",
}

func pvecmHelp() string {
	var b strings.Builder
	b.WriteString("USAGE: pvecm <COMMAND> [ARGS] [OPTIONS]\n\n")
	for _, name := range []string{"add", "addnode", "apiver", "create", "delnode", "expected", "keygen", "mtunnel", "nodes", "qdevice remove", "qdevice setup", "status", "updatecerts"} {
		fmt.Fprintf(&b, "       %s\n", pvecmUsage[name])
	}
	return b.String()
}

// pvecm is the program of that name.
func (n *Node) pvecm(ctx context.Context, p *machine.Proc) int {
	if p.UID != 0 {
		return pvetool.Die(p, pvetool.ExitDie, "please run as root")
	}
	if n.w.clock.Sleep(ctx, perlStart) != nil {
		return pvetool.ExitDie
	}
	args := p.Args()
	if len(args) == 0 {
		fmt.Fprint(p.Stderr, "ERROR: no command specified\n", pvecmHelp())
		return pvetool.ExitDie
	}
	sub, rest := args[0], args[1:]
	if sub == "help" {
		fmt.Fprint(p.Stdout, pvecmHelp())
		return 0
	}
	if sub == "qdevice" {
		if len(rest) == 0 {
			fmt.Fprint(p.Stderr, "ERROR: no command specified\n", pvecmHelp())
			return pvetool.ExitDie
		}
		sub, rest = sub+" "+rest[0], rest[1:]
	}
	run, ok := n.pvecmCommands()[sub]
	if !ok {
		fmt.Fprintf(p.Stderr, "ERROR: unknown command 'pvecm %s'\n%s", sub, pvecmHelp())
		return pvetool.ExitDie
	}
	if code := n.ready(p, sub); code != 0 {
		return code
	}
	return run(ctx, p, rest)
}

func (n *Node) pvecmCommands() map[string]func(context.Context, *machine.Proc, []string) int {
	return map[string]func(context.Context, *machine.Proc, []string) int{
		"add": n.pvecmAdd, "addnode": n.pvecmAddnode, "apiver": n.pvecmAPIVersion, "create": n.pvecmCreate,
		"delnode": n.pvecmDelnode, "expected": n.pvecmExpected, "keygen": n.pvecmKeygen, "mtunnel": n.pvecmTunnel,
		"nodes": n.pvecmNodes, "qdevice remove": n.pvecmDeviceRemove, "qdevice setup": n.pvecmDeviceSetup,
		"status": n.pvecmStatus, "updatecerts": n.pvecmUpdatecerts,
	}
}

// ready checks what every subcommand needs first: a mounted pmxcfs and a name that resolves.
func (n *Node) ready(p *machine.Proc, sub string) int {
	if sub == "updatecerts" || sub == "mtunnel" || sub == "apiver" || sub == "keygen" {
		return 0
	}
	if !n.mounted() {
		return pvetool.Die(p, pvetool.ExitDie, "pve configuration filesystem (pmxcfs) not mounted")
	}
	if !n.ownAddress().IsValid() {
		return pvetool.Die(p, pvetool.ExitDie, "hostname lookup '%s' failed - failed to get address info for: %s: Name or service not known", n.name, n.name)
	}
	return 0
}

func (n *Node) mounted() bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.pmx.running
}

// canWrite reports whether /etc/pve is mounted and takes changes.
func (n *Node) canWrite() bool {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.writable()
}

func (n *Node) hasConf() bool {
	_, err := n.m.FS.Stat("/etc/pve/corosync.conf")
	return err == nil
}

func (n *Node) pvecmAPIVersion(_ context.Context, p *machine.Proc, _ []string) int {
	p.Println("1")
	return 0
}

func (n *Node) pvecmStatus(ctx context.Context, p *machine.Proc, args []string) int {
	if _, err := pvetool.Parse(args, nil); err != nil {
		return pvetool.Usage(p, err, pvecmUsage["status"])
	}
	text, err := n.m.FS.ReadFile("/etc/pve/corosync.conf")
	if err != nil {
		return pvetool.Die(p, pvetool.ExitNoEntry, noCluster)
	}
	conf, err := ParseConf(string(text))
	if err != nil {
		return pvetool.Die(p, pvetool.ExitDie, "%v", err)
	}
	p.Printf("Cluster information\n-------------------\nName:             %s\nConfig Version:   %d\nTransport:        knet\nSecure auth:      on\n\n",
		conf.ClusterName(), conf.Version())
	return pvetool.Run(ctx, p, p.Stdout, p.Stderr, "corosync-quorumtool", "-siH")
}

func (n *Node) pvecmNodes(ctx context.Context, p *machine.Proc, args []string) int {
	if _, err := pvetool.Parse(args, nil); err != nil {
		return pvetool.Usage(p, err, pvecmUsage["nodes"])
	}
	if !n.hasConf() {
		return pvetool.Die(p, pvetool.ExitNoEntry, noCluster)
	}
	return pvetool.Run(ctx, p, p.Stdout, p.Stderr, "corosync-quorumtool", "-l")
}

func (n *Node) pvecmExpected(ctx context.Context, p *machine.Proc, args []string) int {
	o, perr := pvetool.Parse(args, map[string]pvetool.Option{"expected": {Kind: pvetool.Int, Check: pvetool.AtLeast(1)}})
	if perr == nil && len(o.Positional) == 1 {
		if _, problem := (pvetool.Option{Kind: pvetool.Int, Check: pvetool.AtLeast(1)}).Normalise(o.Positional[0]); problem != "" {
			perr = &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"expected: " + problem}}
		}
	} else if perr == nil {
		perr = &pvetool.ParamError{Head: "not enough arguments"}
	}
	if perr != nil {
		return pvetool.Usage(p, perr, pvecmUsage["expected"])
	}
	if !n.hasConf() {
		return pvetool.Die(p, pvetool.ExitNoEntry, noCluster)
	}
	return pvetool.Run(ctx, p, p.Stdout, p.Stderr, "corosync-quorumtool", "-e", o.Positional[0])
}

func (n *Node) pvecmKeygen(ctx context.Context, p *machine.Proc, args []string) int {
	if len(args) != 1 {
		return pvetool.Usage(p, &pvetool.ParamError{Head: "not enough arguments"}, pvecmUsage["keygen"])
	}
	if _, err := n.m.FS.Stat(args[0]); err == nil {
		return pvetool.Die(p, pvetool.ExitDie, "key file '%s' already exists", args[0])
	}
	return pvetool.Run(ctx, p, p.Stdout, p.Stderr, "corosync-keygen", "-l", "-k", args[0])
}

func (n *Node) pvecmTunnel(_ context.Context, p *machine.Proc, args []string) int {
	o, err := pvetool.Parse(args, map[string]pvetool.Option{
		"get_migration_ip": {Kind: pvetool.Bool}, "migration_network": {}, "run-command": {Kind: pvetool.Bool},
	})
	if err != nil {
		return pvetool.Usage(p, err, pvecmUsage["mtunnel"])
	}
	if !n.canWrite() {
		p.Println("no quorum")
		return 0
	}
	if o.Is("get_migration_ip") {
		p.Printf("ip: '%s'\n", n.ownAddress())
	}
	return 0
}

func (n *Node) pvecmUpdatecerts(ctx context.Context, p *machine.Proc, args []string) int {
	o, perr := pvetool.Parse(args, map[string]pvetool.Option{
		"force": {Kind: pvetool.Bool}, "silent": {Kind: pvetool.Bool}, "unmerge-known-hosts": {Kind: pvetool.Bool},
	})
	if perr != nil {
		return pvetool.Usage(p, perr, pvecmUsage["updatecerts"])
	}
	const step, rounds = 5 * time.Second, 16
	for i := 0; !n.canWrite(); i++ {
		if i == rounds {
			return pvetool.Die(p, pvetool.ExitDie, "got timeout when trying to ensure cluster certificates and base file hierarchy is set up - no quorum (yet) or hung pmxcfs?")
		}
		if !o.Is("silent") {
			p.Println("waiting for pmxcfs mount to appear and get quorate...")
		}
		if n.w.clock.Sleep(ctx, step) != nil {
			return pvetool.ExitDie
		}
	}
	out := func(string) {}
	if o.Is("force") && !o.Is("silent") {
		out = p.Println
	}
	if err := n.updateCerts(p.View(), o.Is("force"), out); err != nil {
		return pvetool.Die(p, pvetool.ExitDie, "%v", err)
	}
	return 0
}
