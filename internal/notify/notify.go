// Package notify tells people about runs: over the services that shoutrrr knows, at the moments that a site asks for. It is a sink of
// events; what it sends was redacted before.
package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nicholas-fedor/shoutrrr"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/sourcegraph/conc"
)

// Target is where to tell, and of what.
type Target struct {
	Name string
	URL  secret.String
	On   []string
}

// Sender sends one message. Send is shoutrrr's.
type Sender func(ctx context.Context, url secret.String, title, body string) error

const (
	// sendWithin bounds one message, closeWithin what is still to be sent when the run is over.
	sendWithin  = 15 * time.Second
	closeWithin = 30 * time.Second
	backlog     = 64
)

// Send sends a message with shoutrrr. The URL is not in the error: it mostly holds a token.
func Send(ctx context.Context, url secret.String, title, body string) error {
	router, err := shoutrrr.CreateSender(url.Reveal())
	if err != nil {
		return errors.New("the url is none that shoutrrr understands")
	}
	router.Timeout = sendWithin
	done := make(chan error, 1)
	var sending conc.WaitGroup
	sending.Go(func() { done <- errors.Join(router.Send(body, &types.Params{"title": title})...) })
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	sending.Wait() // it ends by the router's own limit
	if err == nil {
		return nil
	}
	return errors.New(strings.ReplaceAll(err.Error(), url.Reveal(), "(url)"))
}

// Options are what a Sink is made of.
type Options struct {
	Targets []Target
	Send    Sender
	// Failing says that the run before this one of the same runbook and cluster did not end well.
	Failing bool
	// Trouble is told of messages that could not be sent.
	Trouble func(text string)
}

// Sink tells the targets. It is an event.Sink.
type Sink struct {
	o       Options
	ctx     context.Context //nolint:containedctx // the life of the goroutine that sends
	cancel  context.CancelFunc
	queue   chan message
	sending conc.WaitGroup
	run     event.RunStarted
	id      string
}

type message struct {
	moment, title, body string
}

// New makes a sink. Close must be called.
func New(o Options) *Sink {
	ctx, cancel := context.WithCancel(context.Background())
	s := &Sink{o: o, ctx: ctx, cancel: cancel, queue: make(chan message, backlog)}
	s.sending.Go(s.work)
	return s
}

func (s *Sink) work() {
	for m := range s.queue {
		for _, t := range s.o.Targets {
			if !slices.Contains(t.On, m.moment) {
				continue
			}
			within, done := context.WithTimeout(s.ctx, sendWithin)
			if err := s.o.Send(within, t.URL, m.title, m.body); err != nil {
				s.o.Trouble(fmt.Sprintf("notify %q: %s was not told: %v", t.Name, m.moment, err))
			}
			done()
		}
	}
}

// Handle takes an event. It never waits: who is slow to be told does not slow the run.
func (s *Sink) Handle(_ context.Context, e event.Event) error {
	for _, m := range s.messages(e) {
		select {
		case s.queue <- m:
		default:
			s.o.Trouble("notify: too many messages wait; one was left out: " + m.title)
		}
	}
	return nil
}

// Close sends what waits, for a while.
func (s *Sink) Close() error {
	close(s.queue)
	timer := time.AfterFunc(closeWithin, s.cancel)
	defer timer.Stop()
	s.sending.Wait()
	s.cancel()
	return nil
}

func (s *Sink) messages(e event.Event) []message {
	switch b := e.Body.(type) {
	case event.RunStarted:
		s.run, s.id = b, e.Run
		return []message{{event.MomentStarted, s.title("began"), fmt.Sprintf("%d tasks on %s.", b.Tasks, hosts(b.Hosts))}}
	case event.Paused:
		if b.Answer == "" {
			return nil // it waits for its hours, and goes on by itself
		}
		return []message{{event.MomentPaused, s.title("waits"), b.Reason + ".\n" + b.Answer}}
	case event.RunDone:
		return s.ended(b)
	}
	return nil
}

func (s *Sink) title(what string) string {
	name := s.run.Runbook
	if s.run.Cluster != "" {
		name += " on " + s.run.Cluster
	}
	return fmt.Sprintf("pxrun: %s %s", name, what)
}

func hosts(names []string) string {
	const most = 6
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// ended tells how a run ended: what was done where, and what is left.
func (s *Sink) ended(b event.RunDone) []message {
	var body strings.Builder
	changes := 0
	for _, step := range b.Summary.Steps {
		for _, h := range step.Hosts {
			changes += len(h.Done)
			if h.Error != "" {
				first, _, _ := strings.Cut(h.Error, "\n")
				fmt.Fprintf(&body, "%s on %s: %s\n", step.Step, h.Host, first)
			}
		}
	}
	fmt.Fprintf(&body, "%d changes in %s.\n", changes, b.Duration.Round(time.Second))
	for _, u := range b.Summary.Left {
		fmt.Fprintf(&body, "Left in place on %s; to take it back: %s\n", u.Host, u.Summary)
	}
	fmt.Fprintf(&body, "pxrun runs show %s", s.id)
	word := string(b.Status)
	if b.Status == event.OK || b.Status == event.Changed {
		word = "ended well"
	}
	out := []message{{string(b.Status), s.title(word), body.String()}}
	if s.o.Failing && (b.Status == event.OK || b.Status == event.Changed) {
		out = append(out, message{event.MomentRecovered, s.title("works again"), body.String()})
	}
	if len(b.Summary.Left) > 0 {
		out = append(out, message{event.MomentLeftover, s.title("left something in place"), body.String()})
	}
	return out
}
