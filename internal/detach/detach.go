// Package detach runs commands that may outlast the connection: joining a cluster, upgrading packages, installing Ceph.
// The command becomes a transient systemd unit on the node that writes its output and exit status to files below
// /run/pxrun; the package follows those files, over as many connections as it takes, and finds the job again when a
// later process asks for the same one. It never stops a job.
package detach

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"al.essio.dev/pkg/shellescape"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/transport"
)

// Runner runs jobs. The zero value is ready.
type Runner struct {
	// Folder holds a folder for each job on the node. Default /run/pxrun, which a restart of the node empties.
	Folder string
	// Sleep waits; nil means real time.
	Sleep func(ctx context.Context, d time.Duration) error
	// Random is the source of nonces; nil means the system's.
	Random io.Reader
}

// The pauses between looks at a job: quick at first, then a sixteenth of the time for which it has said nothing, up to a second;
// of one that is silent for minutes, a sixtieth.
const (
	firstPause  = 100 * time.Millisecond
	pauseShare  = 16
	longPause   = time.Second
	silentShare = 60
	silentPause = 10 * time.Second
	// defaultTimeout bounds following a job that names no limit.
	defaultTimeout = time.Hour
	// startPause is waited before asking again when the connection was lost while starting.
	startPause = 2 * time.Second
)

// Run starts a job on a host, or finds the one that an earlier process started, and follows it to its end. Output of
// the command gets its lines as they come. The error is nil when the command ran to its end, whatever its exit status.
//
// What is found on the node decides:
//   - the job is running, whoever started it: it is followed;
//   - another command runs under the job's name: that is an error;
//   - it ended well and nobody of the same run has seen it: that is the result. The caller proves its effect anyway;
//   - it ended badly before, or belongs to another run: that result is of the past, and the job is started anew.
func (r *Runner) Run(ctx context.Context, c transport.Conn, host, run string, j module.Job) (transport.Result, error) {
	job, err := r.describe(host, run, j)
	if err != nil {
		return transport.Result{}, err
	}
	began, err := job.start(ctx, c)
	if err != nil {
		return transport.Result{}, fmt.Errorf("%s: start job %q: %w", host, j.Name, err)
	}
	job.nonce = began.nonce
	if began.found && j.Command.Output != nil {
		j.Command.Output(transport.Stderr, fmt.Sprintf("pxrun: job %q of run %s is there already, following it", j.Name, began.run))
	}
	result, err := job.follow(ctx, c)
	if err != nil {
		return result, fmt.Errorf("%s: job %q: %w", host, j.Name, err)
	}
	if err := job.clear(ctx, c); err != nil {
		return result, fmt.Errorf("%s: job %q ended with exit %d, and its files could not be removed: %w", host, j.Name, result.Exit, err)
	}
	return result, nil
}

// Unit is the name of the systemd unit of a job.
func Unit(host, name string) string {
	sum := sha256.Sum256([]byte(host + "\x00" + name))
	return "pxrun-" + hex.EncodeToString(sum[:6])
}

// job is one job on one host.
type job struct {
	*Runner
	unit, dir string
	hash      string // of the command
	run       string
	nonce     string
	body      string
	module.Job
}

// variable is a name that a shell takes for that of a variable.
var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func (r *Runner) describe(host, run string, j module.Job) (*job, error) {
	for name := range j.Command.Env {
		if !variable.MatchString(name) {
			return nil, fmt.Errorf("%s: job %q: the environment variable %q cannot be set in a shell", host, j.Name, name)
		}
	}
	random := r.Random
	if random == nil {
		random = rand.Reader
	}
	nonce := make([]byte, 8)
	if _, err := io.ReadFull(random, nonce); err != nil {
		return nil, fmt.Errorf("job %q: make a nonce: %w", j.Name, err)
	}
	folder := folderOf(r.Folder)
	if run == "" {
		run = "-"
	}
	if j.Timeout <= 0 {
		j.Timeout = defaultTimeout
	}
	unit := Unit(host, j.Name)
	dir := path.Join(folder, unit)
	body := startFile(dir, j.Command)
	sum := sha256.Sum256([]byte(body))
	return &job{
		Runner: r, unit: unit, dir: dir, hash: hex.EncodeToString(sum[:16]), run: run, nonce: hex.EncodeToString(nonce), body: body, Job: j,
	}, nil
}

// startFile is the script that the unit runs. Standard input comes from a file that is removed as soon as it is open,
// since it may hold a secret. The exit status appears at once and whole.
func startFile(dir string, c transport.Command) string {
	words := slices.Clone(c.Argv)
	if c.Script != "" {
		words = append([]string{"/bin/sh", "-c", c.Script, "sh"}, words...)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "d=%s\n", shellescape.Quote(dir))
	b.WriteString("echo $$ >\"$d/pid\"\ncd /\n")
	b.WriteString("export LC_ALL=C HOME=\"${HOME:-/root}\" PATH=\"${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}\"\n")
	for _, k := range slices.Sorted(maps.Keys(c.Env)) {
		fmt.Fprintf(&b, "export %s=%s\n", k, shellescape.Quote(c.Env[k]))
	}
	b.WriteString("exec <\"$d/stdin\"\nrm -f \"$d/stdin\"\n")
	fmt.Fprintf(&b, "( umask 022; exec %s ) >\"$d/out\" 2>\"$d/err\"\n", shellescape.QuoteCommand(words))
	b.WriteString("echo $? >\"$d/rc.new\"\nmv \"$d/rc.new\" \"$d/rc\"\n")
	return b.String()
}

