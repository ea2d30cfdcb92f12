package cli

import (
	"context"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/lab"
	"github.com/pxrun/pxrun/lab/guest"
	"github.com/spf13/cobra"
)

func newLabGuestCommand(a *app, site *siteOptions) *cobra.Command {
	cmd := &cobra.Command{
		Use: "guest", Short: "Put guests into the lab",
		Long: long(`Adds virtual machines and containers to a running lab, which begins without any, and lists them.`, exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newGuestAddCommand(a, site), newGuestRemoveCommand(a, site), newGuestListCommand(a, site))
	return cmd
}

func newGuestAddCommand(a *app, site *siteOptions) *cobra.Command {
	return &cobra.Command{
		Use: "add NODE ID [KEY=VALUE...]", Short: "Add a guest to a node of the lab",
		Long: long(`Adds a guest. The node must be able to write to /etc/pve; a node that holds guests cannot join a cluster.

  type=lxc        a container; a virtual machine without
  name=, memory=, cores=, tags=a;b, pool=, lock=
  disk=STORAGE:GiB, snapshot=NAME     several times
  running=1, onboot=1, template=1
  dirty=1         writes memory faster than it can be moved
  deaf=1          does not react to a shutdown
Every other key is a line of its config.

  pxrun lab guest add -i site.hcl pve1 100 name=web01 memory=4096 disk=local-lvm:32 running=1
  pxrun lab guest add -i site.hcl pve1 101 running=1 hostpci0=0000:01:00.0`, exitOK),
		Args: checked(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := guest.ParseSpec(args[1], args[2:])
			if err != nil {
				return invalid("%s\nSee: pxrun lab guest add --help", err)
			}
			return askLab(cmd.Context(), a, *site, lab.Request{Op: "guest-add", Node: args[0], Guest: &spec})
		},
	}
}

func newGuestRemoveCommand(a *app, site *siteOptions) *cobra.Command {
	return &cobra.Command{
		Use: "remove NODE ID", Short: "Take a guest away from a node of the lab",
		Long: long(`Removes a guest with its config, whether it runs or not.`, exitOK),
		Args: checked(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.Atoi(args[1])
			if err != nil {
				return invalid("%q is not the id of a guest", args[1])
			}
			return askLab(cmd.Context(), a, *site, lab.Request{Op: "guest-remove", Node: args[0], Guest: &guest.Spec{ID: id}})
		},
	}
}

// askLab sends a request whose answer says only whether it was done.
func askLab(ctx context.Context, a *app, site siteOptions, r lab.Request) error {
	_, access, err := a.openLab(ctx, site, nil)
	if err != nil {
		return err
	}
	if _, err := access.Ask(ctx, r); err != nil {
		return &exitError{exitInvalid, err}
	}
	return nil
}

func newGuestListCommand(a *app, site *siteOptions) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the guests of the lab",
		Long: long("Lists the guests of a running lab: where their configs lie and where they run.", exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runGuestList(cmd.Context(), a, *site) },
	}
}

func runGuestList(ctx context.Context, a *app, site siteOptions) error {
	_, access, err := a.openLab(ctx, site, nil)
	if err != nil {
		return err
	}
	answer, err := access.Ask(ctx, lab.Request{Op: "guest-list"})
	if err != nil {
		return err
	}
	if a.global.json {
		for _, g := range answer.Guests {
			if err := report.WriteObject(a.Out, struct {
				Type  string      `json:"type"`
				Guest guest.State `json:"guest"`
			}{"guest", g}); err != nil {
				return err
			}
		}
		return nil
	}
	rows := make([][]string, len(answer.Guests))
	for i, g := range answer.Guests {
		rows[i] = []string{strconv.Itoa(g.ID), g.Type, g.Name, g.Node, strings.Join(g.Runs, " "), g.Lock}
	}
	return report.Table(a.Out, []string{"id", "type", "name", "node", "runs on", "lock"}, rows, a.look())
}
