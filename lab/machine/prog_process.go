package machine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// processPrograms start, watch and end processes.
func processPrograms() map[string]Program {
	return map[string]Program{
		"sleep": runSleep, "timeout": runTimeout, "env": runEnv, "nohup": runNohup, "setsid": runSetsid, "xargs": runXargs, "kill": runKill, "ps": runPs,
		"pgrep": runPgrep, "pkill": runPgrep, "killall": runKillall, "pidof": runPidof, "flock": runFlock, "sudo": runSudo, "su": runSu,
		"/usr/sbin/runuser": runSu, "nice": runWrapped, "ionice": runWrapped, "stdbuf": runWrapped, "chrt": runWrapped,
		"/usr/sbin/reboot": runPower, "/usr/sbin/poweroff": runPower, "/usr/sbin/halt": runPower, "/usr/sbin/shutdown": runPower, "time": runTime,
	}
}

// duration reads "1.5", "10s", "2m", "1h", "1d".
func duration(text string) (time.Duration, bool) {
	unit := time.Second
	if text != "" {
		switch text[len(text)-1] {
		case 's':
			text = text[:len(text)-1]
		case 'm':
			text, unit = text[:len(text)-1], time.Minute
		case 'h':
			text, unit = text[:len(text)-1], time.Hour
		case 'd':
			text, unit = text[:len(text)-1], 24*time.Hour
		}
	}
	if text == "infinity" {
		return 1 << 62, true
	}
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || n < 0 || n > 1e9 {
		return 0, false
	}
	return time.Duration(n * float64(unit)), true
}

func runSleep(ctx context.Context, p *Proc) int {
	if len(p.Argv) < 2 {
		return p.Fail(1, "missing operand")
	}
	total := time.Duration(0)
	for _, arg := range p.Args() {
		d, ok := duration(arg)
		if !ok {
			return p.Fail(1, "invalid time interval ‘%s’", arg)
		}
		total += d
	}
	if p.Machine.Sleep(ctx, total) != nil {
		return 1
	}
	return 0
}

func runTimeout(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+k:s:fpv", "kill-after=k", "signal=s", "foreground=f", "preserve-status=p", "verbose=v")
	if !ok || len(rest) < 2 {
		return p.Fail(125, "missing operand")
	}
	limit, valid := duration(rest[0])
	if !valid {
		return p.Fail(125, "invalid time interval ‘%s’", rest[0])
	}
	sig := SIGTERM
	if s := opts.last("s"); s != "" {
		if sig, ok = ParseSignal(s); !ok {
			return p.Fail(125, "‘%s’: invalid signal", s)
		}
	}
	child := p.child(rest[1:])
	started := make(chan *process, 1)
	code := make(chan int, 1)
	cctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.Machine.wg.Go(func() {
		code <- p.Machine.exec(cctx, child, p.files, func(e *process) { started <- e })
	})
	if limit == 0 {
		return <-code
	}
	expired, stop := p.Machine.deadline(limit)
	defer stop()
	select {
	case c := <-code:
		return c
	case <-expired:
	}
	select {
	case e := <-started:
		e.signal(sig)
	default:
		cancel(sig)
	}
	if k, ok := duration(opts.last("k")); ok && opts.has("k") {
		stopKill := p.Machine.clock.AfterFunc(k, func() { cancel(SIGKILL) })
		defer stopKill()
	}
	c := <-code
	if opts.has("p") {
		return c
	}
	if c == 128+int(SIGKILL) {
		return c
	}
	return 124
}

// realPatience is what timeout grants a program of real time in a lab whose clock runs fast: there the model's seconds
// pass while a busy computer has not yet run the program at all.
const realPatience = 2 * time.Second

// deadline returns a channel that is closed when a limit has passed, in model time and, on a fast clock, a little real
// time too.
func (m *Machine) deadline(limit time.Duration) (expired <-chan struct{}, stop func()) {
	done := make(chan struct{})
	real := time.Duration(0)
	if fast, ok := m.clock.(interface{ Speed() float64 }); ok && fast.Speed() > 1 {
		real = min(limit, realPatience)
	}
	var timers struct {
		sync.Mutex
		left int
		stop []func() bool
	}
	timers.left = 1
	fire := func() {
		timers.Lock()
		defer timers.Unlock()
		if timers.left--; timers.left == 0 {
			close(done)
		}
	}
	timers.Lock()
	defer timers.Unlock()
	if real > 0 {
		timers.left++
		timers.stop = append(timers.stop, time.AfterFunc(real, fire).Stop)
	}
	timers.stop = append(timers.stop, m.clock.AfterFunc(limit, fire))
	return done, func() {
		for _, stop := range timers.stop {
			stop()
		}
	}
}

