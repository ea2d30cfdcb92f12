package cli

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// Streams is the world outside as the commands see it. Nothing in this package uses the process's own.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	// InTerminal says that a person can answer questions; OutTerminal that Out understands cursor movement.
	InTerminal, OutTerminal, ErrTerminal bool
	// Width tells how many columns the terminal has; 0 if that is not known.
	Width func() int
	// Height tells how many lines the terminal has; nil or 0 if that is not known.
	Height func() int
	// Environ is the environment as os.Environ gives it.
	Environ []string
	// Home is the user's home directory, "" if there is none.
	Home string
	Now  func() time.Time
	// ReadSecret reads a line from the terminal without showing it.
	ReadSecret func() (string, error)
	// Dial opens network connections to hosts; nil means the real network.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Signals starts the delivery of interrupts to a channel; stop ends it.
	Signals func(chan<- os.Signal) (stop func())
}

// SystemStreams are those of the process.
func SystemStreams() Streams {
	home, err := os.UserHomeDir()
	if err != nil {
		home = ""
	}
	return Streams{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr,
		InTerminal: term.IsTerminal(int(os.Stdin.Fd())), OutTerminal: term.IsTerminal(int(os.Stdout.Fd())), ErrTerminal: term.IsTerminal(int(os.Stderr.Fd())),
		Width: func() int {
			width, _, err := term.GetSize(int(os.Stdout.Fd()))
			if err != nil {
				return 0
			}
			return width
		},
		Height: func() int {
			_, height, err := term.GetSize(int(os.Stdout.Fd()))
			if err != nil {
				return 0
			}
			return height
		},
		Environ: os.Environ(), Home: home, Now: time.Now,
		ReadSecret: func() (string, error) {
			line, err := term.ReadPassword(int(os.Stdin.Fd()))
			return string(line), err
		},
		Signals: notifySignals,
	}
}

// Env looks a variable of the environment up.
func (s Streams) Env(name string) string {
	for _, entry := range s.Environ {
		if key, value, ok := strings.Cut(entry, "="); ok && key == name {
			return value
		}
	}
	return ""
}

// utf8 reports whether the locale says that more than ASCII can be shown.
func (s Streams) utf8() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := s.Env(name); value != "" {
			value = strings.ToUpper(value)
			return strings.Contains(value, "UTF-8") || strings.Contains(value, "UTF8")
		}
	}
	return false
}
