package diag_test

import (
	"testing"

	"github.com/pxrun/pxrun/internal/diag"
	"github.com/stretchr/testify/require"
)

func TestSuggestFindsTypingMistakesOnly(t *testing.T) {
	names := []string{"host", "hosts", "node", "node_join", "preflight", "run", "web"}
	for given, want := range map[string]string{
		"hsot":      "host",
		"node_jion": "node_join",
		"prefligt":  "preflight",
		"HOST":      "host",
		"rn":        "run",
		"wbe":       "web",
		"database":  "",
		"x":         "",
		"":          "",
	} {
		require.Equal(t, want, diag.Suggest(given, names), given)
	}
	require.Equal(t, ` Did you mean "host"?`, diag.DidYouMean("hosst", names))
	require.Empty(t, diag.DidYouMean("zzz", names))
}
