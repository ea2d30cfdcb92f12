package schema

import (
	"io/fs"
	"net/netip"
	"reflect"
	"time"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
)

// Path is the path of a file on the machine that pxrun runs on. A relative one starts at the directory that DecodeIn
// was given, which is that of the file it is written in.
type Path string

type fromCty interface{ FromCty(v cty.Value) error }

var (
	typeDuration = reflect.TypeFor[time.Duration]()
	typeAddr     = reflect.TypeFor[netip.Addr]()
	typePrefix   = reflect.TypeFor[netip.Prefix]()
	typeMode     = reflect.TypeFor[fs.FileMode]()
	typePath     = reflect.TypeFor[Path]()
	typeSecret   = reflect.TypeFor[secret.String]()
	typeText     = reflect.TypeFor[secret.Text]()
	typeValue    = reflect.TypeFor[cty.Value]()
	typeFromCty  = reflect.TypeFor[fromCty]()
	typeTime     = reflect.TypeFor[time.Time]()
	typeAny      = reflect.TypeFor[any]()
)

// kind says how a Go type is written in HCL.
type kind int

const (
	kindNone kind = iota
	kindString
	kindBool
	kindInt
	kindFloat
	kindDuration
	kindAddr
	kindPrefix
	kindMode
	kindPath
	kindSecret
	kindText
	kindValue
	kindCustom
	kindList
	kindMap
	kindObject
	kindPointer
	kindTime // outputs only
	kindAny  // outputs only
)

func kindOf(t reflect.Type) kind {
	switch t {
	case typeDuration:
		return kindDuration
	case typeAddr:
		return kindAddr
	case typePrefix:
		return kindPrefix
	case typeMode:
		return kindMode
	case typePath:
		return kindPath
	case typeSecret:
		return kindSecret
	case typeText:
		return kindText
	case typeValue:
		return kindValue
	case typeTime:
		return kindTime
	case typeAny:
		return kindAny
	}
	if reflect.PointerTo(t).Implements(typeFromCty) {
		return kindCustom
	}
	switch t.Kind() {
	case reflect.String:
		return kindString
	case reflect.Bool:
		return kindBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return kindInt
	case reflect.Float32, reflect.Float64:
		return kindFloat
	case reflect.Slice:
		return composed(kindList, t.Elem())
	case reflect.Map:
		if t.Key().Kind() == reflect.String {
			return composed(kindMap, t.Elem())
		}
	case reflect.Struct:
		return kindObject
	case reflect.Pointer:
		if t.Elem().Kind() != reflect.Pointer {
			return composed(kindPointer, t.Elem())
		}
	}
	return kindNone
}

func composed(k kind, elem reflect.Type) kind {
	if kindOf(elem) == kindNone {
		return kindNone
	}
	return k
}

// leafOf strips lists, maps and pointers off a type.
func leafOf(t reflect.Type) reflect.Type {
	for {
		switch kindOf(t) {
		case kindList, kindMap, kindPointer:
			t = t.Elem()
		default:
			return t
		}
	}
}

func (f *Field) typeName(t reflect.Type) string {
	switch kindOf(t) {
	case kindString:
		return "string"
	case kindBool:
		return "bool"
	case kindInt:
		return "whole number"
	case kindFloat:
		return "number"
	case kindDuration:
		return "duration"
	case kindAddr:
		return "IP address"
	case kindPrefix:
		return "network in CIDR form"
	case kindMode:
		return "file mode"
	case kindPath:
		return "path of a local file"
	case kindSecret:
		return "secret"
	case kindText:
		return "string or secret"
	case kindValue, kindAny:
		return "any"
	case kindTime:
		return "time"
	case kindCustom:
		return customName(t)
	case kindList:
		return "list of " + f.typeName(t.Elem())
	case kindMap:
		if named := customName(t.Key()); named != "any" {
			return "map of " + f.typeName(t.Elem()) + " by " + named
		}
		return "map of " + f.typeName(t.Elem())
	case kindObject:
		return "object"
	case kindPointer:
		return f.typeName(t.Elem())
	}
	return t.String()
}

// customName asks the type itself, since only it knows the forms that it reads. CtyTypeName is optional beside FromCty.
func customName(t reflect.Type) string {
	if named, ok := reflect.New(t).Interface().(interface{ CtyTypeName() string }); ok {
		return named.CtyTypeName()
	}
	return "any"
}
