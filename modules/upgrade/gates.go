package upgrade

import (
	"encoding/json"
	"time"

	"context"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/gates"
)

// gateOptions say what a gate lets pass: see gates.Options. Gate and Away need not be filled in.
type gateOptions = gates.Options

// mayGoDown reads, right before a disruptive act, everything that says whether a node may be down: quorum without it, the other
// nodes, corosync's links, the HA manager, Ceph, tasks in progress and, with o.Empty, running guests. Those that are under way in
// the same rolling block count as gone. The readings are recorded. No refusal means yes; what could not be read is a refusal.
func mayGoDown(ctx context.Context, t module.Target, node string, o gateOptions) (module.Refusals, error) {
	return gates.Check(ctx, t, node, inBlock(t, node, o))
}

// inBlock fills in what the target knows.
func inBlock(t module.Target, node string, o gateOptions) gateOptions {
	if b := t.Block(); b != nil && o.Away == nil {
		o.Away = b.Away
	}
	if o.Gate == "" {
		o.Gate = "take " + node + " down"
	}
	return o
}

// ledgerProbe reads what drain has written on the node of what it did there.
var ledgerProbe = transport.Command{Argv: []string{"cat", notesDir + "/rolling.json"}, Timeout: 20 * time.Second}

// fromLedger takes what the gates must know of it: whether this run, or one before it that was cut off, has set noout for the node's
// OSDs, and which guests were left running there by their policy.
func fromLedger(ctx context.Context, t module.Target, node string) (noout bool, left []string) {
	conn, err := t.Conn(ctx, node)
	if err != nil {
		return false, nil
	}
	r, err := conn.Run(ctx, ledgerProbe)
	if err != nil || r.Exit != 0 {
		return false, nil
	}
	var written struct {
		Noout  bool `json:"noout"`
		Guests []struct {
			SID  string `json:"sid"`
			Fate string `json:"fate"`
		} `json:"guests"`
	}
	if json.Unmarshal(r.Stdout, &written) != nil {
		return false, nil
	}
	for _, g := range written.Guests {
		if g.Fate == "left" {
			left = append(left, g.SID)
		}
	}
	return written.Noout, left
}
