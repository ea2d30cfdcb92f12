package ha

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/ha"
	"github.com/pxrun/pxrun/internal/transport"
)

// drill is one run: who is cut off, who is watched from, and what was measured.
type drill struct {
	args    failoverDrillArgs
	node    string
	watcher string
	guests  []string
	start   time.Time
	took    map[string]time.Duration
	boot    string // the node's boot id before it was cut off
}

// runDrill reads the gates again, cuts the node off, measures, and brings the node back whatever was measured.
func runDrill(ctx context.Context, t module.Target, args failoverDrillArgs, turns *turns) (err error) {
	mine, err := turns.take(ctx, t, args.Node[0], args.GiveUp+args.Return)
	if err != nil {
		return err
	}
	returned := false
	defer func() { mine.end(returned) }()
	changes, err := planDrill(ctx, t, args, turns)
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		return errors.New("there is nothing to measure any more")
	}
	w, err := look(ctx, t)
	if err != nil {
		return err
	}
	d := &drill{args: args, node: args.Node[0], guests: w.startedOn(args.Node[0]), took: map[string]time.Duration{}}
	if err := d.chooseWatcher(ctx, t); err != nil {
		return err
	}
	if d.boot, err = bootID(ctx, t, d.node); err != nil {
		return err
	}
	mine.begin()
	if err := d.cut(ctx, t); err != nil {
		back := d.bringBack(ctx, t)
		returned = back == nil
		return errors.Join(err, back)
	}
	measured := d.measure(ctx, t)
	d.tell(t)
	if back := d.bringBack(ctx, t); back != nil {
		return errors.Join(measured, back)
	}
	returned = true
	if measured != nil {
		return measured
	}
	return d.judge()
}

// chooseWatcher takes a quorate member other than the node that is cut off.
func (d *drill) chooseWatcher(ctx context.Context, t module.Target) error {
	for _, name := range t.Cluster().Nodes {
		if name == d.node {
			continue
		}
		s, err := read(ctx, t, name)
		if err == nil && s.Quorate && !s.Now.IsZero() {
			d.watcher, d.start = name, s.Now
			return nil
		}
	}
	return errors.New("no other node is quorate and answers: nobody could watch")
}

// cut takes the node away. What is measured begins here.
func (d *drill) cut(ctx context.Context, t module.Target) error {
	if s, err := read(ctx, t, d.watcher); err == nil && !s.Now.IsZero() {
		d.start = s.Now
	}
	if d.args.Fence != nil {
		dev, err := deviceOf(ctx, t, d.node, d.args.Fence.args())
		if err != nil {
			return err
		}
		return dev.switchTo(ctx, t, "off", "off")
	}
	conn, err := t.Conn(ctx, d.node)
	if err != nil {
		return err
	}
	command := transport.Command{Argv: []string{"systemctl", "stop", "corosync"}, Mutates: true, Timeout: time.Minute}
	r, err := conn.Run(ctx, command)
	if _, lost := errors.AsType[*transport.LostError](err); lost {
		return nil // whether it stopped is seen from outside
	}
	if err == nil {
		err = r.Err(command)
	}
	return err
}

// measure waits until every guest runs elsewhere, and notes when each did, by the watcher's clock.
func (d *drill) measure(ctx context.Context, t module.Target) error {
	return t.WaitFor(ctx, module.Condition{
		Name: fmt.Sprintf("the HA guests of %s run elsewhere", d.node), Timeout: d.args.GiveUp, Every: time.Second,
		Check: func(ctx context.Context) error {
			s, err := read(ctx, t, d.watcher)
			if err != nil {
				return err
			}
			return d.note(s, func(text string) { t.Log(d.watcher, text) })
		},
	})
}

// note records who runs elsewhere now. The error says who does not yet.
func (d *drill) note(s *ha.State, log func(string)) error {
	var waiting []string
	for _, sid := range d.guests {
		if _, done := d.took[sid]; done {
			continue
		}
		v, ok := s.Service(sid)
		g, _ := s.Guest(sid)
		if ok && v.State == "started" && v.Running && v.Node != d.node && g.Node == v.Node {
			d.took[sid] = s.Now.Sub(d.start)
			log(fmt.Sprintf("%s runs on %s after %s", sid, v.Node, d.took[sid]))
			continue
		}
		waiting = append(waiting, fmt.Sprintf("%s is %s on %s", sid, v.State, v.Node))
	}
	if len(waiting) > 0 {
		return errors.New(strings.Join(waiting, ", "))
	}
	return nil
}

