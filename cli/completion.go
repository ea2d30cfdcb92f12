package cli

import (
	"github.com/spf13/cobra"
)

func newCompletionCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "completion SHELL", Short: "Write the completion script of a shell", GroupID: groupLook,
		Long: long(`Writes the script that makes a shell complete pxrun's commands and flags. SHELL is bash, zsh, fish or powershell.

  bash:  pxrun completion bash > /etc/bash_completion.d/pxrun
  zsh:   pxrun completion zsh > "${fpath[1]}/_pxrun"
  fish:  pxrun completion fish > ~/.config/fish/completions/pxrun.fish`, exitOK),
		Args:      checked(cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
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
				return unknownCommand(args)
			}
			return target.Help()
		},
	}
}
