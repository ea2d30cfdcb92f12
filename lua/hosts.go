package lua

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/secret"
)

// hostObject is a host in a script.
type hostObject struct{ Host }

// Class is that of hosts.
func (hostObject) Class() string { return "host" }

// String is its name.
func (h hostObject) String() string { return h.Name() }

// sites are the functions that find hosts and the cluster.
func sites(env Environment) []Func {
	return []Func{
		{
			Name: "hosts", Doc: "The hosts of the site, in the order of its files; with a filter those that everything in it fits.",
			Params: []Param{{Name: "filter", Type: typeTable, Optional: true, Doc: "which", Fields: []Param{
				{Name: "name", Type: typeText, Optional: true, Doc: "a name, or a pattern with * and ?"},
				{Name: "group", Type: typeText, Optional: true, Doc: "a group that the host is in"},
				{Name: "cluster", Type: typeText, Optional: true, Doc: "the cluster that the host is a node of"},
				{Name: "tag", Type: typeText, Optional: true, Doc: "a tag: one of the host's variable `tags`"},
				{Name: "var", Type: typeTable, Optional: true, Doc: "values of variables of the host"},
			}}},
			Returns: []Param{{Name: "hosts", Type: "host[]", Doc: "the hosts; none is no error"}},
			Example: `for _, host in ipairs(hosts({group = "databases", var = {site = "a"}})) do print(host.name) end`,
			Call: func(_ context.Context, args []Value) ([]Value, error) {
				filter := args[0].(map[string]Value)
				if pattern, ok := filter["name"].(string); ok {
					if _, err := path.Match(pattern, ""); err != nil {
						return nil, fmt.Errorf("name: %q is no pattern", pattern)
					}
				}
				chosen := []Value{}
				for _, h := range env.Hosts {
					if fits(h, filter) {
						chosen = append(chosen, hostObject{h})
					}
				}
				return []Value{chosen}, nil
			},
		},
		{
			Name: "cluster", Doc: "The cluster that the run is for.",
			Returns: []Param{{Name: "cluster", Type: "cluster", Doc: "the cluster"}}, Errors: "the run is for no cluster",
			Example: `print(cluster().name)`,
			Call: func(context.Context, []Value) ([]Value, error) {
				if env.Cluster == nil {
					return nil, errors.New("the run is for no cluster")
				}
				return []Value{clusterObject{env.Cluster}}, nil
			},
		},
		{
			Name: "secret", Doc: "A secret of the site. It is shown as " + bullets + ", and can be handed to host:run (stdin, env) and host:write, and to nothing else.",
			Params:  []Param{{Name: "name", Type: typeText, Doc: "its name in the site's files"}},
			Returns: []Param{{Name: "value", Type: typeSecret, Doc: "the secret"}}, Errors: "there is no such secret, or it cannot be read",
			Example: `hosts()[1]:run("psql -f -", {stdin = secret("db_password")})`,
			Call: func(ctx context.Context, args []Value) ([]Value, error) {
				if env.Secret == nil {
					return nil, errors.New("there are no secrets here")
				}
				value, err := env.Secret(ctx, args[0].(string))
				return []Value{value}, err
			},
		},
		{
			Name: "task", Off: env.Task == nil, Doc: "Performs a task of a built-in module, as `task \"module\" \"…\"` in a runbook does, and returns its outputs.",
			Params: []Param{
				{Name: "module", Type: typeText, Doc: "the module, such as \"service\""},
				{Name: "args", Type: typeTable, Optional: true, Default: map[string]Value{}, Doc: "its arguments, under the names they have in a runbook"},
			},
			Returns: []Param{{Name: "outputs", Type: typeTable, Doc: "the module's outputs"}}, Errors: "the task fails",
			Call: func(ctx context.Context, args []Value) ([]Value, error) {
				if env.Task == nil {
					return nil, errors.New("tasks cannot be performed here")
				}
				outputs, err := env.Task(ctx, args[0].(string), args[1].(map[string]Value))
				return []Value{outputs}, err
			},
		},
	}
}