func runEnv(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+iu:0C:S:", "ignore-environment=i", "unset=u", "chdir=C", "null=0")
	if !ok {
		return 125
	}
	env := maps.Clone(p.Env)
	if opts.has("i") {
		env = map[string]string{}
	}
	if len(rest) > 0 && rest[0] == "-" {
		env, rest = map[string]string{}, rest[1:]
	}
	for _, name := range opts.all("u") {
		delete(env, name)
	}
	for len(rest) > 0 && strings.Contains(rest[0], "=") {
		name, value, _ := strings.Cut(rest[0], "=")
		env[name] = value
		rest = rest[1:]
	}
	if len(rest) == 0 {
		end := "\n"
		if opts.has("0") {
			end = "\x00"
		}
		for _, name := range slices.Sorted(maps.Keys(env)) {
			io.WriteString(p.Stdout, name+"="+env[name]+end)
		}
		return 0
	}
	child := p.child(rest)
	child.Env = env
	if dir := opts.last("C"); dir != "" {
		child.Dir = dir
	}
	return p.runChild(ctx, child, "‘%s’: %s")
}

// runChild runs a program for a wrapper that complains in its own words if there is none.
func (p *Proc) runChild(ctx context.Context, child Proc, complaint string) int {
	path := child.Env["PATH"]
	if path == "" {
		path = p.Env["PATH"]
	}
	if _, err := lookup(p.view, child.Argv[0], path); err != nil {
		code := exitNotFound
		if !errors.Is(err, os.ErrNotExist) {
			code = exitNotExecutable
		}
		return p.Fail(code, complaint, child.Argv[0], Reason(err))
	}
	return p.Machine.exec(ctx, child, p.files, nil)
}

// runDetached runs a child that outlives the session. It waits for it unless the session goes; a signal to the wrapper
// goes to the child.
func (p *Proc) runDetached(ctx context.Context, child Proc, files descriptors) int {
	code := make(chan int, 1)
	cctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	kept := files.clone()
	p.Machine.wg.Go(func() {
		defer cancel(nil)
		c := p.Machine.exec(cctx, child, kept, nil)
		kept.release()
		code <- c
	})
	select {
	case c := <-code:
		return c
	case <-ctx.Done():
	}
	var sig Signal
	if errors.As(context.Cause(ctx), &sig) && sig != SIGHUP {
		cancel(sig)
		return <-code
	}
	return 128 + int(SIGHUP)
}

func runNohup(ctx context.Context, p *Proc) int {
	args := p.Args()
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return p.Fail(125, "missing operand")
	}
	return p.runDetached(ctx, p.child(args), p.files)
}

func runSetsid(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+cfw", "ctty=c", "fork=f", "wait=w")
	if !ok || len(rest) == 0 {
		return 1
	}
	if !opts.has("f") {
		return p.runDetached(leaveSession(ctx), p.child(rest), p.files)
	}
	child, files := p.child(rest), p.files.clone()
	p.Machine.background(leaveSession(ctx), func(ctx context.Context) {
		p.Machine.exec(ctx, child, files, nil)
		files.release()
	})
	return 0
}

func runWrapped(ctx context.Context, p *Proc) int {
	_, rest, ok := p.getopt("+n:c:p:i:o:e:fr")
	if !ok || len(rest) == 0 {
		return 0
	}
	return p.runChild(ctx, p.child(rest), "‘%s’: %s")
}

func runTime(ctx context.Context, p *Proc) int {
	_, rest, ok := p.getopt("+p")
	if !ok || len(rest) == 0 {
		return 0
	}
	before := p.Machine.Uptime()
	code := p.runChild(ctx, p.child(rest), "cannot run %s: %s")
	fmt.Fprintf(p.Stderr, "real %.2f\nuser 0.00\nsys 0.00\n", (p.Machine.Uptime() - before).Seconds())
	return code
}

