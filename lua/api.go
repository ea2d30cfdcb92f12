package lua

import (
	"context"
	"errors"
	"strings"

	"github.com/pxrun/pxrun/internal/diag"
	lua "github.com/yuin/gopher-lua"
)

// API is what scripts have beside Lua's own functions, as data: the bindings, the checks of arguments, docs/lua.md and the
// annotations for editors all come from it. Declare makes the one there is.
type API struct {
	Funcs   []Func
	Classes []Class
}

// Class is a kind of object.
type Class struct {
	Name, Doc string
	Fields    []Field
	// Methods get the object as their first argument; it is not among their Params.
	Methods []Func
}

// Field is a field of an object.
type Field struct {
	Param
	Get func(Object) Value
}

// Func is one function or method.
type Func struct {
	// Name is the global name, "hosts", or one in a table, "json.decode".
	Name    string
	Doc     string
	Params  []Param
	Returns []Param
	// Errors says when the function raises an error, other than for wrong arguments; "" for never.
	Errors string
	// Example is Lua that a test runs.
	Example string
	// Call does it. The script's other functions go on meanwhile, if it stands in a parallel. Every argument is there and
	// of its type; one that was left out has its default, or is nil.
	Call func(ctx context.Context, args []Value) ([]Value, error)

	// Off says that the environment has not what the function needs. It is there, and says so, but is not documented.
	Off bool

	builtin builtin
}

// builtin is a function that needs the interpreter itself.
type builtin func(s *session, l *lua.LState, args []Value) int

// Param is an argument or a result.
type Param struct {
	Name string
	// Type is one of the types below, or several with | between them.
	Type string
	Doc  string
	// Optional arguments may be left out, or be nil.
	Optional bool
	// Default stands for one that was left out.
	Default Value
	// Fields are those of a table.
	Fields []Param
}

// The types. Any other name is that of a class.
const (
	typeText     = "string"
	typeNumber   = "number"
	typeBool     = "boolean"
	typeFunction = "function"
	typeAny      = "any"
	typeList     = "list"     // []Value
	typeTexts    = "string[]" // []string
	typeTable    = "table"    // map[string]Value
	typeDuration = "duration" // time.Duration, of "90s", "5m" or a number of seconds
	typeSecret   = "secret"   // secret.String
)

// bind puts the API into the interpreter.
func (s *session) bind(api *API) {
	tables := map[string]*lua.LTable{}
	globals := s.state.G.Global
	for i := range api.Funcs {
		f := &api.Funcs[i]
		table, name, inTable := strings.Cut(f.Name, ".")
		if !inTable {
			globals.RawSetString(f.Name, s.state.NewFunction(s.function(f, f.Name, "")))
			continue
		}
		t := tables[table]
		if t == nil {
			t = s.state.CreateTable(0, 4)
			tables[table] = t
			globals.RawSetString(table, t)
		}
		t.RawSetString(name, s.state.NewFunction(s.function(f, f.Name, "")))
	}
}

// function is what a script calls. Class is set for methods.
func (s *session) function(f *Func, name, class string) lua.LGFunction {
	return func(l *lua.LState) int {
		args, err := s.arguments(l, f, class)
		if err != nil {
			l.RaiseError("%s: %s", name, err)
		}
		if f.builtin != nil {
			return f.builtin(s, l, args)
		}
		values, err := s.outside(func(ctx context.Context) ([]Value, error) { return f.Call(ctx, args) })
		s.must(l, s.meter.over)
		if err != nil {
			s.raise(l, name, err)
		}
		for _, v := range values {
			value, err := s.lua(l, v)
			if err != nil {
				s.raise(l, name, err)
			}
			l.Push(value)
		}
		return len(values)
	}
}

// raise raises what a host function returned. Run finds the error itself again if nothing catches it.
func (s *session) raise(l *lua.LState, name string, err error) {
	s.must(l, s.meter.over)
	s.cause = err
	text := err.Error()
	if errAlloc := s.meter.alloc(int64(len(text)) + stringCost); errAlloc != nil {
		s.must(l, errAlloc)
	}
	l.RaiseError("%s: %s", name, text)
}

// outside does something that waits, while the script's other functions may go on.
func (s *session) outside(f func(ctx context.Context) ([]Value, error)) ([]Value, error) {
	s.turn.Unlock()
	defer func() {
		s.turn.Lock()
		if s.meter.ctx.Err() != nil {
			s.meter.end(context.Cause(s.meter.ctx))
		}
	}()
	return f(s.meter.ctx)
}

// arguments takes a call's arguments out of the interpreter, and checks them.
func (s *session) arguments(l *lua.LState, f *Func, class string) ([]Value, error) {
	args := make([]Value, 0, len(f.Params)+1)
	first := 1
	if class != "" {
		self, ok := objectOf(l.Get(1), class)
		if !ok {
			return nil, errors.New("call it with a colon, as in " + class + ":" + f.Name + "(…)")
		}
		args = append(args, self)
		first = 2
	}
	if l.GetTop()-first+1 > len(f.Params) {
		return nil, tooMany(f, l.GetTop()-first+1)
	}
	for i, p := range f.Params {
		v, err := s.value(l.Get(first + i))
		if err == nil {
			v, err = p.convert(v)
		}
		if err != nil {
			return nil, argumentError(i, p, err)
		}
		args = append(args, v)
	}
	return args, nil
}

func objectOf(v lua.LValue, class string) (Object, bool) {
	u, ok := v.(*lua.LUserData)
	if !ok {
		return nil, false
	}
	o, ok := u.Value.(Object)
	return o, ok && o.Class() == class
}

// members gives a class its fields and methods.
func (s *session) members(meta *lua.LTable, class *Class) {
	methods := map[string]lua.LValue{}
	for i := range class.Methods {
		f := &class.Methods[i]
		methods[f.Name] = s.state.NewFunction(s.function(f, class.Name+":"+f.Name, class.Name))
	}
	meta.RawSetString("__index", s.state.NewFunction(func(l *lua.LState) int {
		self, ok := objectOf(l.Get(1), class.Name)
		key := l.CheckString(2)
		if !ok {
			l.RaiseError("this is no %s", class.Name)
		}
		if f := methods[key]; f != nil {
			l.Push(f)
			return 1
		}
		names := keysOf(methods)
		for _, field := range class.Fields {
			if field.Name != key {
				names = append(names, field.Name)
				continue
			}
			value, err := s.lua(l, field.Get(self))
			s.must(l, err)
			l.Push(value)
			return 1
		}
		l.RaiseError("a %s has no %q.%s", class.Name, key, diag.DidYouMean(key, names))
		return 0
	}))
	meta.RawSetString("__newindex", s.state.NewFunction(func(l *lua.LState) int {
		l.RaiseError("the fields of a %s cannot be set", class.Name)
		return 0
	}))
}
