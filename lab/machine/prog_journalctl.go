package machine

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// journalWriter makes journal lines of what a unit prints.
type journalWriter struct {
	m           *Machine
	unit, ident string
	partial     string
}

func (w *journalWriter) Write(p []byte) (int, error) {
	text := w.partial + string(p)
	for {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			w.partial = text
			return len(p), nil
		}
		w.m.Log(Entry{Unit: w.unit, Ident: w.ident, Priority: 6, Text: line})
		text = rest
	}
}

// journalFilter selects journal lines.
type journalFilter struct {
	unit, ident, grep string
	priority          int // -1: all
	last              int // 0: all
	since             time.Time
	output            string
	reverse           bool
}

func runJournalctl(ctx context.Context, p *Proc) int {
	opts, _, ok := p.getopt("u:t:n:p:S:U:g:o:b::kfreqxam", "unit=u", "identifier=t", "lines=n", "priority=p", "since=S", "until=U", "grep=g", "output=o", "boot", "boot=", "dmesg=k", "follow=f", "reverse=r", "no-pager", "quiet=q",
		"no-hostname", "all=a", "utc", "pager-end=e", "flush", "sync", "rotate", "vacuum-time=", "vacuum-size=", "disk-usage", "no-tail", "merge=m", "catalog=x", "cursor-file=", "show-cursor", "after-cursor=")
	if !ok {
		return 1
	}
	f := journalFilter{unit: opts.last("u"), ident: opts.last("t"), grep: opts.last("g"), priority: -1, output: opts.last("o"), reverse: opts.has("r")}
	if f.unit != "" {
		f.unit = canonicalUnit(f.unit)
	}
	if n, err := strconv.Atoi(opts.last("n")); err == nil {
		f.last = n
	} else if opts.has("n") && opts.last("n") != "all" {
		f.last = 10
	}
	if text := opts.last("p"); text != "" {
		f.priority = priorityOf(text)
	}
	if text := opts.last("S"); text != "" {
		at, ok := parseDate(text, p.Machine.Now())
		if !ok && strings.HasPrefix(text, "-") {
			var d time.Duration
			if d, ok = duration(strings.TrimSuffix(strings.TrimSuffix(text[1:], "in"), "ec")); ok {
				at = p.Machine.Now().Add(-d)
			}
		}
		if !ok {
			fmt.Fprintf(p.Stderr, "Failed to parse timestamp: %s\n", text)
			return 1
		}
		f.since = at
	}
	shown := p.showJournal(f)
	if shown == 0 && !opts.has("q") && f.output != "cat" && f.output != "json" {
		p.Println("-- No entries --")
	}
	if !opts.has("f") {
		return 0
	}
	seen := len(p.Machine.Journal())
	for p.Machine.Sleep(ctx, 500*time.Millisecond) == nil {
		all := p.Machine.Journal()
		for _, e := range all[min(seen, len(all)):] {
			if f.selects(e) {
				p.Println(p.journalLine(f.output, e))
			}
		}
		seen = len(all)
	}
	return 0
}

func priorityOf(text string) int {
	if n, err := strconv.Atoi(text); err == nil {
		return n
	}
	for i, name := range []string{"emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"} {
		if name == text {
			return i
		}
	}
	return 7
}

func (f journalFilter) selects(e Entry) bool {
	switch {
	case f.unit != "" && e.Unit != f.unit, f.ident != "" && e.Ident != f.ident, f.priority >= 0 && e.Priority > f.priority,
		f.grep != "" && !strings.Contains(e.Text, f.grep), !f.since.IsZero() && e.Time.Before(f.since):
		return false
	}
	return true
}

func (p *Proc) showJournal(f journalFilter) int {
	var list []Entry
	for _, e := range p.Machine.Journal() {
		if f.selects(e) {
			list = append(list, e)
		}
	}
	if f.last > 0 && len(list) > f.last {
		list = list[len(list)-f.last:]
	}
	for i := range list {
		at := i
		if f.reverse {
			at = len(list) - 1 - i
		}
		p.Println(p.journalLine(f.output, list[at]))
	}
	return len(list)
}

func (p *Proc) journalLine(output string, e Entry) string {
	pid := e.PID
	tag := e.Ident
	if pid > 0 {
		tag = fmt.Sprintf("%s[%d]", e.Ident, pid)
	}
	switch output {
	case "cat":
		return e.Text
	case "json":
		return fmt.Sprintf(`{"__REALTIME_TIMESTAMP":"%d","PRIORITY":"%d","_SYSTEMD_UNIT":%q,"SYSLOG_IDENTIFIER":%q,"_PID":"%d","MESSAGE":%q}`, e.Time.UnixMicro(), e.Priority, e.Unit, e.Ident, pid, e.Text)
	case "short-iso":
		return fmt.Sprintf("%s %s %s: %s", e.Time.UTC().Format("2006-01-02T15:04:05+00:00"), p.Machine.Name(), tag, e.Text)
	}
	return fmt.Sprintf("%s %s %s: %s", e.Time.UTC().Format("Jan 02 15:04:05"), p.Machine.Name(), tag, e.Text)
}

func runSystemdCat(ctx context.Context, p *Proc) int {
	opts, rest, ok := p.getopt("+t:p:", "identifier=t", "priority=p")
	if !ok {
		return 1
	}
	w := &journalWriter{m: p.Machine, ident: cmp.Or(opts.last("t"), "cat")}
	if len(rest) == 0 {
		content, err := p.ReadInput("-")
		if err != nil {
			return 1
		}
		_, _ = w.Write(append(content, '\n')) // it cannot fail
		return 0
	}
	return p.Spawn(ctx, rest, p.Stdin, w, w)
}
