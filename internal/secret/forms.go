package secret

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"al.essio.dev/pkg/shellescape"
)

// forms lists what a secret may look like in a text: as it is, without surrounding space, line by line, and each of
// these quoted for a shell, for JSON and for Go, escaped for URLs, in hexadecimal and in base64 wherever in a longer
// text it stood.
func forms(text string) []string {
	if strings.TrimSpace(text) == "" {
		return nil
	}
	var all []string
	for _, part := range parts(text) {
		all = append(all, part)
		if len(part) < shortest {
			continue // its encodings are too short to tell from anything else
		}
		all = append(all, quotedForms(part)...)
		all = append(all, hex.EncodeToString([]byte(part)), strings.ToUpper(hex.EncodeToString([]byte(part))))
		all = append(all, base64Forms(part)...)
	}
	return all
}

// parts are the text, the text without surrounding space, and its lines. Short lines (a brace, a blank) and the public
// frame of PEM blocks are no secrets.
func parts(text string) []string {
	all := []string{text}
	trimmed := strings.TrimSpace(text)
	if trimmed != text {
		all = append(all, trimmed)
	}
	if !strings.Contains(trimmed, "\n") {
		return all
	}
	for line := range strings.Lines(trimmed) {
		line = strings.TrimSpace(line)
		if len(line) >= shortest && !strings.HasPrefix(line, "-----") {
			all = append(all, line)
		}
	}
	return all
}

func quotedForms(text string) []string {
	all := []string{
		shellescape.Quote(text),
		strings.ReplaceAll(text, `'`, `'"'"'`),
		strings.ReplaceAll(text, `'`, `'\''`),
		url.QueryEscape(text),
		url.PathEscape(text),
		strings.Trim(strconv.Quote(text), `"`),
		strings.Trim(strconv.QuoteToASCII(text), `"`),
	}
	if quoted, err := json.Marshal(text); err == nil {
		all = append(all, string(quoted[1:len(quoted)-1]))
	}
	var plain strings.Builder
	encoder := json.NewEncoder(&plain)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err == nil {
		quoted := strings.TrimSpace(plain.String())
		all = append(all, quoted[1:len(quoted)-1])
	}
	return all
}

// base64Forms are what stays the same in the base64 of any text that holds the secret: for each of the three places
// that it can begin at in a group of three bytes, the characters that depend on nothing around it.
func base64Forms(text string) []string {
	var all []string
	for offset := range 3 {
		padded := append(make([]byte, offset), text...)
		first := (offset*8 + 5) / 6    // characters that bytes before the secret have a part in
		last := len(padded) * 8 / 6    // characters that it fills entirely
		if last-first < 2*shortest-2 { // too short to tell from chance
			continue
		}
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			all = append(all, encoding.EncodeToString(padded)[first:last])
		}
	}
	return all
}
