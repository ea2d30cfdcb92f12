package system

import (
	"path/filepath"
	"testing"

	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/stretchr/testify/require"
)

// A connection that is lost while the script is on its way looks like the end of the script.
func TestScriptThatWasCutOffIsNotRun(t *testing.T) {
	dir := t.TempDir()
	a := scriptArgs{Interpreter: []string{"/bin/sh"}, Dir: dir}
	c := a.command([]byte("touch half; touch whole\n"))
	c.Stdin = c.Stdin[:11]
	r, err := testkit.NewLocal(t).Run(t.Context(), c)
	require.NoError(t, err)
	require.Equal(t, 1, r.Exit)
	require.Equal(t, "the script did not arrive whole\n", string(r.Stderr))
	require.NoFileExists(t, filepath.Join(dir, "half"))
}
