package ceph

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

type object = pvetool.Object

// call is one run of the ceph command.
type call struct {
	n       *Node
	c       *Cluster
	p       *machine.Proc
	format  string // "" is for people
	command string // the words that named the handler
	args    []string
	flags   map[string]string // long options of the command
	input   []byte            // of -i
	out     strings.Builder
	status  strings.Builder // what is told on stderr
}

// cephError is an error of a command with its number.
type cephError struct {
	errno syscall.Errno
	text  string
}

func (e *cephError) Error() string { return e.text }

func refuse(errno syscall.Errno, format string, args ...any) error {
	return &cephError{errno, fmt.Sprintf(format, args...)}
}

var errnoNames = map[syscall.Errno]string{
	syscall.EINVAL: "EINVAL", syscall.ENOENT: "ENOENT", syscall.EBUSY: "EBUSY", syscall.EAGAIN: "EAGAIN", syscall.EPERM: "EPERM", syscall.EEXIST: "EEXIST", syscall.ERANGE: "ERANGE",
}

// handler answers a command. Its cluster is up to date and locked.
type handler func(k *call) error

// fromMgr are commands that the manager answers: without one they wait.
var fromMgr = []string{"pg", "osd ok-to-stop", "osd safe-to-destroy", "osd df", "osd perf", "fs status", "crash", "osd pool stats", "osd pool autoscale-status", "device", "balancer", "mgr module", "osd status"}

// ceph is the program of that name.
func (n *Node) ceph(ctx context.Context, p *machine.Proc) int {
	k := &call{n: n, p: p, flags: map[string]string{}}
	limit, code, done := k.parse()
	if done {
		return code
	}
	if name := k.flags["in"]; name != "" {
		var err error
		if k.input, err = p.View().ReadFile(name); err != nil {
			fmt.Fprintf(p.Stderr, "Can't open input file %s: [Errno 2] No such file or directory: '%s'\n", name, name)
			return 1
		}
	}
	handle, words := k.lookup()
	c, err := n.connect(ctx, p.View(), limit)
	if err != nil {
		return connectFailed(p, err)
	}
	k.c = c
	if handle == nil {
		fmt.Fprintf(p.Stderr, "no valid command found; 10 closest matches:\nError EINVAL: invalid command\n")
		return int(syscall.EINVAL)
	}
	k.args = k.args[words:]
	if err := n.pve.Phase(ctx, "ceph:command", 0); err != nil {
		return pvetool.ExitKilled
	}
	n.model.mu.Lock()
	for slices.ContainsFunc(fromMgr, func(prefix string) bool { return strings.HasPrefix(k.command, prefix) }) {
		c.settle()
		if c.active != nil && c.active.on {
			break
		}
		n.model.mu.Unlock()
		if n.m.Sleep(ctx, 500*time.Millisecond) != nil {
			return pvetool.ExitKilled
		}
		n.model.mu.Lock()
	}
	c.settle()
	err = handle(k)
	c.settle()
	n.model.mu.Unlock()
	return k.finish(err)
}

// finish prints what the command has to say.
func (k *call) finish(err error) int {
	code := 0
	var failed *cephError
	if errors.As(err, &failed) {
		fmt.Fprintf(k.p.Stderr, "Error %s: %s\n", errnoNames[failed.errno], failed.text)
		code = int(failed.errno)
	} else if err != nil {
		number, text, _ := strings.Cut(err.Error(), ": ")
		for errno, name := range errnoNames {
			if name == number {
				code = int(errno)
			}
		}
		if code == 0 {
			code, number, text = int(syscall.EINVAL), "EINVAL", err.Error()
		}
		fmt.Fprintf(k.p.Stderr, "Error %s: %s\n", number, text)
	} else if k.status.Len() > 0 {
		fmt.Fprintln(k.p.Stderr, strings.TrimRight(k.status.String(), "\n"))
	}
	if strings.HasPrefix(k.format, "json") {
		k.p.Println("") // as the real one does, for old consumers
	}
	if name := k.flags["out"]; name != "" && code == 0 {
		if err := k.p.View().WriteFile(name, []byte(k.out.String()), 0o644); err != nil {
			fmt.Fprintf(k.p.Stderr, "Can't open output file %s: %v\n", name, err)
			return 1
		}
		return code
	}
	if text := k.out.String(); text != "" {
		k.p.Println(strings.TrimRight(text, "\n"))
	}
	return code
}

func connectFailed(p *machine.Proc, err error) int {
	switch {
	case errors.Is(err, errNoConf):
		fmt.Fprintln(p.Stderr, "Error initializing cluster client: ObjectNotFound('RADOS object not found (error calling conf_read_file)')")
	case errors.Is(err, errNoKeyring):
		fmt.Fprintf(p.Stderr, "auth: unable to find a keyring on %s: (2) No such file or directory\n[errno 2] RADOS object not found (error connecting to the cluster)\n", adminKeyring)
	case errors.Is(err, errNoMonHost):
		fmt.Fprintln(p.Stderr, "unable to get monitor info from DNS SRV with service name: ceph-mon\n[errno 2] RADOS object not found (error connecting to the cluster)")
	case errors.Is(err, errTimedOut):
		fmt.Fprintln(p.Stderr, "[errno 110] RADOS timed out (error connecting to the cluster)")
	default:
		return pvetool.ExitKilled
	}
	return 1
}

