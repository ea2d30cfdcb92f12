package schema

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"sort"

	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
)

// Decode fills the struct that into points to from a value that Spec gave, applies defaults and validates. Unknown
// values must have been dealt with before: they are reported. It returns every problem, each with the path of its
// attribute. Relative local paths are left as they are.
func (b *Body) Decode(v cty.Value, into any) []*Error { return b.DecodeIn("", v, into) }

// DecodeIn is Decode with the directory that relative local paths start at.
func (b *Body) DecodeIn(dir string, v cty.Value, into any) []*Error {
	rv := reflect.ValueOf(into)
	if rv.Kind() != reflect.Pointer || rv.IsNil() || rv.Elem().Type() != b.typ {
		panic(fmt.Sprintf("schema: Decode wants a *%s, not %T", b.typ, into))
	}
	d := decoder{dir: dir, top: true}
	d.body(b, v, rv.Elem(), nil)
	return d.errs
}

// decoder collects problems while it fills one struct.
type decoder struct {
	dir     string
	errs    []*Error
	base    int  // the steps of a path that lead to the innermost block; messages name what comes after
	top     bool // the struct at hand is the outermost one, whose labels are read elsewhere
	trusted bool // the value comes from the program itself: a default
}

func (d *decoder) report(path cty.Path, summary, format string, args ...any) {
	d.errs = append(d.errs, &Error{Path: slices.Clone(path), Summary: summary, Detail: fmt.Sprintf(format, args...)})
}

// body fills one struct from an object or a map.
func (d *decoder) body(b *Body, v cty.Value, into reflect.Value, path cty.Path) {
	top := d.top
	d.top = false
	attrs, ok := d.attributes(v, path, "an object", b.shape())
	if !ok {
		return
	}
	before := len(d.errs)
	meant := d.unknown(b, attrs, path)
	for _, f := range b.fields {
		attr, given := attrs[f.Name]
		if !given {
			attr = cty.NullVal(cty.DynamicPseudoType)
		}
		if !given && (f.Label && top || meant[f.Name]) {
			continue
		}
		d.field(f, attr, into.FieldByIndex(f.index), path.GetAttr(f.Name))
	}
	if len(d.errs) == before {
		d.validate(into, path)
	}
}

// unknown reports the names that no field has. It returns those that they were probably meant to be.
func (d *decoder) unknown(b *Body, attrs map[string]cty.Value, path cty.Path) map[string]bool {
	meant := map[string]bool{}
	for _, name := range sortedKeys(attrs) {
		if _, known := b.Field(name); known {
			continue
		}
		d.report(path.GetAttr(name), "Unsupported argument", "%q is not an argument here.%s", name, b.suggest(name))
		meant[diag.Suggest(name, b.names())] = true
	}
	return meant
}

// attributes takes an object or map apart. Marks of the whole are those of each part. An object that is secret as a
// whole has secret names, which would be shown in paths and argument lists.
func (d *decoder) attributes(v cty.Value, path cty.Path, wanted, shape string) (map[string]cty.Value, bool) {
	if v == cty.NilVal {
		return nil, true
	}
	whole, marks := v.Unmark()
	switch t := whole.Type(); {
	case whole.IsNull():
		return nil, true
	case secret.Is(cty.True.WithMarks(marks)):
		d.report(path, "Secret in a plain argument", "%s is secret as a whole, its names included, which would be shown. Only its values may be secret.", d.subject(path))
		return nil, false
	case !whole.IsKnown():
		d.report(path, NotKnown, "The value is known only after earlier tasks have run.")
		return nil, false
	case !t.IsObjectType() && !t.IsMapType():
		d.report(path, "Wrong type", "%s wanted %s, got %s. Write it in braces: %s.", d.subject(path), wanted, describe(whole), shape)
		return nil, false
	}
	attrs := make(map[string]cty.Value, whole.LengthInt())
	for it := whole.ElementIterator(); it.Next(); {
		k, item := it.Element()
		attrs[k.AsString()] = item.WithMarks(marks)
	}
	return attrs, true
}

