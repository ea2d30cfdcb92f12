package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"al.essio.dev/pkg/shellescape"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/detach"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/pve"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/spf13/pflag"
)

// runOptions are what plan, apply and resume have in common.
type runOptions struct {
	site        siteOptions
	network     networkOptions
	runbook     string
	limit       []string
	tags        []string
	skipTags    []string
	parallelism int
}

func (o *runOptions) flags(f *pflag.FlagSet) {
	o.site.flags(f)
	o.network.flags(f)
	f.StringArrayVar(&o.site.args, "arg", nil, "tell the runbook something: `NAME=VALUE`, an argument that it declares; may be given more than once")
	f.StringSliceVar(&o.limit, "limit", nil, "only these `HOSTS`: names, groups, clusters or patterns such as 'pve*', separated by commas")
	f.StringSliceVar(&o.tags, "tags", nil, "only tasks that have one of these `TAGS`")
	f.StringSliceVar(&o.skipTags, "skip-tags", nil, "leave out tasks that have one of these `TAGS`")
	f.IntVar(&o.parallelism, "parallelism", 32, "how many hosts are worked on at once")
}

// arguments sorts "RUNBOOK", "PATH" and "RUNBOOK PATH…" apart: what exists as a file or folder is a path.
func (o *runOptions) arguments(a *app, args []string) error {
	o.site.paths = nil
	for _, arg := range args {
		switch {
		case exists(arg):
			o.site.paths = append(o.site.paths, arg)
		case o.runbook == "" && !looksLikePath(arg):
			o.runbook = arg
		default:
			return invalid("%s: no such file or folder", arg)
		}
	}
	return nil
}

// session is one run: what was loaded, the connections, and the engine with its listeners.
type session struct {
	app      *app
	doc      *runbooks.Document
	book     *engine.Runbook
	options  runOptions
	net      *network
	bus      *event.Bus
	engine   *engine.Engine
	terminal *report.Terminal // nil when the report is no live one
	signals  *interrupts
	recorded bool // the run is in the journal and ends with a summary
}

