package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// pmxcfsProgram is pmxcfs started by hand, as in `pmxcfs -l`: with -l it is writable without quorum. It goes into the
// background, where killing it unmounts /etc/pve; with -f it stays in the foreground.
func (n *Node) pmxcfsProgram(ctx context.Context, p *machine.Proc) int {
	local, foreground := false, false
	for _, arg := range p.Args() {
		switch arg {
		case "-l", "--local":
			local = true
		case "-f", "--foreground":
			foreground = true
		case "-lf", "-fl":
			local, foreground = true, true
		case "-h", "--help":
			p.Println("Usage:\n  pmxcfs [OPTION...]")
			return 0
		}
	}
	if n.mounted() {
		fmt.Fprintln(p.Stderr, "[main] notice: unable to acquire pmxcfs lock - trying again\n[main] crit: unable to acquire pmxcfs lock: Resource temporarily unavailable")
		return pvetool.ExitDie
	}
	if foreground {
		if err := n.startPmxcfs(ctx, local); err != nil {
			return pvetool.Die(p, pvetool.ExitDie, "%v", err)
		}
		<-ctx.Done()
		_ = n.stopPmxcfs(ctx) // not mounted any more is as good
		return pvetool.ExitKilled
	}
	if local {
		fmt.Fprintln(p.Stderr, "[main] notice: forcing local mode (although corosync.conf exists)")
	}
	argv := []string{"pmxcfs", "-f"}
	if local {
		argv = append(argv, "-l")
	}
	daemon := machine.Proc{Argv: argv, Env: p.Env, Tag: p.Tag}
	n.w.clock.AfterFunc(0, func() { n.m.Exec(context.WithoutCancel(ctx), daemon) })
	const look, patience = 50 * time.Millisecond, 100
	for i := 0; i < patience && !n.mounted(); i++ {
		if n.w.clock.Sleep(ctx, look) != nil {
			return pvetool.ExitDie
		}
	}
	return 0
}
