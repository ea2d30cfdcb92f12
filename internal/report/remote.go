package report

import (
	"fmt"
	"strings"

	"github.com/pxrun/pxrun/engine/event"
)

// Connected is the line that tells of a connection.
func (l Look) Connected(host string, b event.HostConnected) string {
	return l.paint(dim, fmt.Sprintf("%s connected to %s in %s", pad(host, 8), b.Address, Duration(b.Duration)))
}

// Command is the line that tells of a remote command and how long it took: $ reads, # may change something.
func (l Look) Command(host string, b event.CommandRan) string {
	mark := "$"
	if b.Mutates {
		mark = "#"
	}
	end := Duration(b.Duration)
	if b.Cached {
		end = "read ahead"
	}
	switch {
	case b.Exit < 0:
		end = "no end after " + end
	case b.Exit > 0:
		end = fmt.Sprintf("exit %d, %s", b.Exit, end)
	}
	end = " (" + end + ")"
	text := Clean(strings.ReplaceAll(b.Command, "\n", "; "))
	return l.paint(dim, fmt.Sprintf("%s %s %s", pad(host, 8), mark, l.fit(text, l.Width-12-len(end)))+end)
}
