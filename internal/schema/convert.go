package schema

import (
	"io/fs"
	"math/big"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/diag"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
)

// value converts one attribute, strictly: a number is no string and a string is no number.
func (d *decoder) value(f *Field, v cty.Value, into reflect.Value, path cty.Path) {
	k := kindOf(into.Type())
	switch k {
	case kindPointer:
		into.Set(reflect.New(into.Type().Elem()))
		d.value(f, v, into.Elem(), path)
		return
	case kindValue:
		into.Set(reflect.ValueOf(v))
		return
	case kindSecret, kindText:
		d.secretText(f, v, into, path)
		return
	case kindList:
		d.list(f, v, into, path)
		return
	case kindMap:
		d.mapping(f, v, into, path)
		return
	case kindObject:
		d.body(f.Body, v, into, path)
		return
	}
	if d.refuseSecret(v, path) {
		return
	}
	v, _ = v.UnmarkDeep()
	if !v.IsWhollyKnown() {
		d.report(path, NotKnown, "%s is known only after earlier tasks have run.", d.subject(path))
		return
	}
	if v.IsNull() {
		d.report(path, "Wrong type", "%s wanted %s, got null.", d.subject(path), article(f.typeName(into.Type())))
		return
	}
	if k == kindCustom {
		if err := into.Addr().Interface().(fromCty).FromCty(v); err != nil {
			d.report(path, "Invalid value", "%s", sentence(err.Error()))
		}
		return
	}
	d.scalar(f, k, v, into, path)
}

func (d *decoder) list(f *Field, v cty.Value, into reflect.Value, path cty.Path) {
	items, ok := d.elements(v, path)
	if !ok {
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(items), len(items)))
	for i, item := range items {
		d.element(f, item, into.Index(i), path.IndexInt(i))
	}
}

func (d *decoder) mapping(f *Field, v cty.Value, into reflect.Value, path cty.Path) {
	items, ok := d.attributes(v, path, "a map", "{ name = … }")
	if !ok {
		return
	}
	into.Set(reflect.MakeMapWithSize(into.Type(), len(items)))
	for _, key := range sortedKeys(items) {
		item := reflect.New(into.Type().Elem()).Elem()
		d.element(f, items[key], item, path.IndexString(key))
		into.SetMapIndex(reflect.ValueOf(key).Convert(into.Type().Key()), item)
	}
}

func (d *decoder) element(f *Field, v cty.Value, into reflect.Value, path cty.Path) {
	if k := kindOf(into.Type()); isNull(v) && k != kindValue && k != kindPointer {
		d.report(path, "Wrong type", "%s is null, and wanted %s.", d.subject(path), article(f.typeName(into.Type())))
		return
	}
	if isNull(v) && kindOf(into.Type()) == kindPointer {
		return
	}
	before := len(d.errs)
	d.value(f, v, into, path)
	if len(d.errs) > before || into.Type() != leafOf(f.typ) {
		return
	}
	if wrong := f.each.check(into); wrong != "" {
		d.report(path, "Value out of bounds", "%s %s.", d.subject(path), wrong)
	}
}

// secretText reads fields that may hold a secret. It must never put the text into an error.
func (d *decoder) secretText(f *Field, v cty.Value, into reflect.Value, path cty.Path) {
	marked := secret.Is(v)
	v, _ = v.Unmark()
	if !v.IsKnown() {
		d.report(path, NotKnown, "%s is known only after earlier tasks have run.", d.subject(path))
		return
	}
	if v.Type() != cty.String || v.IsNull() {
		d.report(path, "Wrong type", "%s wanted %s, got %s.", d.subject(path), article(f.typeName(into.Type())), describe(v))
		return
	}
	if kindOf(into.Type()) == kindText {
		if marked {
			into.Set(reflect.ValueOf(secret.Hidden(v.AsString())))
		} else {
			into.Set(reflect.ValueOf(secret.Plain(v.AsString())))
		}
		return
	}
	if !marked && !f.literalOK && !d.trusted && v.AsString() != "" {
		d.report(path, "Literal secret",
			"%s is a literal secret: whoever reads the files could read it. Declare it with a secret block and write secret.<name> here.", d.subject(path))
		return
	}
	into.Set(reflect.ValueOf(secret.New(v.AsString())))
}

