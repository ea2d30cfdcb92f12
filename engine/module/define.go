package module

import (
	"context"

	"github.com/pxrun/pxrun/internal/schema"
)

// Funcs are a module's functions over its own argument and output structs. Probes and Read may be nil.
type Funcs[A, O any] struct {
	Probes func(t Target, args A) []Probe
	Plan   func(ctx context.Context, t Target, args A) ([]Change, error)
	Read   func(ctx context.Context, t Target, args A) (O, error)
}

// Define makes a module of a declaration and typed functions.
func Define[A, O any](s Spec, f Funcs[A, O]) Module {
	return &defined[A, O]{spec: s, funcs: f, args: schema.For[A](), outputs: schema.For[O]()}
}

type defined[A, O any] struct {
	spec          Spec
	funcs         Funcs[A, O]
	args, outputs *schema.Body
}

func (d *defined[A, O]) Spec() Spec            { return d.spec }
func (d *defined[A, O]) Args() *schema.Body    { return d.args }
func (d *defined[A, O]) Outputs() *schema.Body { return d.outputs }
func (d *defined[A, O]) NewArgs() any          { return new(A) }

func (d *defined[A, O]) Probes(t Target, args any) []Probe {
	if d.funcs.Probes == nil {
		return nil
	}
	return d.funcs.Probes(t, *args.(*A))
}

func (d *defined[A, O]) Plan(ctx context.Context, t Target, args any) ([]Change, error) {
	return d.funcs.Plan(ctx, t, *args.(*A))
}

func (d *defined[A, O]) Read(ctx context.Context, t Target, args any) (any, error) {
	if d.funcs.Read == nil {
		var none O
		return none, nil
	}
	return d.funcs.Read(ctx, t, *args.(*A))
}

// DefineRoller is Define for a module that knows the course of the rolling blocks in which its tasks stand. RollHost.Args are
// pointers to A, nil for hosts that the task's when leaves out.
func DefineRoller[A, O any](s Spec, f Funcs[A, O], roll func(ctx context.Context, t Target, r Roll) (Course, error)) Roller {
	return &roller[A, O]{defined[A, O]{spec: s, funcs: f, args: schema.For[A](), outputs: schema.For[O]()}, roll}
}

type roller[A, O any] struct {
	defined[A, O]
	roll func(ctx context.Context, t Target, r Roll) (Course, error)
}

func (r *roller[A, O]) Roll(ctx context.Context, t Target, roll Roll) (Course, error) {
	return r.roll(ctx, t, roll)
}
