package cli

import (
	"fmt"

	"github.com/pxrun/pxrun/lua"
	"github.com/spf13/cobra"
)

func newLuaCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use: "lua", Short: "Help for those who write Lua scripts", GroupID: groupLook,
		Long: long("Help for those who write Lua scripts: see docs/lua.md. A script runs in a task of the module gate.", exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "types", Short: "Write the types of the functions that scripts have, for editors",
		Long: long("Writes the functions that Lua scripts of pxrun have, with their arguments and results, as annotations that the Lua language\n"+
			"server (LuaLS, EmmyLua) reads.\n\n  pxrun lua types > pxrun.d.lua", exitOK),
		Args: checked(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(a.Out, lua.Declare(lua.Environment{}).Annotations())
			return err
		},
	})
	return cmd
}