func fits(h Host, filter map[string]Value) bool {
	if pattern, ok := filter["name"].(string); ok {
		if match, _ := path.Match(pattern, h.Name()); !match {
			return false
		}
	}
	if group, ok := filter["group"].(string); ok && !slices.Contains(h.Groups(), group) {
		return false
	}
	if cluster, ok := filter["cluster"].(string); ok && h.Cluster() != cluster {
		return false
	}
	if tag, ok := filter["tag"].(string); ok && !slices.Contains(h.Tags(), tag) {
		return false
	}
	wanted, _ := filter["var"].(map[string]Value)
	have := h.Vars()
	for name, value := range wanted {
		if got, ok := have[name]; !ok || !reflect.DeepEqual(got, value) {
			return false
		}
	}
	return true
}

func hostOf(args []Value) Host { return args[0].(hostObject).Host }

func hostClass() Class {
	field := func(name, kind, doc string, get func(h Host) Value) Field {
		return Field{Param{Name: name, Type: kind, Doc: doc}, func(o Object) Value { return get(o.(hostObject).Host) }}
	}
	return Class{
		Name: "host", Doc: "A host of the site. tostring gives its name.",
		Fields: []Field{
			field("name", typeText, "its name", func(h Host) Value { return h.Name() }),
			field("address", typeText, "the IP address or DNS name that it is reached at", func(h Host) Value { return h.Address() }),
			field("cluster", typeText, "the cluster that it is a node of; empty if none", func(h Host) Value { return h.Cluster() }),
			field("groups", typeTexts, "the groups that it is in", func(h Host) Value { return h.Groups() }),
			field("tags", typeTexts, "its tags", func(h Host) Value { return h.Tags() }),
			field("vars", typeTable, "its variables", func(h Host) Value { return h.Vars() }),
		},
		Methods: []Func{hostRun(), hostRead(), hostWrite(), hostFacts()},
	}
}

func hostRun() Func {
	return Func{
		Name: "run", Doc: "Runs a command on the host and waits for its end.",
		Params: []Param{
			{Name: "command", Type: typeText + "|" + typeTexts, Doc: "a line or script for sh, or a list of a program and its arguments, which no shell reads"},
			{Name: "options", Type: typeTable, Optional: true, Doc: "how", Fields: []Param{
				{Name: "stdin", Type: typeText + "|" + typeSecret, Optional: true, Doc: "what it reads from standard input; nothing otherwise"},
				{Name: "env", Type: typeTable, Optional: true, Default: map[string]Value{}, Doc: "variables of its environment, strings or secrets"},
				{Name: "timeout", Type: typeDuration, Optional: true, Default: time.Minute, Doc: "how long it may run"},
				{Name: "changes", Type: typeBool, Optional: true, Default: true, Doc: "whether it may change the host; gates refuse commands that may"},
				{Name: "check", Type: typeBool, Optional: true, Default: true, Doc: "whether another exit status than 0 is an error"},
			}},
		},
		Returns: []Param{{Name: "result", Type: typeTable, Doc: "how it ended", Fields: []Param{
			{Name: "stdout", Type: typeText, Doc: "its output, without the last end of line"},
			{Name: "stderr", Type: typeText, Doc: "its error output, without the last end of line"},
			{Name: "exit", Type: typeNumber, Doc: "its exit status"},
		}}},
		Errors:  "the host cannot be reached; the command fails, is refused or runs too long",
		Example: `local out = hosts()[1]:run("uptime", {changes = false}).stdout`,
		Call: func(ctx context.Context, args []Value) ([]Value, error) {
			o := args[2].(map[string]Value)
			c := Command{Stdin: hidden(o["stdin"]), Timeout: o["timeout"].(time.Duration), Mutates: o["changes"].(bool)}
			switch command := args[1].(type) {
			case string:
				c.Script = command
			case []string:
				c.Argv = command
			}
			if c.Script == "" && (len(c.Argv) == 0 || c.Argv[0] == "") {
				return nil, errors.New("argument 1 (command) is empty")
			}
			c.Env = map[string]secret.String{}
			for name, value := range o["env"].(map[string]Value) {
				switch value.(type) {
				case string, secret.String:
					c.Env[name] = hidden(value)
				default:
					return nil, fmt.Errorf("argument 2 (options): env: %s must be a string or a secret, and is %s", name, kindOf(value))
				}
			}
			host := hostOf(args)
			out, err := host.Run(ctx, c)
			if err != nil {
				return nil, err
			}
			if out.Exit != 0 && o["check"].(bool) {
				return nil, fmt.Errorf("%s: exit %d%s", host.Name(), out.Exit, lastLine(out))
			}
			return []Value{map[string]Value{"stdout": strings.TrimSuffix(out.Stdout, "\n"), "stderr": strings.TrimSuffix(out.Stderr, "\n"), "exit": out.Exit}}, nil
		},
	}
}

