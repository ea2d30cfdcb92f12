package runbooks_test

import (
	"testing"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/engine/event"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
)

// findTask finds a task at any depth.
func findTask(steps []engine.Step, name string) *engine.Task {
	for _, s := range steps {
		var found *engine.Task
		switch s := s.(type) {
		case *engine.Task:
			if s.Name == name {
				return s
			}
		case *engine.Parallel:
			found = findTask(s.Steps, name)
		case *engine.Rolling:
			found = findTask(s.Steps, name)
		}
		if found != nil {
			return found
		}
	}
	return nil
}

func scopeOf(t testing.TB, rb *engine.Runbook, host string, results map[string]engine.TaskResult) engine.Scope {
	t.Helper()
	h, ok := rb.Site.Host(host)
	require.True(t, ok)
	return engine.Scope{Host: &h, Results: results}
}

func argsOf[A any](t testing.TB, rb *engine.Runbook, task, host string, results map[string]engine.TaskResult) *A {
	t.Helper()
	args, unknown, diags := findTask(rb.Steps, task).Args(scopeOf(t, rb, host, results))
	require.Empty(t, diags)
	require.Nil(t, unknown)
	return args.(*A)
}

const twoHosts = `
host "a" {
  address = "192.0.2.1"
  vars    = { n = 1 }
}
host "b" {
  address = "192.0.2.2"
  vars    = { n = 2 }
}
`

func runbookOf(t testing.TB, src string) *engine.Runbook {
	t.Helper()
	doc, diags := load(t, twoHosts+src, runbooks.Options{})
	require.Empty(t, show(diags, doc.Files))
	rb, diags := doc.Runbook(doc.DefaultRunbook())
	require.Empty(t, diags)
	return rb
}

func outputs(stdout string, reboot bool) cty.Value {
	return cty.ObjectVal(map[string]cty.Value{"stdout": cty.StringVal(stdout), "reboot_required": cty.BoolVal(reboot)})
}

func TestResultsOfEarlierTasks(t *testing.T) {
	rb := runbookOf(t, `
runbook "r" {
  hosts = [host.a, host.b]
  task "command" "first" { run = "x" }
  task "command" "second" {
    when = task.first.changed
    run  = "${task.first.stdout} ${task.first.results["a"].stdout} ${task.first.status} ${self.vars.n}"
  }
}`)
	second := findTask(rb.Steps, "second")

	_, unknown, diags := second.When(scopeOf(t, rb, "a", nil))
	require.Empty(t, diags)
	require.Equal(t, "uses task.first.changed, which is known after that task ran", unknown.Reason)
	_, unknown, diags = second.Args(scopeOf(t, rb, "a", nil))
	require.Empty(t, diags)
	require.Equal(t, "uses task.first.stdout, which is known after that task ran; uses task.first.results, which is known after that task ran; "+
		"uses task.first.status, which is known after that task ran", unknown.Reason)

	results := map[string]engine.TaskResult{"first": {Status: event.Changed, Changed: true, Hosts: map[string]engine.HostResult{
		"a": {Status: event.OK, Outputs: outputs("from a", false)},
		"b": {Status: event.Changed, Changed: true, Outputs: outputs("from b", false)},
	}}}
	yes, unknown, diags := second.When(scopeOf(t, rb, "a", results))
	require.Empty(t, diags)
	require.Nil(t, unknown)
	require.True(t, yes)
	require.Equal(t, "from b from a changed 2", argsOf[commandArgs](t, rb, "second", "b", results).Run)
}

func TestConditionsThatNeedNoResultAreDecidedWithoutIt(t *testing.T) {
	rb := runbookOf(t, `
runbook "r" {
  hosts = host.a
  task "command" "first" { run = "x" }
  task "command" "second" {
    when = self.name == "b" && task.first.changed
    run  = "x"
  }
}`)
	yes, unknown, diags := findTask(rb.Steps, "second").When(scopeOf(t, rb, "a", nil))
	require.Empty(t, diags)
	require.Nil(t, unknown)
	require.False(t, yes)
}

func TestInsideARollingBlockResultsAreThoseOfTheHost(t *testing.T) {
	rb := runbookOf(t, `
runbook "r" {
  hosts = [host.a, host.b]
  rolling "all" {
    over = [host.b, host.a]
    task "command" "packages" { run = "x" }
    task "command" "restart" {
      when = task.packages.reboot_required && task.packages.changed
      run  = "reboot"
    }
  }
  task "command" "after" {
    when = task.packages.changed
    run  = "x"
  }
}`)
	results := map[string]engine.TaskResult{"packages": {Changed: true, Hosts: map[string]engine.HostResult{
		"b": {Changed: true, Outputs: outputs("", true)},
	}}}
	restart := findTask(rb.Steps, "restart")
	yes, unknown, _ := restart.When(scopeOf(t, rb, "b", results))
	require.Nil(t, unknown)
	require.True(t, yes)
	_, unknown, _ = restart.When(scopeOf(t, rb, "a", results))
	require.NotNil(t, unknown, "the other host has not got there yet")
	yes, unknown, _ = findTask(rb.Steps, "after").When(scopeOf(t, rb, "a", results))
	require.Nil(t, unknown)
	require.True(t, yes, "after the block the result is that of all hosts")
	hosts, _, _ := findTask(rb.Steps, "packages").Hosts(engine.Scope{})
	require.Empty(t, hosts, "the block gives the hosts")
}

