package cli

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "rewrite docs/cli.md")

// quietStreams are streams of nobody: no terminal, no environment but what is needed.
func quietStreams(t *testing.T, environ ...string) (Streams, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	var out, errs bytes.Buffer
	return Streams{
		In: strings.NewReader(""), Out: &out, Err: &errs, Width: func() int { return 0 }, Home: t.TempDir(), Now: time.Now,
		Environ: append([]string{"PXRUN_STATE_DIR=" + t.TempDir(), "LC_ALL=C.UTF-8"}, environ...),
		Signals: func(chan<- os.Signal) func() { return func() {} },
	}, &out, &errs
}

func everyCommand(t *testing.T, visit func(*cobra.Command)) {
	t.Helper()
	s, _, _ := quietStreams(t)
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		visit(cmd)
		for _, child := range cmd.Commands() {
			walk(child)
		}
	}
	walk(newRootCommand(&app{Streams: s}))
}

func TestEveryCommandDocumentsItsExitStatus(t *testing.T) {
	everyCommand(t, func(cmd *cobra.Command) {
		require.Contains(t, cmd.Long, "Exit status:\n  0    done", cmd.CommandPath())
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
		require.False(t, strings.HasSuffix(cmd.Short, "."), cmd.CommandPath())
		require.NotNil(t, cmd.RunE, cmd.CommandPath())
		if cmd.HasParent() && !cmd.Parent().HasParent() {
			require.NotEmpty(t, cmd.GroupID, "%s stands in no group of the overview", cmd.CommandPath())
		}
	})
}

// TestReferenceIsCurrent compares docs/cli.md with the commands. Run with -update to rewrite it.
func TestReferenceIsCurrent(t *testing.T) {
	var b strings.Builder
	b.WriteString("<!-- Generated from the commands by go test ./cli -run TestReference -update. Do not edit. -->\n\n# Commands\n")
	everyCommand(t, func(cmd *cobra.Command) {
		if cmd.HasParent() {
			cmd.InitDefaultHelpFlag()
			cmd.Flags().Lookup("help").Hidden = true
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n```text\n%s\n\nUsage:\n  %s\n", cmd.CommandPath(), cmd.Short, strings.TrimSpace(cmd.Long), cmd.UseLine())
		flags := cmd.LocalFlags().FlagUsages()
		if flags != "" {
			fmt.Fprintf(&b, "\nFlags:\n%s", flags)
		}
		b.WriteString("```\n")
	})
	path := filepath.Join("..", "docs", "cli.md")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o644))
	}
	have, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, b.String(), string(have), "docs/cli.md is stale: make generate")
}

// fenced finds the code blocks of a language in a Markdown text.
func fenced(t *testing.T, file, language string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// TestDocumentedSitesAreValid checks the HCL of the pages: all blocks of a page are one site.
func TestDocumentedSitesAreValid(t *testing.T) {
	for _, page := range []string{"../README.md", "../docs/language.md"} {
		t.Run(filepath.Base(page), func(t *testing.T) {
			blocks := fenced(t, page, "hcl")
			require.NotEmpty(t, blocks)
			file := filepath.Join(t.TempDir(), "page.hcl")
			require.NoError(t, os.WriteFile(file, []byte(strings.Join(blocks, "\n")), 0o600))
			s, _, errs := quietStreams(t)
			require.Equal(t, exitOK, Main([]string{"validate", file}, s), errs.String())
		})
	}
}

// TestReadmeCommandsWork runs what the README tells a newcomer to type.
func TestReadmeCommandsWork(t *testing.T) {
	t.Chdir("..")
	ran := 0
	for _, block := range fenced(t, "README.md", "sh") {
		for line := range strings.Lines(block) {
			line, _, _ = strings.Cut(line, "#")
			words := strings.Fields(line)
			if len(words) == 0 || words[0] != "pxrun" {
				continue
			}
			s, out, errs := quietStreams(t)
			require.Equal(t, exitOK, Main(words[1:], s), "%s\n%s%s", line, out, errs)
			ran++
		}
	}
	require.GreaterOrEqual(t, ran, 3)
}

func TestVersionNeedsNothing(t *testing.T) {
	s, out, _ := quietStreams(t)
	s.Home, s.Environ = "", nil
	require.Equal(t, exitOK, Main([]string{"version"}, s))
	require.Contains(t, out.String(), "pxrun development")
}

func BenchmarkVersion(b *testing.B) {
	for b.Loop() {
		s := Streams{Out: &bytes.Buffer{}, Err: &bytes.Buffer{}, Now: time.Now}
		if Main([]string{"version"}, s) != exitOK {
			b.Fatal("failed")
		}
	}
}
