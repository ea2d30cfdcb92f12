package sshx

import (
	"testing"

	"github.com/pxrun/pxrun/internal/testkit"
	"github.com/pxrun/pxrun/internal/transport"
)

func TestSSHIsAConnection(t *testing.T) {
	s := newServer(t).serve()
	d := dialer(t, Config{}, s)
	testkit.TestConn(t, func(t *testing.T) transport.Conn {
		c, err := d.Dial(t.Context(), s.host())
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}
