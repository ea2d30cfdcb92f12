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
	Attributes: []hcl.AttributeSchema{{Name: "over", Required: true}, {Name: "max_unavailable"}, {Name: "canary"}, {Name: "max_failed"}, {Name: "soak"},
		{Name: "max_unavailable_per"}, {Name: "pause"}, {Name: "pause_timeout"}, {Name: "window"}, {Name: "stop_after"}, {Name: "on_node_failure"}},
	Blocks: append([]hcl.BlockHeaderSchema{{Type: "check", LabelNames: []string{"name"}}, {Type: "between"}}, stepBlocks...),
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
	bu.control(a, r)
	if over, ok := content.Attributes["over"]; ok {
		r.Over = bu.hostsFunc(over, p, "")
	} else {
		r.Over = func(engine.Scope) ([]string, *engine.Unknown, diag.List) { return nil, nil, nil }
	}
	inner := p
	inner.rolling = r
	var steps, between hcl.Blocks
	for _, s := range content.Blocks {
		switch s.Type {
		case "check":
			bu.l.report(hookDiags(s))
		case "between":
			between = append(between, s)
		default:
			steps = append(steps, s)
		}
	}
	var made map[string]taskInfo
	r.Steps, made = bu.steps(steps, inner)
	bu.between(r, between, inner.with(made))
	return r, made
}

// control reads what says when hosts are begun, and who must approve.
func (bu *builder) control(a attributes, r *engine.Rolling) {
	var pause, failure, per string
	a.oneOf("max_unavailable_per", &per, "cluster", "site")
	r.PerSite = per == "site"
	a.oneOf("pause", &pause, string(engine.NeverPause), string(engine.BeforeHost), string(engine.AfterFirst))
	r.Pause = engine.Pause(pause)
	a.duration("pause_timeout", &r.PauseLimit)
	a.duration("stop_after", &r.StopAfter)
	a.oneOf("on_node_failure", &failure, string(engine.StopBlock), string(engine.SkipHost))
	r.OnHostFailure = engine.OnHostFailure(failure)
	if v, at, ok := a.value("window"); ok {
		hours, diags := hoursOf(v, at)
		bu.l.report(diags)
		r.Hours = hours
	}
}

// between builds what is done between two hosts: the block of that name, then the hooks.
func (bu *builder) between(r *engine.Rolling, blocks hcl.Blocks, p position) {
	p.hook = true
	for i, b := range blocks {
		if i > 0 {
			bu.l.report(diag.Error("Duplicate between block", "There can be one between block.", b.DefRange))
		}
		content, diags := contentOf(b, parallelSchema)
		bu.l.report(diags)
		steps, made := bu.steps(content.Blocks, p)
		r.Between = append(r.Between, steps...)
		p = p.with(made)
	}
	steps, _ := bu.hooked(p, betweenNodes)
	r.Between = append(r.Between, steps...)
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
