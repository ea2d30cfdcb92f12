package machine

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// systemdPrograms control units and read the journal.
func systemdPrograms() map[string]Program {
	return map[string]Program{
		"systemctl": runSystemctl, "systemd-run": runSystemdRun, "journalctl": runJournalctl, "hostnamectl": runHostnamectl, "timedatectl": runTimedatectl, "loginctl": runQuiet,
		"systemd-cat": runSystemdCat, "systemd-detect-virt": runDetectVirt, "systemd-analyze": runQuiet, "systemd-tmpfiles": runQuiet, "/usr/sbin/service": runService, "systemd-escape": runEcho,
	}
}

func runSystemctl(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("p:P:qaln:t:s:fH:", "property=p", "quiet=q", "all=a", "full=l", "no-legend", "no-legend=", "plain", "value", "now", "no-block", "failed", "state=", "type=t",
		"no-pager", "runtime", "system", "signal=s", "kill-who=", "kill-whom=", "no-ask-password", "force=f", "wait", "lines=n", "job-mode=", "message=", "no-wall", "user", "output=")
	if !ok {
		return 1
	}
	s := &systemctl{p: p, ctx: ctx, opts: opts}
	if len(rest) == 0 {
		rest = []string{"list-units"}
	}
	verb, names := rest[0], rest[1:]
	switch verb {
	case "is-active":
		return s.isState(names, func(u UnitState) bool { return u.Active == "active" || u.Active == "reloading" }, 3)
	case "is-failed":
		return s.isState(names, func(u UnitState) bool { return u.Active == "failed" }, 1)
	case "is-enabled":
		return s.isEnabled(names)
	case "is-system-running":
		return s.systemRunning()
	case "show":
		return s.show(names)
	case "cat":
		return s.cat(names)
	case "status":
		return s.status(names)
	case "start", "stop", "restart", "reload", "try-restart", "reload-or-restart", "try-reload-or-restart", "condrestart", "kill", "reset-failed":
		return s.control(verb, names)
	case "enable", "disable", "mask", "unmask", "reenable", "preset":
		return s.enable(verb, names)
	case "list-units":
		return s.list(names)
	case "list-unit-files":
		return s.listFiles(names)
	case "list-timers", "list-jobs", "list-sockets", "daemon-reexec", "set-property", "set-environment", "import-environment":
		return 0
	case "daemon-reload":
		return p.Machine.loadUnitFiles()
	case "get-default":
		p.Println("multi-user.target")
		return 0
	case "reboot", "poweroff", "halt":
		if p.UID != 0 {
			io.WriteString(p.Stderr, "Call to Reboot failed: Interactive authentication required.\n")
			return 1
		}
		p.Machine.Shutdown(verb == "reboot")
		return 0
	}
	io.WriteString(p.Stderr, "Unknown command verb '"+verb+"'.\n")
	return 1
}

// systemctl is one run of the program.
type systemctl struct {
	p    *Proc
	ctx  context.Context //nolint:containedctx // lives as long as the program
	opts flags
}

// units finds the states of names, which may be patterns.
func (s *systemctl) units(names []string) []UnitState {
	var list []UnitState
	for _, name := range names {
		if strings.ContainsAny(name, "*?[") {
			for _, u := range s.p.Machine.Units() {
				if matches(canonicalUnit(name), u.Name) || matches(name, u.Name) {
					list = append(list, u)
				}
			}
			continue
		}
		u, _ := s.p.Machine.Unit(name)
		list = append(list, u)
	}
	return list
}

func (s *systemctl) isState(names []string, good func(UnitState) bool, bad int) int {
	status := bad
	list := s.units(names)
	if bad == 3 && len(list) > 0 && !slices.ContainsFunc(list, func(u UnitState) bool { return u.Load != "not-found" }) {
		status = 4
	}
	for _, u := range list {
		if !s.opts.has("q") {
			s.p.Println(u.Active)
		}
		if good(u) {
			status = 0
		}
	}
	return status
}

// fileState is UnitFileState.
func fileState(u UnitState) string {
	switch {
	case u.Load == "not-found":
		return ""
	case u.Load == "masked":
		return "masked"
	case u.Transient:
		return "transient"
	case u.Static:
		return "static"
	case u.Enabled:
		return "enabled"
	default:
		return "disabled"
	}
}

func (s *systemctl) isEnabled(names []string) int {
	status := 1
	for _, u := range s.units(names) {
		state := fileState(u)
		if state == "" {
			if !s.opts.has("q") {
				s.p.Println("not-found")
			}
			status = 4
			continue
		}
		if !s.opts.has("q") {
			s.p.Println(state)
		}
		if state == "enabled" || state == "static" {
			status = 0
		}
	}
	return status
}

