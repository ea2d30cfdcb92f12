package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/journal"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// night is a rolling upgrade that was killed while its second node restarted, and taken up again the next morning.
type night struct {
	events []event.Event
	at     time.Time
}

func (n *night) tell(after time.Duration, step, host string, body event.Body) {
	n.at = n.at.Add(after)
	if step != "" {
		step = "rolling_upgrade/" + step
	}
	n.events = append(n.events, event.Event{Seq: uint64(len(n.events) + 1), Time: n.at, Run: "01JDEMO", Step: step, Host: host, Body: body})
}

// task is a task that ended on a host with a change.
func (n *night) task(step, host string, took time.Duration, undo string) {
	c := module.Change{ID: host + "/" + step, Host: host, Summary: step + " " + host, Action: module.Run}
	if undo != "" {
		n.tell(0, step, host, event.UndoRegistered{ID: host + "/" + undo, Undo: module.Undo{Host: host, Summary: "end the " + undo + " of " + host, Command: transport.Command{Argv: []string{"true"}}}})
	}
	n.tell(0, step, host, event.ChangeStarted{Change: c})
	n.tell(took, step, host, event.ChangeDone{ID: c.ID, Duration: took})
	n.tell(0, step, host, event.HostDone{Status: event.Changed, Changed: 1, Duration: took})
}

func (n *night) gates(host string, votes int) {
	n.tell(time.Second, "evacuate", host, module.Votes{Present: votes, Needed: 3, Expected: 4, Device: 1})
	n.tell(0, "evacuate", host, module.Reading{Gate: "quorum", Saw: fmt.Sprintf("%d votes without %s", votes-1, host), Want: "3", OK: votes > 3})
}

var nodes = []string{"pve1", "pve2", "pve3"}

