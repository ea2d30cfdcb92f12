package runbooks

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
	"github.com/zclconf/go-cty/cty/gocty"
)

// stringParam is one parameter that takes a string.
func stringParam(name string) function.Parameter {
	return function.Parameter{Name: name, Type: cty.String}
}

func anyParam(name string) function.Parameter {
	return function.Parameter{Name: name, Type: cty.DynamicPseudoType, AllowDynamicType: true}
}

// stringFunc makes a function from strings to a value of one type.
func stringFunc(result cty.Type, params []string, do func(args []string) (cty.Value, error)) function.Function {
	spec := &function.Spec{Type: function.StaticReturnType(result)}
	for _, p := range params {
		spec.Params = append(spec.Params, stringParam(p))
	}
	spec.Impl = func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		texts := make([]string, len(args))
		for i, a := range args {
			texts[i] = a.AsString()
		}
		return do(texts)
	}
	return function.New(spec)
}

var (
	startsWithFunc = stringFunc(cty.Bool, []string{"text", "prefix"}, func(a []string) (cty.Value, error) {
		return cty.BoolVal(strings.HasPrefix(a[0], a[1])), nil
	})
	endsWithFunc = stringFunc(cty.Bool, []string{"text", "suffix"}, func(a []string) (cty.Value, error) {
		return cty.BoolVal(strings.HasSuffix(a[0], a[1])), nil
	})
	strContainsFunc = stringFunc(cty.Bool, []string{"text", "part"}, func(a []string) (cty.Value, error) {
		return cty.BoolVal(strings.Contains(a[0], a[1])), nil
	})
	// replaceFunc takes a regular expression when the second argument stands between slashes.
	replaceFunc = stringFunc(cty.String, []string{"text", "search", "replacement"}, func(a []string) (cty.Value, error) {
		if len(a[1]) > 1 && strings.HasPrefix(a[1], "/") && strings.HasSuffix(a[1], "/") {
			re, err := regexp.Compile(a[1][1 : len(a[1])-1])
			if err != nil {
				return cty.NilVal, function.NewArgError(1, err)
			}
			return cty.StringVal(re.ReplaceAllString(a[0], a[2])), nil
		}
		return cty.StringVal(strings.ReplaceAll(a[0], a[1], a[2])), nil
	})
	base64EncodeFunc = stringFunc(cty.String, []string{"text"}, func(a []string) (cty.Value, error) {
		return cty.StringVal(base64.StdEncoding.EncodeToString([]byte(a[0]))), nil
	})
	base64DecodeFunc = stringFunc(cty.String, []string{"text"}, func(a []string) (cty.Value, error) {
		raw, err := base64.StdEncoding.DecodeString(a[0])
		if err != nil {
			return cty.NilVal, function.NewArgErrorf(0, "not base64")
		}
		if !utf8.Valid(raw) {
			return cty.NilVal, function.NewArgErrorf(0, "the decoded bytes are no UTF-8 text")
		}
		return cty.StringVal(string(raw)), nil
	})
	sha256Func = stringFunc(cty.String, []string{"text"}, func(a []string) (cty.Value, error) {
		sum := sha256.Sum256([]byte(a[0]))
		return cty.StringVal(hex.EncodeToString(sum[:])), nil
	})
	urlEncodeFunc = stringFunc(cty.String, []string{"text"}, func(a []string) (cty.Value, error) {
		return cty.StringVal(url.QueryEscape(a[0])), nil
	})
)

// sensitiveFunc marks a value as secret, and tells of it so that it is masked in everything that is shown.
func sensitiveFunc(tell func(cty.Value)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowUnknown: true, AllowNull: true, AllowMarked: true, AllowDynamicType: true}},
		Type:   func(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil },
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if tell != nil {
				tell(args[0])
			}
			return args[0].Mark(secret.Mark), nil
		},
	})
}

// elements returns the parts of a list, set or tuple.
func elements(v cty.Value) ([]cty.Value, error) {
	if t := v.Type(); !t.IsTupleType() && !t.IsListType() && !t.IsSetType() {
		return nil, function.NewArgErrorf(0, "a list or set is required")
	}
	return v.AsValueSlice(), nil
}

