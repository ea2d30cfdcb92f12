package ceph

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ceph"
	"github.com/pxrun/pxrun/internal/transport"
)

const (
	// A lock of pmxcfs whose holder was killed goes away by itself after two minutes: a command that did not get it is worth
	// repeating for a little longer (reference §1.8).
	lockWait  = 130 * time.Second
	lockPause = 5 * time.Second
	// quickTimeout is for commands that write something and end, daemonTimeout for those that make or start a daemon.
	quickTimeout  = 60 * time.Second
	daemonTimeout = 5 * time.Minute
	statusTimeout = 25 * time.Second
)

// locked reports whether a command failed only because somebody else held a lock.
func locked(err error) bool {
	return strings.Contains(err.Error(), "got lock request timeout") || strings.Contains(err.Error(), "got timeout")
}

// patiently repeats something that failed for a lock.
func patiently(ctx context.Context, t module.Target, do func() error) error {
	for waited := time.Duration(0); ; waited += lockPause {
		err := do()
		if err == nil || !locked(err) || waited >= lockWait {
			return err
		}
		if err := t.Sleep(ctx, lockPause); err != nil {
			return err
		}
	}
}

// run runs a command that ends soon. Its exit status is an error, and no more than a hint: the caller reads the state.
func run(ctx context.Context, t module.Target, host string, argv ...string) error {
	return patiently(ctx, t, func() error {
		_, err := output(ctx, t, host, transport.Command{Argv: argv, Mutates: true, Timeout: quickTimeout})
		return err
	})
}

// ask asks the monitors something. A status other than 0 is an error.
func ask(ctx context.Context, t module.Target, host string, question ...string) error {
	argv := append([]string{"timeout", "-k", "2", "15", "ceph", "--connect-timeout", "10"}, question...)
	_, err := output(ctx, t, host, transport.Command{Argv: argv, Timeout: statusTimeout})
	return err
}

// tell has the monitors change something. The ceph program hangs for minutes without a quorum, so it is bounded.
func tell(ctx context.Context, t module.Target, host string, command ...string) error {
	argv := append([]string{"timeout", "-k", "2", "30", "ceph", "--connect-timeout", "10"}, command...)
	if err := run(ctx, t, host, argv...); err != nil {
		return fmt.Errorf("%s: ceph %s: %s", host, strings.Join(command, " "), said(err))
	}
	return nil
}

func output(ctx context.Context, t module.Target, host string, c transport.Command) (transport.Result, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return transport.Result{}, err
	}
	r, err := conn.Run(ctx, c)
	if err != nil {
		return r, err
	}
	return r, r.Err(c)
}

// work runs a command detached from the connection: tasks of Proxmox die with the session that started them
// (reference §1.4).
func work(ctx context.Context, t module.Target, host string, j module.Job) error {
	return patiently(ctx, t, func() error {
		r, err := t.Detach(ctx, host, j)
		if err != nil {
			return err
		}
		return r.Err(j.Command)
	})
}

// tool is a job that runs one of Proxmox's programs.
func tool(name string, timeout time.Duration, argv ...string) module.Job {
	return module.Job{Name: name, Timeout: timeout, Command: transport.Command{Script: "cd / && exec \"$@\"", Argv: argv, Mutates: true}}
}

// said is a command's failure in the words that it printed.
func said(err error) string {
	if e, ok := errors.AsType[*transport.ExitError](err); ok {
		for _, text := range []string{e.Stderr, e.Stdout} {
			lines := strings.Split(strings.TrimSpace(text), "\n")
			if last := lines[len(lines)-1]; last != "" {
				return last
			}
		}
		return fmt.Sprintf("exit %d", e.Exit)
	}
	return err.Error()
}

// readCluster and readNode read anew while acting.
func readCluster(ctx context.Context, t module.Target, host string) (*ceph.Cluster, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return nil, err
	}
	c, err := ceph.ReadCluster(ctx, host, conn)
	if err != nil {
		return nil, err
	}
	if !c.Answers {
		return nil, fmt.Errorf("%s: %s (look: timeout 15 ceph --connect-timeout 10 -s)", host, c.Silence)
	}
	return c, nil
}

func readNode(ctx context.Context, t module.Target, host string) (*ceph.Node, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return nil, err
	}
	n := ceph.ReadNode(ctx, host, conn)
	return n, n.Err
}

// status asks for the health alone.
func status(ctx context.Context, t module.Target, host string) (*ceph.Status, error) {
	r, err := output(ctx, t, host, ceph.StatusCommand(statusTimeout))
	if err != nil {
		return nil, fmt.Errorf("%s: ceph -s: %s", host, said(err))
	}
	return ceph.StatusOf(r.Stdout)
}

// await waits until the state of the Ceph cluster is as it should be; missing says what is not.
func await(ctx context.Context, t module.Target, name, host string, timeout time.Duration, missing func(*ceph.Cluster) string) error {
	return t.WaitFor(ctx, module.Condition{Name: name, Timeout: timeout, Check: func(ctx context.Context) error {
		c, err := readCluster(ctx, t, host)
		if err != nil {
			return err
		}
		if why := missing(c); why != "" {
			return errors.New(why)
		}
		return nil
	}})
}

// awaitHealth waits until placement groups are clean, or at least serving.
func awaitHealth(ctx context.Context, t module.Target, host string, timeout time.Duration, clean bool) error {
	name, missing := "all placement groups are active and clean", (*ceph.Status).Clean
	if !clean {
		name, missing = "all placement groups are active", (*ceph.Status).Serving
	}
	return t.WaitFor(ctx, module.Condition{Name: name, Timeout: timeout, Check: func(ctx context.Context) error {
		s, err := status(ctx, t, host)
		if err != nil {
			return err
		}
		if why := missing(s); why != "" {
			return fmt.Errorf("%s (look: ceph -s; ceph health detail)", why)
		}
		return nil
	}})
}
