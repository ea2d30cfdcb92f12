package upgrade

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/pve/rolling"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/members"
)

// evacuation follows the HA manager while it empties a node.
type evacuation struct {
	node, actor string
	workers     int
	args        drainArgs
	enter       bool
	expected    []rolling.Plan

	begun   time.Time            // by the acting node's clock
	here    map[string]bool      // guests that were on the node then
	started map[string]time.Time // when a guest was first seen on its way
	tries   map[string]int       // how often the manager has tried in vain
	before  map[string]string    // the states of the last look
	told    map[string]bool
}

// The limits of the HA manager's rounds: a command is taken up within ten seconds, the LRM follows within ten, and a new master takes two
// minutes to come up when one has died (reference §5.5, §5.6).
const (
	takeUpWithin = 4 * time.Minute
	lrmFresh     = 30 * time.Second
	// vainTries are how often it may fail to move a guest: it would go on forever.
	vainTries = 3
)

func (f *evacuation) run(ctx context.Context, t module.Target) error {
	f.here, f.started, f.tries, f.before, f.told = map[string]bool{}, map[string]time.Time{}, map[string]int{}, map[string]string{}, map[string]bool{}
	since := nodeTime(ctx, t, f.actor) / 1000
	// A cluster whose HA manager has not run yet has nothing here.
	if s, err := f.read(ctx, t); err == nil {
		f.begun = s.Now
		for sid, svc := range s.Manager.Services {
			f.here[sid] = svc.Node == f.node
		}
	}
	if f.enter {
		argv := []string{"ha-manager", "crm-command", "node-maintenance", "enable", f.node}
		if _, err := members.Run(ctx, t, f.actor, strings.Join(argv, " "), transport.Command{Argv: argv, Timeout: time.Minute}); err != nil {
			return err
		}
	}
	err := t.WaitFor(ctx, module.Condition{Name: "the HA manager has " + f.node + " in maintenance", Timeout: takeUpWithin, Every: 2 * time.Second, Check: func(ctx context.Context) error {
		s, err := f.read(ctx, t)
		if err != nil {
			return err
		}
		f.followAll(ctx, t, s)
		return f.entered(s)
	}})
	if err != nil {
		return f.explain(ctx, t, since, err)
	}
	err = t.WaitFor(ctx, module.Condition{Name: "no HA guest is left on " + f.node, Timeout: f.limit(), Every: 2 * time.Second, Check: func(ctx context.Context) error {
		s, err := f.read(ctx, t)
		if err != nil {
			return err
		}
		return f.left(ctx, t, s)
	}})
	if err != nil {
		return f.explain(ctx, t, since, err)
	}
	return nil
}

func (f *evacuation) read(ctx context.Context, t module.Target) (*ha.State, error) {
	conn, err := t.Conn(ctx, f.actor)
	if err != nil {
		return nil, err
	}
	s, err := ha.Read(ctx, f.actor, conn)
	if err != nil {
		return nil, err
	}
	if !s.Quorate {
		return nil, fmt.Errorf("%s has no quorum: what it remembers is old", f.actor)
	}
	for _, name := range []string{"manager", "lrm", "guests"} {
		if why := s.Unread[name]; why != "" {
			return nil, fmt.Errorf("the HA manager's %s cannot be read on %s: %s", name, f.actor, why)
		}
	}
	if s.Manager == nil {
		return nil, errors.New("no HA master has written yet (look: ha-manager status)")
	}
	return s, nil
}

// pendingMaintenance reports whether a command about a node's maintenance waits for the HA master.
func pendingMaintenance(s *ha.State, node string) bool {
	return slices.ContainsFunc(s.Pending, func(line string) bool {
		words := strings.Fields(line)
		return len(words) > 1 && strings.Contains(line, "maintenance") && words[len(words)-1] == node
	})
}

