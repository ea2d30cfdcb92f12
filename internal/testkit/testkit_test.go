package testkit_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestLocalIsAConnection(t *testing.T) {
	testkit.TestConn(t, func(t *testing.T) transport.Conn { t.Helper(); return testkit.NewLocal(t) })
}

func TestFakeProgramsStandInFrontOfRealOnes(t *testing.T) {
	l := testkit.NewLocal(t)
	l.Program(t, "systemctl", `echo "fake $*"`)
	r, err := l.Run(t.Context(), transport.Command{Argv: []string{"systemctl", "stop", "x"}})
	require.NoError(t, err)
	require.Equal(t, "fake stop x", r.Out())
	require.Len(t, l.Calls(), 1)
}

func TestScriptedConnGivesRepliesInTurnAndRecords(t *testing.T) {
	lost := errors.New("lost")
	c := testkit.NewConn(t, "pve1").
		On("date", testkit.Reply{Stdout: "1\n"}, testkit.Reply{Stdout: "2\n", Exit: 3}).
		On("reboot", testkit.Reply{Err: lost}).
		OnGet("/etc/hosts", "text")
	var out []string
	for range 3 {
		r, err := c.Run(t.Context(), transport.Command{Argv: []string{"date", "+%s"}})
		require.NoError(t, err)
		out = append(out, r.Out())
	}
	require.Equal(t, []string{"1", "2", "2"}, out)
	_, err := c.Run(t.Context(), transport.Command{Script: "systemctl reboot", Mutates: true})
	require.ErrorIs(t, err, lost)
	require.Equal(t, []string{"systemctl reboot"}, c.Mutations())
	require.NoError(t, c.Put(t.Context(), transport.File{Path: "/etc/motd", Content: strings.NewReader("hi"), Mode: 0o600}))
	require.Equal(t, "hi", c.Files()["/etc/motd"].Text)
	var got strings.Builder
	require.NoError(t, c.Get(t.Context(), "/etc/hosts", &got))
	require.Equal(t, "text", got.String())
}

func TestWaitForEndsByItsOwnClock(t *testing.T) {
	target := testkit.NewTarget(t, "pve1", testkit.NewConn(t, "pve1"))
	never := errors.New("not yet")
	err := target.WaitFor(t.Context(), module.Condition{Name: "x", Timeout: 60e9, Check: func(context.Context) error { return never }})
	require.ErrorIs(t, err, never)
	require.GreaterOrEqual(t, target.Elapsed().Seconds(), 60.0)
	err = target.WaitFor(t.Context(), module.Condition{Name: "x", Timeout: 60e9, Check: func(context.Context) error { return module.Fatal(never) }})
	require.Equal(t, never, err)
}