func upgradedNight() []event.Event {
	n := &night{at: time.Date(2026, 11, 20, 22, 0, 0, 0, time.UTC)}
	course := func(order ...string) event.BlockPlanned {
		return event.BlockPlanned{Block: "nodes", Order: order, Showing: module.Showing{
			Title: "Course of the run", Lead: []string{"3 nodes in 3 rounds, about 24 min."}, Notes: []string{"All of this is read again before each node."},
			Tables: []module.Table{{Title: "The run", Columns: []module.Column{{Name: "round", Right: true}, {Name: "node"}}, Rows: [][]string{{"1", order[0]}}, Marks: map[int]string{0: "warn"}}},
		}}
	}
	steps := []string{"evacuate", "packages", "restart", "back"}
	modules := []string{"drain", "upgrade", "reboot", "release"}
	begin := func(command string) {
		n.tell(0, "", "", event.RunStarted{Command: command, Runbook: "rolling_upgrade", Cluster: "prod", Tasks: 4, Hosts: nodes})
		for i, s := range steps {
			n.tell(time.Second, s, "", event.StepStarted{Index: i + 1, Module: modules[i], Hosts: nodes, Planning: true})
		}
	}
	begin("apply")
	n.tell(0, "evacuate", "", course("pve3", "pve2", "pve1"))
	n.tell(time.Second, "packages", "pve2", event.Warning{Text: "no repository of Ceph is enabled: it stays as it is"})

	n.tell(10*time.Second, "", "pve3", event.NodeStarted{Block: "nodes", Index: 1, Of: 3, Takes: 7 * time.Minute})
	n.gates("pve3", 4)
	n.tell(40*time.Second, "evacuate", "pve3", module.Moved{Guest: "vm 300 (web)", From: "pve3", To: "pve1", Way: "live", Why: "drain", Took: 31 * time.Second})
	n.tell(0, "evacuate", "pve1", module.Downtime{Guest: "vm 300 (web)", How: "live", Took: 61 * time.Millisecond})
	n.tell(time.Second, "evacuate", "pve3", module.Moved{Guest: "ct 301 (box)", From: "pve3", To: "pve2", Way: "restart", Why: "drain", Took: 9 * time.Second})
	n.tell(0, "evacuate", "pve2", module.Downtime{Guest: "ct 301 (box)", How: "restarted", Took: 9 * time.Second})
	n.tell(time.Second, "evacuate", "pve3", module.Moved{Guest: "vm 302 (<script>alert(1)</script>)", From: "pve3", To: "pve1", Way: "offline", Why: "drain", Error: "storage 'local-lvm' | is not available\non node pve1"})
	n.tell(time.Second, "evacuate", "pve3", module.Moved{Guest: "vm 302 (<script>alert(1)</script>)", From: "pve3", To: "pve2", Way: "offline", Why: "drain", Took: 4 * time.Second})
	n.tell(0, "evacuate", "pve3", module.Downtime{Guest: "vm 303 (gpu)", How: "stopped", Least: true})
	n.task("evacuate", "pve3", 50*time.Second, "maintenance")
	n.tell(0, "packages", "pve3", module.Version{Package: "pve-manager", Before: "9.1.8", After: "9.2.2"})
	n.tell(0, "packages", "pve3", module.KeptFile{Path: "/etc/chrony/chrony.conf", New: "/etc/chrony/chrony.conf.dpkg-dist"})
	n.task("packages", "pve3", 2*time.Minute, "")
	n.tell(0, "restart", "pve3", module.Reading{Gate: "ceph", Saw: "HEALTH_WARN: 1 pool has too many PGs", Want: "HEALTH_OK", Override: "ceph_accept", Who: "root@controller"})
	n.tell(90*time.Second, "restart", "pve3", module.Phase{Name: "reboot", Took: 85 * time.Second})
	n.tell(0, "restart", "pve1", module.Votes{Present: 3, Needed: 3, Expected: 4, Device: 1})
	n.tell(0, "restart", "pve3", module.Version{Package: "kernel", Before: "6.17.2-1-pve", After: "6.17.4-1-pve"})
	n.task("restart", "pve3", 2*time.Minute, "")
	n.tell(0, "back", "pve3", module.Downtime{Guest: "vm 303", How: "stopped", Took: 6 * time.Minute})
	n.task("back", "pve3", 20*time.Second, "")
	n.tell(0, "back", "pve3", event.UndoDone{ID: "pve3/maintenance"})
	n.tell(time.Minute, "", "pve3", module.Phase{Name: "soak", Took: time.Minute})
	n.tell(0, "", "pve3", event.NodeDone{Block: "nodes", Status: event.OK, Duration: 7*time.Minute + 30*time.Second})

	n.tell(0, "", "", event.Paused{Block: "nodes", Reason: "waits for an approval before pve2", Answer: "pxrun approve 01JDEMO"})
	n.tell(25*time.Minute, "", "", event.Continued{Block: "nodes", By: "ada@controller"})
	n.tell(0, "evacuate", "", course("pve2", "pve1"))
	n.tell(0, "", "pve2", event.NodeStarted{Block: "nodes", Index: 2, Of: 3, Takes: 8 * time.Minute})
	n.gates("pve2", 4)
	n.tell(20*time.Second, "evacuate", "pve2", module.Moved{Guest: "vm 200 (db)", From: "pve2", To: "pve3", Way: "ha", Why: "drain", Took: 17 * time.Second})
	n.tell(0, "evacuate", "pve2", module.Downtime{Guest: "vm 201 (old)", How: "stopped", Least: true})
	n.task("evacuate", "pve2", 50*time.Second, "maintenance")
	n.tell(0, "packages", "pve2", module.Version{Package: "pve-manager", Before: "9.1.8", After: "9.2.2"})
	n.task("packages", "pve2", 2*time.Minute, "noout")
	n.tell(0, "restart", "pve2", event.ChangeStarted{Change: module.Change{ID: "pve2/restart", Host: "pve2", Summary: "restart pve2", Action: module.Reboot}})
	n.tell(30*time.Second, "restart", "pve2", event.Note{Text: "it restarts"}) // the last that was heard of it

	n.at = n.at.Add(9 * time.Hour)
	begin("resume")
	n.tell(0, "evacuate", "", course("pve2", "pve1"))
	n.tell(0, "", "pve3", event.NodeDone{Block: "nodes", Status: event.Skipped, Reason: "nothing to do"})
	n.tell(0, "", "pve2", event.NodeStarted{Block: "nodes", Index: 1, Of: 2, Takes: 5 * time.Minute})
	n.tell(2*time.Minute, "restart", "pve2", event.HostDone{Status: event.Failed, Duration: 2 * time.Minute, Error: "pve2: it did not come back\n  look: its console"})
	n.tell(0, "", "pve2", event.NodeDone{Block: "nodes", Status: event.Failed, Reason: "in rolling_upgrade/restart", Duration: 2 * time.Minute})
	n.tell(0, "", "", event.RunDone{Status: event.Failed, Duration: 3 * time.Minute, Summary: event.Summary{Steps: []event.StepSummary{
		{Step: "rolling_upgrade/restart", Module: "reboot", Status: event.Failed, Hosts: []event.HostSummary{
			{Host: "pve2", Status: event.Failed, NotDone: []string{"restart pve2"}, Error: "…"}, {Host: "pve1", Status: event.NotRun},
		}},
	}}})
	return n.events
}

