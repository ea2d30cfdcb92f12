package upgrade

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// Anything that falls below what it ever was is progress: groups may become more for a while, as recovery goes on.
func TestWhatCephLacksGetsBetter(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		seen []lacks
		want bool
	}{
		"the first look":      {[]lacks{{33, 100, 0}}, false},
		"as it was":           {[]lacks{{33, 100, 0}, {33, 100, 0}}, false},
		"worse":               {[]lacks{{33, 100, 0}, {40, 120, 5}}, false},
		"up and down again":   {[]lacks{{33, 100, 0}, {40, 120, 5}, {33, 100, 0}}, false},
		"fewer groups":        {[]lacks{{33, 100, 0}, {32, 100, 0}}, true},
		"fewer objects":       {[]lacks{{33, 100, 0}, {33, 99, 7}}, true},
		"more groups, though": {[]lacks{{33, 100, 9}, {34, 100, 8}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var w waiting
			for _, now := range test.seen {
				w.note(nil) // no answer
				w.note(&now)
			}
			require.Equal(t, test.want, w.better)
		})
	}
}
