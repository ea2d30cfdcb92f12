package runbooks_test

import (
	"fmt"
	"testing"

	"github.com/pxrun/pxrun/runbooks"
	"github.com/stretchr/testify/require"
)

func TestRequiredVersion(t *testing.T) {
	for _, c := range []struct {
		version, want string
		fits          bool
	}{
		{"1.4.2", ">= 1.4", true}, {"1.4.2", "> 1.4.2", false}, {"1.4.2", "1.4.2", true}, {"1.4.2", "= 1.4", false}, {"1.4.2", "!= 1.4.2", false},
		{"1.4.2", "<= 1.4.2", true}, {"1.4.2", "< 1.4", false}, {"1.4.2", "~> 1.4", true}, {"1.9.0", "~> 1.4", true}, {"2.0.0", "~> 1.4", false},
		{"1.5.0", "~> 1.4.1", false}, {"1.4.7", "~> 1.4.1", true}, {"1.4.0", "~> 1.4.1", false}, {"3.0.0", "~> 2", false}, {"1.4.2", ">= 1, < 2", true},
		{"v1.4.2-3-gabc", ">= 1.4.2", true}, {"", ">= 99", true}, {"dev", ">= 99", true},
	} {
		_, diags := load(t, fmt.Sprintf("pxrun { required_version = %q }", c.want), runbooks.Options{Version: c.version})
		require.Equal(t, c.fits, !diags.HasErrors(), "%s against %s", c.version, c.want)
	}
	for _, wrong := range []string{"", "latest", ">= x", ">= 1.2.3.4", "1,,2", ">> 1"} {
		_, diags := load(t, fmt.Sprintf("pxrun { required_version = %q }", wrong), runbooks.Options{})
		require.True(t, diags.HasErrors(), wrong)
		require.Equal(t, "Invalid version constraint", diags[0].Summary)
	}
}

func TestVariablesAreDescribed(t *testing.T) {
	doc, diags := load(t, `
variable "a" {
  type        = map(number)
  description = "Some numbers."
  default     = { x = 1 }
}
variable "b" {
  sensitive = true
  nullable  = false
  default   = "hunter2"
}
variable "c" {
  type      = object({ pin = number, words = list(string) })
  sensitive = true
}
locals { d = sensitive("from a function") }
`, runbooks.Options{
		Environ: []string{"PXRUN_VAR_c={ pin = 98765, words = [\"one\", \"two\"] }", "PXRUN_VAR_unrelated=1"},
		Vars:    []runbooks.Assignment{{Name: "a", Value: "{ y = 2 }"}},
	})
	require.Empty(t, show(diags, doc.Files))
	require.Equal(t, "map(number)", doc.Variables[0].Type)
	require.Equal(t, "Some numbers.", doc.Variables[0].Description)
	require.Equal(t, "--var", doc.Variables[0].From)
	require.True(t, doc.Variables[1].Sensitive)
	require.Equal(t, "PXRUN_VAR_c", doc.Variables[2].From)
	var hidden []string
	for _, s := range doc.Secrets {
		hidden = append(hidden, s.Reveal())
	}
	require.ElementsMatch(t, []string{"hunter2", "98765", "one", "two", "from a function"}, hidden)
}

func TestAssignments(t *testing.T) {
	a, err := runbooks.ParseAssignment("name=a=b")
	require.NoError(t, err)
	require.Equal(t, runbooks.Assignment{Name: "name", Value: "a=b"}, a)
	for _, wrong := range []string{"", "name", "=value", " =x"} {
		_, err := runbooks.ParseAssignment(wrong)
		require.Error(t, err, wrong)
	}
}

func TestSecretKeysAreNoItems(t *testing.T) {
	doc, diags := load(t, twoHosts+`
variable "s" {
  default   = ["hunter2"]
  sensitive = true
}
runbook "r" {
  hosts = host.a
  task "command" "c" {
    for_each = var.s
    run      = each.key
  }
}`, runbooks.Options{})
	text := show(diags, doc.Files)
	require.Contains(t, text, "Secret items")
	require.NotContains(t, text, "hunter2")
}
