package machine

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// sedCommand is one command of a sed script.
type sedCommand struct {
	from, to *sedAddress
	negate   bool
	name     byte
	text     string // of a, i, c; label of b, t, T, :; file of r, w; y's table
	re       *regexp.Regexp
	replace  string
	global   bool
	print    bool
	nth      int
	block    int // of {: the index after its }
	active   bool
	until    int
}

// sedAddress selects lines.
type sedAddress struct {
	line int // > 0
	last bool
	re   *regexp.Regexp
	plus int // addr1,+N
	step int // first~step
}

// parse reads a script.
func (s *sed) parse(text string) error {
	var open []int
	for {
		text = strings.TrimLeft(text, " \t\n;")
		if text == "" {
			break
		}
		if text[0] == '#' {
			_, text, _ = strings.Cut(text, "\n")
			continue
		}
		c := &sedCommand{}
		var err error
		if text, err = s.parseAddresses(c, text); err != nil {
			return err
		}
		if text == "" {
			return errors.New("missing command")
		}
		c.name = text[0]
		text = text[1:]
		if c.name == '}' {
			if len(open) == 0 {
				return errors.New("unexpected `}'")
			}
			s.commands[open[len(open)-1]].block = len(s.commands)
			open = open[:len(open)-1]
			continue
		}
		if text, err = s.parseCommand(c, text); err != nil {
			return err
		}
		s.commands = append(s.commands, c)
		if c.name == '{' {
			open = append(open, len(s.commands)-1)
		}
	}
	if len(open) > 0 {
		return errors.New("unmatched `{'")
	}
	return nil
}

func (s *sed) parseAddresses(c *sedCommand, text string) (string, error) {
	var err error
	if c.from, text, err = s.parseAddress(text); err != nil {
		return "", err
	}
	if c.from != nil && strings.HasPrefix(strings.TrimLeft(text, " "), ",") {
		text = strings.TrimLeft(strings.TrimLeft(text, " ")[1:], " ")
		if c.to, text, err = s.parseAddress(text); err != nil {
			return "", err
		}
		if c.to == nil {
			return "", errors.New("unexpected `,'")
		}
	}
	text = strings.TrimLeft(text, " \t")
	for strings.HasPrefix(text, "!") {
		c.negate = true
		text = strings.TrimLeft(text[1:], " \t")
	}
	return text, nil
}

func (s *sed) parseAddress(text string) (*sedAddress, string, error) {
	switch {
	case text == "":
		return nil, "", nil
	case text[0] == '$':
		return &sedAddress{last: true}, text[1:], nil
	case isDigit(text[0]) || text[0] == '+':
		end := 1
		for end < len(text) && isDigit(text[end]) {
			end++
		}
		n, err := strconv.Atoi(strings.TrimPrefix(text[:end], "+"))
		if err != nil {
			return nil, "", errors.New("invalid address")
		}
		if text[0] == '+' {
			return &sedAddress{plus: n}, text[end:], nil
		}
		a := &sedAddress{line: n}
		if end < len(text) && text[end] == '~' {
			start := end + 1
			for end = start; end < len(text) && isDigit(text[end]); {
				end++
			}
			a.step, _ = strconv.Atoi(text[start:end])
		}
		return a, text[end:], nil
	case text[0] == '/' || text[0] == '\\' && len(text) > 1:
		delimiter := text[0]
		if delimiter == '\\' {
			text = text[1:]
			delimiter = text[0]
		}
		expr, rest, err := sedDelimited(text[1:], delimiter)
		if err != nil {
			return nil, "", errors.New("unterminated address regex")
		}
		fold := strings.HasPrefix(rest, "I")
		rest = strings.TrimPrefix(rest, "I")
		re, err := s.compile(expr, fold)
		return &sedAddress{re: re}, rest, err
	}
	return nil, text, nil
}

func (s *sed) compile(expr string, fold bool) (*regexp.Regexp, error) {
	if expr == "" {
		return nil, nil // the last one used
	}
	return posixRegexp(expr, s.extended, fold)
}

// sedDelimited cuts text at an unescaped delimiter, outside of brackets for regular expressions.
func sedDelimited(text string, delimiter byte) (part, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			if text[i+1] == delimiter {
				if strings.IndexByte(`.*[]^$+?(){}|`, delimiter) >= 0 {
					b.WriteByte('\\')
				}
				b.WriteByte(delimiter)
			} else {
				b.WriteString(text[i : i+2])
			}
			i++
		case text[i] == '[' && delimiter != '[':
			if end := bracketEnd(text, i); end > 0 && !strings.Contains(text[i:end], "\n") && strings.IndexByte(text[i:end], delimiter) < 0 {
				b.WriteString(text[i : end+1])
				i = end
				continue
			}
			b.WriteByte('[')
		case text[i] == delimiter:
			return b.String(), text[i+1:], nil
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", errors.New("unterminated")
}

