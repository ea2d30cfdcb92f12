package runbooks

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/pxrun/pxrun/engine"
	"github.com/pxrun/pxrun/internal/diag"
	"github.com/zclconf/go-cty/cty"
)

var rollingSchema = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{{Name: "over", Required: true}, {Name: "max_unavailable"}, {Name: "canary"}, {Name: "max_failed"}, {Name: "soak"}},
	Blocks:     append([]hcl.BlockHeaderSchema{{Type: "check", LabelNames: []string{"name"}}}, stepBlocks...),
}

func (bu *builder) rolling(b *hcl.Block, p position) (engine.Step, map[string]taskInfo) {
	content, diags := contentOf(b, rollingSchema)
	bu.l.report(diags)
	if p.rolling != nil {
		bu.l.report(diag.Error("Rolling inside rolling", "A rolling block goes from host to host already; another one inside it has no hosts left to go over.", b.DefRange))
	}
	r := &engine.Rolling{Name: b.Labels[0], Range: b.DefRange, MaxUnavailable: engine.Amount{N: 1}}
	bu.l.report(identifier("rolling block", r.Name, b.LabelRanges[0]))
	if first, twice := bu.blocks[r.Name]; twice {
		bu.l.report(diag.Error("Duplicate rolling block", fmt.Sprintf("The rolling block %q is already defined at %s. Their names are unique in a runbook.", r.Name, place(first)), b.LabelRanges[0]))
	}
	bu.blocks[r.Name] = b.DefRange
	a := bu.attributes(content)
	if v, at, ok := a.value("max_unavailable"); ok {
		amount, diags := amountOf(v, at)
		bu.l.report(diags)
		r.MaxUnavailable = amount
	}
	if r.MaxUnavailable.Percent || r.MaxUnavailable.N > 1 {
		r.Canary = 1 // the first host shows whether the rest may be tried at once
	}
	a.whole("canary", 0, math.MaxInt32, &r.Canary)
	a.whole("max_failed", 0, math.MaxInt32, &r.MaxFailed)
	a.duration("soak", &r.Soak)
	if over, ok := content.Attributes["over"]; ok {
		r.Over = bu.hostsFunc(over, p, "")
	} else {
		r.Over = func(engine.Scope) ([]string, *engine.Unknown, diag.List) { return nil, nil, nil }
	}
	inner := p
	inner.rolling = r
	var steps hcl.Blocks
	for _, s := range content.Blocks {
		if s.Type == "check" {
			bu.l.report(hookDiags(s))
			continue
		}
		steps = append(steps, s)
	}
	var made map[string]taskInfo
	r.Steps, made = bu.steps(steps, inner)
	return r, made
}

// amountOf reads 2 or "20%".
func amountOf(v cty.Value, at hcl.Range) (engine.Amount, diag.List) {
	plain, _ := v.Unmark()
	if plain.Type() == cty.String {
		if text, ok := strings.CutSuffix(plain.AsString(), "%"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(text))
			if err != nil || n < 1 || n > 100 {
				return engine.Amount{N: 1}, diag.Error("Value out of bounds", fmt.Sprintf("max_unavailable must be from 1%% to 100%%, not %q.", plain.AsString()), at)
			}
			return engine.Amount{N: n, Percent: true}, nil
		}
	}
	n, diags := wholeNumber("max_unavailable", v, 1, math.MaxInt32, at)
	if diags.HasErrors() {
		return engine.Amount{N: 1}, diags
	}
	return engine.Amount{N: n}, nil
}
