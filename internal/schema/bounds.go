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
	noun     string // what is counted: "character", "element", "block"; "" for a number itself
}

func (f *Field) readBounds() (err error) {
	if f.bounds, err = f.boundsOf(f.Min, f.Max, f.typ); err != nil {
		return err
	}
	leaf := leafOf(f.typ)
	if (f.EachMin != "" || f.EachMax != "") && leaf == f.typ {
		return fmt.Errorf("each_min and each_max are for lists and maps")
	}
	f.each, err = f.boundsOf(f.EachMin, f.EachMax, leaf)
	return err
}

func (f *Field) boundsOf(least, most string, t reflect.Type) (b bounds, err error) {
	if least == "" && most == "" {
		return bounds{}, nil
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	parse := func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }
	b.unit = func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
	switch kindOf(t) {
	case kindInt, kindFloat:
	case kindString, kindText, kindSecret:
		b.noun = "character"
	case kindList, kindMap:
		b.noun = "element"
		if f.Block {
			b.noun = "block"
		}
	case kindDuration:
		parse = func(s string) (float64, error) {
			d, err := time.ParseDuration(s)
			return float64(d), err
		}
		b.unit = func(v float64) string { return time.Duration(v).String() }
	default:
		return bounds{}, fmt.Errorf("min and max mean nothing for a %s", f.typeName(t))
	}
	for _, one := range []struct {
		text string
		into **float64
	}{{least, &b.min}, {most, &b.max}} {
		if one.text == "" {
			continue
		}
		v, err := parse(one.text)
		if err != nil {
			return bounds{}, fmt.Errorf("bound %q: %w", one.text, err)
		}
		*one.into = &v
	}
	return b, nil
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
	wanted, last := b.wanted()
	switch {
	case b.noun == "":
		return fmt.Sprintf("must be %s, and is %s", wanted, b.unit(v))
	case v == 0:
		return fmt.Sprintf("must have %s %s, and has none", wanted, b.counted(last))
	}
	return fmt.Sprintf("must have %s %s, and has %s", wanted, b.counted(last), b.unit(v))
}

// wanted says what the bounds allow, and the last number that it names.
func (b bounds) wanted() (text string, last float64) {
	switch {
	case b.max == nil:
		return "at least " + b.unit(*b.min), *b.min
	case b.min == nil:
		return "at most " + b.unit(*b.max), *b.max
	}
	return "between " + b.unit(*b.min) + " and " + b.unit(*b.max), *b.max
}

// counted is the noun as it follows a number.
func (b bounds) counted(n float64) string {
	if n == 1 {
		return b.noun
	}
	return b.noun + "s"
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