// parse reads the options, which may stand anywhere. done ends the program.
func (k *call) parse() (limit time.Duration, code int, done bool) {
	limit = connectLimit
	args := k.p.Args()
	values := map[string]string{"-f": "format", "--format": "format", "-c": "conf", "--conf": "conf", "-i": "in", "-o": "out", "--id": "id", "-n": "name", "--name": "name", "-k": "keyring", "--keyring": "keyring", "--cluster": "cluster", "--connect-timeout": "connect-timeout"}
	for i := 0; i < len(args); i++ {
		arg, value, inline := strings.Cut(args[i], "=")
		if !strings.HasPrefix(arg, "--") {
			arg, inline = args[i], false
		}
		switch name, known := values[arg]; {
		case known:
			if !inline {
				if i++; i >= len(args) {
					fmt.Fprintf(k.p.Stderr, "ceph: error: argument %s: expected one argument\n", arg)
					return 0, 2, true
				}
				value = args[i]
			}
			k.flags[name] = value
		case arg == "-s" || arg == "--status":
			k.args = append(k.args, "status")
		case arg == "-v" || arg == "--version":
			k.p.Println(releaseOf(k.n.installed("ceph-common")).full())
			return 0, 0, true
		case arg == "-h" || arg == "--help":
			k.p.Println("General usage:\n==============\nusage: ceph [-h] [-c CEPHCONF] [-i INPUT_FILE] [-o OUTPUT_FILE] [--connect-timeout CLUSTER_TIMEOUT] [-s] [-v] [-f FORMAT] …")
			return 0, 0, true
		case strings.HasPrefix(arg, "-") && !isNumber(arg) && len(arg) > 1:
			k.flags[strings.TrimLeft(arg, "-")] = value
			if !inline {
				k.flags[strings.TrimLeft(arg, "-")] = "true"
			}
		default:
			k.args = append(k.args, args[i])
		}
	}
	k.format = k.flags["format"]
	if text := k.flags["connect-timeout"]; text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil {
			fmt.Fprintf(k.p.Stderr, "ceph: error: argument --connect-timeout: invalid int value: '%s'\n", text)
			return 0, 2, true
		}
		if seconds > 0 {
			limit = time.Duration(seconds) * time.Second
		}
	}
	return limit, 0, false
}

// lookup finds the handler by the longest run of words.
func (k *call) lookup() (handle handler, words int) {
	table := handlers()
	for words = min(5, len(k.args)); words > 0; words-- {
		name := strings.Join(k.args[:words], " ")
		if h, ok := table[name]; ok {
			k.command = name
			return h, words
		}
	}
	return nil, 0
}

// handlers is the table of all commands.
func handlers() map[string]handler {
	table := map[string]handler{}
	for _, family := range []map[string]handler{statusCommands(), osdCommands(), flagCommands(), crushCommands(), poolCommands(), monCommands(), pgCommands(), miscCommands()} {
		maps.Copy(table, family)
	}
	return table
}

// print prints a value in the format that was asked for; without one text is printed.
func (k *call) print(value any, text func() string) error {
	switch {
	case k.format == "json-pretty" || !strings.HasPrefix(k.format, "json") && text == nil:
		out, err := json.MarshalIndent(value, "", "    ")
		k.out.Write(out)
		return err
	case strings.HasPrefix(k.format, "json"):
		out, err := json.Marshal(value)
		k.out.Write(out)
		return err
	}
	k.out.WriteString(text())
	return nil
}

// say tells something on stderr.
func (k *call) say(format string, args ...any) error {
	fmt.Fprintf(&k.status, format, args...)
	return nil
}

// arg is a positional argument, "" if it is not there.
func (k *call) arg(i int) string {
	if i < len(k.args) {
		return k.args[i]
	}
	return ""
}

// need refuses a command with too few arguments.
func (k *call) need(count int) error {
	if len(k.args) < count {
		return refuse(syscall.EINVAL, "invalid command")
	}
	return nil
}

// osdArgs reads ids: "0", "osd.0", "all", "any" or "*".
func (k *call) osdArgs(args []string) ([]*osd, error) {
	var out []*osd
	for _, arg := range args {
		if arg == "all" || arg == "any" || arg == "*" {
			return k.c.sortedOSDs(), nil
		}
		id, err := strconv.Atoi(strings.TrimPrefix(arg, "osd."))
		if err != nil {
			return nil, refuse(syscall.EINVAL, "osd id %s is not integer", arg)
		}
		o := k.c.osds[id]
		if o == nil {
			return nil, refuse(syscall.ENOENT, "osd.%d does not exist", id)
		}
		out = append(out, o)
	}
	return out, nil
}

// stamp is a time as Ceph prints it.
func (k *call) stamp(t time.Duration) string {
	ago := k.c.model.now() - t
	return k.n.m.Now().Add(-ago).UTC().Format("2006-01-02T15:04:05.000000-0700")
}

func pgID(pool, number int) string {
	return strconv.Itoa(pool) + "." + strconv.FormatInt(int64(number), 16)
}

func flag01(on bool) int {
	if on {
		return 1
	}
	return 0
}
