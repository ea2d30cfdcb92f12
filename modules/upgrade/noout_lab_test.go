package upgrade

import (
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit/labkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

func flagsOn(tgt *labkit.Target) string {
	dump := tgt.Must("pve1", "ceph osd dump -f json | tr -d ' \n'")
	_, flags, _ := strings.Cut(dump, `"crush_node_flags":`)
	flags, _, _ = strings.Cut(flags, "}")
	return flags + "}"
}

func undo(tgt *labkit.Target, changes []module.Change, id string) {
	tgt.TB.Helper()
	for _, c := range changes {
		if c.ID != id {
			continue
		}
		require.NotNil(tgt.TB, c.Undo)
		r, err := tgt.Conns[c.Undo.Host].Run(tgt.TB.Context(), transport.Command{Script: c.Undo.Command.Script, Argv: c.Undo.Command.Argv, Mutates: true})
		require.NoError(tgt.TB, err)
		require.Zero(tgt.TB, r.Exit, string(r.Stderr))
		return
	}
	require.Fail(tgt.TB, "no change "+id)
}

// Only a noout that this tool has set is taken away: that of somebody else stays, and is told.
func TestWhoseNooutItIs(t *testing.T) {
	t.Parallel()
	tgt := cephLab(t)
	const ours = `{"pve2":["noout"]}`
	t.Run("ours", func(t *testing.T) {
		tgt.Converge(drainModule(), "")
		require.Equal(t, ours, flagsOn(tgt))
		tgt.Converge(release(), "")
		require.Equal(t, "{}", flagsOn(tgt))
		require.Empty(t, tgt.Must("pve1", "ls /var/lib/pxrun/ | grep noout || true"))
	})
	t.Run("ours, taken back by the undo", func(t *testing.T) {
		changes, err := tgt.Plan(drainModule(), "")
		require.NoError(t, err)
		require.NoError(t, tgt.Apply(changes))
		undo(tgt, changes, "pve2/noout")
		require.Equal(t, "{}", flagsOn(tgt))
		tgt.Must("pve1", "ceph osd set-group noout pve2")
		undo(tgt, changes, "pve2/noout") // a second time it takes nothing that is somebody else's
		require.Equal(t, ours, flagsOn(tgt))
		tgt.Must("pve1", "ceph osd unset-group noout pve2; rm -f /var/lib/pxrun/*")
		tgt.Must("pve2", "rm -f /var/lib/pxrun/*")
	})
	t.Run("somebody was faster", func(t *testing.T) {
		changes, err := tgt.Plan(drainModule(), "")
		require.NoError(t, err)
		tgt.Must("pve1", "ceph osd set-group noout pve2")
		require.NoError(t, tgt.Apply(changes))
		require.Contains(t, strings.Join(tgt.Warnings(), "\n"), "noout is set on pve2 by somebody else, and stays")
		undo(tgt, changes, "pve2/noout")
		require.Equal(t, ours, flagsOn(tgt))
		require.NotContains(t, tgt.Converge(release(), ""), "unset noout for the OSDs of pve2")
		require.Equal(t, ours, flagsOn(tgt))
	})
	t.Run("it was set before", func(t *testing.T) {
		made := tgt.Converge(drainModule(), "ignore = [\"ceph_flags\"]")
		require.NotContains(t, made, "set noout for the OSDs of pve2")
		tgt.Converge(release(), "")
		require.Equal(t, ours, flagsOn(tgt))
		tgt.Must("pve1", "ceph osd unset-group noout pve2")
	})
	t.Run("the whole cluster's, meanwhile", func(t *testing.T) {
		tgt.Converge(drainModule(), "")
		tgt.Must("pve1", "ceph osd set noout")
		tgt.Converge(release(), "")
		require.Equal(t, "{}", flagsOn(tgt))
		require.Contains(t, tgt.Must("pve1", "ceph osd dump -f json"), `"noout`)
		require.Contains(t, strings.Join(tgt.Warnings(), "\n"), "noout is set on the whole cluster by somebody else, and stays")
	})
}