func runXargs(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+0n:I:rP:L:d:tx", "null=0", "max-args=n", "no-run-if-empty=r", "max-procs=P", "delimiter=d", "max-lines=L")
	if !ok {
		return 1
	}
	content, err := p.ReadInput("-")
	if err != nil {
		return 1
	}
	items := xargsItems(string(content), opts)
	if len(rest) == 0 {
		rest = []string{"echo"}
	}
	if len(items) == 0 && (opts.has("r") || opts.has("I")) {
		return 0
	}
	var runs [][]string
	n, _ := strconv.Atoi(cmp.Or(opts.last("n"), opts.last("L")))
	switch {
	case opts.has("I"):
		for _, item := range items {
			argv := make([]string, len(rest))
			for i := range rest {
				argv[i] = strings.ReplaceAll(rest[i], opts.last("I"), item)
			}
			runs = append(runs, argv)
		}
	case n > 0:
		for chunk := range slices.Chunk(items, n) {
			runs = append(runs, append(slices.Clone(rest), chunk...))
		}
	default:
		runs = append(runs, append(slices.Clone(rest), items...))
	}
	return p.xargsRun(ctx, runs, opts.last("P"))
}

func xargsItems(text string, opts flags) []string {
	sep := ""
	switch {
	case opts.has("0"):
		sep = "\x00"
	case opts.has("d"):
		sep, _ = echoEscapes(opts.last("d"))
	case opts.has("I", "L"):
		sep = "\n"
	}
	if sep == "" {
		return xargsWords(text)
	}
	var items []string
	for _, item := range strings.Split(strings.TrimSuffix(text, sep), sep) {
		if opts.has("I") {
			item = strings.TrimLeft(item, " \t")
		}
		if item != "" {
			items = append(items, item)
		}
	}
	return items
}

// xargsWords splits at blanks, minding quotes and backslashes.
func xargsWords(text string) []string {
	var items []string
	var b strings.Builder
	quote, open := byte(0), false
	flush := func() {
		if open {
			items = append(items, b.String())
		}
		b.Reset()
		open = false
	}
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			b.WriteByte(c)
		case c == '\'' || c == '"':
			quote, open = c, true
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
			open = true
		case c == ' ' || c == '\t' || c == '\n':
			flush()
		default:
			b.WriteByte(c)
			open = true
		}
	}
	flush()
	return items
}

func (p *Proc) xargsRun(ctx context.Context, runs [][]string, parallel string) int {
	limit, err := strconv.Atoi(parallel)
	if err != nil || limit < 1 {
		limit = 1
	}
	status := 0
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, limit)
	for _, argv := range runs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			child := p.child(argv)
			code := p.Spawn(ctx, child.Argv, eofReader{}, p.Stdout, p.Stderr)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case code == exitNotFound || code == exitNotExecutable:
				status = code
			case code != 0 && status == 0:
				status = 123
			}
		})
	}
	wg.Wait()
	return status
}

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

func runPower(_ context.Context, p *Proc) int {
	if p.UID != 0 {
		return p.Fail(1, "must be superuser.")
	}
	reboot := p.Name() == "reboot" || slices.Contains(p.Args(), "-r")
	if slices.Contains(p.Args(), "-c") {
		return 0
	}
	p.Machine.Shutdown(reboot)
	return 0
}

// locks are flock(2) locks by path.
type locks struct {
	mu   sync.Mutex
	held map[string]*openFile // exclusive owners
	wait chan struct{}
}