// bringBack waits until the node is a whole member again. A node without quorum restarts itself by its watchdog after a
// minute; one that held no HA guest any more does not, and gets its corosync back. That the task's time is over, or the run
// was stopped, is no reason to leave a node without power.
func (d *drill) bringBack(ctx context.Context, t module.Target) error {
	if d.args.Fence != nil {
		if err := d.powerOn(ctx, t); err != nil {
			return fmt.Errorf("%s stays off (switch it on: fence_device with power = \"on\", or at its controller %s): %w", d.node, d.args.Fence.Address, err)
		}
	}
	return t.WaitFor(ctx, module.Condition{
		Name: d.node + " is a whole member again", Timeout: d.args.Return, Every: 5 * time.Second,
		Check: func(ctx context.Context) error { return d.back(ctx, t) },
	})
}

func (d *drill) powerOn(ctx context.Context, t module.Target) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), powerTimeout)
	defer cancel()
	dev, err := deviceOf(ctx, t, d.node, d.args.Fence.args())
	if err != nil {
		return err
	}
	return dev.switchTo(ctx, t, "on", "on")
}

// powerTimeout bounds switching the power on again: two questions and what the controller takes.
const powerTimeout = 3 * time.Minute

// bootID tells one boot of a node from the next.
func bootID(ctx context.Context, t module.Target, host string) (string, error) {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return "", err
	}
	command := transport.Command{Argv: []string{"cat", "/proc/sys/kernel/random/boot_id"}, Timeout: 20 * time.Second}
	r, err := conn.Run(ctx, command)
	if err == nil {
		err = r.Err(command)
	}
	if err != nil {
		return "", fmt.Errorf("%s: read its boot id: %w", host, err)
	}
	return strings.TrimSpace(string(r.Stdout)), nil
}

func (d *drill) back(ctx context.Context, t module.Target) error {
	now, err := bootID(ctx, t, d.node)
	if err != nil {
		return err
	}
	if now == d.boot && len(d.took) > 0 {
		// Its guests were started elsewhere and nothing has ended them here: two of each write to the same disks.
		return module.Fatal(fmt.Errorf("%s has not restarted, although %s run elsewhere: they may run on it too. Stop them there at once (look: qm list, pct list, ps; cut its power if in doubt), then: systemctl start corosync", d.node, names(slices.Sorted(maps.Keys(d.took)))))
	}
	conn, err := t.Conn(ctx, d.node)
	if err != nil {
		return err
	}
	// Harmless on a node that has restarted: the unit is started at boot.
	start := transport.Command{Argv: []string{"systemctl", "start", "corosync"}, Mutates: true, Timeout: time.Minute}
	r, err := conn.Run(ctx, start)
	if err == nil {
		err = r.Err(start)
	}
	if err != nil {
		return err
	}
	states := pve.ReadCluster(ctx, t.Cluster().Nodes, pve.Options{Brief: true}, t.Conn)
	if missing := pve.JoinedEverywhere(d.node, states); len(missing) > 0 {
		return errors.New(strings.Join(missing, "; "))
	}
	s, err := read(ctx, t, d.watcher)
	switch {
	case err != nil:
		return err
	case s.Manager == nil || s.Manager.Nodes[d.node] != "online":
		return errors.New("the HA manager does not count on it yet")
	}
	return nil
}

// tell reports the times of all guests as soon as they are known. What missed the target is a warning.
func (d *drill) tell(t module.Target) {
	for _, sid := range d.guests {
		took, ok := d.took[sid]
		switch {
		case !ok:
			t.Warn(d.node, fmt.Sprintf("drill: %s did not run elsewhere within %s, target %s", sid, d.args.GiveUp, d.args.Target))
		case took > d.args.Target:
			t.Warn(d.node, fmt.Sprintf("drill: %s ran elsewhere after %s, target %s missed", sid, took, d.args.Target))
		default:
			module.Tell(t, d.node, fmt.Sprintf("drill: %s ran elsewhere after %s, target %s met", sid, took, d.args.Target))
		}
	}
}

// judge fails the drill when a guest took longer than the target.
func (d *drill) judge() error {
	var late []string
	for _, sid := range d.guests {
		if took := d.took[sid]; took > d.args.Target {
			late = append(late, fmt.Sprintf("%s took %s", sid, took))
		}
	}
	if len(late) == 0 {
		return nil
	}
	slices.Sort(late)
	return fmt.Errorf("the node is back; the target of %s was missed: %s", d.args.Target, strings.Join(late, ", "))
}
