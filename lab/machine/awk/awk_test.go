package awk_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pxrun/pxrun/lab/machine/awk"
)

func run(program, input string) (string, int, error) {
	var out strings.Builder
	asked := 0
	code, err := awk.Run(awk.Options{
		Program: program, Input: strings.NewReader(input), Output: &out, Regexp: regexp.Compile,
		Canceled: func() bool { asked++; return asked > 20 },
	})
	return out.String(), code, err
}

func TestErrorsAreToldAndEndTheProgram(t *testing.T) {
	for program, want := range map[string]string{
		`{`: "syntax error", `BEGIN { print "a }`: "non-terminated string", `/(/`: "regular expression", `BEGIN { print 1/0 }`: "division by zero",
		`BEGIN { print > "f" }`: "not simulated", `BEGIN { nosuch(1) }`: "never defined", `function f(x) { return f(x) } BEGIN { f(1) }`: "too deep",
	} {
		_, code, err := run(program, "line\n")
		require.ErrorContains(t, err, want, program)
		require.Equal(t, 2, code)
	}
}

func TestParagraphsAndRanges(t *testing.T) {
	out, _, err := run(`BEGIN { RS = "" } { print NR ": " $1 "," $NF }`, "a b\nc\n\n\nd\ne f\n")
	require.NoError(t, err)
	require.Equal(t, "1: a,c\n2: d,f\n", out)
	out, _, err = run(`/b/,/d/`, "a\nb\nc\nd\ne\n")
	require.NoError(t, err)
	require.Equal(t, "b\nc\nd\n", out)
}

// FuzzRun: no program panics or runs for ever.
func FuzzRun(f *testing.F) {
	for _, program := range []string{
		`{print $1}`, `BEGIN{while(1)x=x "a"}`, `{a[$1]++} END{for(k in a) print k, a[k]}`, `function f(a){return a?f(a-1):0} {print f(9)}`, `{gsub(/a*/,"b&")} 1`, `BEGIN{printf "%999999999d%*s\n",1,5,2}`,
		`{$1000000=1}`, `BEGIN{for(;;);}`, `!x[$0]++`, `{NF=-1}`, `BEGIN{print substr("x",-1e300,1e300)}`, `((((((`, `/[/`, `BEGIN { getline; print }`,
	} {
		f.Add(program, "a b\nc d\n")
	}
	f.Fuzz(func(t *testing.T, program, input string) {
		_, code, err := run(program, input)
		require.True(t, err == nil || code == 2)
	})
}
