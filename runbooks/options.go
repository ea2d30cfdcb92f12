package runbooks

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/zclconf/go-cty/cty"
)

// Options say how to read a site. The zero value reads files without modules, variables or secrets.
type Options struct {
	// Vars are the values of --var, in order; a later one wins.
	Vars []Assignment
	// VarFiles are the files of --var-file, in order; a later one wins. Those that end in .json are JSON.
	VarFiles []string
	// Environ is the environment as os.Environ gives it. PXRUN_VAR_x sets variable x; secrets and the function env read
	// it too.
	Environ []string
	// Modules are what tasks can be.
	Modules module.Registry
	// Facts is the type of self.facts. cty.NilType stands for anything.
	Facts cty.Type
	// ResolveSecrets reads the secrets that the files use. Without it they are unknown, which is enough to validate.
	ResolveSecrets bool
	// SecretsOf are the runbooks whose secrets are needed, besides those of the inventory; nil means all. The secrets of
	// the other runbooks are read too, so that they can be redacted, but only if that works and asks nobody.
	SecretsOf []string
	// Prompt asks for the passphrase of an encrypted age identity. Without it such an identity is an error.
	Prompt func(ctx context.Context, question string) (string, error)
	// Runbook is the runbook that is to be run. A built-in one is part of the document only if it is named here or a task uses it.
	Runbook string
	// Arguments are what it is told: --arg, in order; a later one wins.
	Arguments []Assignment
	// Now is the clock behind timestamp(), which is the same everywhere in one document. Without it, timestamp() is an
	// error.
	Now func() time.Time
	// Version is pxrun's own, for required_version. "" (a development build) meets every requirement.
	Version string
	// BaseDir is where relative paths of the command line start: Paths and VarFiles. "" is the working directory.
	BaseDir string
	// Home is the home directory for paths that start with ~. "" leaves them as they are.
	Home string
}

// Assignment is a value given by name: --var name=value.
type Assignment struct{ Name, Value string }

// ParseAssignment takes "name=value" apart.
func ParseAssignment(text string) (Assignment, error) {
	name, value, ok := strings.Cut(text, "=")
	name = strings.TrimSpace(name)
	if !ok || name == "" {
		return Assignment{}, fmt.Errorf("%q is not of the form name=value", text)
	}
	return Assignment{name, value}, nil
}

// environment is Environ as a map. Like a shell, it takes the last of two entries.
func (o Options) environment() map[string]string {
	env := make(map[string]string, len(o.Environ))
	for _, entry := range o.Environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			env[name] = value
		}
	}
	return env
}
