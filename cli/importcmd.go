package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/pxrun/pxrun/internal/siteimport"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/spf13/cobra"
)

// importOptions are the flags of import.
type importOptions struct {
	site     siteOptions
	network  networkOptions
	host     string
	out      string
	identity string
	hostKeys string
	force    bool
}

func newImportCommand(a *app) *cobra.Command {
	var o importOptions
	cmd := &cobra.Command{
		Use: "import [USER@]HOST[:PORT]", Short: "Write the files of a cluster that lives", GroupID: groupLook, Args: cobra.ExactArgs(1),
		Long: long(`Connects to one node of a cluster, reads it and, over the addresses that the cluster knows, the other nodes, and writes one HCL file: the inventory with
links, ids and votes, and a runbook with what the cluster has been told: QDevice, options of the datacenter, storages, Ceph, high availability,
replication, backup jobs. Nothing is changed on the cluster, and planning the file finds nothing to change. What cannot be written down is told on
standard error. With --lab the node is one of the lab of the site in -i.`, exitOK, exitFailed, exitUnreachable, exitInterrupted),
		Example: "  pxrun import root@192.0.2.11 -o site.hcl\n  pxrun plan site.hcl",
		RunE: func(cmd *cobra.Command, args []string) error {
			o.host = args[0]
			return runImport(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	o.site.flags(f)
	o.network.flags(f)
	f.StringVarP(&o.out, "out", "o", "", "write to this `FILE` instead of standard output")
	f.BoolVar(&o.force, "force", false, "replace the file if it is there")
	f.StringVar(&o.identity, "identity", "", "log in with the key in this `FILE`")
	f.StringVar(&o.hostKeys, "host-keys", "strict", "strict: only hosts whose keys are known; accept_new: take keys of hosts seen for the first time")
	return cmd
}

func runImport(ctx context.Context, a *app, o importOptions) (err error) {
	ctx, stop := interruptible(ctx, a.Streams)
	defer stop()
	first, err := o.target()
	if err != nil {
		return err
	}
	if o.out != "" && !o.force {
		if _, err := os.Stat(o.out); err == nil {
			return invalid("%s is there already: --force replaces it", o.out)
		}
	}
	net, err := a.importNetwork(ctx, o, first)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, net.Close()) }()
	conn, err := net.look(ctx, first)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	var others closers
	defer others.close()
	found, notes, err := siteimport.Read(ctx, first.Name, conn, func(ctx context.Context, name, address string) (transport.Conn, error) {
		h := first
		h.Name, h.Address = name, address
		conn, err := net.look(ctx, h)
		if err == nil {
			others.add(conn)
		}
		return conn, err
	})
	if err != nil {
		return err
	}
	login := siteimport.Login{User: first.SSH.User, IdentityFile: o.identity, HostKeys: o.hostKeys}
	text, more := siteimport.Write(found, login)
	for _, note := range append(notes, more...) {
		a.note(note)
	}
	if o.out == "" {
		_, err := a.Out.Write(text)
		return err
	}
	const mode = 0o644
	if err := renameio.WriteFile(o.out, text, mode); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Out, "Wrote %s: %d nodes. See what it says: pxrun plan %s\n", o.out, len(found.Nodes), o.out)
	return err
}

// target reads the argument.
func (o importOptions) target() (inventory.Host, error) {
	h := inventory.Host{}
	rest := o.host
	if user, host, ok := strings.Cut(rest, "@"); ok {
		h.SSH.User, rest = user, host
	}
	if host, port, err := net.SplitHostPort(rest); err == nil {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return h, invalid("%q is no port", port)
		}
		rest, h.SSH.Port = host, int(n)
	}
	if rest == "" || h.SSH.User == "" && strings.Contains(o.host, "@") {
		return h, invalid("%q is no host: write [USER@]HOST[:PORT]", o.host)
	}
	if h.SSH.User == "" {
		h.SSH.User = "root"
	}
	if o.hostKeys != string(inventory.HostKeysStrict) && o.hostKeys != string(inventory.HostKeysAcceptNew) {
		return h, invalid("--host-keys is %q: strict or accept_new", o.hostKeys)
	}
	h.Name, h.Address, h.SSH.HostKeys = rest, strings.Trim(rest, "[]"), inventory.HostKeyPolicy(o.hostKeys)
	if o.identity != "" {
		h.SSH.IdentityFiles = []string{o.identity}
	}
	return h, nil
}

// importNetwork connects without an inventory, or to the lab of one.
func (a *app) importNetwork(ctx context.Context, o importOptions, first inventory.Host) (*network, error) {
	doc := &runbooks.Document{Site: &inventory.Site{Hosts: []inventory.Host{first}}}
	if o.network.lab {
		loaded, err := a.load(ctx, o.site, true)
		if err != nil {
			return nil, err
		}
		doc = loaded
	}
	net, err := a.network(ctx, doc, o.network, a.note)
	if err != nil {
		return nil, err
	}
	return net, nil
}
