package detach

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"al.essio.dev/pkg/shellescape"
	"github.com/pxrun/pxrun/internal/transport"
)

// Left is a job whose files lie on a node. Whoever started it has not taken its result.
type Left struct {
	Unit string `json:"unit"`
	Name string `json:"name,omitempty"`
	Run  string `json:"run"`
	// State is running, done, or gone: killed without an exit status.
	State string `json:"state"`
	Exit  int    `json:"exit"`
	// Age is for how long it has been done.
	Age time.Duration `json:"age_ns,omitempty"`
}

// listScript prints a line for each job in folder $1. A folder with a dot in its name is one that is being made.
const listScript = isRunning + `cd "$1" 2>/dev/null || exit 0
for d in pxrun-*; do
	case $d in *.*) continue ;; esac
	[ -r "$d/job" ] || continue
	read -r hash run nonce <"$d/job"
	state=gone rc=-1 age=0
	if [ -s "$d/rc" ]; then
		state=done age=$(($(date +%s) - $(stat -c %Y "$d/rc")))
		read -r rc <"$d/rc"
	elif running "$1/$d" "$d"; then state=running; fi
	echo "$d $run $state $rc $age $(cat "$d/name" 2>/dev/null)"
done
`

// ListCommand is a shell command that lists the jobs on a node, for ParseList. An empty folder means the one that jobs are in.
func ListCommand(folder string) string {
	return "sh -c " + shellescape.Quote(listScript) + " sh " + shellescape.Quote(folderOf(folder))
}

func folderOf(folder string) string {
	if folder == "" {
		return "/run/pxrun"
	}
	return folder
}

// ParseList reads the output of ListCommand. Lines that are none of its are passed over.
func ParseList(text string) []Left {
	var jobs []Left
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimRight(line, "\n"), " ", 6)
		if len(f) < 5 || !strings.HasPrefix(f[0], "pxrun-") || !slices.Contains([]string{"running", "done", "gone"}, f[2]) {
			continue
		}
		exit, err := strconv.Atoi(f[3])
		age, failed := strconv.Atoi(f[4])
		if err != nil || failed != nil {
			continue
		}
		j := Left{Unit: f[0], Run: f[1], State: f[2], Exit: exit, Age: time.Duration(max(age, 0)) * time.Second}
		if len(f) == 6 {
			j.Name = strings.TrimSpace(f[5])
		}
		jobs = append(jobs, j)
	}
	return jobs
}

// Done is the state of a job that has ended with an exit status.
const Done = "done"

// clearScript removes the files of the jobs whose units follow folder $1, if they have ended, and prints their units.
const clearScript = `# clear away the files of jobs that have ended
cd "$1" 2>/dev/null || exit 0
shift
for d in "$@"; do
	[ -r "$d/job" ] && [ -s "$d/rc" ] || continue
	rm -rf "$d" && echo "$d"
done
exit 0
`

// Clear removes what jobs have left on a node, by their units. Jobs that have not ended stay. It returns the units of those it removed. The
// result of a job that its run still waits for is lost.
func (r *Runner) Clear(ctx context.Context, c transport.Conn, units ...string) ([]string, error) {
	units = slices.DeleteFunc(slices.Clone(units), func(unit string) bool { return !unitName.MatchString(unit) })
	cmd := transport.Command{Script: clearScript, Argv: append([]string{folderOf(r.Folder)}, units...), Mutates: true, Timeout: time.Minute}
	res, err := c.Run(ctx, cmd)
	if err == nil {
		err = res.Err(cmd)
	}
	if err != nil {
		return nil, fmt.Errorf("clear the files of jobs away: %w", err)
	}
	return strings.Fields(res.Out()), nil
}

// unitName is what Unit makes: nothing else is ever removed.
var unitName = regexp.MustCompile(`^pxrun-[0-9a-f]{12}$`)