func TestFactsAreWaitedFor(t *testing.T) {
	rb := runbookOf(t, `
runbook "r" {
  hosts = [host.a]
  task "command" "c" { run = "kernel ${self.facts.kernel} on ${self.name}" }
}`)
	c := findTask(rb.Steps, "c")
	require.True(t, c.NeedsFacts)
	sc := scopeOf(t, rb, "a", nil)
	_, unknown, diags := c.Args(sc)
	require.Empty(t, diags)
	require.Equal(t, "uses self.facts, which are read from the host first", unknown.Reason)
	sc.Facts = cty.ObjectVal(map[string]cty.Value{"kernel": cty.StringVal("6.17")})
	args, unknown, diags := c.Args(sc)
	require.Empty(t, diags)
	require.Nil(t, unknown)
	require.Equal(t, "kernel 6.17 on a", args.(*commandArgs).Run)
}

func TestConstantArgumentsAreDecodedOnce(t *testing.T) {
	rb := runbookOf(t, `
runbook "r" {
  hosts = [host.a, host.b]
  task "command" "same" { run = upper("x") }
  task "command" "own" { run = self.name }
}`)
	require.Same(t, argsOf[commandArgs](t, rb, "same", "a", nil), argsOf[commandArgs](t, rb, "same", "b", nil))
	require.NotSame(t, argsOf[commandArgs](t, rb, "own", "a", nil), argsOf[commandArgs](t, rb, "own", "b", nil))
}

func TestHostsFromResults(t *testing.T) {
	rb := runbookOf(t, `
runbook "r" {
  hosts = [host.a, host.b]
  task "command" "first" { run = "x" }
  task "command" "second" {
    hosts = [for name, r in task.first.results : name if r.changed]
    run   = "y"
  }
}`)
	second := findTask(rb.Steps, "second")
	_, unknown, diags := second.Hosts(engine.Scope{})
	require.Empty(t, diags)
	require.Equal(t, "uses task.first.results, which is known after that task ran", unknown.Reason)
	hosts, unknown, diags := second.Hosts(engine.Scope{Results: map[string]engine.TaskResult{"first": {Hosts: map[string]engine.HostResult{
		"a": {Changed: false}, "b": {Changed: true},
	}}}})
	require.Empty(t, diags)
	require.Nil(t, unknown)
	require.Equal(t, []string{"b"}, hosts)
}

func TestSkippedTasksHaveNullOutputs(t *testing.T) {
	rb := runbookOf(t, `
runbook "r" {
  hosts = [host.a]
  task "command" "first" { run = "x" }
  task "command" "bare" {
    when = task.first.reboot_required
    run  = "x"
  }
  task "command" "careful" {
    when = coalesce(task.first.reboot_required, false)
    run  = "x"
  }
}`)
	results := map[string]engine.TaskResult{"first": {Status: event.Skipped, Hosts: map[string]engine.HostResult{"a": {Status: event.Skipped}}}}
	_, _, diags := findTask(rb.Steps, "bare").When(scopeOf(t, rb, "a", results))
	require.Equal(t, "Invalid condition", diags[0].Summary)
	yes, unknown, diags := findTask(rb.Steps, "careful").When(scopeOf(t, rb, "a", results))
	require.Empty(t, diags)
	require.Nil(t, unknown)
	require.False(t, yes)
}

func TestSecretOutputsStaySecret(t *testing.T) {
	rb := runbookOf(t, `
runbook "r" {
  hosts = [host.a]
  task "command" "first" { run = "x" }
  task "command" "into_secret" {
    run   = "x"
    token = task.first.stdout
  }
  task "command" "into_plain" { run = task.first.stdout }
}`)
	results := map[string]engine.TaskResult{"first": {Hosts: map[string]engine.HostResult{"a": {Outputs: outputs("hunter2", false).Mark(secret.Mark)}}}}
	require.Equal(t, "hunter2", argsOf[commandArgs](t, rb, "into_secret", "a", results).Token.Reveal())
	_, _, diags := findTask(rb.Steps, "into_plain").Args(scopeOf(t, rb, "a", results))
	require.Equal(t, "Secret in a plain argument", diags[0].Summary)
}
