package report_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// golden compares a text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err, "run the tests with -update to make it")
	require.Equal(t, string(want), got)
}

var began = time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)

// story makes events a fixed time apart.
type story struct {
	events []event.Event
	at     time.Duration
}

func (s *story) tell(step, host string, body event.Body) {
	s.events = append(s.events, event.Event{Seq: uint64(len(s.events) + 1), Time: began.Add(s.at), Run: "01JDEMO", Step: step, Host: host, Body: body})
	s.at += 100 * time.Millisecond
}

var join = []module.Change{
	{ID: "pve2/join", Host: "pve2", Summary: "join pve2 to cluster lab", Action: module.Create},
	{ID: "pve3/join", Host: "pve3", Summary: "join pve3 to cluster lab", Action: module.Create},
}

// halfJoined is a run in which the second join fails after an interrupt-free start.
func halfJoined() []event.Event {
	hosts := []string{"pve1", "pve2", "pve3"}
	var s story
	s.tell("", "", event.RunStarted{Command: "apply", Runbook: "site", Cluster: "lab", Tasks: 3, Hosts: hosts})
	for _, h := range hosts {
		s.tell("", h, event.HostConnected{Address: "192.0.2.1:22", Duration: 40 * time.Millisecond})
	}
	s.tell("site/ready", "", event.StepStarted{Index: 1, Module: "preflight", Hosts: hosts})
	for _, h := range hosts {
		s.tell("site/ready", h, event.HostDone{Status: event.OK, Duration: 300 * time.Millisecond})
	}
	s.tell("site/ready", "pve2", event.Warning{Text: "the round trip to pve3 takes 2.4 ms; corosync wants less than 2 ms"})
	s.tell("site/ready", "", event.StepDone{Status: event.OK, Duration: 1200 * time.Millisecond})
	s.tell("site/members", "", event.StepStarted{Index: 2, Module: "node_join", Hosts: hosts})
	s.tell("site/members", "pve2", event.ChangeStarted{Change: join[0]})
	s.tell("site/members", "pve2", event.Output{Stream: "stdout", Line: "\x1b]0;title\a\x1b[31mnode pve2 joined\x1b[0m"})
	s.tell("site/members", "pve2", event.CommandRan{Command: "pvecm add 10.0.1.1 --use_ssh", Mutates: true, Duration: 3 * time.Second})
	s.tell("site/members", "pve2", event.ChangeDone{ID: "pve2/join", Duration: 4 * time.Second})
	s.tell("site/members", "pve3", event.ChangeStarted{Change: join[1]})
	s.tell("site/members", "pve3", event.ChangeDone{ID: "pve3/join", Duration: 9 * time.Second, Error: "pvecm add exited 0, but pve3 is not a member"})
	s.tell("site/members", "pve1", event.HostDone{Status: event.OK, Duration: 100 * time.Millisecond})
	s.tell("site/members", "pve2", event.HostDone{Status: event.Changed, Changed: 1, Duration: 4 * time.Second})
	s.tell("site/members", "pve3", event.HostDone{Status: event.Failed, Error: "pve3: join cluster lab: pvecm add exited 0, but pve3 is not a member\nlook: pvecm status", Duration: 9 * time.Second})
	s.tell("site/members", "", event.StepDone{Status: event.Failed, Duration: 13 * time.Second})
	s.tell("", "", event.RunDone{Status: event.Failed, Duration: 14500 * time.Millisecond, Summary: event.Summary{Steps: []event.StepSummary{
		{Step: "site/ready", Module: "preflight", Status: event.OK, Hosts: []event.HostSummary{{Host: "pve1", Status: event.OK}, {Host: "pve2", Status: event.OK}, {Host: "pve3", Status: event.OK}}},
		{Step: "site/members", Module: "node_join", Status: event.Failed, Hosts: []event.HostSummary{
			{Host: "pve1", Status: event.OK},
			{Host: "pve2", Status: event.Changed, Done: []string{"join pve2 to cluster lab"}},
			{Host: "pve3", Status: event.Failed, NotDone: []string{"join pve3 to cluster lab"}, Error: "…"},
		}},
		{Step: "site/announce", Module: "command", Status: event.NotRun, Reason: "an earlier task failed", Hosts: []event.HostSummary{
			{Host: "pve1", Status: event.NotRun}, {Host: "pve2", Status: event.NotRun}, {Host: "pve3", Status: event.NotRun},
		}},
	}}})
	return s.events
}

func play(t *testing.T, sink event.Sink, events []event.Event) {
	t.Helper()
	for _, e := range events {
		require.NoError(t, sink.Handle(t.Context(), e))
	}
	require.NoError(t, sink.Close())
}

// screen shows what is left of a terminal's output after the cursor has moved up and cleared.
func screen(t *testing.T, raw []byte) string {
	t.Helper()
	var lines [][]byte
	for line := range bytes.SplitSeq(raw, []byte("\n")) {
		for bytes.HasPrefix(line, []byte("\x1b[")) && bytes.Contains(line, []byte("A\r\x1b[J")) {
			up := int(line[2] - '0')
			require.LessOrEqual(t, up, len(lines), "the cursor would leave the screen")
			lines = lines[:len(lines)-up]
			line = line[len("\x1b[0A\r\x1b[J"):]
		}
		lines = append(lines, line)
	}
	return string(bytes.Join(lines, []byte("\n")))
}