var sumFunc = function.New(&function.Spec{
	Params: []function.Parameter{anyParam("list")},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		list, err := elements(args[0])
		if err != nil {
			return cty.NilVal, err
		}
		total := cty.Zero
		for _, item := range list {
			n, err := convert.Convert(item, cty.Number)
			if err != nil || n.IsNull() {
				return cty.NilVal, function.NewArgErrorf(0, "every element must be a number")
			}
			total = total.Add(n)
		}
		return total, nil
	},
})

// boolFold makes alltrue and anytrue. Elements that are null count as false.
func boolFold(start cty.Value, fold func(a, b cty.Value) cty.Value) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{anyParam("list")},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			list, err := elements(args[0])
			if err != nil {
				return cty.NilVal, err
			}
			result := start
			for _, item := range list {
				b, err := convert.Convert(item, cty.Bool)
				if err != nil {
					return cty.NilVal, function.NewArgErrorf(0, "every element must be true or false")
				}
				if b.IsNull() {
					b = cty.False
				}
				result = fold(result, b)
			}
			return result, nil
		},
	})
}

var (
	allTrueFunc = boolFold(cty.True, cty.Value.And)
	anyTrueFunc = boolFold(cty.False, cty.Value.Or)
)

// coalesceFunc returns the first argument that is neither null nor "".
var coalesceFunc = function.New(&function.Spec{
	VarParam: &function.Parameter{Name: "values", Type: cty.DynamicPseudoType, AllowUnknown: true, AllowDynamicType: true, AllowNull: true, AllowMarked: true},
	Type: func(args []cty.Value) (cty.Type, error) {
		types := make([]cty.Type, len(args))
		for i, a := range args {
			types[i] = a.Type()
		}
		t, _ := convert.UnifyUnsafe(types)
		if t == cty.NilType {
			return cty.NilType, errors.New("all arguments must have the same type")
		}
		return t, nil
	},
	Impl: func(args []cty.Value, want cty.Type) (cty.Value, error) {
		for _, a := range args {
			a, err := convert.Convert(a, want)
			if err != nil {
				return cty.NilVal, err
			}
			plain, _ := a.Unmark()
			if !plain.IsKnown() {
				return cty.UnknownVal(want).WithSameMarks(a), nil
			}
			if plain.IsNull() || (want == cty.String && plain.AsString() == "") {
				continue
			}
			return a, nil
		}
		return cty.NilVal, errors.New("all arguments are null or empty")
	},
})

// indexFunc finds the position of a value in a list.
var indexFunc = function.New(&function.Spec{
	Params: []function.Parameter{anyParam("list"), anyParam("value")},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		list, err := elements(args[0])
		if err != nil {
			return cty.NilVal, err
		}
		if !args[0].IsWhollyKnown() || !args[1].IsWhollyKnown() {
			return cty.UnknownVal(cty.Number), nil
		}
		for i, item := range list {
			if eq, err := stdlib.Equal(item, args[1]); err == nil && eq.IsKnown() && eq.True() {
				return cty.NumberIntVal(int64(i)), nil
			}
		}
		return cty.NilVal, errors.New("the list does not hold the value")
	},
})

// lengthFunc counts elements, attributes or the characters of a string.
var lengthFunc = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowDynamicType: true, AllowUnknown: true}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		v := args[0]
		switch t := v.Type(); {
		case t == cty.DynamicPseudoType:
			return cty.UnknownVal(cty.Number), nil
		case t == cty.String:
			return stdlib.Strlen(v)
		case t.IsObjectType():
			return cty.NumberIntVal(int64(len(t.AttributeTypes()))), nil
		case t.IsTupleType():
			return cty.NumberIntVal(int64(t.Length())), nil
		case t.IsCollectionType():
			return v.Length(), nil
		}
		return cty.NilVal, function.NewArgErrorf(0, "a list, a set, a map, an object or a string is required")
	},
})

