package runbooks

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/internal/diag"
)

// The parser and the evaluator call themselves for each level of nesting and for each operator of a chain. Go ends the
// whole process when a stack outgrows its limit, so what nobody writes by hand is refused before it is parsed.
const (
	maxNesting   = 100
	maxOperators = 1000
)

// tooDeep refuses a text whose brackets are nested too deeply or whose expressions chain too many operators.
func tooDeep(src []byte, name string) diag.List {
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos) // the parser reports what is wrong with them
	return tooDeepTokens(tokens)
}

// tooDeepTemplate is tooDeep for a file that is a template.
func tooDeepTemplate(src []byte, name string) diag.List {
	tokens, _ := hclsyntax.LexTemplate(src, name, hcl.InitialPos)
	return tooDeepTokens(tokens)
}

func tooDeepTokens(tokens hclsyntax.Tokens) diag.List {
	type frame struct {
		lines     bool // a new line ends the expression at hand
		operators int
	}
	frames := []frame{{lines: true}}
	for _, t := range tokens {
		top := &frames[len(frames)-1]
		switch t.Type {
		case hclsyntax.TokenOBrace, hclsyntax.TokenOParen, hclsyntax.TokenOQuote, hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp:
			frames = append(frames, frame{lines: t.Type == hclsyntax.TokenOBrace})
		case hclsyntax.TokenOBrack, hclsyntax.TokenTemplateControl:
			top.operators++ // a[0][0][0]… and %{ if }%{ if }… nest without being inside each other's brackets
			frames = append(frames, frame{})
		case hclsyntax.TokenCBrace, hclsyntax.TokenCBrack, hclsyntax.TokenCParen, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			if len(frames) > 1 {
				frames = frames[:len(frames)-1]
			}
		case hclsyntax.TokenNewline:
			if top.lines {
				top.operators = 0
			}
		case hclsyntax.TokenNumberLit:
			if tooLarge(string(t.Bytes)) {
				return diag.Error("Number too large", "Numbers may have up to 400 digits.", t.Range)
			}
		case hclsyntax.TokenComma, hclsyntax.TokenEqual:
			top.operators = 0
		case hclsyntax.TokenIdent, hclsyntax.TokenStringLit, hclsyntax.TokenQuotedLit, hclsyntax.TokenComment:
		default:
			top.operators++
		}
		if len(frames) > maxNesting {
			return diag.Error("Nested too deeply", fmt.Sprintf("Brackets, blocks and templates may be nested up to %d levels.", maxNesting), t.Range)
		}
		if frames[len(frames)-1].operators > maxOperators {
			return diag.Error("Expression too long", fmt.Sprintf("One expression may have up to %d operators. Use a list and a function such as sum, join or concat.", maxOperators), t.Range)
		}
	}
	return nil
}

// tooLarge tells whether a number would fill the memory when it is written out: 1e999999999.
func tooLarge(number string) bool {
	const digits = 400
	mantissa, exponent, _ := strings.Cut(strings.ToLower(number), "e")
	n, err := strconv.Atoi(cmp.Or(strings.TrimLeft(exponent, "+-"), "0"))
	return len(mantissa) > digits || err != nil || n > digits
}
