package machine

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func runKill(_ context.Context, p *Proc) int {
	return kill(p.Machine, p.Argv, p.Stdout, func(f string, a ...any) { p.Errorf(f, a...) })
}

func runPs(_ context.Context, p *Proc) int {
	args := p.Args()
	columns, header, pids := []string{"pid", "tty", "time", "cmd"}, true, []int(nil)
	all := false
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "-o" || arg == "-eo" || arg == "-Ao" || arg == "o" || arg == "--format":
			all = all || len(arg) > 2
			if i+1 < len(args) {
				i++
				columns = splitList(args[i])
			}
		case strings.HasPrefix(arg, "-o"):
			columns = splitList(arg[2:])
		case arg == "-p" || arg == "--pid":
			if i+1 < len(args) {
				i++
				for _, word := range splitList(args[i]) {
					n, _ := strconv.Atoi(word)
					pids = append(pids, n)
				}
			}
		case arg == "--no-headers" || arg == "h":
			header = false
		case strings.Trim(arg, "-") != "" && strings.IndexByte("eAax", strings.Trim(arg, "-")[0]) >= 0:
			all = true
			if strings.Contains(arg, "f") || strings.Contains(arg, "u") {
				columns = []string{"user", "pid", "ppid", "tty", "time", "cmd"}
			}
		}
	}
	var rows [][]string
	title := make([]string, len(columns))
	for i, c := range columns {
		name, given, custom := strings.Cut(c, "=")
		columns[i] = name
		title[i] = strings.ToUpper(name)
		if custom {
			title[i] = given
		}
	}
	if header && strings.Join(title, "") != "" {
		rows = append(rows, title)
	}
	found := false
	for _, one := range p.Machine.Processes() {
		if pids != nil && !slices.Contains(pids, one.PID) || pids == nil && !all && one.UID != p.UID {
			continue
		}
		found = true
		row := make([]string, len(columns))
		for i, c := range columns {
			row[i] = p.psColumn(c, one)
		}
		rows = append(rows, row)
	}
	p.psTable(rows)
	return boolStatus(found)
}

func splitList(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

func (p *Proc) psColumn(column string, one Process) string {
	switch column {
	case "pid", "pgid", "sid", "sess", "tid":
		return strconv.Itoa(one.PID)
	case "ppid":
		return strconv.Itoa(one.PPID)
	case "user", "euser", "uname", "ruser":
		return p.Machine.userName(one.UID)
	case "uid", "euid":
		return strconv.Itoa(one.UID)
	case "comm", "ucmd":
		return lastName(one.Argv[0])
	case "cmd", "args", "command":
		return one.Command()
	case "etimes":
		return strconv.Itoa(int((p.Machine.Uptime() - one.Started).Seconds()))
	case "etime":
		s := int((p.Machine.Uptime() - one.Started).Seconds())
		return fmt.Sprintf("%02d:%02d", s/60, s%60)
	case "stat", "state", "s":
		return "S"
	case "tty", "tt", "tname":
		return "?"
	case "time":
		return "00:00:00"
	case "lstart":
		return p.Machine.Now().Add(one.Started - p.Machine.Uptime()).UTC().Format("Mon Jan _2 15:04:05 2006")
	default:
		return "0"
	}
}

func (p *Proc) psTable(rows [][]string) {
	var width []int
	for _, row := range rows {
		for i, cell := range row {
			if i >= len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], len(cell))
		}
	}
	for _, row := range rows {
		for i := range row {
			_, err := strconv.Atoi(row[i])
			switch {
			case i == len(row)-1 && err != nil:
			case err == nil:
				row[i] = fmt.Sprintf("%*s", width[i], row[i])
			default:
				row[i] = fmt.Sprintf("%-*s", width[i], row[i])
			}
		}
		p.Println(strings.TrimRight(strings.Join(row, " "), " "))
	}
}

func runPgrep(_ context.Context, p *Proc) int {
	args := slices.Clone(p.Args())
	sig := SIGTERM
	if p.Name() == "pkill" && len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		if s, ok := ParseSignal(args[0][1:]); ok {
			sig, args = s, args[1:]
		}
	}
	opts, rest, ok := p.getoptOf(args, "flxau:onPcv", "full=f", "list-name=l", "exact=x", "list-full=a", "euid=u", "newest=n", "oldest=o", "signal=")
	if !ok || len(rest) != 1 {
		return 2
	}
	if s, ok := ParseSignal(opts.last("signal")); ok && opts.has("signal") {
		sig = s
	}
	re, err := posixRegexp(rest[0], true, false)
	if err != nil {
		return p.Fail(2, "%v", err)
	}
	found := false
	for _, one := range p.Machine.Processes() {
		if one.PID == p.pid || !p.pgrepMatch(re, one, opts) {
			continue
		}
		found = true
		switch {
		case p.Name() == "pkill":
			p.Machine.Kill(one.PID, sig)
		case opts.has("a"):
			p.Printf("%d %s\n", one.PID, one.Command())
		case opts.has("l"):
			p.Printf("%d %s\n", one.PID, lastName(one.Argv[0]))
		default:
			p.Println(strconv.Itoa(one.PID))
		}
	}
	return boolStatus(found)
}

func (p *Proc) pgrepMatch(re *regexp.Regexp, one Process, opts flags) bool {
	text := lastName(one.Argv[0])
	if opts.has("f") {
		text = one.Command()
	}
	if u := opts.last("u"); u != "" && p.Machine.userName(one.UID) != u && strconv.Itoa(one.UID) != u {
		return false
	}
	if opts.has("x") {
		return re.FindString(text) == text
	}
	return re.MatchString(text)
}

func runKillall(_ context.Context, p *Proc) int {
	sig := SIGTERM
	found := false
	for _, arg := range p.Args() {
		if arg[0] == '-' {
			if s, ok := ParseSignal(arg[1:]); ok {
				sig = s
			}
			continue
		}
		for _, one := range p.Machine.Processes() {
			if lastName(one.Argv[0]) == arg && one.PID != p.pid {
				found = true
				p.Machine.Kill(one.PID, sig)
				p.Machine.daemonKilled(one.PID)
			}
		}
		if !found {
			fmt.Fprintf(p.Stderr, "%s: no process found\n", arg)
		}
	}
	return boolStatus(found)
}

// daemonKilled marks the unit of a killed daemon as failed.
func (m *Machine) daemonKilled(pid int) {
	for _, u := range m.Units() {
		if u.MainPID == pid && pid != 0 && !u.Transient {
			m.FailUnit(u.Name)
		}
	}
}

func runPidof(_ context.Context, p *Proc) int {
	var pids []string
	for _, one := range p.Machine.Processes() {
		if slices.Contains(p.Args(), lastName(one.Argv[0])) {
			pids = append(pids, strconv.Itoa(one.PID))
		}
	}
	if len(pids) == 0 {
		return 1
	}
	slices.Reverse(pids)
	p.Println(strings.Join(pids, " "))
	return 0
}
