package lua_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/lua"
	"github.com/stretchr/testify/require"
)

// remote is a host at the end of a connection.
func remote(conn transport.Conn) *lua.Remote {
	return &lua.Remote{
		Info:    lua.HostInfo{Name: "pve1"},
		Connect: func(context.Context) (transport.Conn, error) { return conn, nil },
		ReadFacts: func(context.Context, transport.Conn) (map[string]lua.Value, error) {
			return nil, errors.New("no facts")
		},
	}
}

func TestRemoteRunsReadsAndWrites(t *testing.T) {
	conn := testkit.NewConn(t, "pve1").
		On("uptime", testkit.Reply{Stdout: "up\n", Stderr: "warn\n", Exit: 3}).
		On("cat --", testkit.Reply{Stdout: "text\n"}, testkit.Reply{Exit: 44}, testkit.Reply{Exit: 1, Stderr: "Is a directory\n"})
	host := remote(conn)
	out, err := host.Run(t.Context(), lua.Command{Argv: []string{"uptime"}, Stdin: secret.New("in")})
	require.NoError(t, err)
	require.Equal(t, lua.Output{Stdout: "up\n", Stderr: "warn\n", Exit: 3}, out)
	require.Equal(t, "in", string(conn.Calls()[0].Stdin))

	text, found, err := host.Read(t.Context(), "/etc/x")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "text\n", text)
	_, found, err = host.Read(t.Context(), "/none")
	require.NoError(t, err)
	require.False(t, found)
	_, _, err = host.Read(t.Context(), "/etc")
	require.EqualError(t, err, "pve1: /etc: exit 1: Is a directory")

	require.NoError(t, host.Write(t.Context(), lua.File{Path: "/a", Content: secret.New("b"), Mode: 0o600}))
	require.Len(t, conn.Files(), 1)
	_, err = host.Facts(t.Context())
	require.ErrorContains(t, err, "no facts")
}

func TestRemoteThatMayOnlyLookChangesNothing(t *testing.T) {
	conn := testkit.NewConn(t, "pve1")
	host := remote(transport.ReadOnly(conn))
	_, err := host.Run(t.Context(), lua.Command{Argv: []string{"reboot"}, Mutates: true})
	require.ErrorContains(t, err, "pve1: reboot may change the host, and this script may only look; say changes = false of a command that only reads")
	var refused *transport.ReadOnlyError
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, host.Write(t.Context(), lua.File{Path: "/a"}), "pve1: put /a may change the host")
	require.Empty(t, conn.Calls())
	require.Empty(t, conn.Files())
}

// long is a connection whose every command prints more than is kept.
type long struct{ transport.Conn }

func (long) Run(context.Context, transport.Command) (transport.Result, error) {
	return transport.Result{Stdout: []byte(strings.Repeat("x", 10)), Dropped: 5}, nil
}

func TestOutputThatIsCutIsAnError(t *testing.T) {
	host := remote(long{})
	_, err := host.Run(t.Context(), lua.Command{Argv: []string{"x"}})
	require.EqualError(t, err, "pve1: the command printed more than 1 MiB")
	_, _, err = host.Read(t.Context(), "/x")
	require.EqualError(t, err, "pve1: /x has more than 1 MiB")
}
