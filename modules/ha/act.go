package ha

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/transport"
)

// A lock of pmxcfs whose holder was killed goes away by itself after two minutes: a command that did not get it is worth
// repeating for a little longer (reference §1.8).
const (
	lockWait       = 130 * time.Second
	commandTimeout = 60 * time.Second
)

// manager runs ha-manager on the acting node. Its own exit status can be relied on: it works in the foreground.
func manager(ctx context.Context, t module.Target, host string, args ...string) error {
	argv := append([]string{"ha-manager"}, args...)
	var failed error // for good: no wait would mend it, and it needs no word about one
	err := t.WaitFor(ctx, module.Condition{
		Name: host + ": " + strings.Join(argv, " "), Timeout: lockWait,
		Check: func(ctx context.Context) error {
			conn, err := t.Conn(ctx, host)
			if err != nil {
				return err
			}
			command := transport.Command{Argv: argv, Mutates: true, Timeout: commandTimeout}
			r, err := conn.Run(ctx, command)
			if err == nil {
				err = r.Err(command)
			}
			if err == nil || strings.Contains(err.Error(), "got lock request timeout") || strings.Contains(err.Error(), "got timeout") {
				return err
			}
			failed = fmt.Errorf("%s: %w", host, err)
			return nil
		},
	})
	if err == nil {
		err = failed
	}
	return err
}

// read reads the HA files of the acting node anew.
func read(ctx context.Context, t module.Target, host string) (*ha.State, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return nil, err
	}
	return ha.Read(ctx, host, conn)
}

// await waits until the CRM has brought a service where its requested state wants it.
func await(ctx context.Context, t module.Target, host, sid, state string, timeout time.Duration) error {
	return t.WaitFor(ctx, module.Condition{
		Name: fmt.Sprintf("the HA manager has %s %s", sid, state), Timeout: timeout, Every: 2 * time.Second,
		Check: func(ctx context.Context) error {
			s, err := read(ctx, t, host)
			if err != nil {
				return err
			}
			return settled(s, sid, state)
		},
	})
}

// settled says what is missing until a service is as its requested state wants it.
func settled(s *ha.State, sid, state string) error {
	v, there := s.Service(sid)
	switch {
	case state == "ignored" && !there:
		return nil
	case !there:
		return errors.New("the CRM does not have it yet (look: ha-manager status)")
	case v.State == "error":
		return module.Fatal(fmt.Errorf("it is in state error on %s: mend the cause, set it to disabled, then to started again (look: ha-manager status)", v.Node))
	case state == "started" && v.State == "started" && v.Running, state == "ignored":
		return nil
	case v.State == "started" && state == "started":
		return fmt.Errorf("it is being started on %s (look: ha-manager status)", v.Node)
	case (state == "stopped" || state == "disabled") && v.State == "stopped":
		return nil
	}
	return fmt.Errorf("it is in state %s on %s (look: ha-manager status)", v.State, v.Node)
}

// awaitNodes waits until the CRM knows all nodes: before its first round it takes a cluster to have none, and refuses rules
// that keep resources apart (reference §5.2).
func awaitNodes(ctx context.Context, t module.Target, host string, timeout time.Duration) error {
	return t.WaitFor(ctx, module.Condition{
		Name: "the HA manager knows all nodes", Timeout: timeout, Every: 2 * time.Second,
		Check: func(ctx context.Context) error {
			s, err := read(ctx, t, host)
			if err != nil {
				return err
			}
			if s.Manager == nil {
				return errors.New("no CRM has run yet (look: ha-manager status)")
			}
			for _, name := range t.Cluster().Nodes {
				if _, known := s.Manager.Nodes[name]; !known && slices.Contains(sortedLRMs(s), name) {
					return fmt.Errorf("the CRM does not know %s yet", name)
				}
			}
			return nil
		},
	})
}

func sortedLRMs(s *ha.State) []string {
	var names []string
	for name := range s.LRMs {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// awaitRules waits until Proxmox VE 9 has made rules of its groups, which it does by itself.
func awaitRules(ctx context.Context, t module.Target, host string, timeout time.Duration) error {
	return t.WaitFor(ctx, module.Condition{
		Name: "Proxmox VE has made rules of its HA groups", Timeout: timeout, Every: 5 * time.Second,
		Check: func(ctx context.Context) error {
			s, err := read(ctx, t, host)
			if err != nil {
				return err
			}
			if len(s.Groups) > 0 {
				return errors.New("groups.cfg still holds groups: every node must be online, on version 9, and none in maintenance (look: journalctl -u pve-ha-crm, ha-manager status)")
			}
			return nil
		},
	})
}
