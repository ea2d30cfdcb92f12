package system_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/stretchr/testify/require"
)

func TestWaitForWhatHoldsAlreadyIsNothingToDo(t *testing.T) {
	target, l := local(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close() //nolint:errcheck // a test's own
	port := listener.Addr().(*net.TCPAddr).Port
	systemd(t, l, "x.service", map[string]string{"ActiveState": "active"})
	m := get(t, "wait_for")
	for _, args := range []string{
		fmt.Sprintf("port = %d", port), `path = "/"`, `command = "true"`, `service = "x"`,
		fmt.Sprintf("port = %d\npath = \"/\"\nservice = \"x\"\ncommand = \"true\"", port),
		"path = \"/nonexistent/x\"\ngone = true", "command = \"false\"\ngone = true",
	} {
		require.Empty(t, testkit.Plan(t, m, target, args), args)
	}
	for _, args := range []string{`path = "/nonexistent/x"`, `command = "false"`, `service = "x"` + "\ngone = true", "path = \"/\"\ngone = true", "port = 1", fmt.Sprintf("port = %d\ncommand = \"false\"", port)} {
		require.Len(t, testkit.Plan(t, m, target, args), 1, args)
	}
}

func TestWaitForGoesOnAsSoonAsItHolds(t *testing.T) {
	target, l := local(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "ready")
	// Every look takes a line away; with none left the path is there.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "count"), []byte("xxx"), 0o600))
	l.Program(t, "look", fmt.Sprintf(`cd %s; c=$(cat count); [ -z "$c" ] && touch ready; printf %%s "${c#x}" >count; test -e ready`, dir))
	changes := testkit.Converge(t, get(t, "wait_for"), target, "command = \"look\"\nevery = \"10s\"")
	require.Equal(t, []string{"wait until look succeeds"}, testkit.Summaries(changes))
	require.FileExists(t, path)
	require.Equal(t, 20.0, target.Elapsed().Seconds())
}

func TestWaitForEndsWithWhatItSawLast(t *testing.T) {
	target, _ := local(t)
	changes := testkit.Plan(t, get(t, "wait_for"), target, "command = \"echo still booting >&2; false\"\nevery = \"1m\"")
	err := testkit.Apply(t.Context(), target, changes)
	require.ErrorContains(t, err, "not yet: echo still booting >&2; false succeeds (still booting)")
	require.GreaterOrEqual(t, target.Elapsed().Minutes(), 5.0)
	changes = testkit.Plan(t, get(t, "wait_for"), target, "path = \"/\"\ngone = true\nevery = \"1m\"")
	require.ErrorContains(t, testkit.Apply(t.Context(), target, changes), "still: / exists")
}

func TestWaitForAPortNeedsAProgramToTryItWith(t *testing.T) {
	conn := testkit.NewConn(t, "pve1").On("/dev/tcp", testkit.Reply{Exit: 99})
	_, err := testkit.TryPlan(t, get(t, "wait_for"), testkit.NewTarget(t, "pve1", conn), "port = 22")
	require.ErrorContains(t, err, "a port can't be tried without nc or bash")
}
