package ha

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
)

// before is how a node and its cluster were when its power was cut, to be compared with afterwards.
type before struct {
	node string
	boot string // the node's boot id; "" where it did not answer
	// member says that the node is one of the cluster's, and others which of the other members took part.
	member bool
	others []string
}

func (d device) before(ctx context.Context, t module.Target) before {
	b := before{node: d.node}
	b.boot, _ = bootID(ctx, t, d.node) // one that does not answer has none to compare with
	if t.Cluster() == nil {
		return b
	}
	members := pve.MembersOf(pve.ReadCluster(ctx, t.Cluster().Nodes, pve.Options{Brief: true}, t.Conn), t.Cluster().Name)
	if conf := pve.NewestConf(members); conf != nil {
		b.member = slices.Contains(conf.Names(), d.node)
	}
	for _, m := range members {
		if m.Host != d.node && m.Writable {
			b.others = append(b.others, m.Host)
		}
	}
	return b
}

// gone waits until the cut is seen at the node itself, whatever its controller says.
func (b before) gone(ctx context.Context, t module.Target, args fenceDeviceArgs) error {
	if b.boot == "" {
		return nil
	}
	err := t.WaitFor(ctx, module.Condition{
		Name: b.node + " has lost its power", Timeout: args.PowerWait, Every: 2 * time.Second,
		Check: func(ctx context.Context) error {
			asked, cancel := context.WithTimeout(ctx, answerTime)
			defer cancel()
			if now, err := bootID(asked, t, b.node); err == nil && now == b.boot {
				return errors.New("it goes on running: its boot id is what it was")
			}
			return nil
		},
	})
	if err == nil {
		return nil
	}
	hit := "no other node of the cluster went away"
	if away := b.away(ctx, t); len(away) > 0 {
		hit = "meanwhile " + strings.Join(away, ", ") + " went away"
	}
	return fmt.Errorf("the controller at %s says that it did it, and it was not %s that it cut (%s; look on %s: ipmitool lan print, uptime): %w", args.Address, b.node, hit, b.node, err)
}

// answerTime is how long a node that runs may take to tell its boot id. What has no power never answers.
const answerTime = 10 * time.Second

// away lists those of the others that do not take part any more.
func (b before) away(ctx context.Context, t module.Target) []string {
	var away []string
	for _, s := range pve.ReadCluster(ctx, b.others, pve.Options{Brief: true}, t.Conn) {
		if s.Err != nil || !s.Writable {
			away = append(away, s.Host)
		}
	}
	return away
}

// back waits until the node has restarted and takes part again, as every member sees it that did before.
func (b before) back(ctx context.Context, t module.Target, timeout time.Duration) error {
	name := b.node + " has restarted"
	if b.member {
		name += " and is in the cluster again, which is quorate on every node"
	}
	return t.WaitFor(ctx, module.Condition{
		Name: name, Timeout: timeout, Every: 5 * time.Second,
		Check: func(ctx context.Context) error {
			now, err := bootID(ctx, t, b.node)
			switch {
			case err != nil:
				return err
			case now == b.boot:
				return fmt.Errorf("%s has not restarted: its boot id is what it was", b.node)
			case !b.member:
				return nil
			}
			states := pve.ReadCluster(ctx, append([]string{b.node}, b.others...), pve.Options{Brief: true}, t.Conn)
			if missing := pve.JoinedEverywhere(b.node, states); len(missing) > 0 {
				return errors.New(strings.Join(missing, "; "))
			}
			return nil
		},
	})
}
