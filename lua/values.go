package lua

import (
	"errors"
	"fmt"
	"slices"

	"github.com/pxrun/pxrun/internal/secret"
	lua "github.com/yuin/gopher-lua"
)

// Value is what goes in and out of scripts: nil, bool, float64, string, []Value, map[string]Value, secret.String,
// Object, *Function, and on the way in also int, int64, []string and map[string]string.
type Value = any

// Object is a value with methods, such as a host. It stays a Go value; scripts hold it and call its methods.
type Object interface {
	// Class is the name under which the API declares its methods.
	Class() string
	// String is what tostring shows.
	String() string
}

// Function is a function of the script.
type Function struct{ f *lua.LFunction }

// maxValueDepth bounds how deep lists and maps nest that go in and out. A table that holds itself is deeper.
const maxValueDepth = 50

// value takes a value out of the script.
func (s *session) value(v lua.LValue) (Value, error) { return s.valueAt(v, 0) }

func (s *session) valueAt(v lua.LValue, depth int) (Value, error) {
	switch v := v.(type) {
	case *lua.LNilType:
		return nil, nil
	case lua.LBool:
		return bool(v), nil
	case lua.LNumber:
		return float64(v), nil
	case lua.LString:
		return string(v), nil
	case *lua.LUserData:
		if hidden, ok := v.Value.(secretObject); ok {
			return hidden.text, nil
		}
		return v.Value, nil
	case *lua.LFunction:
		return &Function{v}, nil
	case *lua.LTable:
		if depth >= maxValueDepth {
			return nil, fmt.Errorf("tables are nested deeper than %d, or a table holds itself", maxValueDepth)
		}
		return s.tableValue(v, depth)
	}
	return nil, fmt.Errorf("a %s cannot be handed over", v.Type())
}

// tableValue makes a list of a table whose keys are 1 to n, and a map of any other. An empty table is an empty map.
func (s *session) tableValue(t *lua.LTable, depth int) (Value, error) {
	n, count := t.MaxN(), 0
	for k, _ := t.Next(lua.LNil); k != lua.LNil && count <= n; k, _ = t.Next(k) {
		count++
	}
	if err := s.meter.work(count); err != nil {
		return nil, err
	}
	if err := s.meter.alloc(int64(count) * 64); err != nil {
		return nil, err
	}
	if n > 0 && count == n {
		list := make([]Value, n)
		for i := range list {
			item, err := s.valueAt(t.RawGetInt(i+1), depth+1)
			if err != nil {
				return nil, fmt.Errorf("[%d]: %w", i+1, err)
			}
			list[i] = item
		}
		return list, nil
	}
	named := map[string]Value{}
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		switch k.(type) {
		case lua.LString, lua.LNumber:
		default:
			return nil, fmt.Errorf("a key is a %s; it must be a text", k.Type())
		}
		item, err := s.valueAt(v, depth+1)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", shortKey(k), err)
		}
		if err := errors.Join(s.meter.work(1), s.meter.alloc(100)); err != nil {
			return nil, err
		}
		named[k.String()] = item
	}
	return named, nil
}

// lua puts a value into the script.
func (s *session) lua(l *lua.LState, v Value) (lua.LValue, error) { return s.luaAt(l, v, 0) }

func (s *session) luaAt(l *lua.LState, v Value, depth int) (lua.LValue, error) {
	if depth > maxValueDepth {
		return nil, fmt.Errorf("the value is nested deeper than %d", maxValueDepth)
	}
	switch v := v.(type) {
	case nil:
		return lua.LNil, nil
	case bool:
		return lua.LBool(v), nil
	case float64:
		return lua.LNumber(v), s.meter.alloc(8)
	case int:
		return lua.LNumber(v), s.meter.alloc(8)
	case int64:
		return lua.LNumber(v), s.meter.alloc(8)
	case string:
		return lua.LString(v), s.meter.alloc(int64(len(v)) + stringCost)
	case secret.String:
		return s.object(secretObject{v}), s.meter.alloc(objectCost)
	case Object:
		return s.object(v), s.meter.alloc(objectCost)
	case *Function:
		return v.f, nil
	case []string:
		return s.list(l, len(v), depth, func(i int) Value { return v[i] })
	case []Value:
		return s.list(l, len(v), depth, func(i int) Value { return v[i] })
	case map[string]string:
		return s.named(l, keysOf(v), depth, func(k string) Value { return v[k] })
	case map[string]Value:
		return s.named(l, keysOf(v), depth, func(k string) Value { return v[k] })
	}
	return nil, fmt.Errorf("a %T cannot be handed to a script", v)
}

// objectCost is what an object costs, in bytes.
const objectCost = 160

func keysOf[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (s *session) list(l *lua.LState, n, depth int, item func(i int) Value) (lua.LValue, error) {
	if err := errors.Join(s.meter.work(n), s.meter.alloc(tableCost+int64(n)*slotCost)); err != nil {
		return nil, err
	}
	t := l.CreateTable(n, 0)
	for i := range n {
		v, err := s.luaAt(l, item(i), depth+1)
		if err != nil {
			return nil, err
		}
		t.RawSetInt(i+1, v)
	}
	return t, nil
}

func (s *session) named(l *lua.LState, keys []string, depth int, item func(k string) Value) (lua.LValue, error) {
	if err := errors.Join(s.meter.work(len(keys)), s.meter.alloc(tableCost+int64(len(keys))*fieldCost)); err != nil {
		return nil, err
	}
	t := l.CreateTable(0, max(len(keys), 1))
	for _, k := range keys {
		v, err := s.luaAt(l, item(k), depth+1)
		if err != nil {
			return nil, err
		}
		if err := s.meter.alloc(int64(len(k))); err != nil {
			return nil, err
		}
		t.RawSetString(k, v)
	}
	return t, nil
}

// object makes a script's handle of a Go value.
func (s *session) object(v Object) lua.LValue {
	u := s.state.NewUserData()
	u.Value, u.Metatable = v, s.class(v.Class())
	return u
}

// class is the metatable of a class.
func (s *session) class(name string) *lua.LTable {
	if t := s.classes[name]; t != nil {
		return t
	}
	l := s.state
	meta := l.CreateTable(0, 8)
	meta.RawSetString("__metatable", lua.LFalse)
	meta.RawSetString("__tostring", l.NewFunction(func(l *lua.LState) int {
		o, ok := l.CheckUserData(1).Value.(Object)
		if !ok || o.Class() != name {
			l.RaiseError("this is no %s", name)
		}
		s.newText(l, o.String())
		return 1
	}))
	if name == (secretObject{}).Class() {
		s.forbid(meta)
	} else if s.call.API != nil {
		for i := range s.call.API.Classes {
			if class := &s.call.API.Classes[i]; class.Name == name {
				s.members(meta, class)
			}
		}
	}
	if s.classes == nil {
		s.classes = map[string]*lua.LTable{}
	}
	s.classes[name] = meta
	return meta
}
