package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
)

// Exit statuses of Proxmox's tools: the error number that perl happens to hold, or 255.
const (
	exitNoEntry = 2
	exitAccess  = 13
	exitKilled  = 137
	exitDie     = 255
)

// option describes one option of a Proxmox command.
type option struct {
	kind  optionKind
	check func(string) string // "" or what is wrong
}

type optionKind int

const (
	optionString optionKind = iota
	optionInt
	optionBool // the value may be left out
)

// options are parsed arguments.
type options struct {
	positional []string
	values     map[string]string
}

func (o options) is(name string) bool { return o.values[name] == "1" }

func (o options) int(name string) int {
	n, _ := strconv.Atoi(o.values[name])
	return n
}

// paramError is a refusal of arguments: "400 …" and, for checked values, a line for each.
type paramError struct {
	head  string
	lines []string
}

func (e *paramError) Error() string {
	return "400 " + e.head + "\n" + strings.Join(append(e.lines, ""), "\n")
}

// parseOptions reads arguments as Proxmox's command line handler does: options anywhere, with one or two dashes;
// a boolean takes the next word as its value unless it begins with a dash.
func parseOptions(args []string, known map[string]option) (options, *paramError) {
	o := options{values: map[string]string{}}
	var unknown, wrong []string
	for i := 0; i < len(args); i++ {
		name, isOption := strings.CutPrefix(args[i], "-")
		if !isOption || args[i] == "-" {
			o.positional = append(o.positional, args[i])
			continue
		}
		name, value, inline := strings.Cut(strings.TrimPrefix(name, "-"), "=")
		def, ok := known[name]
		if !ok {
			unknown = append(unknown, name)
			continue
		}
		if !inline {
			switch {
			case i+1 < len(args) && !strings.HasPrefix(args[i+1], "-"):
				i++
				value = args[i]
			case def.kind == optionBool:
				value = "1"
			default:
				unknown = append(unknown, name)
				continue
			}
		}
		normal, problem := def.normalise(value)
		if problem != "" {
			wrong = append(wrong, name+": "+problem)
		}
		o.values[name] = normal
	}
	if len(unknown) > 0 {
		return o, &paramError{head: "unable to parse option"}
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		return o, &paramError{head: "Parameter verification failed.", lines: wrong}
	}
	return o, nil
}

func (d option) normalise(value string) (normal, problem string) {
	switch d.kind {
	case optionBool:
		switch strings.ToLower(value) {
		case "1", "on", "yes", "true":
			return "1", ""
		case "0", "off", "no", "false":
			return "0", ""
		}
		return value, fmt.Sprintf("type check ('boolean') failed - got '%s'", value)
	case optionInt:
		if _, err := strconv.Atoi(value); err != nil {
			return value, fmt.Sprintf("type check ('integer') failed - got '%s'", value)
		}
	}
	if d.check != nil {
		return value, d.check(value)
	}
	return value, ""
}

func atLeast(low int) func(string) string {
	return func(value string) string {
		if n, _ := strconv.Atoi(value); n < low {
			return fmt.Sprintf("value must have a minimum value of %d", low)
		}
		return ""
	}
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$`)

func checkNodeName(value string) string {
	if !nodeName.MatchString(value) {
		return "value does not look like a valid node name"
	}
	return ""
}

func checkClusterName(value string) string {
	if problem := checkNodeName(value); problem != "" {
		return problem
	}
	if len(value) > 15 {
		return "value may only be 15 characters long"
	}
	return ""
}

var fingerprint = regexp.MustCompile(`^([A-Fa-f0-9]{2}:){31}[A-Fa-f0-9]{2}$`)

func checkFingerprint(value string) string {
	if !fingerprint.MatchString(value) {
		return "value does not match the regex pattern"
	}
	return ""
}

// withLinks adds --link0 to --link7.
func withLinks(known map[string]option) map[string]option {
	for link := range maxLinks {
		known[fmt.Sprintf("link%d", link)] = option{check: checkLink}
	}
	return known
}

// parseLink splits "10.0.0.1,priority=20" or "address=10.0.0.1".
func parseLink(value string) (addr string, priority int, err error) {
	for part := range strings.SplitSeq(value, ",") {
		key, v, named := strings.Cut(part, "=")
		switch {
		case !named:
			addr = part
		case key == "address":
			addr = v
		case key == "priority":
			if priority, err = strconv.Atoi(v); err != nil || priority < 0 || priority > 255 {
				return "", 0, fmt.Errorf("priority %s", v)
			}
		default:
			return "", 0, fmt.Errorf("property is not defined in schema and the schema does not allow additional properties")
		}
	}
	return addr, priority, nil
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

func checkLink(value string) string {
	addr, _, err := parseLink(value)
	switch {
	case err != nil:
		return "invalid format - format error\n" + err.Error()
	case addr == "":
		return "invalid format - format error\naddress: property is missing and it is not optional"
	case !isAddr(addr) && !hostName.MatchString(addr):
		return "invalid format - format error\naddress: value does not look like a valid address: " + addr
	}
	return ""
}

// links returns the addresses and priorities that --linkN options name.
func (o options) links() (addrs map[int]string, priorities map[int]int) {
	addrs, priorities = map[int]string{}, map[int]int{}
	for link := range maxLinks {
		if value, ok := o.values[fmt.Sprintf("link%d", link)]; ok {
			addr, priority, _ := parseLink(value)
			addrs[link] = addr
			if priority != 0 {
				priorities[link] = priority
			}
		}
	}
	return addrs, priorities
}

// usage prints a parameter error with the command's synopsis and returns the exit status.
func usage(p *machine.Proc, err *paramError, synopsis string) int {
	fmt.Fprint(p.Stderr, err.Error(), synopsis, "\n")
	return exitDie
}

// die prints an error as perl does and returns the exit status.
func die(p *machine.Proc, code int, format string, args ...any) int {
	fmt.Fprintf(p.Stderr, format+"\n", args...)
	return code
}

// run executes another program of the machine in the name of p. Nil streams are empty. As in all of Proxmox's tools, PATH
// is theirs, not the caller's.
func run(ctx context.Context, p *machine.Proc, stdout, stderr io.Writer, argv ...string) int {
	env := maps.Clone(p.Env)
	if env == nil {
		env = map[string]string{}
	}
	env["PATH"] = "/sbin:/bin:/usr/sbin:/usr/bin"
	return p.Machine.Exec(ctx, machine.Proc{
		Argv: argv, Env: env, Dir: "/", UID: p.UID, Stdout: stdout, Stderr: stderr, Tag: p.Tag,
	})
}

// output runs a program and returns what it printed on stdout.
func output(ctx context.Context, p *machine.Proc, argv ...string) (string, int) {
	var out bytes.Buffer
	code := run(ctx, p, &out, io.Discard, argv...)
	return out.String(), code
}
