package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/sourcegraph/conc/pool"
	"github.com/spf13/cobra"
)

// execOptions are the flags of exec.
type execOptions struct {
	site        siteOptions
	network     networkOptions
	patterns    []string
	command     []string
	timeout     time.Duration
	parallelism int
	stdin       bool
}

func newExecCommand(a *app) *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use: "exec -i PATH HOSTS... -- COMMAND [ARGUMENT...]", Short: "Run a command on hosts of a site", GroupID: groupRun,
		Long: long(`Runs one command on a selection of hosts at once and shows what it printed, hosts with the same output together. HOSTS are names of
hosts, clusters or groups, "all", or patterns such as 'pve*'; one that starts with ! takes hosts away.

Everything after -- is the command. A single argument is a shell command line; several are a program with its arguments, which
arrive as they were given. pxrun does not record what exec does, and takes no lock.

  pxrun exec -i site.hcl lab -- uptime
  pxrun exec -i site.hcl 'pve*,!pve3' -- 'systemctl is-active corosync || true'`, exitOK, exitFailed, exitUnreachable, exitPartly, exitInterrupted),
		RunE: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			if dash < 1 || dash == len(args) {
				return invalid("exec needs hosts, --, and a command\nSee: pxrun exec --help")
			}
			o.patterns, o.command = args[:dash], args[dash:]
			return runExec(cmd.Context(), a, o)
		},
	}
	f := cmd.Flags()
	o.site.flags(f)
	o.network.flags(f)
	f.DurationVar(&o.timeout, "timeout", 10*time.Minute, "give up on a host after this `TIME`")
	f.IntVar(&o.parallelism, "parallelism", 64, "how many hosts run the command at once")
	f.BoolVar(&o.stdin, "stdin", false, "give pxrun's standard input to the command on every host")
	return cmd
}

// execResult is what came of the command on one host.
type execResult struct {
	host     string
	result   transport.Result
	err      error
	duration time.Duration
}

func (r execResult) status() event.Status {
	switch {
	case r.err != nil && exitCode(r.err) == exitUnreachable:
		return event.Unreachable
	case r.err != nil && exitCode(r.err) == exitInterrupted:
		return event.Cancelled
	case r.err != nil || r.result.Exit != 0:
		return event.Failed
	default:
		return event.OK
	}
}

func runExec(ctx context.Context, a *app, o execOptions) error {
	ctx, stop := interruptible(ctx, a.Streams)
	defer stop()
	o.site.secretsOf = []string{} // none but the inventory's must be there
	doc, err := a.load(ctx, o.site, true)
	if err != nil {
		return err
	}
	hosts, err := selectHosts(doc.Site, o.patterns)
	if err != nil {
		return err
	}
	net, err := a.network(ctx, doc, o.network, a.note)
	if err != nil {
		return err
	}
	defer net.Close()
	command := transport.Command{Argv: o.command, Mutates: true, Timeout: o.timeout}
	if len(o.command) == 1 {
		command = transport.Command{Script: o.command[0], Mutates: true, Timeout: o.timeout}
	}
	if o.stdin {
		if command.Stdin, err = io.ReadAll(a.In); err != nil {
			return err
		}
	}
	bus, began := a.execBus(), a.Now()
	_ = bus.Emit(ctx, "", "", event.RunStarted{Command: "exec", Runbook: "exec", Tasks: 1, Hosts: hosts})
	results := a.execAll(ctx, net, bus, hosts, command, o.parallelism)
	if !a.global.json {
		if err := a.showExec(results); err != nil {
			return err
		}
	}
	status := worstOf(results)
	_ = bus.Emit(ctx, "", "", event.RunDone{Status: status, Duration: a.Now().Sub(began)})
	if err := bus.Close(); err != nil {
		return err
	}
	return exitWith(execCode(results))
}

// execBus carries exec's events to --json; for people the results are shown grouped at the end.
func (a *app) execBus() *event.Bus {
	cfg := event.BusConfig{Now: a.Now, Redact: a.secrets.Redact}
	if a.global.json {
		cfg.Sinks = []event.Sink{report.NewJSON(a.Out)}
	}
	return event.NewBus(cfg)
}