func nightPage() *report.Page {
	return report.NewPage(report.PageOf{
		Run: "01JDEMO", Command: "apply", By: "root@controller", Version: "1.2.3",
		Released: []event.Undone{{Run: "01JDEMO", Host: "pve2", ID: "pve2/noout"}},
	}, upgradedNight())
}

func written(t *testing.T, write func(*bytes.Buffer) error) string {
	t.Helper()
	var out bytes.Buffer
	require.NoError(t, write(&out))
	return out.String()
}

func asHTML(t *testing.T, p *report.Page) string {
	return written(t, func(out *bytes.Buffer) error { return p.HTML(out) })
}

func asMarkdown(t *testing.T, p *report.Page) string {
	return written(t, func(out *bytes.Buffer) error { return p.Markdown(out) })
}

func TestPageOfANight(t *testing.T) {
	p := nightPage()
	golden(t, "page.html", asHTML(t, p))
	golden(t, "page.md", asMarkdown(t, p))
	text, err := json.MarshalIndent(p, "", " ")
	require.NoError(t, err)
	golden(t, "page.json", string(text)+"\n")
}

func TestPageOfARunWithoutRollingBlock(t *testing.T) {
	p := report.NewPage(report.PageOf{Run: "01JDEMO", Cluster: "lab"}, halfJoined())
	require.Equal(t, "It failed in members on pve3: 1 change on 1 host.", p.Verdict)
	text := asMarkdown(t, p)
	for _, row := range []string{
		"| pve1 | ok · 300ms | ok · 100ms      |", "| pve2 | ok · 300ms | 1 change · 4.0s |", "| pve3 | ok · 300ms | failed · 9.0s   |",
		"pxrun resume 01JDEMO", "| members  | pve3             | join pve3 to cluster lab |", "an earlier task failed", "round trip to pve3 takes 2.4 ms",
	} {
		require.Contains(t, text, row)
	}
	require.NotContains(t, text, "## Votes")
	require.NotContains(t, asHTML(t, p), `id="moves"`)
}

func TestPageTellsOneStoryOfSeveralAttempts(t *testing.T) {
	p := nightPage()
	require.Equal(t, "It failed in restart on pve2: 6 changes on 2 hosts; 1 of 3 nodes through, 4 guests moved, 1 guest still down, 1 temporary change left in place, 2 attempts.", p.Verdict)
	require.Len(t, p.Attempts, 2)
	require.True(t, p.Attempts[0].CutOff)
	require.False(t, p.Attempts[1].CutOff)
	require.Equal(t, 9*time.Hour, p.Attempts[1].Began.Sub(p.Attempts[0].Ended))
	page := asHTML(t, p)
	require.Contains(t, page, "cut off; taken up again by resume")
	require.Contains(t, page, "in which nothing was done, not drawn to scale")
	require.Contains(t, page, "approved by ada@controller")
}

func TestPageCountsDowntimeOnce(t *testing.T) {
	byGuest := map[string]report.PageGuest{}
	for _, g := range nightPage().Guests {
		byGuest[g.Guest] = g
	}
	require.Len(t, byGuest, 4)
	require.Equal(t, 6*time.Minute, byGuest["vm 303 (gpu)"].Stopped, "what was down at first and back later is counted once, whoever knew its name")
	require.False(t, byGuest["vm 303 (gpu)"].Down)
	require.True(t, byGuest["vm 201 (old)"].Down)
	require.Equal(t, 61*time.Millisecond, byGuest["vm 300 (web)"].Frozen)
	require.Equal(t, 9*time.Second, byGuest["ct 301 (box)"].Restarted)
}

