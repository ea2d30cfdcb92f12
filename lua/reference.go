package lua

import (
	"fmt"
	"strings"
	"time"
)

// Markdown is the reference page of an API: docs/lua.md.
func (a *API) Markdown() string {
	var b strings.Builder
	b.WriteString("<!-- Generated from the declarations of package lua by go test ./cli -run TestReference -update. Do not edit. -->\n\n")
	b.WriteString(strings.ReplaceAll(introduction, "%LIMITS%\n", limitRows()+"\n"))
	b.WriteString("\n## Functions\n")
	for i := range a.Funcs {
		if !a.Funcs[i].Off {
			a.Funcs[i].markdown(&b, a.Funcs[i].Name)
		}
	}
	for i := range a.Classes {
		c := &a.Classes[i]
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", c.Name, c.Doc)
		if len(c.Fields) > 0 {
			b.WriteString("\n| field | type | |\n|---|---|---|\n")
			for _, f := range c.Fields {
				fmt.Fprintf(&b, "| `%s.%s` | %s | %s |\n", c.Name, f.Name, cell(f.Type), f.Doc)
			}
		}
		for j := range c.Methods {
			c.Methods[j].markdown(&b, c.Name+":"+c.Methods[j].Name)
		}
	}
	return b.String()
}

const introduction = `# Lua

Scripts are Lua 5.1. They run inside of pxrun, each in an interpreter of its own that is gone when it ends. A task of the module [` + "`gate`" + `](modules/gate.md) asks one whether the run may go on.
` + "`pxrun lua types > pxrun.d.lua`" + ` writes the functions for editors.

## What a script has

Of Lua itself: all of the language, and ` + "`assert error getmetatable ipairs next pairs pcall print rawequal rawget rawset require select setmetatable tonumber tostring type unpack xpcall`" + `,
the libraries ` + "`math`, `table` and `string`" + ` (with ` + "`find`, `match`, `gmatch`, `gsub`, `format`, `rep`" + ` …), and the functions below. There are no ` + "`os`, `io`, `debug`, `load`" + ` and coroutines.

` + "`require(\"checks.disks\")`" + ` reads ` + "`lua/checks/disks.lua`" + ` of the site, and nothing outside of that folder, links included. ` + "`print`" + ` tells the run's log. ` + "`math.random`" + ` gives the same numbers in the same run.

## What it may take

| | |
|---|---|
%LIMITS%
What reaches a limit is ended, whatever it catches with ` + "`pcall`" + `. Memory is all that the script allocates from beginning to end. Strings, tables and functions are charged by the most
that they can take, so about half of it is in use when the limit is reached.

Errors name the file and the line. Durations are written ` + "`\"90s\"`, `\"5m\"`" + ` or as a number of seconds.
`

// limitRows are the limits that DefaultLimits gives.
func limitRows() string {
	l := DefaultLimits()
	return fmt.Sprintf("| time | what its task says, otherwise %s |\n| steps | %d million instructions; work on long texts and tables counts too |\n| memory | %s |\n| output | %s |\n| nested calls | %d |\n",
		shortDuration(l.Time), l.Steps/1_000_000, size(l.Memory), size(l.Output), l.Depth)
}

func (f *Func) markdown(b *strings.Builder, name string) {
	fmt.Fprintf(b, "\n### %s\n\n```lua\n%s\n```\n\n%s\n", name, f.signature(name), f.Doc)
	if len(f.Params)+len(f.Returns) > 0 {
		b.WriteString("\n| | type | |\n|---|---|---|\n")
	}
	for _, p := range f.Params {
		p.rows(b, "`"+p.Name+"`")
	}
	for _, p := range f.Returns {
		p.rows(b, "returns `"+p.Name+"`")
	}
	if f.Errors != "" {
		fmt.Fprintf(b, "\nRaises an error when: %s.\n", f.Errors)
	}
	if f.Example != "" {
		fmt.Fprintf(b, "\n```lua\n%s\n```\n", f.Example)
	}
}

func (f *Func) signature(name string) string {
	params := make([]string, len(f.Params))
	for i, p := range f.Params {
		if params[i] = p.Name; p.Optional {
			params[i] = "[" + p.Name + "]"
		}
	}
	text := name + "(" + strings.Join(params, ", ") + ")"
	for i, p := range f.Returns {
		if i == 0 {
			text += " -> "
		} else {
			text += ", "
		}
		text += p.Name
	}
	return text
}

// rows tells a parameter and its fields, as lines of a table.
func (p Param) rows(b *strings.Builder, name string) {
	doc := p.Doc
	switch {
	case p.Default != nil && shownDefault(p.Default) != "":
		doc += "; otherwise " + shownDefault(p.Default)
	case p.Optional && !strings.HasPrefix(name, "returns"):
		doc += " (optional)"
	}
	fmt.Fprintf(b, "| %s | %s | %s |\n", name, cell(p.Type), doc)
	base := strings.TrimSuffix(name, "`")
	for _, f := range p.Fields {
		f.rows(b, base+"."+f.Name+"`")
	}
}

func cell(t string) string { return strings.ReplaceAll(t, "|", " or ") }

func shownDefault(v Value) string {
	switch v := v.(type) {
	case string:
		if v == "" {
			return ""
		}
		return fmt.Sprintf("%q", v)
	case float64:
		return number(v)
	case bool:
		return fmt.Sprint(v)
	case time.Duration:
		return shortDuration(v)
	}
	return ""
}

// shortDuration shows 5m instead of 5m0s.
func shortDuration(d time.Duration) string {
	if d >= time.Minute && d%time.Minute == 0 {
		return strings.TrimSuffix(d.String(), "0s")
	}
	return d.String()
}