// entered reports whether the CRM has the node in maintenance; without any service it is enough that its LRM is (reference §5.6).
func (f *evacuation) entered(s *ha.State) error {
	lrm := s.LRMs[f.node]
	switch {
	case pendingMaintenance(s, f.node):
		return errors.New("the command still waits for the HA master (look: ha-manager status)")
	case !slices.Contains(s.Manager.Maintenance, f.node) && s.Manager.Nodes[f.node] != "maintenance":
		return fmt.Errorf("the HA master took the command and does nothing: it has %s as %s (look: ha-manager status; journalctl -u pve-ha-crm on %s)", f.node, s.Manager.Nodes[f.node], s.Manager.Master)
	case s.Manager.Nodes[f.node] == "maintenance":
		return nil
	case len(s.Manager.Services) > 0 || lrm.Mode != "maintenance":
		// That its agent has the mode already is not enough: before the manager has it, no guest is taken away.
		return fmt.Errorf("maintenance is asked for, and the HA manager has %s as %s, its agent in mode %s (look: ha-manager status)", f.node, s.Manager.Nodes[f.node], lrm.Mode)
	}
	return nil
}

// mayStay are the services that are allowed to stay: those that are left by policy, and those that do not run.
func (f *evacuation) mayStay(sid, state string) bool {
	if slices.Contains([]string{"stopped", "freeze", "error", "request_start"}, state) {
		return true
	}
	return slices.ContainsFunc(f.expected, func(p rolling.Plan) bool {
		return p.Fate == rolling.Stays && fmt.Sprintf("%s:%d", p.Kind, p.ID) == sid
	})
}

// left reports what is still on the node, or on its way to it; nil if the LRM has nothing left (reference §5.6).
func (f *evacuation) left(ctx context.Context, t module.Target, s *ha.State) error {
	var here []string
	f.followAll(ctx, t, s)
	for _, sid := range slices.Sorted(maps.Keys(s.Manager.Services)) {
		svc := s.Manager.Services[sid]
		if (svc.Node == f.node || svc.Target == f.node) && !f.mayStay(sid, svc.State) {
			here = append(here, sid+" "+svc.State)
		}
		if f.tries[sid] >= vainTries {
			return module.Fatal(fmt.Errorf("the HA manager has tried %d times to move %s away from %s, and failed", f.tries[sid], sid, f.node))
		}
	}
	if err := f.entered(s); err != nil {
		return err // an agent that is restarted gives the node back for a moment
	}
	if len(here) > 0 {
		return fmt.Errorf("still on it: %s (look: ha-manager status)", strings.Join(here, ", "))
	}
	return f.writes(ctx, t, s)
}

// writes reports whether the node's LRM lives: whether what it has written is young by the clock of its own node.
func (f *evacuation) writes(ctx context.Context, t module.Target, s *ha.State) error {
	const look = "(look: systemctl status pve-ha-lrm on %s)"
	now := nodeTime(ctx, t, f.node)
	if now == 0 {
		return fmt.Errorf("whether its LRM lives is not known: the node does not tell its time "+look, f.node)
	}
	switch age := time.UnixMilli(now).Sub(s.LRMs[f.node].Time); {
	case age > lrmFresh:
		return fmt.Errorf("its LRM has not written for %s "+look, age.Round(time.Second), f.node)
	case age < -lrmFresh:
		return fmt.Errorf("its LRM has last written %s in the future: the node's clock was set back "+look, (-age).Round(time.Second), f.node)
	}
	return nil
}

func (f *evacuation) followAll(ctx context.Context, t module.Target, s *ha.State) {
	for _, sid := range slices.Sorted(maps.Keys(s.Manager.Services)) {
		f.follow(ctx, t, s, sid, s.Manager.Services[sid])
	}
}

