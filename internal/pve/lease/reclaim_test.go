package lease

import (
	"errors"
	"os"
	"testing"

	"github.com/pxrun/pxrun/engine"
	"github.com/stretchr/testify/require"
)

// over tells that some runs are.
func over(runs ...string) func(engine.Owner) (func(), bool) {
	return func(o engine.Owner) (func(), bool) {
		for _, r := range runs {
			if r == o.Run {
				return func() {}, true
			}
		}
		return nil, false
	}
}

func TestTheLeaseOfADeadRunIsGivenBack(t *testing.T) {
	w := newWorld(t, "pve1", "pve2", "pve3", "arbiter")
	w.form("lab", "pve1", "pve2", "pve3")
	_, err := w.acquire("run1", "pve1", "pve2")
	require.NoError(t, err)
	_, err = w.acquire("run2", "arbiter")
	require.NoError(t, err)
	w.conns["pve2"].set(func() { w.conns["pve2"].down = errors.New("no route to host") })

	l := New(Config{})
	dead, err := l.Reclaim(t.Context(), []string{"pve3", "pve1", "pve2", "arbiter"}, w.connect, over())
	require.NoError(t, err)
	require.Empty(t, dead)
	_, err = w.acquire("run3", "pve3")
	require.Equal(t, "run1", locked(t, err).Owner.Run, "nobody knows that it is dead")

	dead, err = l.Reclaim(t.Context(), []string{"pve3", "pve1", "pve2", "arbiter"}, w.connect, over("run1"))
	require.NoError(t, err)
	require.Len(t, dead, 1)
	require.Equal(t, "run1", dead[0].Run)
	require.Equal(t, "ann@desk", dead[0].Controller)
	_, err = w.acquire("run3", "pve1", "pve3")
	require.NoError(t, err)
	_, err = w.acquire("run3", "arbiter")
	require.Equal(t, "run2", locked(t, err).Owner.Run, "it may be alive")
}

func TestALookForDeadRunsWritesNothing(t *testing.T) {
	w := newWorld(t, "pve1", "pve2")
	w.form("lab", "pve1", "pve2")
	dead, err := New(Config{}).Reclaim(t.Context(), []string{"pve1", "pve2"}, w.connect, over("run1"))
	require.NoError(t, err)
	require.Empty(t, dead)
	_, err = os.Stat(w.path("lock-pve1"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.Empty(t, w.files("pve-lab/priv"))
}
