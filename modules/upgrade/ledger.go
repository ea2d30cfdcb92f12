package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/health"
	"github.com/pxrun/pxrun/internal/transport"
)

// ledger is what drain writes on a node before it touches it, and release works off: what was where, and what was set. It lies
// on the node's own disk, so that it outlives a restart of the node and the end of pxrun.
type ledger struct {
	Run   string `json:"run"`
	Node  string `json:"node"`
	Since int64  `json:"since"` // seconds since 1970, by the node's clock
	// Home says which guests come home: never, moved or balanced.
	Home string `json:"home"`
	// Maintenance says that maintenance was asked for by pxrun, Noout that it has set noout, for NooutHosts of the CRUSH map.
	Maintenance bool          `json:"maintenance,omitempty"`
	Noout       bool          `json:"noout,omitempty"`
	NooutHosts  []string      `json:"noout_hosts,omitempty"`
	NooutFrom   string        `json:"noout_from,omitempty"` // the node on which the notes of it lie
	Guests      []ledgerGuest `json:"guests"`
}

// ledgerGuest is a guest that ran on the node, and what was decided for it.
type ledgerGuest struct {
	SID   string `json:"sid"` // vm:100
	Guest string `json:"guest"`
	// Fate is moved, ha (moved by the HA manager), stopped or left.
	Fate string `json:"fate"`
	To   string `json:"to,omitempty"`
	// State is what the HA manager was told to hold the guest in; "" for a guest that is not under HA.
	State string `json:"state,omitempty"`
}

// The fates of guests in a ledger.
const (
	fateMoved   = "moved"
	fateHA      = "ha"
	fateStopped = "stopped"
	fateLeft    = "left"
)

const ledgerFile = health.OutOfService

// noouts are the hosts of the CRUSH map for which pxrun has set noout.
func (l *ledger) noouts() []string {
	if l == nil || !l.Noout {
		return nil
	}
	return l.NooutHosts
}

// find finds a guest by its id in the HA manager.
func (l *ledger) find(sid string) (ledgerGuest, bool) {
	if l == nil {
		return ledgerGuest{}, false
	}
	i := slices.IndexFunc(l.Guests, func(g ledgerGuest) bool { return g.SID == sid })
	if i < 0 {
		return ledgerGuest{}, false
	}
	return l.Guests[i], true
}

// with is the ledger after a decision about guests that are on the node now. What was decided for those that have left stays.
func (l ledger) with(guests []ledgerGuest) ledger {
	kept := slices.DeleteFunc(slices.Clone(l.Guests), func(g ledgerGuest) bool {
		return slices.ContainsFunc(guests, func(n ledgerGuest) bool { return n.SID == g.SID })
	})
	l.Guests = append(kept, guests...)
	return l
}

// readLedger reads the ledger of a node; nil if there is none.
func readLedger(ctx context.Context, t module.Target, node string) (*ledger, error) {
	conn, err := t.Conn(ctx, node)
	if err != nil {
		return nil, err
	}
	r, err := conn.Run(ctx, transport.Command{Script: `[ -e "$1" ] || exit 0; cat "$1"`, Argv: []string{ledgerFile}, Timeout: 20 * time.Second})
	if err != nil {
		return nil, fmt.Errorf("%s: read %s: %w", node, ledgerFile, err)
	}
	if r.Exit != 0 {
		return nil, fmt.Errorf("%s: read %s: %s", node, ledgerFile, string(r.Stderr))
	}
	if len(r.Stdout) == 0 {
		return nil, nil
	}
	var l ledger
	if err := json.Unmarshal(r.Stdout, &l); err != nil {
		return nil, fmt.Errorf("%s: %s makes no sense: %w\n  look: cat %s\n  next: see what a run has left (pxrun status), then remove the file", node, ledgerFile, err, ledgerFile)
	}
	return &l, nil
}

const writeLedgerScript = `umask 077
mkdir -p ` + notesDir + ` && cat >"$1.new" && sync && mv "$1.new" "$1"`

func writeLedger(ctx context.Context, t module.Target, l ledger) error {
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	return runOn(ctx, t, l.Node, "write down what runs where", transport.Command{
		Script: writeLedgerScript, Argv: []string{ledgerFile}, Stdin: append(data, '\n'), Mutates: true, Timeout: 30 * time.Second,
	})
}

func dropLedger(ctx context.Context, t module.Target, node string) error {
	return runOn(ctx, t, node, "forget what ran where", transport.Command{Script: dropLedgerScript, Mutates: true, Timeout: 30 * time.Second})
}

const dropLedgerScript = `rm -f ` + ledgerFile + ` ` + stoppedNotes + `*`

// stoppedNotes is where the time is noted at which a guest was stopped, one file for each.
const stoppedNotes = notesDir + "/stopped-"

var errNoCluster = errors.New(`the runbook names no cluster: write "cluster = cluster.<name>" in it`)