// parseCommand reads what belongs to a command after its letter.
func (s *sed) parseCommand(c *sedCommand, text string) (string, error) {
	switch c.name {
	case '{':
		return text, nil
	case '=', 'd', 'D', 'g', 'G', 'h', 'H', 'l', 'n', 'N', 'p', 'P', 'x', 'F', 'z':
		return sedEnd(text)
	case 'q', 'Q':
		text = strings.TrimLeft(text, " ")
		end := 0
		for end < len(text) && isDigit(text[end]) {
			end++
		}
		c.nth, _ = strconv.Atoi(text[:end])
		return sedEnd(text[end:])
	case 'a', 'i', 'c':
		text = strings.TrimLeft(text, " \t")
		if strings.HasPrefix(text, "\\\n") {
			text = text[2:]
		} else if strings.HasPrefix(text, "\\") {
			text = strings.TrimLeft(text[1:], " \t")
		}
		for {
			line, rest, more := strings.Cut(text, "\n")
			if strings.HasSuffix(line, `\`) && more {
				c.text += line[:len(line)-1] + "\n"
				text = rest
				continue
			}
			c.text += strings.ReplaceAll(line, `\`, "") + "\n"
			return rest, nil
		}
	case ':', 'b', 't', 'T':
		end := strings.IndexAny(text, "\n;}")
		if end < 0 {
			end = len(text)
		}
		c.text = strings.TrimSpace(text[:end])
		return text[end:], nil
	case 'r', 'w', 'R', 'W':
		line, rest, _ := strings.Cut(text, "\n")
		c.text = strings.TrimSpace(line)
		return rest, nil
	case 's':
		return s.parseSubstitute(c, text)
	case 'y':
		if text == "" {
			return "", errors.New("unterminated `y' command")
		}
		from, rest, err := sedDelimited(text[1:], text[0])
		if err != nil {
			return "", errors.New("unterminated `y' command")
		}
		to, rest, err := sedDelimited(rest, text[0])
		if err != nil || len(from) != len(to) {
			return "", errors.New("strings for `y' command are different lengths")
		}
		c.text, c.replace = from, to
		return sedEnd(rest)
	}
	return "", fmt.Errorf("unknown command: `%c'", c.name)
}

func sedEnd(text string) (string, error) {
	text = strings.TrimLeft(text, " \t")
	if text == "" || strings.IndexByte("\n;}#", text[0]) >= 0 {
		return text, nil
	}
	return "", errors.New("extra characters after command")
}

func (s *sed) parseSubstitute(c *sedCommand, text string) (string, error) {
	if text == "" {
		return "", errors.New("unterminated `s' command")
	}
	expr, rest, err := sedDelimited(text[1:], text[0])
	if err != nil {
		return "", errors.New("unterminated `s' command")
	}
	replace, rest, err := sedReplacement(rest, text[0])
	if err != nil {
		return "", err
	}
	c.replace = replace
	fold := false
	for rest != "" {
		switch ch := rest[0]; {
		case ch == 'g':
			c.global = true
		case ch == 'p':
			c.print = true
		case ch == 'i' || ch == 'I':
			fold = true
		case ch == 'm' || ch == 'M' || ch == 'e':
		case isDigit(ch):
			c.nth = c.nth*10 + int(ch-'0')
		case ch == 'w':
			line, after, _ := strings.Cut(rest[1:], "\n")
			c.text = strings.TrimSpace(line)
			rest = after
			c.re, err = s.compile(expr, fold)
			return rest, err
		default:
			if c.re, err = s.compile(expr, fold); err != nil {
				return "", err
			}
			if rest, err = sedEnd(rest); err != nil {
				return "", errors.New("unknown option to `s'")
			}
			return rest, nil
		}
		rest = rest[1:]
	}
	c.re, err = s.compile(expr, fold)
	return "", err
}

// sedReplacement cuts a replacement, leaving its escapes to the substitution.
func sedReplacement(text string, delimiter byte) (part, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && i+1 < len(text):
			if text[i+1] == delimiter && delimiter != '&' {
				b.WriteByte(delimiter)
			} else {
				b.WriteString(text[i : i+2])
			}
			i++
		case text[i] == delimiter:
			return b.String(), text[i+1:], nil
		default:
			b.WriteByte(text[i])
		}
	}
	return "", "", errors.New("unterminated `s' command")
}