func (d *decoder) scalar(f *Field, k kind, v cty.Value, into reflect.Value, path cty.Path) {
	wantType := cty.String
	switch k {
	case kindBool:
		wantType = cty.Bool
	case kindInt, kindFloat:
		wantType = cty.Number
	}
	if v.Type() != wantType {
		d.report(path, "Wrong type", "%s wanted %s, got %s.%s", d.subject(path), article(f.typeName(into.Type())), describe(v), typeHint(k, v))
		return
	}
	wrong := ""
	switch k {
	case kindBool:
		into.SetBool(v.True())
	case kindInt, kindFloat:
		wrong = setNumber(into, v.AsBigFloat())
	default:
		text := v.AsString()
		if len(f.OneOf) > 0 && !slices.Contains(f.OneOf, text) {
			wrong = quote(text) + " is not one of " + strings.Join(f.OneOf, ", ") + "." + diag.DidYouMean(text, f.OneOf)
			break
		}
		wrong = d.setText(k, into, text)
	}
	if wrong != "" {
		d.report(path, "Invalid value", "%s: %s", d.subject(path), sentence(wrong))
	}
}

// setText fills the types that are written as a string, and returns what is wrong with it.
func (d *decoder) setText(k kind, into reflect.Value, text string) string {
	switch k {
	case kindString:
		into.SetString(text)
	case kindPath:
		into.SetString(d.localPath(text))
	case kindDuration:
		v, err := time.ParseDuration(text)
		if err != nil || v < 0 {
			return quote(text) + ` is no duration. Write a number and a unit, such as "90s", "5m" or "1h30m"`
		}
		into.SetInt(int64(v))
	case kindAddr:
		v, err := netip.ParseAddr(text)
		if err != nil {
			return quote(text) + ` is no IP address. Write it without a mask, such as "192.0.2.10" or "2001:db8::10"`
		}
		into.Set(reflect.ValueOf(v))
	case kindPrefix:
		v, err := netip.ParsePrefix(text)
		if err != nil {
			return quote(text) + ` is no network. Write the address and the length of its mask, such as "192.0.2.0/24"`
		}
		into.Set(reflect.ValueOf(v))
	case kindMode:
		v, ok := parseMode(text)
		if !ok {
			return quote(text) + ` is no file mode. Write three or four octal digits, such as "0644" or "4755"`
		}
		into.Set(reflect.ValueOf(v))
	default:
		return "it cannot be written in a file"
	}
	return ""
}

// parseMode reads octal digits. A mode of 0 can't be told from none and is refused.
func parseMode(text string) (fs.FileMode, bool) {
	if len(text) < 3 || len(text) > 5 {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n == 0 || n > 0o7777 {
		return 0, false
	}
	mode := fs.FileMode(n & 0o777)
	for bit, special := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if n&bit != 0 {
			mode |= special
		}
	}
	return mode, true
}

// FormatMode writes a mode as chmod reads it: four octal digits.
func FormatMode(m fs.FileMode) string {
	n := uint64(m.Perm())
	for bit, special := range map[uint64]fs.FileMode{0o4000: fs.ModeSetuid, 0o2000: fs.ModeSetgid, 0o1000: fs.ModeSticky} {
		if m&special != 0 {
			n |= bit
		}
	}
	text := strconv.FormatUint(n, 8)
	return strings.Repeat("0", max(0, 4-len(text))) + text
}

func setNumber(into reflect.Value, n *big.Float) string {
	if into.CanFloat() {
		v, _ := n.Float64()
		if into.OverflowFloat(v) || n.IsInf() {
			return "the number is too large"
		}
		into.SetFloat(v)
		return ""
	}
	if !n.IsInt() {
		return "wanted a whole number, got " + n.Text('g', 10)
	}
	if into.CanUint() {
		v, acc := n.Uint64()
		if acc != big.Exact || into.OverflowUint(v) {
			return "the number " + n.Text('g', 20) + " is out of range"
		}
		into.SetUint(v)
		return ""
	}
	v, acc := n.Int64()
	if acc != big.Exact || into.OverflowInt(v) {
		return "the number " + n.Text('g', 20) + " is out of range"
	}
	into.SetInt(v)
	return ""
}