func (s *systemctl) systemRunning() int {
	m := s.p.Machine
	m.mu.Lock()
	stop := m.power == stopping
	m.mu.Unlock()
	state := "running"
	switch {
	case stop:
		state = "stopping"
	case slices.ContainsFunc(m.Units(), func(u UnitState) bool { return u.Active == "failed" }):
		state = "degraded"
	}
	if !s.opts.has("q") {
		s.p.Println(state)
	}
	return boolStatus(state == "running")
}

// properties are what show knows, in its order.
func properties(u UnitState) [][2]string {
	enter := ""
	if !u.Since.IsZero() {
		enter = u.Since.UTC().Format("Mon 2006-01-02 15:04:05 UTC")
	}
	kind := "simple"
	if u.Oneshot {
		kind = "oneshot"
	}
	fragment := "/usr/lib/systemd/system/" + u.Name
	if u.Transient {
		fragment = "/run/systemd/transient/" + u.Name
	}
	if u.Load == "not-found" {
		fragment, enter = "", ""
	}
	active := map[bool]string{true: enter}[u.Active == "active"]
	reload := map[bool]string{true: "yes", false: "no"}[u.OnReload != nil]
	return [][2]string{
		{"Type", kind}, {"Restart", "no"}, {"MainPID", strconv.Itoa(u.MainPID)}, {"Result", u.Result}, {"NRestarts", strconv.Itoa(u.Restarts)},
		{"ExecMainPID", strconv.Itoa(u.MainPID)}, {"ExecMainCode", strconv.Itoa(u.ExitCode)}, {"ExecMainStatus", strconv.Itoa(u.ExitStatus)},
		{"Id", u.Name}, {"Names", u.Name}, {"Description", descriptionOf(u)}, {"LoadState", u.Load}, {"ActiveState", u.Active}, {"FreezerState", "running"}, {"SubState", u.Sub},
		{"FragmentPath", fragment}, {"UnitFileState", fileState(u)}, {"StateChangeTimestamp", enter}, {"ActiveEnterTimestamp", active}, {"InactiveEnterTimestamp", ""},
		{"CanStart", "yes"}, {"CanStop", "yes"}, {"CanReload", reload}, {"NeedDaemonReload", "no"}, {"Transient", map[bool]string{true: "yes", false: "no"}[u.Transient]},
		{"InvocationID", ""}, {"WantedBy", "multi-user.target"}, {"ConditionResult", "yes"}, {"CollectMode", "inactive"},
	}
}

func descriptionOf(u UnitState) string {
	if u.Description != "" {
		return u.Description
	}
	return u.Name
}

// show prints properties in systemd's order whatever the order they were asked for in, units separated by blank lines.
func (s *systemctl) show(names []string) int {
	var wanted []string
	for _, list := range append(s.opts.all("p"), s.opts.all("P")...) {
		wanted = append(wanted, strings.Split(list, ",")...)
	}
	value := s.opts.has("value", "P")
	if len(names) == 0 {
		s.p.Println("Version=257.8-1~deb13u2\nSystemState=running\nNFailedUnits=0")
		return 0
	}
	for i, u := range s.units(names) {
		if i > 0 {
			s.p.Println("")
		}
		for _, kv := range properties(u) {
			if wanted != nil && !slices.Contains(wanted, kv[0]) || u.Load == "not-found" && strings.HasPrefix(kv[0], "Exec") && wanted == nil {
				continue
			}
			if value {
				s.p.Println(kv[1])
			} else {
				s.p.Println(kv[0] + "=" + kv[1])
			}
		}
	}
	return 0
}

func (s *systemctl) cat(names []string) int {
	for _, u := range s.units(names) {
		if u.Load == "not-found" {
			fmt.Fprintf(s.p.Stderr, "No files found for %s.\n", u.Name)
			return 1
		}
		path := "/usr/lib/systemd/system/" + u.Name
		if content, err := s.p.Machine.FS.ReadFile("/etc/systemd/system/" + u.Name); err == nil {
			s.p.Printf("# /etc/systemd/system/%s\n%s", u.Name, content)
			continue
		}
		s.p.Printf("# %s\n[Unit]\nDescription=%s\n\n[Service]\nExecStart=%s\n\n[Install]\nWantedBy=multi-user.target\n", path, u.Description, u.Command)
	}
	return 0
}

func (s *systemctl) status(names []string) int {
	status := 0
	if len(names) == 0 {
		s.p.Printf("● %s\n    State: running\n", s.p.Machine.Name())
		return 0
	}
	for i, u := range s.units(names) {
		if u.Load == "not-found" {
			fmt.Fprintf(s.p.Stderr, "Unit %s could not be found.\n", u.Name)
			status = 4
			continue
		}
		if i > 0 {
			s.p.Println("")
		}
		mark := map[string]string{"active": "●", "failed": "×"}[u.Active]
		if mark == "" {
			mark = "○"
		}
		since := u.Since.UTC().Format("Mon 2006-01-02 15:04:05 UTC")
		s.p.Printf("%s %s - %s\n     Loaded: %s (/usr/lib/systemd/system/%s; %s; preset: enabled)\n     Active: %s (%s) since %s\n", mark, u.Name, descriptionOf(u), u.Load, u.Name, fileState(u), u.Active, u.Sub, since)
		if u.MainPID > 0 {
			s.p.Printf("   Main PID: %d (%s)\n", u.MainPID, strings.TrimSuffix(u.Name, ".service"))
		}
		s.p.Println("")
		s.p.showJournal(journalFilter{unit: u.Name, last: 10, priority: -1})
		if u.Active != "active" {
			status = 3
		}
	}
	return status
}