// hidden makes a secret of a text; of nil, nothing.
func hidden(v Value) secret.String {
	switch v := v.(type) {
	case string:
		return secret.New(v)
	case secret.String:
		return v
	}
	return secret.String{}
}

// lastLine is what a failed command said last.
func lastLine(out Output) string {
	for _, text := range []string{out.Stderr, out.Stdout} {
		if text = strings.TrimSpace(text); text != "" {
			return ": " + text[strings.LastIndexByte(text, '\n')+1:]
		}
	}
	return ""
}

func absolute(p string) error {
	if !path.IsAbs(p) {
		return fmt.Errorf("%q is no absolute path", p)
	}
	return nil
}

func hostRead() Func {
	return Func{
		Name: "read", Doc: "Reads a file of the host, of up to 1 MiB.",
		Params:  []Param{{Name: "path", Type: typeText, Doc: "its absolute path"}},
		Returns: []Param{{Name: "text", Type: typeText, Optional: true, Doc: "its content; nil if there is no such file"}},
		Errors:  "the host cannot be reached; the file cannot be read or is too long",
		Example: `local text = hosts()[1]:read("/etc/hostname")`,
		Call: func(ctx context.Context, args []Value) ([]Value, error) {
			name := args[1].(string)
			if err := absolute(name); err != nil {
				return nil, err
			}
			text, found, err := hostOf(args).Read(ctx, name)
			if err != nil || !found {
				return []Value{nil}, err
			}
			return []Value{text}, nil
		},
	}
}

func hostWrite() Func {
	return Func{
		Name: "write", Doc: "Replaces a file of the host, in one step. Gates refuse it.",
		Params: []Param{
			{Name: "path", Type: typeText, Doc: "its absolute path"},
			{Name: "content", Type: typeText + "|" + typeSecret, Doc: "what it shall hold"},
			{Name: "options", Type: typeTable, Optional: true, Doc: "how", Fields: []Param{
				{Name: "mode", Type: typeText, Optional: true, Doc: "its permissions, in octal: \"0600\"; as they are otherwise"},
			}},
		},
		Errors:  "the host cannot be reached; the file cannot be written, or may not be",
		Example: `hosts()[1]:write("/etc/motd", "hello\n", {mode = "0644"})`,
		Call: func(ctx context.Context, args []Value) ([]Value, error) {
			f := File{Path: args[1].(string), Content: hidden(args[2])}
			if err := absolute(f.Path); err != nil {
				return nil, err
			}
			if mode, ok := args[3].(map[string]Value)["mode"].(string); ok {
				bits, err := strconv.ParseUint(mode, 8, 12)
				if err != nil {
					return nil, fmt.Errorf("mode: %q is no octal number such as \"0644\"", mode)
				}
				f.Mode = fs.FileMode(bits)
			}
			return nil, hostOf(args).Write(ctx, f)
		},
	}
}

func hostFacts() Func {
	return Func{
		Name: "facts", Doc: "What the host is: what expressions of a runbook see as self.facts.",
		Returns: []Param{{Name: "facts", Type: typeTable, Doc: "the facts"}}, Errors: "the host cannot be reached",
		Example: `local facts = hosts()[1]:facts()`,
		Call: func(ctx context.Context, args []Value) ([]Value, error) {
			facts, err := hostOf(args).Facts(ctx)
			return []Value{facts}, err
		},
	}
}

func secretClass() Class {
	return Class{Name: typeSecret, Doc: "A secret. tostring and print show " + bullets + "; every operator on it, and every function but those that take secrets, is an error."}
}

// HostValue makes a host a value for Call.Globals.
func HostValue(h Host) Value { return hostObject{h} }
