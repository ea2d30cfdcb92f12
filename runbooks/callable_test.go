package runbooks_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/runbooks"
	"github.com/stretchr/testify/require"
)

// paths are the tasks of steps in order, at any depth: "path name".
func paths(steps []engine.Step) []string {
	var all []string
	for _, s := range steps {
		switch s := s.(type) {
		case *engine.Task:
			all = append(all, s.Path+" "+s.Name)
		case *engine.Parallel:
			all = append(all, paths(s.Steps)...)
		case *engine.Rolling:
			all = append(all, paths(s.Steps)...)
			for _, b := range paths(s.Between) {
				all = append(all, "between "+b)
			}
		}
	}
	return all
}

const callable = twoHosts + `
runbook "inner" {
  hosts = [host.a, host.b]
  argument "greeting" {
    type        = string
    description = "What is said"
  }
  argument "times" { default = 2 }
  rolling "nodes" {
    over            = [host.a, host.b]
    max_unavailable = arg.times
    task "command" "say" { run = "echo ${arg.greeting} ${self.name}" }
    task "command" "again" {
      run  = "echo ${arg.times}"
      when = task.say.changed
    }
    between {
      task "command" "look" { run = "true" }
    }
  }
}
`

func TestARunbookIsUsedAsAModule(t *testing.T) {
	doc, diags := load(t, callable+`
runbook "outer" {
  hosts = [host.a]
  task "command" "say" { run = "true" }
  task "inner" "first" { greeting = "hello" }
  task "inner" "second" {
    greeting = upper("bye")
    times    = 1
  }
}`, runbooks.Options{Runbook: "outer"})
	require.False(t, diags.HasErrors(), "%v", diags)
	rb, _ := doc.Runbook("outer")
	require.Equal(t, []string{
		"outer/say say",
		"outer/first/say first.say", "outer/first/again first.again", "between outer/first/look first.look",
		"outer/second/say second.say", "outer/second/again second.again", "between outer/second/look second.look",
	}, paths(rb.Steps))
	require.Equal(t, "echo hello a", argsOf[commandArgs](t, rb, "first.say", "a", nil).Run)
	require.Equal(t, "echo BYE b", argsOf[commandArgs](t, rb, "second.say", "b", nil).Run)
	require.Equal(t, 2, rb.Steps[1].(*engine.Rolling).MaxUnavailable.N)

	// Each use sees its own results.
	again := findTask(rb.Steps, "first.again")
	scope := scopeOf(t, rb, "a", map[string]engine.TaskResult{
		"second.say": {Changed: true, Hosts: map[string]engine.HostResult{"a": {Changed: true}}},
	})
	_, unknown, _ := again.When(scope)
	require.NotNil(t, unknown)
	scope.Results["first.say"] = engine.TaskResult{Changed: true, Hosts: map[string]engine.HostResult{"a": {Changed: true}}}
	yes, unknown, problems := again.When(scope)
	require.Empty(t, problems)
	require.Nil(t, unknown)
	require.True(t, yes)
}

func TestArgumentsOfTheCommandLine(t *testing.T) {
	doc, diags := load(t, callable, runbooks.Options{Runbook: "inner", Arguments: []runbooks.Assignment{{Name: "greeting", Value: "hi"}, {Name: "times", Value: "5"}}})
	require.False(t, diags.HasErrors(), "%v", diags)
	rb, _ := doc.Runbook("inner")
	require.Equal(t, "echo hi a", argsOf[commandArgs](t, rb, "say", "a", nil).Run)
	require.Equal(t, 5, rb.Steps[0].(*engine.Rolling).MaxUnavailable.N)
	require.Equal(t, "What is said", doc.Runbooks[0].Arguments[0].Description)
}

func TestWrongUsesOfRunbooks(t *testing.T) {
	tests := []struct{ name, hcl, says string }{
		{"argument missing", `runbook "o" {
  hosts = [host.a]
  task "inner" "x" {}
}`, `The runbook "inner" needs the argument "greeting": What is said`},
		{"unknown argument", `runbook "o" {
  hosts = [host.a]
  task "inner" "x" { greting = "a" }
}`, `Did you mean "greeting"?`},
		{"wrong type", `runbook "o" {
  hosts = [host.a]
  task "inner" "x" {
    greeting = "a"
    times    = "many"
  }
}`, `does not fit the type number`},
		{"inside a block", `runbook "o" {
  hosts = [host.a]
  parallel {
    task "inner" "x" { greeting = "a" }
  }
}`, `cannot stand inside a parallel or rolling block`},
		{"inside itself", `runbook "o" {
  hosts = [host.a]
  task "o" "x" {}
}`, `would contain itself: o → o`},
		{"arg without arguments", `runbook "o" {
  hosts = [host.a]
  task "command" "x" { run = arg.x }
}`, `arg.<name> is an argument of the runbook`},
		{"a point that does not exist", `hook "inner" "before_sy" {
  task "command" "x" { run = "true" }
}`, `The runbook "inner" has no point "before_sy". Did you mean "before_say"?`},
		{"a point of nothing", `hook "health_check" "sometimes" {}`, `these are before_<task>, after_<task> and between_nodes`},
		{"a runbook that does not exist", `hook "iner" "before_say" {}`, `Did you mean "inner"?`},
		{"no such window", `runbook "o" {
  rolling "r" {
    over   = [host.a]
    window = "frei 22:00-05:00"
    task "command" "x" { run = "true" }
  }
}`, `"frei" is no day of the week`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, diags := load(t, callable+tt.hcl, runbooks.Options{Runbook: "o"})
			require.True(t, diags.HasErrors())
			require.Contains(t, diags.Error(), tt.says)
		})
	}
}

