package lua

import (
	"fmt"
	"strings"
)

// Annotations are the API in the form that the Lua language server and others read (LuaLS, EmmyLua): a file of functions
// without bodies.
func (a *API) Annotations() string {
	var b strings.Builder
	b.WriteString("---@meta pxrun\n-- What scripts of pxrun have beside Lua 5.1's own functions. Written by `pxrun lua types`.\n\n---@alias duration string|number\n")
	tables := map[string]bool{}
	for i := range a.Classes {
		c := &a.Classes[i]
		fmt.Fprintf(&b, "\n---%s\n---@class %s\n", c.Doc, c.Name)
		for _, f := range c.Fields {
			fmt.Fprintf(&b, "---@field %s %s %s\n", f.Name, annotated(f.Param), f.Doc)
		}
		fmt.Fprintf(&b, "local %s = {}\n", c.Name)
		for j := range c.Methods {
			c.Methods[j].annotate(&b, c.Name+"."+c.Methods[j].Name, c.Name+":"+c.Methods[j].Name)
		}
	}
	for i := range a.Funcs {
		f := &a.Funcs[i]
		if f.Off {
			continue
		}
		if table, _, ok := strings.Cut(f.Name, "."); ok && !tables[table] {
			tables[table] = true
			fmt.Fprintf(&b, "\n%s = {}\n", table)
		}
		f.annotate(&b, f.Name, f.Name)
	}
	return b.String()
}

// annotate writes a function. Tables with known fields become classes under the name of the function.
func (f *Func) annotate(b *strings.Builder, id, name string) {
	kinds := func(list []Param) []string {
		var all []string
		for _, p := range list {
			kind := annotated(p)
			if len(p.Fields) > 0 {
				class := id + "." + p.Name
				p.class(b, class)
				kind = strings.Replace(kind, typeTable, class, 1)
			}
			all = append(all, kind)
		}
		return all
	}
	params, returns := kinds(f.Params), kinds(f.Returns)
	fmt.Fprintf(b, "\n---%s\n", f.Doc)
	if f.Errors != "" {
		fmt.Fprintf(b, "---Raises an error when: %s.\n", f.Errors)
	}
	names := make([]string, len(f.Params))
	for i, p := range f.Params {
		names[i] = p.Name
		mark := ""
		if p.Optional {
			mark = "?"
		}
		fmt.Fprintf(b, "---@param %s%s %s %s\n", p.Name, mark, strings.TrimSuffix(params[i], "?"), p.Doc)
	}
	for i, p := range f.Returns {
		fmt.Fprintf(b, "---@return %s %s %s\n", returns[i], p.Name, p.Doc)
	}
	fmt.Fprintf(b, "function %s(%s) end\n", name, strings.Join(names, ", "))
}

// class writes the fields of a table.
func (p Param) class(b *strings.Builder, name string) {
	for _, f := range p.Fields {
		if len(f.Fields) > 0 {
			f.class(b, name+"."+f.Name)
		}
	}
	fmt.Fprintf(b, "\n---@class %s\n", name)
	for _, f := range p.Fields {
		mark, kind := "", annotated(f)
		if f.Optional {
			mark = "?"
		}
		if len(f.Fields) > 0 {
			kind = strings.Replace(kind, typeTable, name+"."+f.Name, 1)
		}
		fmt.Fprintf(b, "---@field %s%s %s %s\n", f.Name, mark, strings.TrimSuffix(kind, "?"), f.Doc)
	}
}

// annotated is a type as the annotations have it.
func annotated(p Param) string {
	kind := strings.ReplaceAll(p.Type, typeList, "any[]")
	if p.Optional {
		kind += "?"
	}
	return kind
}