// runFlock locks a file for a command, or a descriptor that the shell holds open.
func runFlock(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+nxsuw:E:oc:", "nonblock=n", "nb=n", "exclusive=x", "shared=s", "unlock=u", "timeout=w", "wait=w", "conflict-exit-code=E", "close=o", "command=c")
	if !ok || len(rest) == 0 {
		return p.Fail(64, "not enough arguments")
	}
	conflict, err := strconv.Atoi(cmp.Or(opts.last("E"), "1"))
	if err != nil {
		return p.Fail(64, "invalid exit code: '%s'", opts.last("E"))
	}
	var file *openFile
	if fd, err := strconv.Atoi(rest[0]); err == nil && len(rest) == 1 {
		if file = p.files.get(fd); file == nil || file.path == "" {
			return p.Fail(65, "%d: Bad file descriptor", fd)
		}
	} else {
		f, err := p.Open(rest[0], os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			return p.Fail(66, "cannot open lock file %s: %s", rest[0], Reason(err))
		}
		file = fileOf(f, p.absolute(rest[0]), os.O_RDWR)
		defer file.release()
	}
	if opts.has("u") {
		p.Machine.unlock(file)
		return 0
	}
	limit := time.Duration(-1)
	if opts.has("n") {
		limit = 0
	} else if opts.has("w") {
		limit, _ = duration(opts.last("w"))
	}
	if !p.Machine.lock(ctx, file, limit) {
		return conflict
	}
	if len(rest) == 1 && !opts.has("c") {
		return 0
	}
	defer p.Machine.unlock(file)
	argv := rest[1:]
	if opts.has("c") {
		argv = []string{"/bin/sh", "-c", opts.last("c")}
	} else if len(argv) == 2 && argv[0] == "-c" {
		argv = []string{"/bin/sh", "-c", argv[1]}
	}
	return p.runChild(ctx, p.child(argv), "failed to execute %s: %s")
}

func (p *Proc) absolute(path string) string {
	if real, err := p.view.Realpath(path, true); err == nil {
		return real
	}
	return path
}