// lookupFunc gets one key of a map or object, or the default.
var lookupFunc = function.New(&function.Spec{
	Params:   []function.Parameter{anyParam("map"), stringParam("key")},
	VarParam: &function.Parameter{Name: "default", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true},
	Type: func(args []cty.Value) (cty.Type, error) {
		if len(args) > 3 {
			return cty.NilType, errors.New("lookup takes a map, a key and one default")
		}
		t := args[0].Type()
		switch {
		case t.IsMapType():
			return t.ElementType(), nil
		case t.IsObjectType() && args[1].IsKnown():
			if key := args[1].AsString(); t.HasAttribute(key) {
				return t.AttributeType(key), nil
			}
			if len(args) == 3 {
				return args[2].Type(), nil
			}
			return cty.NilType, fmt.Errorf("the object has no attribute %q, and there is no default", args[1].AsString())
		case t.IsObjectType():
			return cty.DynamicPseudoType, nil
		}
		return cty.NilType, function.NewArgErrorf(0, "a map or an object is required")
	},
	Impl: func(args []cty.Value, want cty.Type) (cty.Value, error) {
		key := args[1].AsString()
		if t := args[0].Type(); t.IsObjectType() {
			if t.HasAttribute(key) {
				return args[0].GetAttr(key), nil
			}
		} else if has := args[0].HasIndex(args[1]); has.IsKnown() && has.True() {
			return args[0].Index(args[1]), nil
		}
		if len(args) < 3 {
			return cty.NilVal, fmt.Errorf("the map has no key %q, and there is no default", key)
		}
		return convert.Convert(args[2], want)
	},
})

// oneFunc gets the only element of a list, or null if there is none.
var oneFunc = function.New(&function.Spec{
	Params: []function.Parameter{anyParam("list")},
	Type: func(args []cty.Value) (cty.Type, error) {
		switch t := args[0].Type(); {
		case t.IsListType(), t.IsSetType():
			return t.ElementType(), nil
		case t.IsTupleType() && t.Length() == 1:
			return t.TupleElementType(0), nil
		case t.IsTupleType() && t.Length() == 0:
			return cty.DynamicPseudoType, nil
		case t.IsTupleType():
			return cty.NilType, function.NewArgErrorf(0, "the list has %d elements, not one or none", t.Length())
		}
		return cty.NilType, function.NewArgErrorf(0, "a list or set is required")
	},
	Impl: func(args []cty.Value, want cty.Type) (cty.Value, error) {
		list := args[0].AsValueSlice()
		switch len(list) {
		case 0:
			return cty.NullVal(want), nil
		case 1:
			return list[0], nil
		}
		return cty.NilVal, function.NewArgErrorf(0, "the list has %d elements, not one or none", len(list))
	},
})

// envFunc reads the environment. A variable that is not set is null, or the default.
func envFunc(env map[string]string) function.Function {
	return function.New(&function.Spec{
		Params:   []function.Parameter{stringParam("name")},
		VarParam: &function.Parameter{Name: "default", Type: cty.String, AllowNull: true},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if len(args) > 2 {
				return cty.NilVal, errors.New("env takes a name and one default")
			}
			if text, ok := env[args[0].AsString()]; ok {
				return cty.StringVal(text), nil
			}
			if len(args) == 2 {
				return args[1], nil
			}
			return cty.NullVal(cty.String), nil
		},
	})
}

// timestampFunc gives the moment at which the files were read, so that all expressions agree on it.
func timestampFunc(now time.Time) function.Function {
	return function.New(&function.Spec{
		Type: function.StaticReturnType(cty.String),
		Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
			if now.IsZero() {
				return cty.NilVal, errors.New("there is no clock here")
			}
			return cty.StringVal(now.UTC().Format(time.RFC3339)), nil
		},
	})
}

// intArg reads a whole number.
func intArg(v cty.Value, index int) (int, error) {
	var n int
	if err := gocty.FromCtyValue(v, &n); err != nil {
		return 0, function.NewArgErrorf(index, "a whole number is required")
	}
	return n, nil
}
