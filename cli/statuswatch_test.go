package cli

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAWatchedPictureFitsTheScreen(t *testing.T) {
	const picture = "one\ntwo\nthree\nfour\nfive\n"
	for name, c := range map[string]struct {
		height int
		want   string
	}{
		"an unknown height":       {0, picture},
		"room for all":            {6, picture},
		"the cursor needs a line": {5, "one\ntwo\nthree\nand 2 more lines: pxrun status shows all of them\n"},
		"little room":             {3, "one\nand 4 more lines: pxrun status shows all of them\n"},
		"no room for anything":    {2, picture},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, c.want, clip(picture, c.height))
		})
	}
}
