package cluster

import (
	"context"
	"fmt"

	"github.com/pxrun/pxrun/lab/machine"
)

// keygen is the program corosync-keygen.
func (n *Node) keygen(_ context.Context, p *machine.Proc) int {
	path := authkeyPath
	for i, arg := range p.Args() {
		switch arg {
		case "-k", "-lk":
			if i+1 < len(p.Args()) {
				path = p.Args()[i+1]
			}
		case "-l", "-r", "-s":
		}
	}
	if p.UID != 0 {
		fmt.Fprintln(p.Stderr, "Please run as root")
		return 1
	}
	p.Println("Corosync Cluster Engine Authentication key generator.")
	p.Println("Gathering 2048 bits for key from /dev/urandom.")
	key := make([]byte, 256)
	n.m.Random(key)
	if err := writeFile(p, path, key, 0o400); err != nil {
		fmt.Fprintf(p.Stderr, "Could not create %s: %s\n", path, machine.Reason(err))
		return 1
	}
	p.Printf("Writing corosync key to %s.\n", path)
	return 0
}
