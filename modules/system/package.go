package system

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/modules/internal/apt"
)

//go:embed package.md
var packageDoc string

type packageArgs struct {
	Names       []string `hcl:"names" doc:"The Debian packages, without version or architecture." min:"1" example:"[\"chrony\"]"`
	State       string   `hcl:"state,optional" doc:"Present installs what is missing, latest also brings the newest version that the lists know, absent removes." default:"present" oneof:"present latest absent"`
	UpdateCache bool     `hcl:"update_cache,optional" doc:"Refresh the package lists first, when something may have to be installed and they are older than an hour or than the repositories in /etc/apt." default:"true"`
}

var packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

// Validate checks what the tags can't say.
func (a packageArgs) Validate() error {
	var errs []error
	for i, name := range a.Names {
		at := fmt.Sprintf("names[%d]", i)
		if !packageName.MatchString(name) {
			errs = append(errs, schema.At(at, fmt.Errorf("%q is no name of a Debian package", name)))
		}
		if slices.Contains(a.Names[:i], name) {
			errs = append(errs, schema.At(at, fmt.Errorf("%q stands there twice", name)))
		}
	}
	return errors.Join(errs...)
}

func newPackage() module.Module {
	return module.Define(module.Spec{
		Name: "package", Summary: "Keep Debian packages installed or away", Doc: packageDoc, Risk: module.RiskDisruptive,
	}, module.Funcs[packageArgs, packageResult]{
		Probes: func(t module.Target, a packageArgs) []module.Probe { return probesOf(t, a.request().Probe()) },
		Plan: func(ctx context.Context, t module.Target, a packageArgs) ([]module.Change, error) {
			return apt.Plan(ctx, t, t.Host().Name, a.request())
		},
		Read: readPackage,
	})
}

func (a packageArgs) request() apt.Request {
	return apt.Request{Names: a.Names, State: a.State, UpdateCache: a.UpdateCache}
}

type packageResult struct {
	Versions map[string]string `hcl:"versions" doc:"The installed version of each package; those that are not installed are missing."`
}

func readPackage(ctx context.Context, t module.Target, a packageArgs) (packageResult, error) {
	have, err := apt.Read(ctx, t, t.Host().Name, a.request())
	if err != nil {
		return packageResult{}, err
	}
	return packageResult{have.Installed}, nil
}