func TestHooksStandAroundTheirTasks(t *testing.T) {
	_, wrong := load(t, callable+`
hook "inner" "before_say" {
  task "command" "quiet" { run = "echo ${arg.greeting} ${self.name}" }
}
hook "inner" "after_command" {
  task "command" "loud" { run = "true" }
}
hook "inner" "between_nodes" {
  task "command" "replicas" { run = "true" }
}
runbook "outer" {
  hosts = [host.a]
  task "inner" "x" { greeting = "hello" }
}`, runbooks.Options{Runbook: "outer"})
	require.Contains(t, wrong.Error(), `Several tasks of the runbook "inner" have the point "after_command"`)

	doc, diags := load(t, callable+`
hook "inner" "before_say" {
  task "command" "quiet" { run = "echo ${arg.greeting} ${self.name}" }
}
hook "inner" "between_nodes" {
  task "command" "replicas" { run = "true" }
}
runbook "outer" {
  hosts = [host.a]
  task "inner" "x" { greeting = "hello" }
}`, runbooks.Options{Runbook: "outer", Arguments: nil})
	require.False(t, diags.HasErrors(), "%v", diags)
	rb, _ := doc.Runbook("outer")
	require.Equal(t, []string{
		"outer/x/quiet x.quiet", "outer/x/say x.say", "outer/x/again x.again", "between outer/x/look x.look", "between outer/x/replicas x.replicas",
	}, paths(rb.Steps))
	require.Equal(t, "echo hello b", argsOf[commandArgs](t, rb, "x.quiet", "b", nil).Run)
}

func TestControlOfRollingBlocks(t *testing.T) {
	doc, diags := load(t, twoHosts+`
runbook "o" {
  rolling "r" {
    over            = [host.a]
    pause           = "after_first"
    pause_timeout   = "12h"
    window          = "mon-wed,sat 22:00-05:30 Europe/Berlin"
    stop_after      = "4h"
    on_node_failure = "skip"
    max_unavailable_per = "site"
    task "command" "x" { run = "true" }
  }
}`, runbooks.Options{})
	require.False(t, diags.HasErrors(), "%v", diags)
	rb, _ := doc.Runbook("o")
	r := rb.Steps[0].(*engine.Rolling)
	require.Equal(t, engine.AfterFirst, r.Pause)
	require.Equal(t, 12*time.Hour, r.PauseLimit)
	require.Equal(t, 4*time.Hour, r.StopAfter)
	require.Equal(t, engine.SkipHost, r.OnHostFailure)
	require.True(t, r.PerSite)
	require.Equal(t, []time.Weekday{1, 2, 3, 6}, r.Hours.Days)
	require.Equal(t, 22*time.Hour, r.Hours.From)
	require.Equal(t, 5*time.Hour+30*time.Minute, r.Hours.To)
	require.Equal(t, "Europe/Berlin", r.Hours.Location.String())
}

func TestBuiltInRunbooksValidate(t *testing.T) {
	doc, diags := load(t, "cluster \"lab\" {\n  node \"pve1\" { address = \"192.0.2.11\" }\n}", runbooks.Options{Runbook: "health_check"})
	require.False(t, diags.HasErrors() && len(doc.Runbooks) == 0)
	require.True(t, doc.Runbooks[0].BuiltIn)
}

// The validation of an argument names it as the rest of its runbook does.
func TestAnArgumentIsValidated(t *testing.T) {
	const src = twoHosts + `
runbook "greet" {
  hosts = [host.a]
  argument "times" {
    default = 2
    validation {
      condition     = %s.times > 0
      error_message = "Say it once at least, not ${%[1]s.times} times."
    }
  }
  task "command" "say" { run = "echo ${arg.times}" }
}
`
	give := func(value string) runbooks.Options {
		return runbooks.Options{Runbook: "greet", Arguments: []runbooks.Assignment{{Name: "times", Value: value}}}
	}
	_, diags := load(t, fmt.Sprintf(src, "arg"), give("3"))
	require.False(t, diags.HasErrors(), "%v", diags)
	_, diags = load(t, fmt.Sprintf(src, "arg"), give("0"))
	require.ErrorContains(t, diags, `Invalid value for argument; Say it once at least, not 0 times. (argument "times", from --arg)`)
	_, diags = load(t, fmt.Sprintf(src, "arg"), give("many"))
	require.ErrorContains(t, diags, `The value of argument "times" from --arg does not fit the type number`)
	_, diags = load(t, fmt.Sprintf(src, "var"), give("3"))
	require.ErrorContains(t, diags, "A validation can refer only to its own argument, arg.times. There is no var.times here.")
}
