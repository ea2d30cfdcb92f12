package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pxrun/pxrun/lua"
	"github.com/stretchr/testify/require"
)

// TestReferenceOfLuaIsCurrent compares docs/lua.md with the declarations. Run with -update to rewrite it.
func TestReferenceOfLuaIsCurrent(t *testing.T) {
	want := lua.Declare(lua.Environment{}).Markdown()
	path := filepath.Join("..", "docs", "lua.md")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
	}
	have, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, want, string(have), "docs/lua.md is stale: make generate")
}

func TestTypesNameEveryFunction(t *testing.T) {
	s, out, errs := quietStreams(t)
	require.Equal(t, exitOK, Main([]string{"lua", "types"}, s), errs.String())
	api := lua.Declare(lua.Environment{})
	for _, f := range api.Funcs {
		if f.Off {
			continue
		}
		require.Contains(t, out.String(), "\nfunction "+f.Name+"(")
	}
	for _, c := range api.Classes {
		for _, f := range c.Methods {
			require.Contains(t, out.String(), "\nfunction "+c.Name+":"+f.Name+"(")
		}
	}
	_, problems := lua.New(nil).Compile("pxrun.d.lua", out.Bytes())
	require.Empty(t, problems, "it is Lua")
	require.Contains(t, out.String(), "---@return host[] hosts")
}
