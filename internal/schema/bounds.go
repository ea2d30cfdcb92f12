package schema

import (
	"fmt"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
)

// bounds are the min and max tags, read once. What they measure depends on the type: a number itself, a duration, or
// the length of a text, list or map.
type bounds struct {
	min, max *float64
	unit     func(float64) string
	noun     string // what is counted: "characters", "elements"; "" for a number itself
}

func (f *Field) readBounds() error {
	if f.Min == "" && f.Max == "" {
		return nil
	}
	t := f.typ
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	parse := func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }
	f.bounds.unit = func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	switch kindOf(t) {
	case kindInt, kindFloat:
	case kindString, kindText, kindSecret:
		f.bounds.noun = "characters"
	case kindList, kindMap:
		f.bounds.noun = "elements"
	case kindDuration:
		parse = func(s string) (float64, error) {
			d, err := time.ParseDuration(s)
			return float64(d), err
		}
		f.bounds.unit = func(v float64) string { return time.Duration(v).String() }
	default:
		return fmt.Errorf("min and max mean nothing for a %s", f.typeName(t))
	}
	for _, b := range []struct {
		text string
		into **float64
	}{{f.Min, &f.bounds.min}, {f.Max, &f.bounds.max}} {
		if b.text == "" {
			continue
		}
		v, err := parse(b.text)
		if err != nil {
			return fmt.Errorf("bound %q: %w", b.text, err)
		}
		*b.into = &v
	}
	return nil
}

// check returns what is wrong with a decoded value as the rest of a sentence about it, and "" if nothing is.
func (b bounds) check(rv reflect.Value) string {
	if b.min == nil && b.max == nil {
		return ""
	}
	if rv.Kind() == reflect.Pointer {
		rv = rv.Elem()
	}
	v := measure(rv)
	if (b.min == nil || v >= *b.min) && (b.max == nil || v <= *b.max) {
		return ""
	}
	wanted := ""
	switch {
	case b.max == nil:
		wanted = "at least " + b.unit(*b.min)
	case b.min == nil:
		wanted = "at most " + b.unit(*b.max)
	default:
		wanted = "between " + b.unit(*b.min) + " and " + b.unit(*b.max)
	}
	if b.noun != "" {
		return fmt.Sprintf("must have %s %s, and has %s", wanted, b.noun, b.unit(v))
	}
	return fmt.Sprintf("must be %s, and is %s", wanted, b.unit(v))
}

func measure(rv reflect.Value) float64 {
	switch kindOf(rv.Type()) {
	case kindString:
		return float64(utf8.RuneCountInString(rv.String()))
	case kindText, kindSecret:
		return float64(utf8.RuneCountInString(rv.Interface().(interface{ Reveal() string }).Reveal()))
	case kindFloat:
		return rv.Float()
	case kindList, kindMap:
		return float64(rv.Len())
	}
	if rv.CanUint() {
		return float64(rv.Uint())
	}
	return float64(rv.Int())
}