// hostile is a run in which every text is trying to be something else.
func hostile(bad string) []event.Event {
	n := &night{at: began}
	n.tell(0, "", "", event.RunStarted{Command: bad, Runbook: bad, Cluster: bad, Tasks: 1, Hosts: []string{bad}})
	n.tell(time.Second, bad, "", event.StepStarted{Index: 1, Module: bad, Hosts: []string{bad}})
	n.tell(0, "", bad, event.NodeStarted{Block: bad, Index: 1, Of: 1})
	for _, body := range []event.Body{
		module.Moved{Guest: bad, From: bad, To: bad, Way: bad, Why: bad, Error: bad}, module.Downtime{Guest: bad, How: bad, Least: true},
		module.Votes{Present: 1, Needed: 1}, module.Reading{Gate: bad, Saw: bad, Want: bad, Override: bad, Who: bad}, module.Version{Package: bad, Before: bad, After: bad + "x"},
		module.Phase{Name: bad, Took: time.Second}, module.KeptFile{Path: bad, New: bad}, event.Warning{Text: bad},
		event.UndoRegistered{ID: bad, Undo: module.Undo{Host: bad, Summary: bad}}, event.Paused{Block: bad, Reason: bad, Answer: bad}, event.Continued{Block: bad, By: bad},
		event.BlockPlanned{Block: bad, Order: []string{bad}, Showing: module.Showing{Title: bad, Lead: []string{bad}, Notes: []string{bad}, Tables: []module.Table{{Title: bad, Columns: []module.Column{{Name: bad}}, Rows: [][]string{{bad}}}}}},
		event.HostDone{Status: event.Failed, Error: bad, Duration: time.Second}, event.NodeDone{Block: bad, Status: event.Status(bad), Reason: bad},
		event.RunDone{Status: event.Failed, Summary: event.Summary{Steps: []event.StepSummary{{Step: bad, Module: bad, Status: event.NotRun, Reason: bad, Hosts: []event.HostSummary{{Host: bad + "2", Status: event.NotRun, NotDone: []string{bad}}}}}}},
	} {
		n.tell(time.Second, bad, bad, body)
	}
	return n.events
}

// elements are the opening tags of a page in their order.
func elements(t *testing.T, page string) []xml.StartElement {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(page))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var all []xml.StartElement
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok {
			all = append(all, e.Copy())
		}
	}
}

// tags count the elements of a page; active are its attributes that run or load something.
func tags(t *testing.T, page string) (count map[string]int, active []string) {
	t.Helper()
	count = map[string]int{}
	for _, e := range elements(t, page) {
		count[e.Name.Local]++
		for _, a := range e.Attr {
			name := a.Name.Local
			if strings.HasPrefix(name, "on") || name == "src" || name == "srcset" || name == "href" && !strings.HasPrefix(a.Value, "#") {
				active = append(active, e.Name.Local+" "+name+"="+a.Value)
			}
		}
	}
	return count, active
}

func TestPageEscapesWhateverItIsTold(t *testing.T) {
	plain, _ := tags(t, asHTML(t, report.NewPage(report.PageOf{Run: "x", By: "x", Version: "x"}, hostile("plain"))))
	for _, bad := range []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `</title></style></svg><script>alert(1)</script>`, `' onload='alert(1)`, `{{.Page}}<b>`, "javascript:alert(1)", "<!--", "]]>",
	} {
		p := report.NewPage(report.PageOf{Run: bad, By: bad, Version: bad}, hostile(bad))
		got, active := tags(t, asHTML(t, p))
		require.Empty(t, active, bad)
		delete(got, "text") // whether a word has room in a bar depends on its length
		delete(plain, "text")
		require.Equal(t, plain, got, "%s became part of the page", bad)
	}
	text := asMarkdown(t, report.NewPage(report.PageOf{Run: "x"}, hostile("a|b\n<img src=x> *c* `d` [e](http://f)")))
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if !fenced {
			require.NotContains(t, line, "<img")
		}
		if strings.HasPrefix(line, "|") {
			require.True(t, strings.HasSuffix(line, "|\n"), line)
			require.NotContains(t, strings.ReplaceAll(line, `\|`, ""), "a|b")
		}
	}
}

