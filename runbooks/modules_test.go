package runbooks_test

import (
	"context"
	"errors"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
	"github.com/zclconf/go-cty/cty"
)

// The modules that the tests write their runbooks with. Runbooks know nothing of modules but their declarations.

type none struct{}

type commandArgs struct {
	Run     string            `hcl:"run" doc:"What to run."`
	Creates string            `hcl:"creates,optional" doc:"A file that makes the command unnecessary."`
	Env     map[string]string `hcl:"env,optional" doc:"Its environment."`
	Words   []string          `hcl:"words,optional" doc:"Some words."`
	Count   int               `hcl:"count,optional" default:"1" min:"1" max:"9" doc:"How often."`
	Limit   time.Duration     `hcl:"limit,optional" default:"1m" doc:"How long."`
	Token   secret.String     `hcl:"token,optional" doc:"A secret for standard input."`
}

type commandOutputs struct {
	Stdout         string `hcl:"stdout,optional" doc:"What it printed."`
	RebootRequired bool   `hcl:"reboot_required,optional" doc:"Whether to restart."`

	Open any             `hcl:"open,optional" doc:"Anything."`
	List []deep          `hcl:"list,optional" doc:"Objects."`
	Many map[string]deep `hcl:"many,optional" doc:"Objects by name."`
}

type deep struct {
	Deep bool `hcl:"deep" doc:"How deep."`
}

// testFacts is the type of self.facts in the tests.
var testFacts = cty.Object(map[string]cty.Type{
	"kernel": cty.String, "addresses": cty.List(cty.String),
	"os":  cty.Object(map[string]cty.Type{"id": cty.String, "name": cty.String}),
	"pve": cty.Object(map[string]cty.Type{"version": cty.String, "major": cty.Number}),
})

type poolArgs struct {
	Name string `hcl:"name,label" doc:"Its name."`
	Size int    `hcl:"size" doc:"How many copies."`
	Min  int    `hcl:"min_size,optional" default:"2" doc:"How many of them must be there."`
}

type storageArgs struct {
	Network string         `hcl:"network" doc:"The network."`
	Nodes   inventory.Refs `hcl:"nodes,optional" doc:"On which nodes."`
	Pools   []poolArgs     `hcl:"pool,block" doc:"The pools."`

	Scores map[inventory.Ref]int `hcl:"scores,optional" doc:"Scores by node." each_min:"0"`
}

func (a storageArgs) Validate() error {
	for _, p := range a.Pools {
		if p.Min > p.Size {
			return schema.At("pool[0].min_size", errors.New("it must not be more than size"))
		}
	}
	return nil
}

func define[A, O any](name string, scope module.Scope) module.Module {
	return module.Define(module.Spec{Name: name, Summary: "for tests", Scope: scope}, module.Funcs[A, O]{
		Plan: func(context.Context, module.Target, A) ([]module.Change, error) { return nil, nil },
	})
}

func testModules() module.Registry {
	return module.NewRegistry(
		define[commandArgs, commandOutputs]("command", module.PerHost),
		define[storageArgs, none]("ceph_init", module.PerCluster),
		define[none, none]("preflight", module.PerCluster),
		define[struct {
			Nodes inventory.Refs `hcl:"nodes,optional" doc:"Who joins."`
		}, none]("node_join", module.PerCluster),
	)
}
