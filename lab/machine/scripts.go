package machine

import (
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"mvdan.cc/sh/v3/pattern"
	"mvdan.cc/sh/v3/syntax"
)

// scriptsRoom bounds the text of the scripts that are kept, in bytes; longer ones than the second are not.
const (
	scriptsRoom   = 4 << 20
	longestScript = 64 << 10
)

// Scripts keeps the syntax trees of scripts, which nothing changes: clusters run the same few scripts thousands of times. Machines
// may share one. The zero value is ready, and safe for concurrent use.
type Scripts struct {
	mu   sync.Mutex
	kept map[scriptKey][]*syntax.Stmt
	size int
	// patterns are those of case and of [[, as regular expressions.
	patterns map[string]*regexp.Regexp
}

// mostPatterns bounds the patterns that are kept.
const mostPatterns = 4096

// matches tells whether a shell pattern matches all of a text.
func (k *Scripts) matches(pat, text string) bool {
	if !isPattern(pat) {
		return pat == text
	}
	k.mu.Lock()
	re := k.patterns[pat]
	k.mu.Unlock()
	if re == nil {
		var err error
		if re, err = compilePattern(pat); err != nil {
			return pat == text
		}
		k.mu.Lock()
		if k.patterns == nil || len(k.patterns) >= mostPatterns {
			k.patterns = map[string]*regexp.Regexp{}
		}
		k.patterns[pat] = re
		k.mu.Unlock()
	}
	return re.MatchString(text)
}

// matches is Scripts.matches for a pattern that is not kept.
func matches(pat, text string) bool {
	if !isPattern(pat) {
		return pat == text
	}
	re, err := compilePattern(pat)
	if err != nil {
		return pat == text
	}
	return re.MatchString(text)
}

func isPattern(text string) bool { return strings.ContainsAny(text, `*?[\`) }

func compilePattern(pat string) (*regexp.Regexp, error) {
	expr, err := pattern.Regexp(pat, pattern.EntireString)
	if err != nil {
		return nil, err
	}
	return regexp.Compile(expr)
}

type scriptKey struct {
	lang syntax.LangVariant
	text string
}

// parse gives the statements of a script; ok is false for one that has errors, which must be run up to the first of them.
func (k *Scripts) parse(lang syntax.LangVariant, text string) (list []*syntax.Stmt, ok bool) {
	key := scriptKey{lang, text}
	k.mu.Lock()
	list, ok = k.kept[key]
	k.mu.Unlock()
	if ok {
		return list, true
	}
	if !utf8.ValidString(text) {
		return nil, false
	}
	file, err := syntax.NewParser(syntax.Variant(lang)).Parse(strings.NewReader(text), "")
	if err != nil {
		return nil, false
	}
	if len(text) > longestScript {
		return file.Stmts, true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept == nil || k.size+len(text) > scriptsRoom {
		k.kept, k.size = map[scriptKey][]*syntax.Stmt{}, 0
	}
	k.kept[key] = file.Stmts
	k.size += len(text)
	return file.Stmts, true
}