// largeNight is an upgrade of many nodes and guests.
func largeNight(hosts, guests int) []event.Event {
	n := &night{at: began}
	name := func(i int) string { return fmt.Sprintf("pve%02d", i%hosts+1) }
	var all []string
	for i := range hosts {
		all = append(all, name(i))
	}
	n.tell(0, "", "", event.RunStarted{Command: "apply", Runbook: "rolling_upgrade", Cluster: "prod", Tasks: 4, Hosts: all})
	var rows [][]string
	for g := range guests {
		rows = append(rows, []string{fmt.Sprintf("vm %d (guest-%d)", 1000+g, g), "4 GiB", "moves live", name(g + 1), "17 s", "the most memory left; 7.5 GiB stay free there"})
	}
	columns := []module.Column{{Name: "guest"}, {Name: "memory", Right: true}, {Name: "what happens"}, {Name: "to"}, {Name: "about", Right: true}, {Name: "why"}}
	n.tell(0, "evacuate", "", event.BlockPlanned{Block: "nodes", Order: all, Showing: module.Showing{Tables: []module.Table{{Title: "Guests", Columns: columns, Rows: rows}}}})
	for h, host := range all {
		n.tell(0, "", host, event.NodeStarted{Block: "nodes", Index: h + 1, Of: hosts, Takes: 20 * time.Minute})
		for range 3 {
			n.gates(host, hosts-1)
			for _, gate := range []string{"others", "links", "ha", "tasks", "guests", "ceph"} {
				n.tell(0, "evacuate", host, module.Reading{Gate: gate, Saw: "it is as it should be", Want: "that it is", OK: true})
			}
		}
		for _, way := range []string{"drain", "return"} {
			for g := h; g < guests; g += hosts {
				guest := fmt.Sprintf("vm %d (guest-%d)", 1000+g, g)
				n.tell(3*time.Second, "evacuate", host, module.Moved{Guest: guest, From: host, To: name(h + 1), Way: "live", Why: way, Took: 17 * time.Second})
				n.tell(0, "evacuate", host, module.Downtime{Guest: guest, How: "live", Took: 60 * time.Millisecond})
			}
		}
		for _, step := range []string{"evacuate", "packages", "restart", "back"} {
			n.task(step, host, 3*time.Minute, "")
		}
		for p := range 60 {
			n.tell(0, "packages", host, module.Version{Package: fmt.Sprintf("package-%d", p), Before: "1.0", After: "1.1"})
		}
		n.tell(0, "", host, event.NodeDone{Block: "nodes", Status: event.OK, Duration: 15 * time.Minute})
	}
	n.tell(0, "", "", event.RunDone{Status: event.Changed, Duration: time.Hour})
	return n.events
}

func TestPageOfManyGuestsNamesThemAllAndStaysSmall(t *testing.T) {
	p := report.NewPage(report.PageOf{Run: "x"}, largeNight(32, 1000))
	page, text := asHTML(t, p), asMarkdown(t, p)
	for g := range 1000 {
		name := fmt.Sprintf("vm %d (guest-%d)", 1000+g, g)
		require.Contains(t, page, "<th scope=\"row\">"+name+"</th>")
		require.Contains(t, text, "| "+name)
	}
	require.Less(t, len(page), 1<<20, "the page is too large")
	t.Logf("HTML %d KB, Markdown %d KB", len(page)/1024, len(text)/1024)
}

