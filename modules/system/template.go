package system

import (
	"context"
	_ "embed"
	"fmt"
	"io/fs"
	"os"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/zclconf/go-cty/cty"
)

//go:embed template.md
var templateDoc string

type templateArgs struct {
	Path    string      `hcl:"path" doc:"The absolute path on the host."`
	Source  schema.Path `hcl:"source" doc:"The local template."`
	Vars    cty.Value   `hcl:"vars,optional" doc:"An object with the names that the template may use; secret values make the whole file secret."`
	Mode    fs.FileMode `hcl:"mode,optional" doc:"The permissions; left alone when not given. New files with secret content get 0600." example:"0644"`
	Owner   string      `hcl:"owner,optional" doc:"The user that owns it; left alone when not given."`
	Group   string      `hcl:"group,optional" doc:"The group that owns it; left alone when not given."`
	Parents bool        `hcl:"parents,optional" doc:"Make missing directories above it." default:"false"`
	Backup  bool        `hcl:"backup,optional" doc:"Keep a file that is overwritten beside it, with the ending .pxrun~." default:"false"`
	Force   bool        `hcl:"force,optional" doc:"Replace a link by the file." default:"false"`
}

// Validate checks what the tags can't say.
func (a templateArgs) Validate() error { return a.file().Validate() }

// file is the file that the template becomes, without its content.
func (a templateArgs) file() fileArgs {
	return fileArgs{Path: a.Path, State: "file", Mode: a.Mode, Owner: a.Owner, Group: a.Group, Parents: a.Parents, Backup: a.Backup, Force: a.Force}
}

func newTemplate() module.Module {
	return module.Define(module.Spec{
		Name: "template", Summary: "Keep a file as a local template gives it", Doc: templateDoc,
	}, module.Funcs[templateArgs, fileResult]{
		Probes: func(t module.Target, a templateArgs) []module.Probe { return probesOf(t, a.file().probe()) },
		Plan:   planTemplate,
		Read: func(ctx context.Context, t module.Target, a templateArgs) (fileResult, error) {
			return readFile(ctx, t, a.file())
		},
	})
}

func planTemplate(ctx context.Context, t module.Target, a templateArgs) ([]module.Change, error) {
	text, err := os.ReadFile(string(a.Source))
	if err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	f := a.file()
	if f.Content, err = schema.RenderTemplate(string(a.Source), string(text), a.Vars); err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	return planFile(ctx, t, f)
}