func (s *systemctl) list(patterns []string) int {
	state := s.opts.last("state")
	if s.opts.has("failed") {
		state = "failed"
	}
	var rows [][]string
	for _, u := range s.p.Machine.Units() {
		if len(patterns) > 0 && !slices.ContainsFunc(patterns, func(pat string) bool { return matches(pat, u.Name) || canonicalUnit(pat) == u.Name }) {
			continue
		}
		if state != "" && !slices.ContainsFunc(strings.Split(state, ","), func(want string) bool { return want == u.Active || want == u.Sub || want == u.Load }) {
			continue
		}
		if state == "" && !s.opts.has("a") && u.Active == "inactive" {
			continue
		}
		if t := s.opts.last("t"); t != "" && !strings.HasSuffix(u.Name, "."+t) {
			continue
		}
		rows = append(rows, []string{u.Name, u.Load, u.Active, u.Sub, descriptionOf(u)})
	}
	legend := !s.opts.has("no-legend")
	if legend {
		rows = append([][]string{{"UNIT", "LOAD", "ACTIVE", "SUB", "DESCRIPTION"}}, rows...)
	}
	width := make([]int, 5)
	for _, row := range rows {
		for i, cell := range row {
			width[i] = max(width[i], len(cell))
		}
	}
	for i, row := range rows {
		prefix := ""
		if !s.opts.has("plain") {
			prefix = "  "
			if row[2] == "failed" && !(legend && i == 0) {
				prefix = "● "
			}
		}
		s.p.Printf("%s%-*s %-*s %-*s %-*s %s\n", prefix, width[0], row[0], width[1], row[1], width[2], row[2], width[3], row[3], row[4])
	}
	if legend {
		s.p.Printf("\n%d loaded units listed.\n", len(rows)-1)
	}
	return 0
}

func (s *systemctl) listFiles(patterns []string) int {
	for _, u := range s.p.Machine.Units() {
		if len(patterns) == 0 || slices.ContainsFunc(patterns, func(pat string) bool { return matches(pat, u.Name) || canonicalUnit(pat) == u.Name }) {
			s.p.Printf("%-40s %-15s enabled\n", u.Name, fileState(u))
		}
	}
	return 0
}

func runService(ctx context.Context, p *Proc) int {
	if len(p.Argv) < 3 {
		return p.Fail(1, "usage: service < option > | --status-all | [ service_name [ command | --full-restart ] ]")
	}
	return p.Run(ctx, "systemctl", p.Argv[2], p.Argv[1])
}

func runHostnamectl(ctx context.Context, p *Proc) int {
	if len(p.Argv) > 2 && (p.Argv[1] == "set-hostname" || p.Argv[1] == "hostname") {
		if err := p.view.WriteFile("/etc/hostname", []byte(p.Argv[2]+"\n"), 0o644); err != nil {
			return p.Fail(1, "Could not set static hostname: %s", Reason(err))
		}
		return p.Run(ctx, "hostname", p.Argv[2])
	}
	p.Printf(" Static hostname: %s\nOperating System: Debian GNU/Linux %s (%s)\n          Kernel: Linux %s\n    Architecture: x86-64\n", p.Machine.Name(), p.Machine.opt.Release, p.Machine.opt.Codename, p.Machine.Kernel())
	return 0
}

func runTimedatectl(_ context.Context, p *Proc) int {
	chrony := p.Machine.UnitActive("chrony.service")
	yes := map[bool]string{true: "yes", false: "no"}
	if slices.Contains(p.Args(), "show") {
		p.Printf("Timezone=Etc/UTC\nLocalRTC=no\nCanNTP=yes\nNTP=%s\nNTPSynchronized=%s\n", yes[chrony], yes[chrony])
		return 0
	}
	p.Printf("               Local time: %s\n                Time zone: Etc/UTC (UTC, +0000)\nSystem clock synchronized: %s\n              NTP service: %s\n", p.Machine.Now().UTC().Format("Mon 2006-01-02 15:04:05 UTC"), yes[chrony], map[bool]string{true: "active", false: "inactive"}[chrony])
	return 0
}

func runDetectVirt(_ context.Context, p *Proc) int {
	p.Println("none")
	return 1
}