// isRunning is shell: it succeeds while the job of unit $2 in folder $1 is at work.
const isRunning = `running() {
	if [ -e "$1/plain" ]; then kill -0 "$(cat "$1/pid" 2>/dev/null)" 2>/dev/null; return; fi
	case $(systemctl is-active "$2" 2>/dev/null) in active|activating|deactivating|reloading) return 0 ;; esac
	return 1
}
`

// startScript starts the job unless it is there. It may be run again at any time, also while an earlier call of it still
// hangs on a connection that is dead: the folder appears whole, by a rename that only one call can make, and a unit
// cannot be started twice. What was cut off on its way is not started. $1 folder, $2 unit, $3 hash, $4 run, $5 nonce,
// $6 the unit's script, $7 the size of standard input, $8 the job's name for people.
const startScript = "# start the job, or find it\n" + isRunning + `umask 077
mkdir -p "${1%/*}" || exit 1
if [ -d "$1" ]; then
	hash= run= nonce= rc=
	[ -r "$1/job" ] && read -r hash run nonce <"$1/job"
	[ -s "$1/rc" ] && read -r rc <"$1/rc"
	if [ -z "$rc" ] && running "$1" "$2"; then
		if [ "$hash" = "$3" ]; then echo "found $run $nonce"; else echo "other $run -"; fi
		exit 0
	fi
	if [ -n "$rc" ] && [ "$hash" = "$3" ] && [ "$run" = "$4" ]; then
		if [ "$nonce" = "$5" ] || [ "$rc" = 0 ]; then echo "found $run $nonce"; exit 0; fi
	fi
	n=0 # its unit may be about to go
	while running "$1" "$2" && [ "$n" -lt 50 ]; do sleep 0.1; n=$((n+1)); done
	rm -rf "$1"
fi
t=$(mktemp -d "$1.XXXXXX") || exit 1
cat >"$t/stdin" && printf '%s' "$6" >"$t/start" && : >"$t/out" && : >"$t/err" && printf '%s' "$8" >"$t/name" && echo "$3 $4 $5" >"$t/job" || { rm -rf "$t"; exit 1; }
if [ "$(wc -c <"$t/stdin")" -ne "$7" ]; then
	rm -rf "$t"
	echo "the standard input of the job did not arrive whole" >&2
	exit 1
fi
mv -T "$t" "$1" || { rm -rf "$t"; exit 1; }
if command -v systemd-run >/dev/null 2>&1; then
	systemd-run --quiet --collect --unit="$2" -p WorkingDirectory=/ /bin/sh "$1/start" || {
		if running "$1" "$2"; then echo "found $4 $5"; exit 0; fi
		rm -rf "$1"
		exit 1
	}
else
	: >"$1/plain"
	setsid nohup /bin/sh "$1/start" </dev/null >/dev/null 2>&1 &
	n=0
	while [ ! -s "$1/pid" ] && [ "$n" -lt 50 ]; do sleep 0.1; n=$((n+1)); done
fi
echo "started $4 $5"
`

// begun is how a job came to be there.
type begun struct {
	found      bool
	run, nonce string
}

// start starts the job or finds it. A connection that is lost meanwhile leaves open which; then it asks again.
func (j *job) start(ctx context.Context, c transport.Conn) (begun, error) {
	cmd := transport.Command{
		Script: startScript, Argv: []string{j.dir, j.unit, j.hash, j.run, j.nonce, j.body, strconv.Itoa(len(j.Command.Stdin)), strings.ReplaceAll(j.Name, "\n", " ")},
		Stdin: j.Command.Stdin, Mutates: true, Timeout: time.Minute,
	}
	res, err := c.Run(ctx, cmd)
	for try := 0; err != nil && try < 5 && isLost(err) && ctx.Err() == nil; try++ {
		if slept := j.sleep(ctx, startPause); slept != nil {
			return begun{}, slept
		}
		res, err = c.Run(ctx, cmd)
	}
	if err != nil {
		return begun{}, err
	}
	if err := res.Err(cmd); err != nil {
		return begun{}, err
	}
	words := strings.Fields(res.Out())
	if len(words) != 3 {
		return begun{}, fmt.Errorf("the node answered %q", res.Out())
	}
	b := begun{run: words[1], nonce: words[2]}
	switch words[0] {
	case "started":
	case "found":
		b.found = b.nonce != j.nonce
	case "other":
		return begun{}, fmt.Errorf("another command of run %s is still running under this name: look with `systemctl status %s`", b.run, j.unit)
	default:
		return begun{}, fmt.Errorf("the node answered %q", res.Out())
	}
	return b, nil
}

func isLost(err error) bool {
	_, lost := errors.AsType[*transport.LostError](err)
	_, away := errors.AsType[*transport.UnreachableError](err)
	return lost || away
}

func (j *job) sleep(ctx context.Context, d time.Duration) error {
	if j.Sleep != nil {
		return j.Sleep(ctx, d)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// clear removes the files of a job whose result has arrived.
func (j *job) clear(ctx context.Context, c transport.Conn) error {
	cmd := transport.Command{
		Script: `# clear away the job's files
read -r hash run nonce <"$1/job" && [ "$nonce" = "$2" ] || exit 0; rm -rf "$1"`,
		Argv: []string{j.dir, j.nonce}, Mutates: true,
	}
	res, err := c.Run(context.WithoutCancel(ctx), cmd)
	if err != nil && isLost(err) {
		res, err = c.Run(context.WithoutCancel(ctx), cmd) // removing is safe to repeat
	}
	if err != nil {
		return err
	}
	return res.Err(cmd)
}