// field fills one field, or reports why it can't.
func (d *decoder) field(f *Field, v cty.Value, into reflect.Value, path cty.Path) {
	switch {
	case f.Block && f.Repeated:
		d.blocks(f, v, into, path)
		return
	case isNull(v) && f.def != cty.NilVal:
		v = f.def
		d = &decoder{dir: d.dir, base: d.base, trusted: true}
	case isNull(v) && f.Required:
		what := "argument"
		if f.Block {
			what = "block"
		}
		d.report(path, "Missing required "+what, "The %s %q is required: %s", what, f.Name, f.Doc)
		return
	case isNull(v):
		return
	}
	if f.Block {
		target := into
		if into.Kind() == reflect.Pointer {
			into.Set(reflect.New(into.Type().Elem()))
			target = into.Elem()
		}
		defer d.inside(path)()
		d.body(f.Body, v, target, path)
		return
	}
	before := len(d.errs)
	d.value(f, v, into, path)
	if len(d.errs) > before {
		return
	}
	if wrong := f.bounds.check(into); wrong != "" {
		d.report(path, "Value out of bounds", "%s %s.", d.subject(path), wrong)
	}
}

func (d *decoder) blocks(f *Field, v cty.Value, into reflect.Value, path cty.Path) {
	list, ok := d.elements(v, path)
	if !ok {
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(list), len(list)))
	first := map[string]bool{}
	for i, item := range list {
		at := path.IndexInt(i)
		back := d.inside(at)
		d.body(f.Body, item, into.Index(i), at)
		back()
		labels, last := f.Body.labels(into.Index(i))
		if last != nil && first[labels] {
			d.report(at.GetAttr(last.Name), "Duplicate block", "There is a block %s %s already. Each needs a %s of its own.", f.Name, labels, last.Name)
		}
		first[labels] = true
	}
	if wrong := f.bounds.check(into); wrong != "" {
		d.report(path, "Wrong number of blocks", "%s %s.", f.Name, wrong)
	}
}

// inside makes messages leave out the way to a block. It returns what goes back.
func (d *decoder) inside(path cty.Path) func() {
	before := d.base
	d.base = len(path)
	return func() { d.base = before }
}

// subject is what a sentence about a path begins with. The excerpt shows which block it is in.
func (d *decoder) subject(path cty.Path) string { return subject(path[min(d.base, len(path)):]) }

// elements takes a list, set or tuple apart.
func (d *decoder) elements(v cty.Value, path cty.Path) ([]cty.Value, bool) {
	whole, marks := v.Unmark()
	switch t := whole.Type(); {
	case whole.IsNull():
		return nil, true
	case !whole.IsKnown():
		d.report(path, NotKnown, "The value is known only after earlier tasks have run.")
		return nil, false
	case !t.IsTupleType() && !t.IsListType() && !t.IsSetType():
		d.report(path, "Wrong type", "%s wanted a list, got %s. Write it in brackets: [ … ].", d.subject(path), describe(whole))
		return nil, false
	}
	var list []cty.Value
	for it := whole.ElementIterator(); it.Next(); {
		_, item := it.Element()
		list = append(list, item.WithMarks(marks))
	}
	return list, true
}

// validate calls the struct's own check. It runs only on a struct whose fields are right, so that it may rely on them.
func (d *decoder) validate(into reflect.Value, path cty.Path) {
	v, ok := into.Addr().Interface().(interface{ Validate() error })
	if !ok {
		return
	}
	before := len(d.errs)
	d.failed(v.Validate(), path)
	for _, e := range d.errs[before:] {
		e.Whole = true
	}
}

func (d *decoder) failed(err error, path cty.Path) {
	switch e := err.(type) { //nolint:errorlint // joined errors are taken apart one by one
	case nil:
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			d.failed(one, path)
		}
	default:
		if at, ok := errors.AsType[*atError](err); ok {
			d.report(append(slices.Clone(path), at.path...), "Invalid value", "%s", sentence(at.cause.Error()))
			return
		}
		d.report(path, "Invalid arguments", "%s", sentence(err.Error()))
	}
}

func isNull(v cty.Value) bool {
	if v == cty.NilVal {
		return true
	}
	v, _ = v.Unmark()
	return v.IsNull()
}

func (d *decoder) localPath(text string) string {
	if text == "" || d.dir == "" || filepath.IsAbs(text) {
		return text
	}
	return filepath.Join(d.dir, text)
}

// refuseSecret reports a secret in a place that shows its values.
func (d *decoder) refuseSecret(v cty.Value, path cty.Path) bool {
	if !secret.Is(v) {
		return false
	}
	d.report(path, "Secret in a plain argument",
		"%s holds a secret, and would be shown in plans or in the argument list of a process. Only arguments that are made for secrets take one.",
		d.subject(path))
	return true
}

func sortedKeys(m map[string]cty.Value) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
