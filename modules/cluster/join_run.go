package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/transport"
)

// join makes one node a member, from wherever it stands. The state is read again: what the plan saw may be old, and a
// join that was under way may have ended.
func (r *joinRun) join(ctx context.Context, t module.Target, host string) error {
	for range 4 {
		node, members, err := r.look(ctx, t, host)
		if err != nil {
			return err
		}
		state := pve.ClassifyJoin(r.cluster, node, members)
		switch {
		case state.Phase == pve.PhaseMember:
			return r.joined(ctx, t, node, members)
		case state.Phase == pve.PhaseRunning:
			err = r.awaitEnd(ctx, t, host)
		case state.Phase == pve.PhaseFresh || state.Phase == pve.PhaseAdded:
			return r.add(ctx, t, node, members)
		case !state.Resumable || !r.args.resumes():
			return &module.Refusal{Host: host, Gate: "join " + host, Saw: state.Saw, Want: "a node that is in no cluster, or a whole member", Look: state.Look, Override: state.Remedy}
		case state.Phase == pve.PhaseNoCert:
			err = r.certify(ctx, t, host)
		case state.Phase == pve.PhaseWaiting:
			err = r.awaitQuorum(ctx, t, node, members)
		default:
			err = r.finish(ctx, t, node, members)
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: its join does not come to an end (look: journalctl -u corosync -u pve-cluster -n 50)", host)
}

// look reads the joining node and the members. The connections that are made here are the ones that the join is
// followed on: while it runs, new logins with a key are refused, and the caller is banned for trying (records 01b, 15).
func (r *joinRun) look(ctx context.Context, t module.Target, host string) (pve.NodeState, []pve.NodeState, error) {
	states := pve.ReadCluster(ctx, t.Cluster().Nodes, pve.Options{}, t.Conn)
	node, ok := stateOf(states, host)
	if !ok {
		return node, nil, fmt.Errorf("%s is not a node of cluster %q in the inventory", host, t.Cluster().Name)
	}
	if node.Err != nil {
		return node, nil, node.Err
	}
	members := slices.DeleteFunc(pve.MembersOf(states, r.cluster), func(m pve.NodeState) bool { return m.Host == host })
	conf := pve.NewestConf(members)
	for _, s := range states {
		if _, listed := conf.Node(s.Host); listed && s.Err != nil {
			return node, nil, s.Err
		}
	}
	if len(members) == 0 && node.Conf == nil {
		return node, nil, fmt.Errorf("no node is a member of cluster %q (look: pvecm status)", r.cluster)
	}
	return node, members, nil
}

// member chooses the member that lets a node in: the one that the task names, or the first that can.
func (r *joinRun) member(members []pve.NodeState) (pve.NodeState, error) {
	for _, m := range members {
		if len(r.args.Via) > 0 && m.Host != r.args.Via[0] {
			continue
		}
		if m.Mounted && m.Quorum != nil {
			return m, nil
		}
	}
	if len(r.args.Via) > 0 {
		return pve.NodeState{}, fmt.Errorf("%s is not a working member of cluster %q (look: pvecm status)", r.args.Via[0], r.cluster)
	}
	return pve.NodeState{}, fmt.Errorf("no member of cluster %q works (look: pvecm status)", r.cluster)
}

// add joins a node by pvecm add.
func (r *joinRun) add(ctx context.Context, t module.Target, node pve.NodeState, members []pve.NodeState) error {
	if err := r.gate(node, members); err != nil {
		return err
	}
	via, err := r.member(members)
	if err != nil {
		return err
	}
	h, _ := t.Site().Host(via.Host)
	addr, err := clusterAddr(via, h)
	if err != nil {
		return err
	}
	if err := r.prepare(ctx, t, node, via, addr); err != nil {
		return err
	}
	argv, stdin, err := r.addArgv(ctx, t, node, members, via, addr)
	if err != nil {
		return err
	}
	job := detached("join-"+r.cluster, argv...)
	job.Command.Stdin, job.Timeout = stdin, r.args.QuorumTimeout
	t.Log(node.Host, "joining by "+strings.Join(argv, " "))
	result, err := t.Detach(ctx, node.Host, job)
	if err != nil {
		return r.explain(ctx, t, node.Host, fmt.Errorf("%s: pvecm add: %w", node.Host, err))
	}
	if !pve.JoinSucceeded(string(result.Stdout), node.Hostname) {
		return r.explain(ctx, t, node.Host, fmt.Errorf("%s: pvecm add failed (exit %d): %s", node.Host, result.Exit, pve.JoinFailure(string(result.Stdout), string(result.Stderr))))
	}
	return r.joined(ctx, t, node, members)
}

// gate looks once more, right before the node is added, at what must hold then: a join that begins without it leaves
// the whole cluster without quorum.
func (r *joinRun) gate(node pve.NodeState, members []pve.NodeState) error {
	conf := pve.NewestConf(members)
	refuse := func(host, saw, want, look string) error {
		return &module.Refusal{Host: host, Gate: "join " + node.Host, Saw: saw, Want: want, Look: look}
	}
	if len(node.Guests) > 0 {
		return refuse(node.Host, guestsText(node.Guests), "no guests: the node's /etc/pve with their configuration is replaced", "qm list; pct list")
	}
	if conf == nil {
		return refuse(node.Host, "no member answers", "a quorate cluster", "pvecm status")
	}
	if conf.Device != nil {
		if _, listed := conf.Node(node.Hostname); !listed {
			return refuse(node.Host, "the QDevice "+conf.Device.Host+" is configured", "none while the number of nodes changes", "pvecm status")
		}
	}
	for _, m := range members {
		switch {
		case !m.Mounted || !m.Writable:
			return refuse(m.Host, "the cluster is not quorate here", "quorum before anything joins", "pvecm status")
		case m.Conf.Version != conf.Version:
			return refuse(m.Host, fmt.Sprintf("version %d of the configuration, and %d elsewhere", m.Conf.Version, conf.Version), "one version on all members", "grep config_version /etc/pve/corosync.conf")
		}
		for _, name := range conf.Names() {
			if name != node.Hostname && !m.Members.Online(name) {
				return refuse(m.Host, "does not see "+name+" online", "every member online before anything joins", "cat /etc/pve/.members")
			}
		}
	}
	return nil
}

// addArgv makes the command of the join, and what it reads: the password for the API, never in an argument.
func (r *joinRun) addArgv(ctx context.Context, t module.Target, node pve.NodeState, members []pve.NodeState, via pve.NodeState, addr string) ([]string, []byte, error) {
	argv := []string{"pvecm", "add", addr}
	want, _ := r.wanted.Node(node.Host)
	entry, listed := pve.NewestConf(members).Node(node.Hostname)
	for i, a := range want.Links {
		argv = append(argv, fmt.Sprintf("--link%d", i), a.String())
	}
	id, votes := want.ID, want.Votes
	if listed {
		// A join that is repeated must give what the cluster wrote down the first time.
		id, votes = entry.ID, entry.Votes
	}
	if id != 0 {
		argv = append(argv, "--nodeid", strconv.Itoa(id))
	}
	if votes != 1 {
		argv = append(argv, "--votes", strconv.Itoa(votes))
	}
	if r.args.Method != "api" {
		return append(argv, "--use_ssh", "1"), nil, nil
	}
	if listed {
		// Over SSH an entry of the node is always overwritten; here it must be said. The gate has made sure that there
		// are no guests, which this would ignore too.
		argv = append(argv, "--force", "1")
	}
	fingerprint, err := readFingerprint(ctx, t, via.Host)
	if err != nil {
		return nil, nil, err
	}
	return append(argv, "--fingerprint", fingerprint), []byte(r.args.Password.Reveal() + "\n"), nil
}

// joined proves that a node is a member: in its own view and in that of every other, with its certificate. Then it
// makes sure that nobody lost his access to the node.
func (r *joinRun) joined(ctx context.Context, t module.Target, node pve.NodeState, members []pve.NodeState) error {
	hosts := append(hostsOf(members), node.Host)
	err := t.WaitFor(ctx, module.Condition{
		Name: fmt.Sprintf("every node sees %s as a member", node.Host), Timeout: r.args.QuorumTimeout, Every: time.Second,
		Check: func(ctx context.Context) error {
			return unmet(pve.JoinedEverywhere(node.Hostname, readBrief(ctx, t, hosts)))
		},
	})
	if err != nil {
		return r.explain(ctx, t, node.Host, err)
	}
	return keepKeys(ctx, t, node.Host, node.AuthorizedKeys)
}

// explain adds what a person needs to a join that went wrong: where it stands and what to do.
func (r *joinRun) explain(ctx context.Context, t module.Target, host string, cause error) error {
	if ctx.Err() != nil {
		return cause
	}
	node, members, err := r.look(ctx, t, host)
	if err != nil {
		return fmt.Errorf("%w; its state could not be read afterwards: %w", cause, err)
	}
	state := pve.ClassifyJoin(r.cluster, node, members)
	text := "state: " + state.Saw
	for _, part := range [][2]string{{"look", state.Look}, {"what to do", state.Remedy}} {
		if part[1] != "" {
			text += "; " + part[0] + ": " + part[1]
		}
	}
	if state.Resumable && r.args.resumes() {
		text += "; or run the runbook again, which finishes the join"
	}
	return fmt.Errorf("%w\n  %s", cause, text)
}

// awaitEnd waits for a pvecm add that an earlier run began.
func (r *joinRun) awaitEnd(ctx context.Context, t module.Target, host string) error {
	t.Log(host, "pvecm add of an earlier run is still at work: waiting for its end")
	return t.WaitFor(ctx, module.Condition{
		Name: "the join that runs on " + host + " ends", Timeout: r.args.QuorumTimeout,
		Check: func(ctx context.Context) error {
			s := readBrief(ctx, t, []string{host})[0]
			if s.Err == nil && s.Joining {
				return errors.New("pvecm add is still running (look: pgrep -af 'pvecm add')")
			}
			return s.Err
		},
	})
}

// awaitQuorum waits for a node whose corosync has started. That takes seconds, or something is in the way.
func (r *joinRun) awaitQuorum(ctx context.Context, t module.Target, node pve.NodeState, members []pve.NodeState) error {
	hosts := append(hostsOf(members), node.Host)
	err := t.WaitFor(ctx, module.Condition{
		Name: node.Host + " is quorate", Timeout: r.args.QuorumTimeout, Every: time.Second,
		Check: func(ctx context.Context) error {
			states := readBrief(ctx, t, hosts)
			now, _ := stateOf(states, node.Host)
			if now.Err != nil {
				return now.Err
			}
			if state := pve.ClassifyJoin(r.cluster, now, pve.MembersOf(states, r.cluster)); state.Phase == pve.PhaseWaiting {
				return errors.New(state.Saw)
			}
			return nil
		},
	})
	if err != nil {
		return r.explain(ctx, t, node.Host, err)
	}
	return nil
}

// certify makes the certificate of a node whose join was cut off at its end.
func (r *joinRun) certify(ctx context.Context, t module.Target, host string) error {
	job := module.Job{Name: "join-certs-" + r.cluster, Timeout: r.args.QuorumTimeout, Command: transport.Command{
		Script: "cd / && pvecm updatecerts --force 1 && systemctl reload-or-restart pvedaemon pveproxy", Mutates: true,
	}}
	result, err := t.Detach(ctx, host, job)
	if err == nil {
		err = result.Err(job.Command)
	}
	if err != nil {
		return fmt.Errorf("%s: make its certificate: %w", host, err)
	}
	return nil
}

// finishScript does the second half of a join (reference §3.11): corosync's key and configuration of the cluster, a
// database of pmxcfs that the cluster fills, and the start of both. The old database is kept. One that holds the
// cluster already is left alone: a node's database in a cluster is never taken away.
const finishScript = `# finish the second half of a join
cd / || exit 1
addr=$1
limit=$2
fetch() {
	ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10 "root@$addr" cat "$1" >"$2.pxrun" && [ -s "$2.pxrun" ] && chmod "$3" "$2.pxrun" && mv "$2.pxrun" "$2"
}
umask 077
mkdir -p /etc/corosync
fetch /etc/corosync/authkey /etc/corosync/authkey 0400 || { echo "the member's authkey could not be copied" >&2; exit 1; }
fetch /etc/pve/corosync.conf /etc/corosync/corosync.conf 0644 || { echo "the member's corosync.conf could not be copied" >&2; exit 1; }
echo "corosync's key and configuration are those of the cluster"
db=/var/lib/pve-cluster/config.db
# clustered errs on the side of leaving the database alone: sqlite3 may find it locked
clustered() {
	if [ -L /etc/pve/local ]; then [ -e /etc/pve/corosync.conf ]; return; fi
	found=$(sqlite3 "$db" "select count(*) from tree where name='corosync.conf'" 2>/dev/null)
	case $found in
	''|*[!0-9]*)
		for f in "$db" "$db-wal"; do
			if [ -e "$f" ]; then
				cat "$f" >/dev/null || { echo "$f cannot be read" >&2; exit 1; }
				if grep -qa 'corosync\.conf' "$f"; then return 0; fi
			fi
		done
		return 1;;
	esac
	[ "$found" -gt 0 ]
}
if ! clustered; then
	systemctl stop pve-cluster || exit 1
	old=/var/lib/pve-cluster/backup/pxrun-$(date +%s)
	mkdir -p "$old"
	for f in "$db" "$db-wal" "$db-shm"; do
		if [ -e "$f" ]; then mv "$f" "$old/" || exit 1; fi
	done
	echo "the node's old database is kept in $old"
fi
systemctl restart corosync pve-cluster || exit 1
n=0
while ! [ -e /etc/pve/corosync.conf ] || [ "$(stat -c %a /etc/pve/local 2>/dev/null)" != 755 ]; do
	n=$((n + 1))
	if [ "$n" -ge "$limit" ]; then echo "no quorum within $limit seconds" >&2; exit 1; fi
	sleep 1
done
pvecm updatecerts --force 1 || exit 1
systemctl reload-or-restart pvedaemon pveproxy
echo "finished"
`

// finish does the second half of a join that was cut off.
func (r *joinRun) finish(ctx context.Context, t module.Target, node pve.NodeState, members []pve.NodeState) error {
	via, err := r.member(members)
	if err != nil {
		return err
	}
	h, _ := t.Site().Host(via.Host)
	addr, err := clusterAddr(via, h)
	if err != nil {
		return err
	}
	if err := r.prepare(ctx, t, node, via, addr); err != nil {
		return err
	}
	seconds := int(r.args.QuorumTimeout / time.Second)
	job := module.Job{Name: "join-finish-" + r.cluster, Timeout: r.args.QuorumTimeout + time.Minute, Command: transport.Command{
		Script: finishScript, Argv: []string{addr, strconv.Itoa(seconds)}, Mutates: true,
	}}
	result, err := t.Detach(ctx, node.Host, job)
	if err == nil {
		err = result.Err(transport.Command{Argv: []string{"the second half of the join"}})
	}
	if err != nil {
		return r.explain(ctx, t, node.Host, fmt.Errorf("%s: %w", node.Host, err))
	}
	return r.joined(ctx, t, node, members)
}