// lock takes a file's lock within limit (negative: no limit). The lock goes with the last descriptor of the description.
func (m *Machine) lock(ctx context.Context, f *openFile, limit time.Duration) bool {
	expired := make(chan struct{})
	if limit > 0 {
		stop := m.clock.AfterFunc(limit, func() { close(expired) })
		defer stop()
	} else if limit == 0 {
		close(expired)
	}
	l := &m.locks
	for {
		l.mu.Lock()
		owner := l.held[f.path]
		if owner == nil || owner == f {
			if owner == nil {
				l.held[f.path] = f
				old := f.close
				f.close = func() {
					m.unlock(f)
					if old != nil {
						old()
					}
				}
			}
			l.mu.Unlock()
			return true
		}
		wait := l.wait
		l.mu.Unlock()
		select {
		case <-wait:
		case <-expired:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (m *Machine) unlock(f *openFile) {
	l := &m.locks
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held[f.path] == f {
		delete(l.held, f.path)
		close(l.wait)
		l.wait = make(chan struct{})
	}
}

// runSudo checks the rule and the password and runs a command as another user.
func runSudo(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+nSp:u:g:HEikvlsbKA", "non-interactive=n", "stdin=S", "prompt=p", "user=u", "group=g", "set-home=H", "preserve-env=E", "login=i", "reset-timestamp=k", "validate=v", "list=l", "shell=s")
	if !ok {
		return 1
	}
	m := p.Machine
	me := m.userName(p.UID)
	target, found := m.User(cmp.Or(opts.last("u"), "root"))
	if !found {
		return p.Fail(1, "unknown user %s", opts.last("u"))
	}
	rule := m.sudoRule(me)
	if rule == SudoPassword && p.UID != 0 {
		if opts.has("n") {
			return p.Fail(1, "a password is required")
		}
		if code := p.sudoPassword(me, opts); code != 0 {
			return code
		}
	}
	if rule == SudoNone {
		if opts.has("n") {
			return p.Fail(1, "a password is required")
		}
		if code := p.sudoPassword(me, opts); code != 0 {
			return code
		}
		fmt.Fprintf(p.Stderr, "%s is not in the sudoers file.\n", me)
		return 1
	}
	env := map[string]string{"PATH": defaultPath, "SUDO_USER": me, "SUDO_UID": strconv.Itoa(p.UID), "USER": target.Name, "LOGNAME": target.Name, "HOME": target.Home, "SHELL": target.Shell}
	for _, name := range []string{"LANG", "LC_ALL", "TERM", "DISPLAY"} {
		if v, ok := p.Env[name]; ok {
			env[name] = v
		}
	}
	for len(rest) > 0 && strings.Contains(rest[0], "=") && !strings.HasPrefix(rest[0], "/") {
		name, value, _ := strings.Cut(rest[0], "=")
		env[name] = value
		rest = rest[1:]
	}
	if opts.has("E") {
		for k, v := range p.Env {
			if _, set := env[k]; !set {
				env[k] = v
			}
		}
	}
	if len(rest) == 0 {
		if !opts.has("i", "s") {
			return 0
		}
		rest = []string{target.Shell}
	}
	child := p.child(rest)
	child.Env, child.UID = env, target.UID
	if opts.has("i") {
		child.Dir = target.Home
	}
	if _, err := lookup(m.FS.View, rest[0], env["PATH"]); err != nil {
		return p.Fail(1, "%s: command not found", rest[0])
	}
	m.Log(Entry{Ident: "sudo", PID: p.pid, Priority: 5, Text: fmt.Sprintf("%8s : PWD=%s ; USER=%s ; COMMAND=%s", me, p.Dir, target.Name, strings.Join(rest, " "))})
	return m.exec(ctx, child, p.files, nil)
}

// sudoPassword asks up to three times.
func (p *Proc) sudoPassword(user string, opts flags) int {
	if !opts.has("S") && !p.TTY {
		fmt.Fprintf(p.Stderr, "sudo: a terminal is required to read the password; either use the -S option to read from standard input or configure an askpass helper\nsudo: a password is required\n")
		return 1
	}
	prompt := "[sudo] password for " + user + ": "
	if opts.has("p") {
		prompt = strings.NewReplacer("%u", user, "%p", user, "%h", p.Machine.Name()).Replace(opts.last("p"))
	}
	for try := 1; try <= 3; try++ {
		io.WriteString(p.Stderr, prompt)
		line, ok := p.readPassword()
		if !ok {
			break
		}
		if p.Machine.CheckPassword(user, line) {
			return 0
		}
		if try < 3 {
			io.WriteString(p.Stderr, "Sorry, try again.\n")
		} else {
			p.Errorf("3 incorrect password attempts")
			return 1
		}
	}
	io.WriteString(p.Stderr, "\n")
	return p.Fail(1, "no password was provided\nsudo: a password is required")
}

func (p *Proc) readPassword() (string, bool) {
	var line []byte
	buf := make([]byte, 256)
	for {
		n, err := readLine(p.ctx, p.Stdin, buf)
		line = append(line, buf[:n]...)
		if n > 0 && line[len(line)-1] == '\n' {
			return strings.TrimRight(string(line), "\r\n"), true
		}
		if err != nil {
			return string(line), len(line) > 0
		}
	}
}

func runSu(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+lc:s:mpu:g:P", "login=l", "command=c", "shell=s", "user=u")
	if !ok {
		return 1
	}
	login := opts.has("l")
	if len(rest) > 0 && rest[0] == "-" {
		login, rest = true, rest[1:]
	}
	name := "root"
	if opts.has("u") {
		name = opts.last("u")
	} else if len(rest) > 0 {
		name, rest = rest[0], rest[1:]
	}
	command := opts.last("c")
	for i := 0; i+1 < len(rest); i++ { // su USER -c COMMAND
		if rest[i] == "-c" {
			command = rest[i+1]
			rest = nil
			break
		}
	}
	u, found := p.Machine.User(name)
	if !found {
		return p.Fail(1, "user %s does not exist or the user entry does not contain all the required fields", name)
	}
	if p.UID != 0 {
		password, _ := p.readPassword()
		if !p.Machine.CheckPassword(name, password) {
			return p.Fail(1, "Authentication failure")
		}
	}
	argv := []string{cmp.Or(opts.last("s"), "/bin/sh")}
	if command != "" {
		argv = append(argv, "-c", command)
	} else if len(rest) > 0 && p.Name() == "runuser" {
		if rest[0] == "--" {
			rest = rest[1:]
		}
		argv = rest
	}
	child := p.child(argv)
	child.UID = u.UID
	child.Env = maps.Clone(p.Env)
	if u.UID != 0 || login {
		child.Env["HOME"], child.Env["USER"], child.Env["LOGNAME"], child.Env["SHELL"] = u.Home, u.Name, u.Name, u.Shell
	}
	if login {
		child.Dir = u.Home
	}
	return p.Machine.exec(ctx, child, p.files, nil)
}
