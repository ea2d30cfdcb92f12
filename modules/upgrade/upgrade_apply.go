package upgrade

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/pve/packages"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/apt"
	"github.com/pxrun/pxrun/modules/internal/gates"
	"github.com/pxrun/pxrun/modules/internal/members"
)

const (
	logDir      = "/var/log/pxrun"
	summaryFile = logDir + "/upgrade.json"
	// jobLimit is how long an upgrade is followed when the task has no limit of its own. It is never ended.
	jobLimit = 4 * time.Hour
)

// upgradeScript has apt do its work with its output kept on the node. Its text is the same for every run, so that a run finds
// the upgrade that another has begun. Standard input is empty: whoever asks gets no answer, and apt is told to ask nothing.
const upgradeScript = `# upgrade all packages
log=` + logDir + `/upgrade-$(date -u +%Y%m%dT%H%M%SZ).log
{ mkdir -p ` + logDir + ` && : >"$log"; } 2>/dev/null || log=/dev/null
mkdir -p /run/pxrun && rc=$(mktemp /run/pxrun/rc.XXXXXX) || exit 1
began=$(date +%s)
{
	apt-get -y -q -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold -o ` + lock + ` dist-upgrade </dev/null
	echo $? >"$rc"
} 2>&1 | tee -a "$log"
read -r code <"$rc"
rm -f "$rc"
ls -t ` + logDir + `/upgrade-*.log 2>/dev/null | tail -n +21 | while read -r f; do rm -f "$f"; done
echo "pxrun: took $(($(date +%s) - began)) seconds, output kept in $log"
exit "${code:-1}"
`

func upgradeCommand() transport.Command {
	return transport.Command{Script: upgradeScript, Env: apt.Get().Env}
}

