package lua

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/secret"
	"go.yaml.in/yaml/v3"
)

// maxText bounds the texts that are decoded or searched by functions that cannot be interrupted.
const maxText = 1 << 20

func short(text string) error {
	if len(text) > maxText {
		return fmt.Errorf("the text has %d bytes; it may have %s", len(text), size(maxText))
	}
	return nil
}

// data are the functions on texts and values.
func data() []Func {
	text := Param{Name: "text", Type: typeText, Doc: "the text, of up to 1 MiB"}
	pattern := Param{Name: "pattern", Type: typeText, Doc: "the expression, as of Go and RE2: https://github.com/google/re2/wiki/Syntax"}
	value := []Param{{Name: "value", Type: typeAny, Doc: "the value; a table with the keys 1 to n is a list, an empty one an object"}}
	return []Func{
		{
			Name: "json.decode", Doc: "Reads JSON. Objects and lists become tables, null becomes nil.", Params: []Param{text}, Returns: value, Errors: "the text is no JSON",
			Example: `local size = json.decode('{"size": 3}').size`, Call: onText(decodeJSON),
		},
		{
			Name: "json.encode", Doc: "Writes JSON, with keys in order.", Params: value, Returns: []Param{text}, Errors: "the value holds a function, an object or a secret",
			Example: `local text = json.encode({name = "pve1", ids = {1, 2}})`,
			Call: func(_ context.Context, args []Value) ([]Value, error) {
				if err := plain(args[0]); err != nil {
					return nil, err
				}
				var b bytes.Buffer
				e := json.NewEncoder(&b)
				e.SetEscapeHTML(false)
				if err := e.Encode(args[0]); err != nil {
					return nil, err
				}
				return []Value{strings.TrimSuffix(b.String(), "\n")}, nil
			},
		},
		{
			Name: "yaml.decode", Doc: "Reads YAML, one document. Mappings and lists become tables, null becomes nil.", Params: []Param{text}, Returns: value, Errors: "the text is no YAML",
			Example: `local size = yaml.decode("size: 3").size`, Call: onText(decodeYAML),
		},
		{
			Name: "yaml.encode", Doc: "Writes YAML.", Params: value, Returns: []Param{text}, Errors: "the value holds a function, an object or a secret",
			Example: `local text = yaml.encode({name = "pve1"})`,
			Call: func(_ context.Context, args []Value) ([]Value, error) {
				if err := plain(args[0]); err != nil {
					return nil, err
				}
				written, err := encodeYAML(args[0])
				return []Value{written}, err
			},
		},
		{
			Name: "regex.match", Doc: "The first match of a regular expression: its groups, or the whole match where there are none.", Params: []Param{text, pattern},
			Returns: []Param{{Name: "groups", Type: typeTexts, Optional: true, Doc: "the groups, empty ones as \"\"; nil without a match"}}, Errors: "the expression is wrong",
			Example: `local major = regex.match("pve-manager/9.1.4", [[/(\d+)\.(\d+)]])[1]`,
			Call: onExpression(func(e *regexp.Regexp, args []Value) ([]Value, error) {
				return []Value{groups(e.FindStringSubmatch(args[0].(string)))}, nil
			}),
		},
		{
			Name: "regex.all", Doc: "All matches, one after the other, each as of regex.match.", Params: []Param{text, pattern},
			Returns: []Param{{Name: "matches", Type: typeList, Doc: "a list of lists of groups"}}, Errors: "the expression is wrong",
			Example: `for _, m in ipairs(regex.all("a=1 b=2", [[(\w)=(\d)]])) do print(m[1], m[2]) end`,
			Call: onExpression(func(e *regexp.Regexp, args []Value) ([]Value, error) {
				all := []Value{}
				for _, m := range e.FindAllStringSubmatch(args[0].(string), 100_000) {
					all = append(all, groups(m))
				}
				return []Value{all}, nil
			}),
		},
		{
			Name: "regex.replace", Doc: "The text with every match replaced.", Params: []Param{text, pattern, {Name: "with", Type: typeText, Doc: "what with; ${1} is the first group"}},
			Returns: []Param{{Name: "text", Type: typeText, Doc: "the new text, of up to 1 MiB"}}, Errors: "the expression is wrong",
			Example: `local text = regex.replace("a=1", [[(\w)=(\d)]], "${2}=${1}")`,
			Call: onExpression(func(e *regexp.Regexp, args []Value) ([]Value, error) {
				return replaceAll(e, args[0].(string), args[2].(string))
			}),
		},
	}
}

func onText(f func(text string) (Value, error)) func(context.Context, []Value) ([]Value, error) {
	return func(_ context.Context, args []Value) ([]Value, error) {
		text := args[0].(string)
		if err := short(text); err != nil {
			return nil, err
		}
		v, err := f(text)
		return []Value{v}, err
	}
}

func decodeJSON(text string) (Value, error) {
	var v Value
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return nil, err
	}
	return v, nil
}

// decodeYAML reads one document. The library refuses texts whose aliases stand for very much more than they say.
func decodeYAML(text string) (Value, error) {
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		return nil, err
	}
	return fromYAML(v)
}

// fromYAML makes Lua's kinds of values of those that the library gives.
func fromYAML(v any) (Value, error) {
	switch v := v.(type) {
	case nil, bool, string, float64, int, int64:
		return v, nil
	case uint64:
		return float64(v), nil
	case time.Time:
		return v.Format(time.RFC3339), nil
	case []any:
		for i, item := range v {
			made, err := fromYAML(item)
			if err != nil {
				return nil, err
			}
			v[i] = made
		}
		return v, nil
	case map[string]any:
		for name, item := range v {
			made, err := fromYAML(item)
			if err != nil {
				return nil, err
			}
			v[name] = made
		}
		return v, nil
	case map[any]any:
		named := make(map[string]Value, len(v))
		for name, item := range v {
			made, err := fromYAML(item)
			if err != nil {
				return nil, err
			}
			named[fmt.Sprint(name)] = made
		}
		return named, nil
	}
	return nil, fmt.Errorf("a value of a kind that Lua has not: %T", v)
}

