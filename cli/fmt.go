package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	udiff "github.com/aymanbagabas/go-udiff"
	"github.com/google/renameio/v2"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/report"
	"github.com/spf13/cobra"
)

// fmtOptions are the flags of fmt.
type fmtOptions struct {
	check, diff bool
	paths       []string
}

func newFmtCommand(a *app) *cobra.Command {
	var o fmtOptions
	cmd := &cobra.Command{
		Use: "fmt [PATH...]", Short: "Format .hcl files in place", GroupID: groupFiles,
		Long: long(`Brings .hcl files into the canonical form: indentation, spaces, aligned equals signs. A PATH is a file, a folder with all below
it, or "-" for standard input to standard output; the default is the current folder. The names of changed files are printed.
With --check nothing is written and the exit status is 1 if a file would change.`, exitOK, exitFailed),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.paths = args
			return runFmt(cmd.Context(), a, o)
		},
	}
	cmd.Flags().BoolVar(&o.check, "check", false, "write nothing; exit 1 if a file would change")
	cmd.Flags().BoolVar(&o.diff, "diff", false, "write nothing; show the differences")
	return cmd
}

func runFmt(ctx context.Context, a *app, o fmtOptions) error {
	if slices.Equal(o.paths, []string{"-"}) {
		return formatStream(a)
	}
	if len(o.paths) == 0 {
		o.paths = []string{"."}
	}
	files, err := hclFiles(o.paths)
	if err != nil {
		return err
	}
	var problems diag.List
	changed := 0
	for _, name := range files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		did, list, err := formatFile(a, name, o)
		if err != nil {
			return err
		}
		problems = append(problems, list...)
		if did {
			changed++
		}
	}
	if err := a.tell(problems); err != nil {
		return err
	}
	if o.check && changed > 0 {
		return exitWith(exitFailed)
	}
	return nil
}

// hclFiles lists the .hcl files that paths stand for, folders with everything below them.
func hclFiles(paths []string) ([]string, error) {
	var files []string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, invalid("%s: no such file or folder", path)
		}
		if !info.IsDir() {
			files = append(files, filepath.Clean(path))
			continue
		}
		err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
			switch hidden := strings.HasPrefix(d.Name(), ".") && name != path; {
			case err != nil:
				return err
			case hidden && d.IsDir():
				return filepath.SkipDir
			case !hidden && !d.IsDir() && filepath.Ext(name) == ".hcl":
				files = append(files, name)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

// formatFile formats one file. A file that cannot be parsed is reported and left alone.
func formatFile(a *app, name string, o fmtOptions) (changed bool, problems diag.List, err error) {
	before, err := os.ReadFile(name)
	if err != nil {
		return false, nil, err
	}
	after, problems := format(name, before)
	if problems.HasErrors() || bytes.Equal(before, after) {
		return false, problems, nil
	}
	switch {
	case a.global.json:
		err = report.WriteObject(a.Out, formattedObject{"formatted", name, !o.check && !o.diff, o.difference(name, before, after)})
	case o.diff:
		_, err = io.WriteString(a.Out, o.difference(name, before, after))
	case !a.global.quiet:
		_, err = fmt.Fprintln(a.Out, name)
	}
	if err != nil || o.check || o.diff {
		return true, nil, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return true, nil, err
	}
	return true, nil, renameio.WriteFile(name, after, info.Mode().Perm())
}

// formattedObject is a file that is not in the canonical form, or was not.
type formattedObject struct {
	Type    string `json:"type"` // formatted
	File    string `json:"file"`
	Written bool   `json:"written"`
	Diff    string `json:"diff,omitempty"`
}

func (o fmtOptions) difference(name string, before, after []byte) string {
	if !o.diff {
		return ""
	}
	return udiff.Unified(name, name, string(before), string(after))
}

func format(name string, src []byte) ([]byte, diag.List) {
	if _, problems := hclsyntax.ParseConfig(src, name, hcl.InitialPos); problems.HasErrors() {
		return nil, problems
	}
	return hclwrite.Format(src), nil
}

func formatStream(a *app) error {
	src, err := io.ReadAll(a.In)
	if err != nil {
		return err
	}
	text, problems := format("<stdin>", src)
	if err := a.tell(problems); err != nil {
		return err
	}
	_, err = a.Out.Write(text)
	return err
}
