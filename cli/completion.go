package cli

import (
	"slices"

	"github.com/pxrun/pxrun/internal/diag"
	"github.com/spf13/cobra"
)

var shells = []string{"bash", "zsh", "fish", "powershell"}

// knownShell wants the name of one shell, and says which there are.
func knownShell(_ *cobra.Command, args []string) error {
	const there = "There is bash, zsh, fish and powershell: pxrun completion bash"
	switch {
	case len(args) == 0:
		return invalid("completion needs the name of a shell\n%s", there)
	case len(args) > 1:
		return invalid("completion takes one shell, not %d\n%s", len(args), there)
	case !slices.Contains(shells, args[0]):
		return invalid("there is no completion for %q.%s\n%s", args[0], diag.DidYouMean(args[0], shells), there)
	}
	return nil
}

func newCompletionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "completion SHELL", Short: "Write the completion script of a shell", GroupID: groupLook,
		Long: long(`Writes the script that makes a shell complete pxrun's commands and flags. SHELL is bash, zsh, fish or powershell.

  bash:  pxrun completion bash > /etc/bash_completion.d/pxrun
  zsh:   pxrun completion zsh > "${fpath[1]}/_pxrun"
  fish:  pxrun completion fish > ~/.config/fish/completions/pxrun.fish`, exitOK),
		Args:      knownShell,
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch root := cmd.Root(); args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Out, true)
			case "zsh":
				return root.GenZshCompletion(a.Out)
			case "fish":
				return root.GenFishCompletion(a.Out, true)
			default:
				return root.GenPowerShellCompletionWithDesc(a.Out)
			}
		},
	}
}

func newHelpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Show the help of a command", GroupID: groupLook,
		Long: long("Shows the help of a command, the same as COMMAND --help.", exitOK),
		RunE: func(cmd *cobra.Command, args []string) error {
			target, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd.Root(), args)
			}
			return target.Help()
		},
	}
}
