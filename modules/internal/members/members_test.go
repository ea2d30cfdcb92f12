package members

import (
	"errors"
	"testing"

	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
)

func TestWhatAToolSaid(t *testing.T) {
	for text, want := range map[string]string{
		"create storage failed: storage 'nas' is not online\n":                                                             "create storage failed: storage 'nas' is not online",
		"400 Parameter verification failed.\nrate: value must have a minimum value of 1\npvesr update [OPTIONS]\n":         "400 Parameter verification failed.; rate: value must have a minimum value of 1",
		"trying to acquire cfs lock 'file-storage_cfg' ...\ncfs-lock 'file-storage_cfg' error: got lock request timeout\n": "cfs-lock 'file-storage_cfg' error: got lock request timeout",
		"": "it said nothing",
	} {
		require.Equal(t, want, said(text))
	}
}

func TestACommandIsRepeatedWhileSomebodyHoldsTheLock(t *testing.T) {
	conn := testkit.NewConn(t, "pve1").On("pvesm remove nas", testkit.Reply{Exit: 255, Stderr: "cfs-lock 'file-storage_cfg' error: got lock request timeout\n"}, testkit.Reply{})
	target := testkit.NewTarget(t, "pve1", conn)
	_, err := Run(t.Context(), target, "pve1", "pvesm remove nas", transport.Command{Argv: []string{"pvesm", "remove", "nas"}})
	require.NoError(t, err)
	require.Positive(t, target.Elapsed())
}

func TestACommandThatFailsIsNotRepeated(t *testing.T) {
	run := func(r testkit.Reply) error {
		conn := testkit.NewConn(t, "pve1").On("pvesm remove nas", r)
		_, err := Run(t.Context(), testkit.NewTarget(t, "pve1", conn), "pve1", "pvesm remove nas", transport.Command{Argv: []string{"pvesm", "remove", "nas"}})
		return err
	}
	require.EqualError(t, run(testkit.Reply{Exit: 2, Stderr: "storage 'nas' does not exist\n"}), "pve1: pvesm remove nas: exit 2: storage 'nas' does not exist")
	lost := &transport.LostError{Host: "pve1", Command: "pvesm", Cause: errors.New("reset")}
	require.ErrorIs(t, run(testkit.Reply{Err: lost}), lost)
}