func TestPageHasEveryMove(t *testing.T) {
	word := rapid.StringMatching(`[a-z0-9<>&"'|_*]{1,12}`)
	rapid.Check(t, func(t *rapid.T) {
		n := &night{at: began}
		var guests []string
		for range rapid.IntRange(1, 20).Draw(t, "events") {
			guest := fmt.Sprintf("vm %d (%s)", rapid.IntRange(100, 999).Draw(t, "id"), word.Draw(t, "name"))
			took := time.Duration(rapid.Int64Range(-int64(time.Hour), int64(time.Hour)).Draw(t, "took"))
			n.tell(time.Duration(rapid.Int64Range(-int64(time.Minute), int64(time.Hour)).Draw(t, "after")), "evacuate", rapid.SampledFrom(nodes).Draw(t, "host"), module.Moved{Guest: guest, From: word.Draw(t, "from"), To: word.Draw(t, "to"), Way: "live", Took: took})
			guests = append(guests, guest)
		}
		p := report.NewPage(report.PageOf{}, n.events)
		var page, text bytes.Buffer
		if err := errors.Join(p.HTML(&page), p.Markdown(&text)); err != nil {
			t.Fatal(err)
		}
		for _, guest := range guests {
			if !strings.Contains(page.String(), template.HTMLEscapeString(guest)) {
				t.Fatalf("%s is not in the page", guest)
			}
		}
		if strings.Count(text.String(), "| vm ") < len(guests) {
			t.Fatalf("%d moves, and the Markdown has fewer", len(guests))
		}
	})
}

func TestPageNeedsNoNetwork(t *testing.T) {
	page := asHTML(t, nightPage())
	count, active := tags(t, page)
	require.Empty(t, active)
	for _, tag := range []string{"script", "link", "img", "iframe", "object", "embed"} {
		require.Zero(t, count[tag], tag)
	}
	require.NotContains(t, page, "@import")
	require.NotContains(t, page, "http:")
	require.NotContains(t, page, "https:")
}

func TestPageNamesItsTablesAndPictures(t *testing.T) {
	ids, row := map[string]bool{}, false
	for _, e := range elements(t, asHTML(t, nightPage())) {
		attributes := map[string]string{}
		for _, a := range e.Attr {
			attributes[a.Name.Local] = a.Value
		}
		if id := attributes["id"]; id != "" {
			require.False(t, ids[id], "the id %s is given twice", id)
			ids[id] = true
		}
		if row {
			require.Equal(t, "th", e.Name.Local, "every row begins with its heading")
			require.NotEmpty(t, attributes["scope"])
		}
		row = e.Name.Local == "tr"
		if e.Name.Local == "svg" {
			require.Equal(t, "img", attributes["role"])
			require.NotEmpty(t, attributes["aria-label"])
		}
	}
	require.True(t, ids["timeline"])
}

func FuzzPage(f *testing.F) {
	var seed bytes.Buffer
	for _, e := range upgradedNight() {
		line, err := e.MarshalJSON()
		if err != nil {
			f.Fatal(err)
		}
		seed.Write(append(line, '\n'))
	}
	f.Add(seed.Bytes())
	f.Add([]byte(`{"seq":1,"time":"0001-01-01T00:00:00Z","type":"host_done","duration_ns":-9223372036854775808}` + "\n"))
	f.Add([]byte(`{"seq":1,"time":"2026-11-20T10:00:00Z","type":"node_started","host":"a","block":"b"}` + "\n" + `{"seq":2,"time":"0001-01-01T00:00:00Z","type":"package_version"}` + "\n"))
	f.Add([]byte(`{"seq":1,"time":"9999-11-20T10:00:00Z","type":"paused"}` + "\n" + `{"seq":2,"time":"0001-01-01T00:00:00Z","type":"block_planned","order":["a"],"showing":{"tables":[{"rows":[["x","y"]]}]}}` + "\n"))
	f.Fuzz(func(t *testing.T, lines []byte) {
		events, _, err := journal.Read(bytes.NewReader(lines))
		if err != nil || len(events) > 2000 {
			return
		}
		p := report.NewPage(report.PageOf{Run: "x"}, events)
		var out bytes.Buffer
		if err := p.HTML(&out); err != nil {
			t.Fatal(err)
		}
		if err := p.Markdown(&out); err != nil {
			t.Fatal(err)
		}
		if err := report.WriteObject(&out, p); err != nil && !strings.Contains(err.Error(), "year outside") {
			t.Fatal(err)
		}
	})
}
