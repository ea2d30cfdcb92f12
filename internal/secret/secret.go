// Package secret holds values that must never be shown: the type, the mark that carries them through HCL evaluation,
// and the redactor that every text passes before it leaves the process.
package secret

import (
	"log/slog"

	"github.com/zclconf/go-cty/cty"
)

// Masked is what is shown in place of a secret.
const Masked = "(secret)"

type mark struct{}

// Mark is the cty mark of a sensitive value. Values derived from a marked value are marked too.
var Mark any = mark{}

// Is reports whether v, or anything inside it, is sensitive.
func Is(v cty.Value) bool {
	_, marks := v.UnmarkDeep()
	_, ok := marks[Mark]
	return ok
}

// String is a secret text. It holds a pointer because fmt prints the strings inside unexported fields, and it masks
// itself in every way that Go prints a value. Only Reveal gives the text.
type String struct{ text *string }

// New wraps a text.
func New(text string) String { return String{&text} }

// Reveal returns the text. Pass it to a node's standard input or a 0600 file, never to an argument list.
func (s String) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Empty reports whether there is no text.
func (s String) Empty() bool { return s.text == nil || *s.text == "" }

// String returns Masked, or nothing for an empty secret.
func (s String) String() string {
	if s.Empty() {
		return ""
	}
	return Masked
}

// GoString masks %#v.
func (s String) GoString() string { return s.String() }

// MarshalText masks JSON and every other text encoding.
func (s String) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue masks slog.
func (s String) LogValue() slog.Value { return slog.StringValue(s.String()) }
