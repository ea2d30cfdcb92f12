package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/pxrun/pxrun/modules"
	"github.com/stretchr/testify/require"
)

const dir = "../../docs/modules"

func TestReferencePagesAreCurrent(t *testing.T) {
	want := pages(modules.All())
	for name, text := range want {
		got, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err, "run: make docs")
		require.Equal(t, text, string(got), "%s is out of date; run: make docs", name)
	}
	have, err := filepath.Glob(filepath.Join(dir, "*.md"))
	require.NoError(t, err)
	require.Len(t, have, len(want), "a page of a module that is no more; run: make docs")
}

func TestWriteRemovesPagesOfModulesThatAreNoMore(t *testing.T) {
	to := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(to, "gone.md"), nil, 0o600))
	require.NoError(t, write(to, map[string]string{"x.md": "text"}))
	require.NoFileExists(t, filepath.Join(to, "gone.md"))
	text, err := os.ReadFile(filepath.Join(to, "x.md"))
	require.NoError(t, err)
	require.Equal(t, "text", string(text))
}