// prepare loads the site and finds the runbook.
func (a *app) prepare(ctx context.Context, o runOptions) (*session, error) {
	if o.runbook != "" {
		o.site.secretsOf, o.site.runbook = []string{o.runbook}, o.runbook
	}
	doc, err := a.load(ctx, o.site, true)
	if err != nil {
		return nil, err
	}
	if len(o.site.args) > 0 && o.runbook == "" {
		return nil, invalid("--arg is for a runbook that is named: pxrun apply RUNBOOK --arg NAME=VALUE")
	}
	s := &session{app: a, doc: doc, options: o}
	if s.book, err = a.chooseRunbook(doc, o); err != nil {
		return nil, err
	}
	if err := checkTags(doc, s.book.Name, slices.Concat(o.tags, o.skipTags)); err != nil {
		return nil, err
	}
	if len(o.limit) > 0 {
		if s.options.limit, err = selectHosts(doc.Site, o.limit); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// checkTags refuses tags that no task of the runbook bears: with a slip of the hand nothing would run and all would
// seem well, or a task that is to be left out would run.
func checkTags(doc *runbooks.Document, runbook string, wanted []string) error {
	for _, rb := range doc.Runbooks {
		if rb.Name != runbook {
			continue
		}
		for _, tag := range wanted {
			if slices.Contains(rb.Tags, tag) {
				continue
			}
			known := "No task has tags."
			if len(rb.Tags) > 0 {
				known = "There is " + list(rb.Tags) + "."
			}
			return invalid("no task of runbook %q has the tag %q.%s\n%s", runbook, tag, diag.DidYouMean(tag, rb.Tags), known)
		}
	}
	return nil
}

// chooseRunbook returns the named runbook, or the only one.
func (a *app) chooseRunbook(doc *runbooks.Document, o runOptions) (*engine.Runbook, error) {
	name := o.runbook
	if name == "" {
		switch names := doc.RunbookNames(); len(names) {
		case 0:
			return nil, invalid("the files hold no runbook")
		case 1:
			name = names[0]
		default:
			return nil, invalid("the files hold %d runbooks; name one of them:%s", len(names), a.commandsWith(names, o.site))
		}
	}
	book, problems := doc.Runbook(name)
	if err := a.tell(problems); err != nil {
		return nil, err
	}
	return book, nil
}

// commandsWith are the commands to type for each of some runbooks.
func (a *app) commandsWith(names []string, o siteOptions) string {
	const most = 8
	files := ""
	for _, p := range append(slices.Clone(o.paths), a.global.inventory...) {
		files += " -i " + shellescape.Quote(p)
	}
	text := ""
	for i, name := range names {
		if i == most {
			return text + fmt.Sprintf("\n  and %d more: %s", len(names)-most, list(names[most:]))
		}
		text += fmt.Sprintf("\n  pxrun %s %s%s", a.command, name, files)
	}
	return text
}

// list joins names for a sentence.
func list(names []string) string {
	text := ""
	for i, name := range names {
		if i > 0 {
			text += ", "
		}
		text += name
	}
	return text
}

// connect prepares the connections of the run.
func (s *session) connect(ctx context.Context) error {
	net, err := s.app.network(ctx, s.doc, s.options.network, s.note)
	s.net = net
	return err
}

// note tells the user something that concerns no host in particular.
func (s *session) note(text string) {
	if s.bus != nil {
		_ = s.bus.Emit(context.Background(), "", "", event.Warning{Text: text})
		return
	}
	s.app.note(text)
}

// note writes a warning where there is no run to report it.
func (a *app) note(text string) {
	if !a.global.json {
		_, _ = fmt.Fprintf(a.Err, "! %s\n", report.Clean(a.secrets.Redact(text)))
	}
}

// sink is the report that the flags and the terminal call for.
func (a *app) sink(logs func(run string) string) (event.Sink, *report.Terminal) {
	o := report.Options{Look: a.look(), Level: a.level(), Now: a.Now, Logs: logs}
	switch {
	case a.global.json:
		return event.Buffered(report.NewJSON(a.Out), jsonBacklog), nil
	case a.global.quiet:
		return report.NewQuiet(a.Out, o), nil
	case a.OutTerminal && a.Env("TERM") != "dumb":
		o.Columns = a.Width
		t := report.NewTerminal(a.Out, o)
		return t, t
	default:
		return report.NewPlain(a.Out, o), nil
	}
}

// jsonBacklog is how many events wait for a slow reader before output lines are left out.
const jsonBacklog = 10_000

// start makes the engine. Sinks come from the caller since only recorded runs have a journal.
func (s *session) start(cfg engine.Config, bus *event.Bus, signals *interrupts) error {
	source, err := s.app.digest(s.doc)
	if err != nil {
		return err
	}
	s.bus, s.signals = bus, signals
	cfg.Bus, cfg.Interrupts, cfg.Source = bus, signals.toEngine, source
	cfg.Dial = s.net.dial
	cfg.Limit, cfg.Tags, cfg.SkipTags, cfg.Parallelism = s.options.limit, s.options.tags, s.options.skipTags, s.options.parallelism
	cfg.Facts = engine.Facts{Probes: []transport.Command{pve.FactsProbe()}, Gather: pve.Facts}
	cfg.Clock = engine.SystemClock()
	if s.options.network.rehearsal != nil {
		cfg.Clock = s.options.network.clock
	}
	cfg.Detach = (&detach.Runner{}).Run
	if s.app.InTerminal && !s.app.global.json {
		cfg.Approve = s.approve
	}
	s.engine = engine.New(cfg)
	return nil
}

// approve asks a module's question at the terminal.
func (s *session) approve(ctx context.Context, question string) error {
	return s.aside(func() error {
		yes, err := s.app.confirm(ctx, question)
		if err == nil && !yes {
			err = errors.New("the answer was no")
		}
		return err
	})
}

// aside takes the live report off the screen while f uses the terminal.
func (s *session) aside(f func() error) error {
	if s.terminal == nil {
		return f()
	}
	return s.terminal.Suspend(f)
}

// Close ends the run: the engine's connections, the report, and a lab that was made for it.
func (s *session) Close() error {
	var err error
	if s.engine != nil {
		err = s.engine.Close()
	}
	if s.bus != nil {
		err = errors.Join(err, s.bus.Close())
	}
	if s.net != nil {
		err = errors.Join(err, s.net.Close())
	}
	return err
}

// controller names this machine and its user to those whom a lock keeps out.
func (a *app) controller() string {
	name, err := os.Hostname()
	if err != nil {
		name = "unknown"
	}
	user := a.Env("USER")
	if user == "" {
		user = a.Env("LOGNAME")
	}
	if user == "" {
		return name
	}
	return user + "@" + name
}