// upgrade reads everything again, refuses what must not be, and has the packages upgraded by a job that outlives the connection.
func (a upgradeArgs) upgrade(ctx context.Context, t module.Target) error {
	host := t.Host().Name
	s, err := readPackages(ctx, t)
	if err != nil {
		return err
	}
	gate := "upgrade " + host
	if _, running := s.Running(upgradeJob); !running {
		if s, err = a.prepare(ctx, t, gate, s); err != nil {
			return err
		}
		if s.Upgrade.Nothing() {
			t.Log(host, "nothing to upgrade")
			return nil
		}
		for _, touch := range s.Upgrade.Touches() {
			t.Log(host, touch.Text)
		}
	}
	writable, err := pmxcfsWritable(ctx, t)
	if err != nil {
		return err
	}
	c := upgradeCommand()
	limit := jobLimit
	if _, bounded := ctx.Deadline(); bounded {
		limit = 24 * time.Hour // as long as the task
	}
	var others []string
	if t.Cluster() != nil {
		others = t.Cluster().Nodes
	}
	var r transport.Result
	err = members.WhileSeen(ctx, t, others, host, func(ctx context.Context) (err error) {
		r, err = t.Detach(ctx, host, module.Job{Name: upgradeJob, Command: c, Timeout: limit})
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(finish(ctx, t, s, r), backAgain(ctx, t, writable))
}

// pmxcfsWritable reports whether /etc/pve is mounted and takes changes (reference §2.1).
func pmxcfsWritable(ctx context.Context, t module.Target) (bool, error) {
	conn, err := t.Conn(ctx, t.Host().Name)
	if err != nil {
		return false, err
	}
	r, err := conn.Run(ctx, transport.Command{Script: "stat -c %a /etc/pve/local 2>/dev/null; true", Timeout: 20 * time.Second})
	return strings.TrimSpace(string(r.Stdout)) == "755", err
}

// pmxcfsPatience is how long /etc/pve may be away after pve-cluster or corosync were restarted.
const pmxcfsPatience = 3 * time.Minute

// backAgain waits until /etc/pve takes changes again, if it did before.
func backAgain(ctx context.Context, t module.Target, was bool) error {
	if !was {
		return nil
	}
	host := t.Host().Name
	return t.WaitFor(ctx, module.Condition{Name: "/etc/pve takes changes again on " + host, Timeout: pmxcfsPatience, Check: func(ctx context.Context) error {
		switch now, err := pmxcfsWritable(ctx, t); {
		case err != nil:
			return err
		case !now:
			return errors.New("pve-cluster or corosync has not come back after the upgrade; look with systemctl status pve-cluster corosync")
		}
		return nil
	}})
}

// prepare reads the gates right before the upgrade, fetches lists that are old, and looks again at what apt would do.
func (a upgradeArgs) prepare(ctx context.Context, t module.Target, gate string, s packages.State) (packages.State, error) {
	host := t.Host().Name
	if rs := together(t, host); len(rs) > 0 {
		return s, rs
	}
	if s.ListAge > a.MaxAge {
		if rs := refused(host, gate, s.Objections(a.limits()).Only("sources")); len(rs) > 0 {
			return s, rs
		}
		if err := refreshLists(ctx, t, host, gate); err != nil {
			return s, err
		}
		var err error
		if s, err = readPackages(ctx, t); err != nil {
			return s, err
		}
	}
	if s.Upgrade.Nothing() && s.Unknown == "" {
		return s, nil
	}
	rs := refused(host, gate, s.Objections(a.limits()))
	rs = append(rs, a.clusterGates(ctx, t, gate, s)...)
	return s, asError(rs)
}

// clusterGates are those of the cluster: nobody else is away, the quorum bears that corosync restarts here, and a node that a
// rolling run has drained is empty still.
func (a upgradeArgs) clusterGates(ctx context.Context, t module.Target, gate string, s packages.State) module.Refusals {
	host := t.Host().Name
	if !s.IsNode() {
		return nil
	}
	want := []string{gates.Others}
	for _, touch := range s.Upgrade.Touches() {
		if touch.Code == "corosync" || touch.Code == "libc" {
			want = append(want, gates.Quorum)
			break
		}
	}
	o := inBlock(t, host, gateOptions{Gate: gate, Tolerate: a.Tolerate, Ignore: a.Ignore, NoCeph: true})
	if t.Block() != nil {
		drained, err := readLedger(ctx, t, host)
		if err != nil {
			return module.Refusals{{Host: host, Gate: gate, Saw: "what drain has written down cannot be read: " + err.Error(), Want: "to know which guests may run on the node", Look: "cat " + ledgerFile, Override: "none"}}
		}
		if drained != nil && drained.Run == t.Run() {
			o.Empty, o.Stay = true, drained.staying()
			want = append(want, gates.Guests)
		}
	}
	j := gates.Look(ctx, t, host, o)
	var mine []gates.Verdict
	for _, v := range j.Verdicts {
		if !slices.Contains(want, v.Gate) {
			continue
		}
		if v.Gate == gates.Quorum && !v.OK && slices.Contains(a.Ignore, v.Gate) {
			v.Reading.Override = `ignore = ["quorum"]`
		}
		if v.Gate == gates.Quorum && !v.OK && v.Reading.Override == "" {
			v.Override = strings.TrimPrefix(v.Override+`; or ignore = ["quorum"]: corosync is away on this node for some seconds only`, "; ")
		}
		t.Record(host, v.Reading)
		mine = append(mine, v)
	}
	if j.Votes != nil {
		t.Record(host, *j.Votes)
	}
	j.Verdicts = mine
	return j.Refusals(gate)
}

// staying are the guests that drain was told to leave on the node.
func (l *ledger) staying() []string {
	var out []string
	for _, g := range l.Guests {
		if g.Fate == fateLeft {
			out = append(out, g.SID)
		}
	}
	return out
}

// summary is what an upgrade has done, kept on the node.
type summary struct {
	Run      string            `json:"run"`
	Packages []packages.Change `json:"packages"`
	Kept     []string          `json:"kept,omitempty"`
}

// finish proves what the job has done, records it, and turns what apt complained of into the error.
func finish(ctx context.Context, t module.Target, before packages.State, r transport.Result) error {
	host := t.Host().Name
	after, err := readPackages(ctx, t)
	if err != nil {
		return err
	}
	now, err := installedVersions(ctx, t, before.Upgrade)
	if err != nil {
		return err
	}
	done := summary{Run: t.Run()}
	var missing []string
	for _, c := range slices.Concat(before.Upgrade.Installs, before.Upgrade.Removes) {
		switch version := now[c.Name]; {
		case version == c.To:
			t.Record(host, module.Version{Package: c.Name, Before: c.From, After: c.To})
			if c.To != "" {
				done.Packages = append(done.Packages, c)
			}
		default:
			missing = append(missing, fmt.Sprintf("%s is %s and should be %s", c.Name, orAbsent(version), orAbsent(c.To)))
		}
	}
	for _, path := range kept(before, after, string(r.Stdout)) {
		done.Kept = append(done.Kept, path)
		t.Record(host, module.KeptFile{Path: path, New: offered(after, path)})
		t.Warn(host, fmt.Sprintf("%s was changed on this node and is kept; the version of the package is %s: compare them", path, offered(after, path)))
	}
	if took, ok := duration(string(r.Stdout)); ok {
		t.Record(host, module.Phase{Name: "upgrade", Took: took})
	}
	if err := keepSummary(ctx, t, done); err != nil {
		return err
	}
	return proved(r, after, missing)
}

// proved is nil when all of an upgrade can be seen to be there.
func proved(r transport.Result, after packages.State, missing []string) error {
	if r.Exit != 0 {
		err := apt.Error(r, transport.Command{Argv: []string{"apt-get", "dist-upgrade"}})
		return fmt.Errorf("%w%s", err, nextStep(after, string(r.Stdout)))
	}
	var failed []error
	if len(after.Unfinished) > 0 {
		failed = append(failed, fmt.Errorf("apt-get succeeded, and dpkg has not finished with %s%s", names(after.Unfinished), nextStep(after, "")))
	}
	if len(missing) > 0 {
		failed = append(failed, fmt.Errorf("apt-get succeeded, and not every package has its new version: %s", strings.Join(missing, "; ")))
	}
	if doubt := after.Boot.Doubt(); doubt != "" && after.IsNode() {
		failed = append(failed, fmt.Errorf("the node could not be started again: %s; look with ls /boot; proxmox-boot-tool kernel list", doubt))
	}
	return errors.Join(failed...)
}

func names(list []packages.Broken) string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = b.Name + " (" + b.State + ")"
	}
	return strings.Join(out, ", ")
}

