package module

import (
	"fmt"
	"maps"
	"slices"
)

// Registry is a set of modules by name. It is a value: tests make their own.
type Registry struct{ byName map[string]Module }

// NewRegistry makes a registry. Two modules of one name are a mistake of the programmer and panic.
func NewRegistry(modules ...Module) Registry {
	r := Registry{make(map[string]Module, len(modules))}
	for _, m := range modules {
		name := m.Spec().Name
		if _, twice := r.byName[name]; twice {
			panic(fmt.Sprintf("module %q is registered twice", name))
		}
		r.byName[name] = m
	}
	return r
}

// Get returns the module of a name.
func (r Registry) Get(name string) (Module, bool) {
	m, ok := r.byName[name]
	return m, ok
}

// Names lists the modules in alphabetical order.
func (r Registry) Names() []string { return slices.Sorted(maps.Keys(r.byName)) }
