package report_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/stretchr/testify/require"
)

func options(level report.Level) report.Options {
	return report.Options{
		Look: report.Look{Unicode: true, Width: 80}, Level: level, Now: time.Now,
		Logs: func(run string) string { return "~/.local/state/pxrun/runs/" + run },
	}
}

func TestTerminalKeepsWhatHappenedAndTakesTheLivePartAway(t *testing.T) {
	for name, level := range map[string]report.Level{"terminal.txt": report.Normal, "terminal-vv.txt": report.Trace} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				sink := report.NewTerminal(&out, options(level))
				for _, e := range halfJoined() {
					require.NoError(t, sink.Handle(t.Context(), e))
					time.Sleep(time.Until(time.Now().Add(150 * time.Millisecond))) // lets the fake clock draw
				}
				require.NoError(t, sink.Close())
				golden(t, name, screen(t, out.Bytes()))
			})
		})
	}
}

func TestTerminalShowsHostsAtWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		sink := report.NewTerminal(&out, options(report.Normal))
		for _, e := range halfJoined() {
			e.Time = time.Now()
			require.NoError(t, sink.Handle(t.Context(), e))
			if done, ok := e.Body.(event.ChangeStarted); ok && done.Change.Host == "pve3" {
				break
			}
		}
		time.Sleep(2 * time.Second) // the fake clock
		synctest.Wait()
		golden(t, "working.txt", screen(t, bytes.Clone(out.Bytes())))
		require.NoError(t, sink.Close())
	})
}

func TestTerminalStandsAsideForAQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		sink := report.NewTerminal(&out, options(report.Normal))
		require.NoError(t, sink.Handle(t.Context(), halfJoined()[0]))
		time.Sleep(time.Second)
		synctest.Wait()
		require.NoError(t, sink.Suspend(func() error {
			out.WriteString("Go on? ")
			before := out.Len()
			time.Sleep(time.Second)
			synctest.Wait()
			require.Equal(t, before, out.Len(), "the bar was drawn over the question")
			return nil
		}))
		require.NoError(t, sink.Close())
	})
}

func TestPlainWritesOneLineForEachThing(t *testing.T) {
	for name, level := range map[string]report.Level{"plain.txt": report.Normal, "plain-v.txt": report.Verbose} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			play(t, report.NewPlain(&out, options(level)), halfJoined())
			require.NotContains(t, out.String(), "\x1b")
			golden(t, name, out.String())
		})
	}
}

// TestPlainTellsWhatWasTakenBack covers release, whose run has no beginning and no tasks.
func TestPlainTellsWhatWasTakenBack(t *testing.T) {
	var out bytes.Buffer
	var s story
	s.tell("", "pve1", event.UndoDone{ID: "pve1/drill", Of: "01OLD"})
	s.tell("", "", event.RunDone{Status: event.Changed, Duration: 2 * time.Second})
	play(t, report.NewPlain(&out, options(report.Normal)), s.events)
	require.Contains(t, out.String(), "taken back: pve1/drill")
	require.Contains(t, out.String(), "Done. 1 temporary change taken back.  2.0s, run 01JDEMO")
	require.NotContains(t, out.String(), "No changes")
}

func TestQuietTellsOfTroubleOnly(t *testing.T) {
	var out bytes.Buffer
	play(t, report.NewQuiet(&out, options(report.Normal)), halfJoined())
	golden(t, "quiet.txt", out.String())

	out.Reset()
	var s story
	s.tell("", "", event.RunStarted{Command: "apply", Runbook: "site", Tasks: 1, Hosts: []string{"a"}})
	s.tell("site/x", "", event.StepStarted{Index: 1, Module: "command", Hosts: []string{"a"}})
	s.tell("site/x", "a", event.HostDone{Status: event.Changed, Changed: 1})
	s.tell("site/x", "", event.StepDone{Status: event.Changed})
	s.tell("", "", event.RunDone{Status: event.Changed})
	play(t, report.NewQuiet(&out, options(report.Normal)), s.events)
	require.Empty(t, out.String())
}

func TestJSONIsOneObjectALine(t *testing.T) {
	var out bytes.Buffer
	events := halfJoined()
	play(t, report.NewJSON(&out), events)
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	require.Len(t, lines, len(events))
	for i, line := range lines {
		var back event.Event
		require.NoError(t, json.Unmarshal(line, &back))
		require.Equal(t, events[i].Body.Kind(), back.Body.Kind())
	}
	golden(t, "events.jsonl", out.String())
}

func TestManyHostsAreSummedUp(t *testing.T) {
	var s story
	hosts := make([]string, 40)
	done := make([]event.HostSummary, len(hosts))
	for i := range hosts {
		hosts[i] = "n" + string(rune('a'+i/10)) + string(rune('0'+i%10))
		done[i] = event.HostSummary{Host: hosts[i], Status: event.OK}
	}
	s.tell("", "", event.RunStarted{Command: "apply", Runbook: "site", Tasks: 1, Hosts: hosts})
	s.tell("site/x", "", event.StepStarted{Index: 1, Module: "command", Hosts: hosts})
	for i, h := range hosts {
		body := event.HostDone{Status: event.OK}
		if i%13 == 0 {
			body = event.HostDone{Status: event.Unreachable, Error: h + ": connect: dial tcp 192.0.2." + h[1:] + ":22: connection refused"}
			body.Error = h + ": connect: dial tcp 192.0.2.9:22: connection refused"
			done[i].Status = event.Unreachable
		}
		s.tell("site/x", h, body)
	}
	s.tell("site/x", "", event.StepDone{Status: event.Unreachable})
	s.tell("", "", event.RunDone{Status: event.Unreachable, Summary: event.Summary{Steps: []event.StepSummary{{Step: "site/x", Status: event.Unreachable, Hosts: done}}}})
	var out bytes.Buffer
	play(t, report.NewQuiet(&out, options(report.Normal)), s.events)
	golden(t, "many.txt", out.String())
}