// nextStep says what an upgrade that failed has left, and what to do.
func nextStep(after packages.State, out string) string {
	var b strings.Builder
	for line := range strings.Lines(out) {
		if strings.Contains(line, "No space left on device") {
			fmt.Fprintf(&b, "\n  saw: %s\n  look: df -h / /boot; make room, then run again", strings.TrimSpace(line))
			break
		}
	}
	for _, why := range complaints(out) {
		fmt.Fprintf(&b, "\n  saw: %s", why)
	}
	switch {
	case len(after.Unfinished) > 0 || after.Interrupted:
		fmt.Fprintf(&b, "\n  left behind: packages that dpkg has not finished with: %s\n  look: dpkg --audit; the output is in %s\n  next: mend the cause and run this again: it begins with dpkg --configure -a", names(after.Unfinished), logDir)
	default:
		b.WriteString("\n  no package is left half installed; the output is in " + logDir)
	}
	return b.String()
}

// complaints are what dpkg says of packages that it could not install: a line with the name, and one with the reason.
func complaints(out string) []string {
	var list []string
	lines := strings.Split(out, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "dpkg: error processing ") && i+1 < len(lines) && len(list) < 5 {
			list = append(list, strings.TrimSuffix(line, ":")+": "+strings.TrimSpace(lines[i+1]))
		}
	}
	return list
}

func orAbsent(version string) string {
	if version == "" {
		return "not installed"
	}
	return version
}

// installedVersions are those of the packages of a simulation.
func installedVersions(ctx context.Context, t module.Target, s packages.Simulation) (map[string]string, error) {
	if s.Nothing() {
		return map[string]string{}, nil
	}
	argv := []string{"dpkg-query", "-W", "-f", `${Package} ${Version} ${db:Status-Status}\n`}
	for _, c := range slices.Concat(s.Installs, s.Removes) {
		argv = append(argv, c.Name)
	}
	conn, err := t.Conn(ctx, t.Host().Name)
	if err != nil {
		return nil, err
	}
	r, err := conn.Run(ctx, transport.Command{Argv: argv}) // fails when one of them is not installed
	if err != nil {
		return nil, err
	}
	return pve.ParsePackages(r.Stdout), nil
}

