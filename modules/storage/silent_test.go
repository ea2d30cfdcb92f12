package storage

import (
	"testing"
	"time"

	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/stretchr/testify/require"
)

func TestWhatANodeHasNotToldOfAStorage(t *testing.T) {
	now := time.Unix(100_000, 0)
	row := func(ago time.Duration) storage.Row { return storage.Row{Time: now.Add(-ago).Unix(), Total: 1} }
	tests := map[string]struct {
		rows    map[string]storage.Row
		changed time.Duration // how long ago storage.cfg was written
		want    string
	}{
		"told lately":           {map[string]storage.Row{"nas": row(10 * time.Second)}, time.Hour, ""},
		"told a while ago":      {map[string]storage.Row{"nas": row(90 * time.Second)}, time.Hour, "was last told of here 1m30s ago, which is every ten seconds where nothing hangs"},
		"not told, others are":  {map[string]storage.Row{"local": row(time.Second)}, time.Hour, "has not been active here for five minutes"},
		"nothing is told":       {nil, time.Hour, "may or may not work here: the node has told of none of its storages for five minutes"},
		"made a moment ago":     {map[string]storage.Row{"local": row(time.Second)}, 20 * time.Second, ""},
		"a clock that is ahead": {map[string]storage.Row{"nas": row(-time.Hour)}, time.Hour, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := &world{Site: &storage.Site{Now: now, Changed: now.Add(-tt.changed), Rows: map[string]map[string]storage.Row{"pve1": tt.rows}}}
			require.Equal(t, tt.want, w.silent("pve1", "nas"))
		})
	}
}