// follow notes when a guest sets out, arrives, or is back where it came from.
func (f *evacuation) follow(ctx context.Context, t module.Target, s *ha.State, sid string, svc ha.Service) {
	was := f.before[sid]
	now := svc.State + "@" + svc.Node
	f.before[sid] = now
	moving := svc.State == "migrate" || svc.State == "relocate"
	switch {
	case moving && svc.Node == f.node && f.started[sid].IsZero():
		f.started[sid] = s.Now
	case !moving && svc.Node == f.node && (strings.HasPrefix(was, "migrate@") || strings.HasPrefix(was, "relocate@")):
		f.tries[sid]++
		t.Record(f.node, module.Moved{Guest: f.name(s, sid), From: f.node, To: svc.Target, Way: "ha", Why: "drain", Error: "the HA manager tried and failed"})
	case svc.Node != f.node && f.here[sid] && !moving && !f.told[sid]:
		f.told[sid] = true
		set := f.started[sid]
		if set.IsZero() {
			set = f.begun // it went between two looks
		}
		took := s.Now.Sub(set)
		t.Record(f.node, module.Moved{Guest: f.name(s, sid), From: f.node, To: svc.Node, Way: "ha", Why: "drain", Took: took})
		if strings.HasPrefix(sid, "ct:") {
			t.Record(svc.Node, module.Downtime{Guest: f.name(s, sid), How: "restarted", Took: took})
		} else if frozen := f.frozen(ctx, t, sid); frozen > 0 {
			t.Record(svc.Node, module.Downtime{Guest: f.name(s, sid), How: "live", Took: frozen})
		}
	}
}

func (f *evacuation) name(s *ha.State, sid string) string {
	kind, id, _ := strings.Cut(sid, ":")
	for _, g := range s.Guests {
		if g.SID == sid && g.Name != "" {
			return fmt.Sprintf("%s %s (%s)", kind, id, g.Name)
		}
	}
	return kind + " " + id
}

// frozen is how long a machine stood still at the end of its last live move, by the log of the task on the node that it left.
func (f *evacuation) frozen(ctx context.Context, t module.Target, sid string) time.Duration {
	conn, err := t.Conn(ctx, f.node)
	if err != nil {
		return 0
	}
	const script = `id=$(grep -E ":qmigrate:$1:" /var/log/pve/tasks/index | tail -n 1 | cut -d' ' -f1)
[ -n "$id" ] || exit 0
start=$(echo "$id" | cut -d: -f5)
grep -o 'downtime [0-9]* ms' "/var/log/pve/tasks/${start#"${start%?}"}/$id" | tail -n 1 | tr -cd 0-9`
	r, err := conn.Run(ctx, transport.Command{Script: script, Argv: []string{strings.TrimPrefix(sid, "vm:")}, Timeout: 20 * time.Second})
	if err != nil {
		return 0
	}
	ms, _ := strconv.Atoi(r.Out())
	return time.Duration(ms) * time.Millisecond
}

// limit is how long the HA manager may take: what the moves take after each other by as many as go at once, twice, and its rounds.
func (f *evacuation) limit() time.Duration {
	total := 0.0
	for _, p := range f.expected {
		if p.ByHA && p.Fate == rolling.Moves {
			total += p.Seconds
		}
	}
	reckoned := 10*time.Minute + 2*time.Duration(total/float64(max(f.workers, 1))*float64(time.Second))
	return min(max(reckoned, 10*time.Minute), f.args.Move+10*time.Minute)
}

// explain adds what the HA manager's journal says of the node and its guests.
func (f *evacuation) explain(ctx context.Context, t module.Target, since int64, err error) error {
	if ctx.Err() != nil {
		return err
	}
	var said []string
	for _, host := range []string{f.node, f.actor} {
		conn, failed := t.Conn(ctx, host)
		if failed != nil {
			continue
		}
		r, failed := conn.Run(ctx, transport.Command{
			Argv: []string{"journalctl", "-u", "pve-ha-crm", "-u", "pve-ha-lrm", "--no-pager", "-q", "-o", "cat", "-n", "100", "--since", "@" + strconv.FormatInt(since, 10)}, Timeout: 30 * time.Second,
		})
		if failed != nil {
			continue
		}
		for line := range strings.Lines(string(r.Stdout)) {
			line = strings.TrimSpace(line)
			telling := strings.Contains(line, "error") || strings.Contains(line, "fail") || strings.Contains(line, "ignor")
			if telling && !slices.Contains(said, host+": "+line) {
				said = append(said, host+": "+line)
			}
		}
	}
	const most = 6
	if len(said) > most {
		said = said[len(said)-most:]
	}
	if len(said) == 0 {
		return fmt.Errorf("%w\n  look: ha-manager status; journalctl -u pve-ha-crm -u pve-ha-lrm", err)
	}
	return fmt.Errorf("%w\n  the HA manager says:\n  %s", err, strings.Join(said, "\n  "))
}