// execAll runs the command everywhere at once. Results stand in the hosts' order.
func (a *app) execAll(ctx context.Context, net *network, bus *event.Bus, hosts []string, command transport.Command, parallelism int) []execResult {
	results := make([]execResult, len(hosts))
	var live sync.Mutex
	p := pool.New().WithMaxGoroutines(max(parallelism, 1))
	for i, host := range hosts {
		p.Go(func() {
			began := a.Now()
			results[i] = a.execOne(ctx, net, bus, host, command, &live)
			results[i].duration = a.Now().Sub(began)
			done := event.HostDone{Status: results[i].status(), Duration: results[i].duration}
			if results[i].err != nil {
				done.Error = transport.Explain(results[i].err)
			} else if results[i].result.Exit != 0 {
				done.Error = fmt.Sprintf("exit %d", results[i].result.Exit)
			}
			_ = bus.Emit(ctx, "", host, done)
		})
	}
	p.Wait()
	return results
}

func (a *app) execOne(ctx context.Context, net *network, bus *event.Bus, host string, command transport.Command, live *sync.Mutex) execResult {
	conn, err := net.conn(ctx, host)
	if err != nil {
		return execResult{host: host, err: err}
	}
	command.Output = func(stream transport.Stream, line string) {
		name := "stdout"
		if stream == transport.Stderr {
			name = "stderr"
		}
		_ = bus.Emit(ctx, "", host, event.Output{Stream: name, Line: line})
		if a.global.verbose > 0 && !a.global.json {
			live.Lock()
			defer live.Unlock()
			_, _ = fmt.Fprintf(a.Err, "%s | %s\n", host, report.Clean(a.secrets.Redact(line)))
		}
	}
	result, err := conn.Run(ctx, command)
	return execResult{host: host, result: result, err: err}
}

// showExec writes the results, hosts with the same outcome together.
func (a *app) showExec(results []execResult) error {
	type group struct {
		hosts []string
		first execResult
		text  string
	}
	var groups []*group
	var problems []report.Problem
	for _, r := range results {
		if r.err != nil {
			problems = append(problems, report.Problem{Host: r.host, Text: a.secrets.Redact(transport.Explain(r.err))})
			continue
		}
		text := outcomeText(r.result)
		i := slices.IndexFunc(groups, func(g *group) bool { return g.text == text && g.first.result.Exit == r.result.Exit })
		if i < 0 {
			groups = append(groups, &group{first: r, text: text})
			i = len(groups) - 1
		}
		groups[i].hosts = append(groups[i].hosts, r.host)
	}
	for _, g := range groups {
		if a.global.quiet && g.first.result.Exit == 0 {
			continue
		}
		title := a.look().Title(strings.Join(g.hosts, ", "), g.first.status())
		if g.first.result.Exit != 0 {
			title += fmt.Sprintf(" exit %d", g.first.result.Exit)
		}
		if _, err := fmt.Fprintf(a.Out, "%s\n%s", title, a.secrets.Redact(g.text)); err != nil {
			return err
		}
	}
	_, err := io.WriteString(a.Err, a.lookOn(a.ErrTerminal).Problems(problems))
	return err
}

// outcomeText is what a command printed, indented and safe to show.
func outcomeText(r transport.Result) string {
	var b strings.Builder
	for _, out := range [][]byte{r.Stdout, r.Stderr} {
		text := strings.TrimRight(report.Clean(string(out)), "\n")
		if text == "" {
			continue
		}
		for line := range strings.SplitSeq(text, "\n") {
			b.WriteString(strings.TrimRight("  "+line, " ") + "\n")
		}
	}
	if r.Dropped > 0 {
		fmt.Fprintf(&b, "  (%d bytes in the middle were left out)\n", r.Dropped)
	}
	return b.String()
}

func worstOf(results []execResult) event.Status {
	order := []event.Status{event.OK, event.Unreachable, event.Failed, event.Cancelled}
	worst := event.OK
	for _, r := range results {
		if slices.Index(order, r.status()) > slices.Index(order, worst) {
			worst = r.status()
		}
	}
	return worst
}

// execCode is 5 when the command succeeded on some hosts only.
func execCode(results []execResult) int {
	switch worst := worstOf(results); {
	case worst == event.OK:
		return exitOK
	case worst == event.Cancelled:
		return exitInterrupted
	case slices.ContainsFunc(results, func(r execResult) bool { return r.status() == event.OK }):
		return exitPartly
	case worst == event.Unreachable:
		return exitUnreachable
	default:
		return exitFailed
	}
}
