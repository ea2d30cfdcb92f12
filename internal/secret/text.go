package secret

import "log/slog"

// Text is a text that may be secret: a file's content, the standard input of a command. A secret one masks itself like
// String; a plain one prints as it is.
type Text struct {
	value  String
	hidden bool
}

// Plain makes a text that may be shown.
func Plain(text string) Text { return Text{value: New(text)} }

// Hidden makes a secret text.
func Hidden(text string) Text { return Text{value: New(text), hidden: true} }

// Reveal returns the text. The rules of String.Reveal hold when it is sensitive.
func (t Text) Reveal() string { return t.value.Reveal() }

// Sensitive reports whether the text must not be shown.
func (t Text) Sensitive() bool { return t.hidden }

// Empty reports whether there is no text.
func (t Text) Empty() bool { return t.value.Empty() }

// Given reports whether a text was written at all, an empty one included.
func (t Text) Given() bool { return t.value.text != nil }

// Secret returns the text as a String.
func (t Text) Secret() String { return t.value }

// String returns the text, or Masked.
func (t Text) String() string {
	if t.hidden {
		return t.value.String()
	}
	return t.value.Reveal()
}

// GoString masks %#v.
func (t Text) GoString() string { return t.String() }

// MarshalText masks JSON and every other text encoding.
func (t Text) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// LogValue masks slog.
func (t Text) LogValue() slog.Value { return slog.StringValue(t.String()) }
