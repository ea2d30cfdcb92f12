package cli

import (
	"strings"

	"github.com/pxrun/pxrun/internal/diag"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// wantSubcommands makes every command that has subcommands explain a word that is none of them.
func wantSubcommands(cmd *cobra.Command) {
	for _, child := range cmd.Commands() {
		wantSubcommands(child)
	}
	check := cmd.Args
	if !cmd.HasSubCommands() || !cmd.HasParent() || check == nil {
		return
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err == nil || len(args) == 0 {
			return err
		}
		return invalid("unknown command %q of %s%s\nSee: %s --help", args[0], commandName(cmd), didYouMean(args[0], commandNames(cmd)), cmd.CommandPath())
	}
}

// didYouMean is a line below the error, or nothing.
func didYouMean(given string, among []string) string {
	if name := diag.Suggest(given, among); name != "" {
		return "\nDid you mean: " + name
	}
	return ""
}

// commandNames are the names of the subcommands of a command.
func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, child := range cmd.Commands() {
		if !child.Hidden {
			names = append(names, child.Name())
		}
	}
	return names
}

// unknownCommand explains a word that is no command.
func unknownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if strings.HasSuffix(args[0], ".hcl") {
		return invalid("unknown command %q\nDid you mean: pxrun apply %s", args[0], args[0])
	}
	return invalid("unknown command %q%s\nSee: pxrun --help", args[0], didYouMean(args[0], commandNames(root)))
}

// flagError explains a flag that a command does not have, or a value that it does not take.
func flagError(cmd *cobra.Command, err error) error {
	hint := ""
	if given, ok := strings.CutPrefix(err.Error(), "unknown flag: --"); ok {
		var names []string
		collect := func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		}
		cmd.Flags().VisitAll(collect)
		cmd.InheritedFlags().VisitAll(collect)
		if name := diag.Suggest(given, names); name != "" {
			hint = "\nDid you mean: --" + name
		}
	}
	return invalid("%w%s\nSee: %s --help", err, hint, cmd.CommandPath())
}
