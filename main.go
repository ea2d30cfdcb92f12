// Command pxrun runs declarative runbooks against Proxmox VE clusters.
package main

import (
	"os"
	"runtime/debug"

	"github.com/pxrun/pxrun/cli"
)

// gcPercent makes the collector run earlier than usual. pxrun waits for hosts most of the time, so the processor has room
// for it, and a controller of many hosts stays small.
const gcPercent = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	os.Exit(cli.Main(os.Args[1:], cli.SystemStreams()))
}
