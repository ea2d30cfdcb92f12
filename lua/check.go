package lua

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/secret"
)

func argumentError(i int, p Param, err error) error {
	return fmt.Errorf("argument %d (%s): %w", i+1, p.Name, err)
}

func tooMany(f *Func, n int) error {
	names := make([]string, len(f.Params))
	for i, p := range f.Params {
		names[i] = p.Name
	}
	if len(names) == 0 {
		return fmt.Errorf("it takes no arguments and got %d", n)
	}
	return fmt.Errorf("it takes %s and got %d arguments", strings.Join(names, ", "), n)
}

// convert makes the value of a parameter of what the script gave.
func (p Param) convert(v Value) (Value, error) {
	if v == nil {
		if !p.Optional {
			return nil, errors.New("is missing; it must be " + phrase(p.Type))
		}
		if p.Default == nil && len(p.Fields) > 0 {
			return p.fields(map[string]Value{})
		}
		return p.Default, nil
	}
	for t := range strings.SplitSeq(p.Type, "|") {
		if made, ok, err := as(t, v); err != nil {
			return nil, err
		} else if ok {
			if given, isTable := made.(map[string]Value); isTable && len(p.Fields) > 0 {
				return p.fields(given)
			}
			return made, nil
		}
	}
	return nil, fmt.Errorf("must be %s, and is %s", phrase(p.Type), kindOf(v))
}

// fields checks a table of named values.
func (p Param) fields(given map[string]Value) (Value, error) {
	known := make([]string, len(p.Fields))
	made := make(map[string]Value, len(p.Fields))
	for i, f := range p.Fields {
		known[i] = f.Name
		v, err := f.convert(given[f.Name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		made[f.Name] = v
	}
	for _, name := range keysOf(given) {
		if _, ok := made[name]; !ok {
			return nil, fmt.Errorf("there is no %q.%s", name, diag.DidYouMean(name, known))
		}
	}
	return made, nil
}

// as makes a value of a type, where the value is of that type.
func as(t string, v Value) (Value, bool, error) {
	switch t {
	case typeAny:
		return v, true, nil
	case typeText:
		text, ok := v.(string)
		return text, ok, nil
	case typeNumber:
		n, ok := v.(float64)
		return n, ok, nil
	case typeBool:
		b, ok := v.(bool)
		return b, ok, nil
	case typeFunction:
		f, ok := v.(*Function)
		return f, ok, nil
	case typeSecret:
		hidden, ok := v.(secret.String)
		return hidden, ok, nil
	case typeTable:
		m, ok := v.(map[string]Value)
		return m, ok, nil
	case typeList:
		list, ok := asList(v)
		return list, ok, nil
	case typeTexts:
		return asTexts(v)
	case typeDuration:
		return asDuration(v)
	}
	o, ok := v.(Object)
	return v, ok && o.Class() == t, nil
}

// asList takes an empty table for an empty list.
func asList(v Value) ([]Value, bool) {
	if m, ok := v.(map[string]Value); ok && len(m) == 0 {
		return []Value{}, true
	}
	list, ok := v.([]Value)
	return list, ok
}

func asTexts(v Value) (Value, bool, error) {
	list, ok := asList(v)
	if !ok {
		return nil, false, nil
	}
	texts := make([]string, len(list))
	for i, item := range list {
		switch item := item.(type) {
		case string:
			texts[i] = item
		case float64:
			texts[i] = number(item)
		case secret.String:
			return nil, false, fmt.Errorf("[%d] is a secret: arguments of programs can be seen by everybody on the host; hand it over as stdin or env", i+1)
		default:
			return nil, false, fmt.Errorf("[%d] must be a string, and is %s", i+1, kindOf(item))
		}
	}
	return texts, true, nil
}

func asDuration(v Value) (Value, bool, error) {
	switch v := v.(type) {
	case float64:
		if math.IsNaN(v) || v < 0 || v > 1e8 {
			return nil, false, fmt.Errorf("%v is no number of seconds", v)
		}
		return time.Duration(v * float64(time.Second)), true, nil
	case string:
		d, err := time.ParseDuration(v)
		if err != nil || d < 0 {
			return nil, false, fmt.Errorf("%q is no duration; write \"90s\", \"5m\" or a number of seconds", v)
		}
		return d, true, nil
	}
	return nil, false, nil
}

// number shows a number as Lua does.
func number(n float64) string {
	if n == math.Trunc(n) && math.Abs(n) < 1e15 {
		return fmt.Sprintf("%d", int64(n))
	}
	return fmt.Sprint(n)
}

// phrase says a type in a sentence.
func phrase(t string) string {
	words := map[string]string{
		typeText: "a string", typeNumber: "a number", typeBool: "true or false", typeFunction: "a function", typeAny: "a value", typeList: "a list",
		typeTexts: "a list of strings", typeTable: "a table", typeDuration: `a duration such as "90s" or a number of seconds`, typeSecret: "a secret",
	}
	var parts []string
	for one := range strings.SplitSeq(t, "|") {
		if words[one] == "" {
			words[one] = "a " + one
		}
		parts = append(parts, words[one])
	}
	return strings.Join(parts, " or ")
}

// kindOf says what a value is.
func kindOf(v Value) string {
	switch v := v.(type) {
	case nil:
		return "nil"
	case string:
		return "a string"
	case float64:
		return "a number"
	case bool:
		return "a boolean"
	case *Function:
		return "a function"
	case secret.String:
		return "a secret"
	case []Value:
		return "a list"
	case map[string]Value:
		return "a table"
	case Object:
		return "a " + v.Class()
	}
	return fmt.Sprintf("a %T", v)
}
