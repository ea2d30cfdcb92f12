package awk

import (
	"errors"
	"fmt"
	"strings"
)

// tokenKind tells what a token is.
type tokenKind int

const (
	tokEOF tokenKind = iota
	tokNumber
	tokString
	tokRegex
	tokWord
	tokCall // a name right before a parenthesis
	tokOp
)

type token struct {
	kind tokenKind
	text string
}

func (t token) String() string {
	switch {
	case t.kind == tokEOF:
		return "end of file"
	case t.text == "\n":
		return "end of line"
	}
	return t.text
}

var keywords = map[string]bool{
	"BEGIN": true, "END": true, "function": true, "func": true, "if": true, "else": true, "while": true, "for": true, "do": true, "in": true, "print": true, "printf": true, "next": true,
	"nextfile": true, "exit": true, "return": true, "break": true, "continue": true, "delete": true, "getline": true,
}

var builtins = map[string]bool{
	"length": true, "substr": true, "index": true, "split": true, "sub": true, "gsub": true, "match": true, "sprintf": true, "tolower": true, "toupper": true, "int": true, "sqrt": true,
	"exp": true, "log": true, "sin": true, "cos": true, "atan2": true, "rand": true, "srand": true, "close": true, "fflush": true, "strtonum": true, "system": true,
}

func lex(src string) ([]token, error) {
	var toks []token
	for i := 0; i < len(src); {
		c := src[i]
		switch {
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case c == '\\' && strings.HasPrefix(src[i+1:], "\n"):
			i += 2
		case c == '#':
			for i < len(src) && src[i] != '\n' {
				i++
			}
		case c == '"':
			end := i + 1
			for end < len(src) && src[end] != '"' {
				if src[end] == '\\' {
					end++
				}
				end++
			}
			if end >= len(src) {
				return nil, errors.New("non-terminated string")
			}
			toks = append(toks, token{tokString, src[i+1 : end]})
			i = end + 1
		case c == '/' && regexAllowed(toks):
			end, bracket := i+1, false
			for end < len(src) && (src[end] != '/' || bracket) && src[end] != '\n' {
				switch src[end] {
				case '\\':
					end++
				case '[':
					bracket = true
				case ']':
					bracket = false
				}
				end++
			}
			if end >= len(src) || src[end] != '/' {
				return nil, errors.New("non-terminated regular expression")
			}
			toks = append(toks, token{tokRegex, strings.ReplaceAll(src[i+1:end], `\/`, "/")})
			i = end + 1
		case isDigit(c) || c == '.' && i+1 < len(src) && isDigit(src[i+1]):
			end := i
			for end < len(src) && (isDigit(src[end]) || src[end] == '.' || (src[end] == 'e' || src[end] == 'E') && end+1 < len(src) && (isDigit(src[end+1]) || src[end+1] == '-') || src[end] == '-' && (src[end-1] == 'e' || src[end-1] == 'E')) {
				end++
			}
			toks = append(toks, token{tokNumber, src[i:end]})
			i = end
		case isLetter(c):
			end := i
			for end < len(src) && (isLetter(src[end]) || isDigit(src[end])) {
				end++
			}
			kind := tokWord
			if end < len(src) && src[end] == '(' && !keywords[src[i:end]] {
				kind = tokCall
			}
			toks = append(toks, token{kind, src[i:end]})
			i = end
		default:
			op := operator(src[i:])
			if op == "" {
				return nil, fmt.Errorf("unexpected character %q", c)
			}
			toks = append(toks, token{tokOp, op})
			i += len(op)
		}
	}
	return append(toks, token{kind: tokEOF}, token{kind: tokEOF}, token{kind: tokEOF}, token{kind: tokEOF}), nil
}

func operator(src string) string {
	for _, op := range []string{"&&", "||", "!~", "==", "!=", "<=", ">=", "++", "--", "+=", "-=", "*=", "/=", "%=", "^=", "**", ">>"} {
		if strings.HasPrefix(src, op) {
			return op
		}
	}
	if strings.IndexByte("{}()[];\n,+-*/%^!<>|?:~$=", src[0]) >= 0 {
		return src[:1]
	}
	return ""
}

// regexAllowed tells a regular expression from a division by what stands before.
func regexAllowed(toks []token) bool {
	if len(toks) == 0 {
		return true
	}
	t := toks[len(toks)-1]
	switch t.kind {
	case tokNumber, tokString, tokRegex, tokCall:
		return false
	case tokWord:
		return keywords[t.text]
	}
	return t.text != ")" && t.text != "]" && t.text != "$" && t.text != "++" && t.text != "--"
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c == '_' || c|32 >= 'a' && c|32 <= 'z' }
