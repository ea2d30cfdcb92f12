package report_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func examplePlan() *engine.Plan {
	install := func(host string) engine.HostPlan {
		return engine.HostPlan{Host: host, Changes: []module.Change{{ID: host + "/chrony", Host: host, Summary: "install chrony 4.3-2", Action: module.Create}}}
	}
	return &engine.Plan{Format: 1, Runbook: "site", Cluster: "lab", Tasks: []engine.TaskPlan{
		{Step: "site/ready", Module: "preflight", Hosts: []engine.HostPlan{{Host: "pve1"}, {Host: "pve2"}, {Host: "pve3"}}},
		{Step: "site/time", Module: "package", Hosts: []engine.HostPlan{install("pve1"), install("pve2"), install("pve3")}},
		{Step: "site/form", Module: "cluster_create", Hosts: []engine.HostPlan{{Host: "pve1", Changes: []module.Change{{
			ID: "pve1/create", Host: "pve1", Summary: "create cluster lab", Action: module.Create,
			After: map[string]any{"link0": "10.0.1.1", "link1": "10.0.2.1", "votes": 1, "replaces": "the node's own /etc/pve: its storages, users, firewall and jobs, all of which are lost"},
		}}}}},
		{Step: "site/members", Module: "node_join", Hosts: []engine.HostPlan{{Host: "pve1", Changes: []module.Change{
			{ID: "pve2/join", Host: "pve2", Summary: "join pve2 to cluster lab", Action: module.Create, Predicted: "known after form has made the cluster"},
			{ID: "pve3/join", Host: "pve3", Summary: "join pve3 to cluster lab", Action: module.Create, Predicted: "known after form has made the cluster"},
		}}}},
		{Step: "site/motd", Module: "file", Hosts: []engine.HostPlan{{Host: "pve1", Changes: []module.Change{{
			ID: "pve1/etc/motd", Host: "pve1", Summary: "write /etc/motd", Action: module.Update,
			Before: map[string]any{"content": "Welcome\nto pve1\n", "mode": "0600"}, After: map[string]any{"content": "Welcome\nto the lab\n", "mode": "0644"},
		}}}}},
		{Step: "site/restart", Module: "service", Hosts: []engine.HostPlan{{Host: "pve2", Changes: []module.Change{
			{ID: "pve2/restart", Host: "pve2", Summary: "restart chrony", Action: module.Run, Risk: module.RiskDisruptive},
		}}}},
		{Step: "site/announce", Module: "command", Deferred: "known after members: task.members.changed"},
		{Step: "site/extra", Module: "command", Skipped: "its tags are not selected"},
	}}
}

func TestPlanView(t *testing.T) {
	for name, look := range map[string]report.Look{
		"plan-80.txt": {Unicode: true, Width: 80}, "plan-ascii.txt": {Width: 60}, "plan-color.txt": {Color: true, Unicode: true, Width: 140},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.NoError(t, report.Plan(&out, examplePlan(), look))
			golden(t, name, out.String())
		})
	}
}

func TestPlanViewOfNothing(t *testing.T) {
	var out bytes.Buffer
	p := &engine.Plan{Runbook: "site", Tasks: []engine.TaskPlan{{Step: "site/a", Module: "file", On: []string{"a", "b"}, Hosts: []engine.HostPlan{{Host: "a"}}}}}
	require.NoError(t, report.Plan(&out, p, report.Look{Width: 80}))
	require.Contains(t, out.String(), "No changes.")
	require.Contains(t, out.String(), "Plan for site (a, b)", "the hosts of a task are named, also when one of them answers for all")
}

func TestPlanViewGroupsWhatFailsAlike(t *testing.T) {
	var out bytes.Buffer
	task := engine.TaskPlan{Step: "site/a", Module: "file"}
	for _, h := range []string{"pve1", "pve2", "pve3"} {
		task.Hosts = append(task.Hosts, engine.HostPlan{Host: h, Unreachable: true, Error: h + ": connect: dial tcp 192.0.2.1" + h[3:] + ":22: connection refused"})
	}
	require.NoError(t, report.Plan(&out, &engine.Plan{Runbook: "site", Tasks: []engine.TaskPlan{task}}, report.Look{Width: 80}))
	require.Equal(t, 1, strings.Count(out.String(), "connection refused"))
	require.Contains(t, out.String(), "3 hosts (pve1, pve2, pve3)")
	require.NotContains(t, out.String(), "No changes")
}

func TestDiagnosticsPointAtThePlace(t *testing.T) {
	source := "runbook \"site\" {\n\ttask \"node_jion\" \"members\" {}\n}\n"
	at := func(text string) *hcl.Range {
		from := strings.Index(source, text)
		line := strings.Count(source[:from], "\n") + 1
		column := from - strings.LastIndex(source[:from], "\n")
		return &hcl.Range{Filename: "site.hcl", Start: hcl.Pos{Line: line, Column: column, Byte: from}, End: hcl.Pos{Line: line, Column: column + len(text), Byte: from + len(text)}}
	}
	list := diag.List{
		{Severity: hcl.DiagWarning, Summary: "Note", Detail: "A warning without a place."},
		{Severity: hcl.DiagError, Summary: "Unknown module", Detail: "\"node_jion\" is not a module. Did you mean \"node_join\"?", Subject: at(`"node_jion"`)},
	}
	var out bytes.Buffer
	require.NoError(t, report.Diagnostics(&out, list, func(string) []byte { return []byte(source) }, report.Look{Unicode: true, Width: 80}))
	golden(t, "diagnostics.txt", out.String())
}

func TestDiagnosticsNeverShowValues(t *testing.T) {
	parser := hclparse.NewParser()
	_, list := parser.ParseHCL([]byte("a = 1 +\n"), "x.hcl")
	require.True(t, list.HasErrors())
	var out bytes.Buffer
	require.NoError(t, report.Diagnostics(&out, list, func(string) []byte { return nil }, report.Look{Width: 80}))
	require.Contains(t, out.String(), "x.hcl:1:")
}

func TestDiagnosticsStandAnyPlaceInAnySource(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		source := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "source")
		start := rapid.IntRange(-5, 310).Draw(t, "start")
		end := rapid.IntRange(-5, 310).Draw(t, "end")
		d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "x", Subject: &hcl.Range{Filename: "f", Start: hcl.Pos{Line: 1, Byte: start}, End: hcl.Pos{Line: rapid.IntRange(1, 2).Draw(t, "line"), Byte: end}}}
		var out bytes.Buffer
		err := report.Diagnostics(&out, diag.List{d}, func(string) []byte { return source }, report.Look{Width: rapid.IntRange(0, 200).Draw(t, "width")})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestCleanLeavesNoControl(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := report.Clean(rapid.String().Draw(t, "text"))
		for _, r := range text {
			if r < ' ' && r != '\n' || r == 0x7f || r == 0x9b {
				t.Fatalf("%q is left in %q", r, text)
			}
		}
	})
	require.Equal(t, "red and title", report.Clean("\x1b[1;31mred\x1b[0m and\x1b]0;evil\x07 title\r"))
}

func TestLongLinesOfAGateStayBelowTheirWord(t *testing.T) {
	refusal := &module.Refusal{Gate: "join", Saw: "guests that are still there and must go first:\n100 web, which is running and holds a disk", Want: "none"}
	text := report.Look{Width: 44}.Problems([]report.Problem{{Host: "pve2", Text: refusal.Error()}})
	require.Equal(t, `x pve2
    refused: join
      saw: guests that are still there and
        must go first:
        100 web, which is running and holds
          a disk
      wanted: none
`, text)
}
