package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/pxrun/pxrun/internal/snapshot"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/inventory"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// sourceOptions say which cluster is read: one of the site's, or that of a host.
type sourceOptions struct {
	site     siteOptions
	network  networkOptions
	host     string
	identity string
	hostKeys string
}

func (o *sourceOptions) flags(f *pflag.FlagSet) {
	o.site.flags(f)
	o.network.flags(f)
	f.StringVar(&o.identity, "identity", "", "log in to USER@HOST with the key in this `FILE`")
	f.StringVar(&o.hostKeys, "host-keys", "strict", "of USER@HOST: strict, only hosts whose keys are known; or accept_new, take keys of hosts seen for the first time")
}

// snapshotOptions are the flags of snapshot.
type snapshotOptions struct {
	sourceOptions
	out   string
	force bool
}

func newSnapshotCommand(a *app) *cobra.Command {
	var o snapshotOptions
	cmd := &cobra.Command{
		Use: "snapshot [USER@HOST[:PORT] | PATH...]", Short: "Read a cluster into a file, for a rehearsal", GroupID: groupLook,
		Long: long(`Reads what "pxrun rehearse" needs to build a copy of a cluster: nodes with versions, kernels, memory, processors, networks and disks,
corosync, HA, storages, guests, Ceph, pending updates and repositories. The cluster is that of the site in -i, or that of the node USER@HOST.
Nothing is changed on it. Of configuration files only options on a list are taken: passwords, keys, comments and notes are never in the file.
See docs/rehearse.md. With --lab the cluster is the one in the lab of the site in -i.`, exitOK, exitFailed, exitInvalid, exitUnreachable, exitInterrupted),
		Example: "  pxrun snapshot -i site.hcl -o tonight.json\n  pxrun snapshot root@192.0.2.11 -o tonight.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.arguments(args); err != nil {
				return err
			}
			return runSnapshot(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	o.flags(f)
	f.StringVarP(&o.out, "out", "o", "", "write to this `FILE` instead of standard output")
	f.BoolVar(&o.force, "force", false, "replace the file if it is there")
	return cmd
}

// arguments sorts a host and paths apart.
func (o *sourceOptions) arguments(args []string) error {
	for _, arg := range args {
		switch {
		case strings.Contains(arg, "@") && o.host == "":
			o.host = arg
		case exists(arg):
			o.site.paths = append(o.site.paths, arg)
		default:
			return invalid("%s is neither a file nor a host: a host is USER@HOST[:PORT]", arg)
		}
	}
	return nil
}

func runSnapshot(ctx context.Context, a *app, o snapshotOptions) error {
	ctx, stop := interruptible(ctx, a.Streams)
	defer stop()
	if o.out != "" && !o.force {
		if _, err := os.Stat(o.out); err == nil {
			return invalid("%s is there already: --force replaces it", o.out)
		}
	}
	s, _, err := a.observe(ctx, o.sourceOptions, nil)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	if err := s.Write(&text); err != nil {
		return err
	}
	if o.out == "" {
		_, err := a.Out.Write(text.Bytes())
		return err
	}
	const mode = 0o600 // no secrets, but nobody's business either
	if err := renameio.WriteFile(o.out, text.Bytes(), mode); err != nil {
		return err
	}
	if a.global.quiet || a.global.json {
		return nil
	}
	_, err = fmt.Fprintf(a.Out, "Wrote %s: %s. Rehearse on it: pxrun rehearse --snapshot %s\n", o.out, contents(s), o.out)
	return err
}

// contents says how much is in a snapshot.
func contents(s *snapshot.Snapshot) string {
	parts := []string{count(len(s.Nodes), "node"), count(len(s.Guests), "guest")}
	if s.Ceph != nil {
		parts = append(parts, "Ceph with "+count(len(s.Ceph.OSDs), "OSD"))
	}
	return strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// observe reads the cluster of a site that is loaded already or from the options, or that of a host. Notes are told.
func (a *app) observe(ctx context.Context, o sourceOptions, doc *runbooks.Document) (s *snapshot.Snapshot, from string, err error) {
	var names []string
	if o.host != "" {
		login := importOptions{site: o.site, network: o.network, host: o.host, identity: o.identity, hostKeys: o.hostKeys}
		first, err := login.target()
		if err != nil {
			return nil, "", err
		}
		net, err := a.importNetwork(ctx, login, first)
		if err != nil {
			return nil, "", err
		}
		defer func() { err = errors.Join(err, net.Close()) }()
		s, err = a.readFrom(ctx, net, first, first)
		return s, o.host, err
	}
	if doc == nil {
		if doc, err = a.load(ctx, o.site, true); err != nil {
			return nil, "", err
		}
	}
	switch len(doc.Site.Clusters) {
	case 0:
		return nil, "", invalid("the site has no cluster: name a node of one: pxrun %s USER@HOST", a.command)
	case 1:
		names = doc.Site.Clusters[0].Nodes
	default:
		return nil, "", invalid("the site has %d clusters: name a node of one: pxrun %s USER@HOST", len(doc.Site.Clusters), a.command)
	}
	net, err := a.network(ctx, doc, o.network, a.note)
	if err != nil {
		return nil, "", err
	}
	defer func() { err = errors.Join(err, net.Close()) }()
	var failed []error
	for _, name := range names {
		h, _ := net.site.Host(name)
		s, err := a.readFrom(ctx, net, h, inventory.Host{SSH: h.SSH})
		if err == nil {
			return s, name, nil
		}
		failed = append(failed, fmt.Errorf("%s: %w", name, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, "", errors.Join(failed...)
}

// readFrom reads the cluster of one node. Others are reached as the site says, or else as like says, at the address that the
// cluster knows.
func (a *app) readFrom(ctx context.Context, net *network, h, like inventory.Host) (*snapshot.Snapshot, error) {
	conn, err := net.look(ctx, h)
	if err != nil {
		return nil, err
	}
	var all closers
	defer all.close()
	all.add(conn)
	s, err := snapshot.Read(ctx, h.Name, conn, func(ctx context.Context, name, address string) (transport.Conn, error) {
		other, known := net.site.Host(name)
		if !known {
			other = like
			other.Name, other.Address = name, address
		}
		conn, err := net.look(ctx, other)
		if err == nil {
			all.add(conn)
		}
		return conn, err
	})
	if err != nil {
		return nil, err
	}
	s.Taken, s.Pxrun = a.Now().UTC(), buildInfo().Version
	for _, note := range s.Notes {
		a.note(note)
	}
	return s, nil
}
