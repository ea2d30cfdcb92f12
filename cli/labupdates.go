package cli

import (
	"context"
	"strings"

	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/updates"
	"github.com/spf13/cobra"
)

func newLabUpdatesCommand(a *app, site *siteOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "updates", Short: "Put newer packages into the lab's repositories",
		Long: long(`Gives the hosts of a running lab something to be upgraded to, and lists what there is. The hosts learn of it from apt-get update,
which an enterprise repository without a subscription refuses, as in life: see the module repository.`, exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newUpdatesAddCommand(a, site), newUpdatesListCommand(a, site))
	return cmd
}

func newUpdatesAddCommand(a *app, site *siteOptions) *cobra.Command {
	var nodes []string
	cmd := &cobra.Command{
		Use: "add WHAT...", Short: "Add updates",
		Long: long(`Adds updates, on all hosts or on those that --node names. WHAT is one of

  release     the next minor release of Proxmox VE, with a new kernel and QEMU
  kernel      a new kernel alone
  qemu        a new QEMU alone
  corosync    corosync and its libraries
  libc        the C library, which every daemon uses
  microcode   microcode of the processors
  ceph        a point release of Ceph
or a package and its version.

  pxrun lab updates add -i site.hcl release
  pxrun lab updates add -i site.hcl --node pve1 libc pve-manager=9.1.9`, exitOK),
		Args: checked(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := updates.Validate(args); err != nil {
				return invalid("%s\nSee: pxrun lab updates add --help", err)
			}
			return askLab(cmd.Context(), a, *site, lab.Request{Op: "updates-add", Nodes: nodes, Updates: args})
		},
	}
	cmd.Flags().StringSliceVar(&nodes, "node", nil, "only on these `HOSTS`")
	return cmd
}

func newUpdatesListCommand(a *app, site *siteOptions) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the updates that the repositories have",
		Long: long("Lists what the repositories of each host have that is newer than what is installed there.", exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runUpdatesList(cmd.Context(), a, *site) },
	}
}

func runUpdatesList(ctx context.Context, a *app, site siteOptions) error {
	_, access, err := a.openLab(ctx, site, nil)
	if err != nil {
		return err
	}
	answer, err := access.Ask(ctx, lab.Request{Op: "updates-list"})
	if err != nil {
		return err
	}
	if a.global.json {
		for _, p := range answer.Updates {
			if err := report.WriteObject(a.Out, struct {
				Type string `json:"type"`
				lab.Pending
			}{"updates", p}); err != nil {
				return err
			}
		}
		return nil
	}
	rows := make([][]string, len(answer.Updates))
	for i, p := range answer.Updates {
		rows[i] = []string{p.Host, strings.Join(p.Packages, " ")}
	}
	return report.Table(a.Out, []string{"host", "newer packages"}, rows, a.look())
}
