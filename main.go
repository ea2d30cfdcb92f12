// Command pxrun runs declarative runbooks against Proxmox VE clusters.
package main

import (
	"os"

	"github.com/pxrun/pxrun/cli"
)

func main() {
	if os.Getenv("GOGC") == "" {
		keepSmall()
	}
	os.Exit(cli.Main(os.Args[1:], cli.SystemStreams()))
}