func encodeYAML(v Value) (string, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(v), e.Close()); err != nil {
		return "", err
	}
	return b.String(), nil
}

// plain refuses what has no place in a text.
func plain(v Value) error {
	switch v := v.(type) {
	case secret.String:
		return errors.New("a secret cannot be put into a text")
	case *Function, Object:
		return fmt.Errorf("%s cannot be put into a text", kindOf(v))
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%v cannot be put into a text", v)
		}
	case []Value:
		for i, item := range v {
			if err := plain(item); err != nil {
				return fmt.Errorf("[%d]: %w", i+1, err)
			}
		}
	case map[string]Value:
		for _, name := range keysOf(v) {
			if err := plain(v[name]); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func onExpression(f func(e *regexp.Regexp, args []Value) ([]Value, error)) func(context.Context, []Value) ([]Value, error) {
	return func(_ context.Context, args []Value) ([]Value, error) {
		if err := short(args[0].(string)); err != nil {
			return nil, err
		}
		text := args[1].(string)
		if len(text) > 1000 {
			return nil, fmt.Errorf("the expression has %d characters; it may have 1000", len(text))
		}
		e, err := regexp.Compile(text)
		if err != nil {
			return nil, err
		}
		return f(e, args)
	}
}

// groups are the groups of a match, or the whole of it.
func groups(m []string) Value {
	switch len(m) {
	case 0:
		return nil
	case 1:
		return m
	}
	return m[1:]
}

// replaceAll replaces every match, up to the length that a text may have.
func replaceAll(e *regexp.Regexp, text, with string) ([]Value, error) {
	var out []byte
	at := 0
	for _, m := range e.FindAllStringSubmatchIndex(text, -1) {
		out = append(out, text[at:m[0]]...)
		out = e.ExpandString(out, with, text, m)
		at = m[1]
		if len(out) > maxText {
			return nil, fmt.Errorf("the new text has more than %s", size(maxText))
		}
	}
	return []Value{string(append(out, text[at:]...))}, nil
}

// clock are the functions of time.
func clock(env Environment) []Func {
	seconds := Param{Name: "seconds", Type: typeNumber, Doc: "seconds since 1970 in UTC"}
	return []Func{
		{
			Name: "time.now", Doc: "The time.", Returns: []Param{seconds}, Example: `local before = time.now()`,
			Call: func(context.Context, []Value) ([]Value, error) {
				return []Value{float64(env.Now().UnixMilli()) / 1000}, nil
			},
		},
		{
			Name: "time.format", Doc: "A time as text, in UTC.",
			Params:  []Param{seconds, {Name: "layout", Type: typeText, Optional: true, Default: time.RFC3339, Doc: "Go's example of the form: \"2006-01-02 15:04\"; otherwise 2006-01-02T15:04:05Z"}},
			Returns: []Param{{Name: "text", Type: typeText, Doc: "the time"}}, Errors: "the time lies beyond the years 1 to 9999",
			Example: `print(time.format(0, "2006-01-02"))`,
			Call: func(_ context.Context, args []Value) ([]Value, error) {
				n := args[0].(float64)
				if math.IsNaN(n) || n < -62135596800 || n > 253402300799 {
					return nil, errors.New("the time lies beyond the years 1 to 9999")
				}
				layout := args[1].(string)
				if len(layout) > 200 {
					return nil, errors.New("the layout is longer than 200 characters")
				}
				return []Value{time.UnixMilli(int64(n * 1000)).UTC().Format(layout)}, nil
			},
		},
		{
			Name: "time.parse", Doc: "Reads a time. Without an offset it is in UTC.",
			Params: []Param{
				{Name: "text", Type: typeText, Doc: "the time"},
				{Name: "layout", Type: typeText, Optional: true, Default: "", Doc: "Go's example of its form; otherwise RFC 3339, \"2006-01-02 15:04:05\", \"2006-01-02\", or as openssl writes it"},
			},
			Returns: []Param{seconds}, Errors: "the text is no time of that form",
			Example: `local expires = time.parse("Nov  2 10:00:00 2027 GMT")`,
			Call:    parseTime,
		},
		{
			Name: "time.sleep", Doc: "Waits. To wait for something, use wait.", Params: []Param{{Name: "duration", Type: typeDuration, Doc: "how long"}},
			Errors: "the script's time is over", Example: `time.sleep("10ms")`,
			Call: func(ctx context.Context, args []Value) ([]Value, error) {
				return nil, env.Sleep(ctx, args[0].(time.Duration))
			},
		},
	}
}

func parseTime(_ context.Context, args []Value) ([]Value, error) {
	layouts := []string{time.RFC3339, "2006-01-02 15:04:05", time.DateOnly, "Jan _2 15:04:05 2006 MST"}
	if layout := args[1].(string); layout != "" {
		layouts = []string{layout}
	}
	text := strings.TrimSpace(args[0].(string))
	for _, layout := range layouts {
		if t, err := time.Parse(layout, text); err == nil {
			return []Value{float64(t.UnixMilli()) / 1000}, nil
		}
	}
	return nil, fmt.Errorf("%.60q is no time of the form %s", text, strings.Join(layouts, ", "))
}