// kept are the configuration files that were kept although their package brought others: those that dpkg told of, and those whose
// new version lies beside them since.
func kept(before, after packages.State, out string) []string {
	var list []string
	for line := range strings.Lines(out) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "Configuration file '"); ok {
			path, _, _ = strings.Cut(path, "'")
			list = append(list, path)
		}
	}
	for _, path := range after.Offered {
		if !slices.Contains(before.Offered, path) {
			list = append(list, path[:strings.LastIndexByte(path, '.')])
		}
	}
	slices.Sort(list)
	return slices.DeleteFunc(slices.Compact(list), func(path string) bool { return offered(after, path) == "" })
}

// offered is where the new version of a kept file lies.
func offered(after packages.State, path string) string {
	for _, suffix := range []string{".dpkg-dist", ".ucf-dist", ".dpkg-new"} {
		if slices.Contains(after.Offered, path+suffix) {
			return path + suffix
		}
	}
	return ""
}

// duration is how long the job says that it took.
func duration(out string) (time.Duration, bool) {
	_, rest, ok := strings.Cut(out, "pxrun: took ")
	word, _, found := strings.Cut(rest, " ")
	n, err := strconv.Atoi(word)
	return time.Duration(n) * time.Second, ok && found && err == nil && n >= 0
}

// keepSummary leaves on the node what this run has done, also before it was resumed, for the outputs of the task.
func keepSummary(ctx context.Context, t module.Target, done summary) error {
	earlier, err := readSummary(ctx, t)
	if err != nil {
		return err
	}
	for _, c := range earlier.Packages {
		if !slices.ContainsFunc(done.Packages, func(d packages.Change) bool { return d.Name == c.Name }) {
			done.Packages = append(done.Packages, c)
		}
	}
	for _, path := range earlier.Kept {
		if !slices.Contains(done.Kept, path) {
			done.Kept = append(done.Kept, path)
		}
	}
	text, err := json.Marshal(done)
	if err != nil {
		return err
	}
	conn, err := t.Conn(ctx, t.Host().Name)
	if err != nil {
		return err
	}
	if err := conn.Put(ctx, transport.File{Path: summaryFile, Content: bytes.NewReader(text), Mode: 0o644}); err != nil {
		t.Warn(t.Host().Name, "what was upgraded could not be written to "+summaryFile+": "+err.Error())
	}
	return nil
}

// readSummary is what this run has done on the host; nothing when another run was the last.
func readSummary(ctx context.Context, t module.Target) (summary, error) {
	conn, err := t.Conn(ctx, t.Host().Name)
	if err != nil {
		return summary{}, err
	}
	r, err := conn.Run(ctx, transport.Command{Script: `cat "$1" 2>/dev/null; true`, Argv: []string{summaryFile}})
	if err != nil {
		return summary{}, err
	}
	var s summary
	if json.Unmarshal(r.Stdout, &s) != nil || s.Run != t.Run() || s.Run == "" {
		return summary{}, nil // none, or cut off by a full disk
	}
	return s, nil
}

// The waits for a dpkg that is busy: dpkg itself does not wait for its lock.
const (
	configureAttempts = 10
	configurePause    = 30 * time.Second
)

// configure finishes what dpkg has begun, and proves it.
func configure(ctx context.Context, t module.Target) error {
	host := t.Host().Name
	c := transport.Command{Argv: []string{"dpkg", "--force-confdef", "--force-confold", "--configure", "-a"}, Env: apt.Get().Env}
	var r transport.Result
	for attempt := range configureAttempts {
		if attempt > 0 {
			t.Log(host, "another program is at work on packages, waiting")
			if err := t.Sleep(ctx, configurePause); err != nil {
				return err
			}
		}
		var err error
		if r, err = t.Detach(ctx, host, module.Job{Name: configureJob, Command: c, Timeout: jobLimit}); err != nil {
			return err
		}
		if !strings.Contains(string(r.Stderr), "lock was locked by") {
			break
		}
	}
	after, err := readPackages(ctx, t)
	if err != nil {
		return err
	}
	if err := r.Err(c); err != nil || len(after.Unfinished) > 0 || after.Interrupted {
		if err == nil {
			err = errors.New("dpkg --configure -a succeeded")
		}
		return fmt.Errorf("%w, and dpkg has not finished with %s\n  look: dpkg --audit\n  next: mend it yourself; what apt-get -f install would remove is for a person to judge", err, names(after.Unfinished))
	}
	t.Log(host, "dpkg has finished what it had begun")
	return nil
}
