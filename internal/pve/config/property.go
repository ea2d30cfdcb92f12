package config

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// ParseProperties takes a property string apart: "type=secure,network=10.0.0.0/24" (reference §1.1). A word without a key
// is the value of bare, the type's default key; if it has none, bare is "" and such a word gets a key of that name.
func ParseProperties(text, bare string) map[string]string {
	out := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		key, value, ok := strings.Cut(part, "=")
		if !ok {
			key, value = bare, part
		}
		out[key] = value
	}
	return out
}

// FormatProperties writes a property string with first before the other keys, which are sorted.
func FormatProperties(values map[string]string, first ...string) string {
	var parts []string
	add := func(key string) { parts = append(parts, key+"="+values[key]) }
	for _, key := range first {
		if _, ok := values[key]; ok {
			add(key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(first, key) {
			add(key)
		}
	}
	return strings.Join(parts, ",")
}

// DecodeText undoes the percent encoding of comments and descriptions. What is no encoding stays as it is.
func DecodeText(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+2 < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// EncodeText is the percent encoding of comments and descriptions: control characters, "%" and what is not ASCII.
func EncodeText(text string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < 0x20 || c == '%' || c > 0x7e {
			b.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
