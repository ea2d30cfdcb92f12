package machine

import (
	"errors"
	"regexp"
	"strings"
)

// errBackreference is a pattern beyond what Go's regular expressions can do.
var errBackreference = errors.New("back-references are not simulated")

// posixRegexp compiles a basic or extended POSIX regular expression with GNU's additions (\w \s \b \< \> \+ \? \|).
func posixRegexp(text string, extended, ignoreCase bool) (*regexp.Regexp, error) {
	expr, err := translateRegexp(text, extended)
	if err != nil {
		return nil, err
	}
	if ignoreCase {
		expr = "(?i)" + expr
	}
	re, err := regexp.Compile("(?m:)" + expr)
	if err != nil {
		return nil, errors.New(regexpError(err))
	}
	re.Longest()
	return re, nil
}

// regexpError is what grep says of a bad pattern.
func regexpError(err error) string {
	text := err.Error()
	switch {
	case strings.Contains(text, "missing closing ]"):
		return "Unmatched [, [^, [:, [., or [="
	case strings.Contains(text, "missing closing )"):
		return "Unmatched ( or \\("
	case strings.Contains(text, "unexpected )"):
		return "Unmatched ) or \\)"
	case strings.Contains(text, "invalid escape"), strings.Contains(text, "trailing backslash"):
		return "Trailing backslash"
	default:
		return "Invalid regular expression"
	}
}

// translateRegexp writes a POSIX expression in Go's syntax.
func translateRegexp(text string, extended bool) (string, error) {
	var b strings.Builder
	start := true // at the beginning of an expression, where * is a literal and ^ an anchor
	for i := 0; i < len(text); i++ {
		c := text[i]
		atStart := start
		start = false
		switch {
		case c == '[':
			end := bracketEnd(text, i)
			if end < 0 {
				return "", errors.New("Unmatched [, [^, [:, [., or [=")
			}
			b.WriteString(translateBracket(text[i+1 : end]))
			i = end
		case c == '\\':
			if i+1 == len(text) {
				return "", errors.New("Trailing backslash")
			}
			i++
			var err error
			if start, err = translateEscape(&b, text[i], extended); err != nil {
				return "", err
			}
		case c == '*' && atStart:
			b.WriteString(`\*`)
		case c == '^' && !atStart && !extended, c == '$' && !extended && !endsBasic(text[i+1:]):
			b.WriteString(`\` + string(c))
		case c == '^':
			b.WriteByte('^')
			start = !extended
		case !extended && strings.IndexByte("+?(){}|", c) >= 0:
			b.WriteString(`\` + string(c))
		case extended && (c == '(' || c == '|'):
			b.WriteByte(c)
			start = true
		case extended && atStart && (c == '+' || c == '?'):
			b.WriteString(`\` + string(c))
		case extended && c == '{' && !isInterval(text[i:]):
			b.WriteString(`\{`)
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// endsBasic tells whether a $ with this rest is an anchor in a basic expression.
func endsBasic(rest string) bool {
	return rest == "" || strings.HasPrefix(rest, `\)`) || strings.HasPrefix(rest, `\|`)
}

func isInterval(text string) bool {
	end := strings.IndexByte(text, '}')
	return end > 1 && strings.Trim(text[1:end], "0123456789,") == ""
}

func translateEscape(b *strings.Builder, c byte, extended bool) (start bool, err error) {
	switch {
	case c >= '1' && c <= '9':
		return false, errBackreference
	case c == '<' || c == '>':
		b.WriteString(`\b`)
	case strings.IndexByte("wWsSbB", c) >= 0:
		b.WriteString(`\` + string(c))
	case c == 'n':
		b.WriteString(`\n`)
	case c == 't':
		b.WriteString(`\t`)
	case !extended && strings.IndexByte("+?(){}|", c) >= 0:
		b.WriteByte(c)
		return c == '(' || c == '|', nil
	default:
		b.WriteString(regexp.QuoteMeta(string(rune(c))))
	}
	return false, nil
}

// bracketEnd finds the ] of a bracket expression that begins at i.
func bracketEnd(text string, i int) int {
	j := i + 1
	if j < len(text) && text[j] == '^' {
		j++
	}
	if j < len(text) && text[j] == ']' {
		j++
	}
	for ; j < len(text); j++ {
		if text[j] == '[' && j+1 < len(text) && strings.IndexByte(":.=", text[j+1]) >= 0 {
			if end := strings.Index(text[j+2:], string(text[j+1])+"]"); end >= 0 {
				j += end + 3
				continue
			}
		}
		if text[j] == ']' {
			return j
		}
	}
	return -1
}

// translateBracket writes the inside of a bracket expression, in which a backslash is nothing special.
func translateBracket(inside string) string {
	var b strings.Builder
	b.WriteByte('[')
	i := 0
	if strings.HasPrefix(inside, "^") {
		b.WriteByte('^')
		i = 1
	}
	for ; i < len(inside); i++ {
		c := inside[i]
		switch {
		case c == '[' && i+1 < len(inside) && inside[i+1] == ':':
			end := strings.Index(inside[i:], ":]")
			if end < 0 {
				b.WriteString(`\[`)
				continue
			}
			b.WriteString(inside[i : i+end+2])
			i += end + 1
		case c == '\\' && i+1 < len(inside) && (inside[i+1] == 'n' || inside[i+1] == 't'):
			b.WriteString(inside[i : i+2])
			i++
		case c == '[' || c == ']' || c == '\\' || c == '&' || c == '~':
			b.WriteString(`\` + string(c))
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte(']')
	return b.String()
}
