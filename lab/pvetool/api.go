package pvetool

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/lab/machine"
)

// Object is a JSON object; encoding/json sorts its keys, as Proxmox does.
type Object = map[string]any

// API is what pvesh offers on one node: the models put their paths into it.
type API struct {
	mu     sync.Mutex
	routes []Route
}

// Route is one method of one path.
type Route struct {
	Verb string // get, set, create or delete
	Path string // "/nodes/{node}/qemu/{vmid}/migrate"
	// Options are the parameters beside those in the path, Required the names of those that must be given.
	Options  map[string]Option
	Required []string
	// Do answers. A nil body prints nothing. It may print a worker's log on the process's stdout first and return the
	// task's id as the body (reference §1.6). An error is a refusal; a *ParamError one of parameters. One with a method
	// ExitCode() int says its exit status; others are 255.
	Do func(ctx context.Context, r Request) (body any, err error)
}

// Request is one call.
type Request struct {
	Proc    *machine.Proc
	Path    map[string]string // by the names in braces
	Options Options
}

// Handle adds a route. A later one of the same verb and path replaces the earlier.
func (a *API) Handle(r Route) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.routes = slices.DeleteFunc(a.routes, func(old Route) bool { return old.Verb == r.Verb && old.Path == r.Path })
	a.routes = append(a.routes, r)
}

// find returns the route of a call, fixed words before names in braces.
func (a *API) find(verb, path string) (Route, map[string]string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	best, bestNames, found := Route{}, map[string]string(nil), false
	for _, r := range a.routes {
		names, ok := match(r.Path, path)
		if r.Verb == verb && ok && (!found || len(names) < len(bestNames)) {
			best, bestNames, found = r, names, true
		}
	}
	return best, bestNames, found
}

func match(pattern, path string) (map[string]string, bool) {
	want, have := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(have) {
		return nil, false
	}
	names := map[string]string{}
	for i, word := range want {
		if name, ok := strings.CutPrefix(word, "{"); ok {
			names[strings.TrimSuffix(name, "}")] = have[i]
		} else if word != have[i] {
			return nil, false
		}
	}
	return names, true
}

// verbs are those of pvesh.
var verbs = []string{"get", "set", "create", "delete"}

// Shell is the program pvesh, after its start.
func (a *API) Shell(ctx context.Context, p *machine.Proc) int {
	args := p.Args()
	if len(args) < 2 {
		fmt.Fprintln(p.Stderr, "ERROR: no command specified\nUSAGE: pvesh <COMMAND> [ARGS] [OPTIONS]")
		return ExitDie
	}
	verb, path := args[0], "/"+strings.Trim(args[1], "/")
	route, names, ok := a.find(verb, path)
	if !ok {
		if !slices.Contains(verbs, verb) {
			return Die(p, ExitDie, "ERROR: unknown command 'pvesh %s'", verb)
		}
		return Die(p, 1, "No '%s' handler defined for '%s'", verb, path)
	}
	known := maps.Clone(route.Options)
	if known == nil {
		known = map[string]Option{}
	}
	for _, name := range []string{"output-format"} {
		known[name] = Option{}
	}
	for _, name := range []string{"noproxy", "quiet", "human-readable", "noheader", "noborder"} {
		known[name] = Option{Kind: Bool}
	}
	o, perr := Parse(args[2:], known)
	if perr == nil {
		var missing []string
		for _, name := range route.Required {
			if _, given := o.Values[name]; !given {
				missing = append(missing, name+": property is missing and it is not optional")
			}
		}
		if len(missing) > 0 {
			perr = &ParamError{Head: "Parameter verification failed.", Lines: missing}
		}
	}
	if perr != nil {
		fmt.Fprint(p.Stderr, perr.Error(), "pvesh "+verb+" <api_path>  [OPTIONS] [FORMAT_OPTIONS]\n")
		return ExitNoEntry
	}
	body, err := route.Do(ctx, Request{Proc: p, Path: names, Options: o})
	if errors.Is(err, ErrKilled) {
		return ExitKilled
	}
	if err != nil {
		code := ExitDie
		if exact, ok := errors.AsType[interface {
			error
			ExitCode() int
		}](err); ok {
			code = exact.ExitCode()
		}
		return Die(p, code, "%s", strings.TrimRight(err.Error(), "\n"))
	}
	if body == nil || o.Is("quiet") {
		return 0
	}
	_, _ = p.Stdout.Write(encode(body, o.Values["output-format"])) // who does not read it is gone
	return 0
}

func encode(body any, format string) []byte {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if format == "json-pretty" {
		encoder.SetIndent("", "   ")
	}
	if err := encoder.Encode(body); err != nil {
		return []byte("\n")
	}
	return out.Bytes()
}
