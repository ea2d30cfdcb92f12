package engine

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"github.com/pxrun/pxrun/engine/module"
)

// saved is the stored form of a plan: what people read, and digests of what it means.
type saved struct {
	*Plan
	Digest string `json:"digest"`
}

// Save writes the plan for a later apply. redact takes secrets out of texts; nil means that there are none.
func (p *Plan) Save(w io.Writer, redact func(string) string) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	shown, err := p.redacted(redact)
	if err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	if err := enc.Encode(saved{shown, p.Digest()}); err != nil {
		return fmt.Errorf("save the plan: %w", err)
	}
	return nil
}

// LoadPlan reads a saved plan.
func LoadPlan(r io.Reader) (*Plan, error) {
	s := saved{Plan: &Plan{}}
	if err := json.NewDecoder(io.LimitReader(r, 256<<20)).Decode(&s); err != nil {
		return nil, fmt.Errorf("this is not a saved plan: %w", err)
	}
	if s.Format != PlanFormat {
		return nil, fmt.Errorf("the saved plan has format %d; this version of pxrun reads format %d", s.Format, PlanFormat)
	}
	if s.Digest == "" {
		return nil, fmt.Errorf("this is not a saved plan: it has no digest")
	}
	s.digest = s.Digest
	return s.Plan, nil
}

// redacted is a copy without secrets. The texts of a plan stand in many places, so its JSON form is walked.
func (p *Plan) redacted(redact func(string) string) (*Plan, error) {
	if redact == nil {
		return p, nil
	}
	data, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	var tree any
	if err := json.Unmarshal(data, &tree); err != nil {
		return nil, err
	}
	if data, err = json.Marshal(redactTree(tree, redact)); err != nil {
		return nil, err
	}
	clean := &Plan{}
	return clean, json.Unmarshal(data, clean)
}

func redactTree(v any, redact func(string) string) any {
	switch v := v.(type) {
	case string:
		return redact(v)
	case []any:
		for i := range v {
			v[i] = redactTree(v[i], redact)
		}
	case map[string]any:
		for k := range v {
			v[k] = redactTree(v[k], redact)
		}
	}
	return v
}

// Digest identifies what the plan would do: two plans of one digest change the same things in the same way. Times and
// the wording of reasons are no part of it.
func (p *Plan) Digest() string {
	if p.digest != "" {
		return p.digest
	}
	h := sha256.New()
	fmt.Fprintf(h, "%d\x00%s\x00%s\x00%s\x00", p.Format, p.Runbook, p.Cluster, p.Source)
	for _, t := range p.Tasks {
		fmt.Fprintf(h, "task %s %s %t %t\x00", t.Step, t.Module, t.Skipped != "", t.Deferred != "")
		for _, hp := range t.Hosts {
			fmt.Fprintf(h, "%s\x00", hp.digest())
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (h HostPlan) digest() string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\x00%s\x00%s\x00", h.Host, h.Item, h.status())
	for _, c := range h.Changes {
		fmt.Fprintf(sum, "%s\x00", changeDigest(c))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// changeDigest covers everything that a person approves about a change. Values go through plain JSON first, so that a
// plan that was stored has the digest of the one that was made.
func changeDigest(c module.Change) string {
	data, err := json.Marshal(c)
	if err != nil {
		return "unreadable " + err.Error()
	}
	var plain any
	if err := json.Unmarshal(data, &plain); err == nil {
		data, _ = json.Marshal(plain) // the keys of maps are sorted
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// Same compares a saved plan with the one that was made of the cluster as it is now. nil means that they do the same;
// otherwise the saved plan is stale and the error, a *StaleError, says what differs. Nothing may be changed then.
func (p *Plan) Same(now *Plan) error {
	if p.Digest() == now.Digest() {
		return nil
	}
	stale := &StaleError{}
	differ := func(format string, args ...any) {
		stale.Differences = append(stale.Differences, fmt.Sprintf(format, args...))
	}
	if p.Source != now.Source {
		differ("the files or variables have changed")
	}
	if p.Runbook != now.Runbook || p.Cluster != now.Cluster {
		differ("it was made for runbook %q of cluster %q", p.Runbook, p.Cluster)
	}
	before, after := p.lines(), now.lines()
	for _, l := range before {
		if !slices.Contains(after, l) {
			differ("no longer: %s", l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			differ("now: %s", l)
		}
	}
	if len(stale.Differences) == 0 {
		differ("what stands behind the changes is different")
	}
	return stale
}

// lines are the parts of a plan that are compared one by one, as people read them.
func (p *Plan) lines() []string {
	var lines []string
	for _, t := range p.Tasks {
		if t.Skipped != "" || t.Deferred != "" {
			state := "is left out"
			if t.Deferred != "" {
				state = "is planned later"
			}
			lines = append(lines, t.Step+" "+state)
		}
		for _, h := range t.Hosts {
			if len(h.Changes) == 0 && h.status() != "ok" {
				lines = append(lines, fmt.Sprintf("%s on %s: %s", t.Step, h.Host, h.status()))
			}
			for _, c := range h.Changes {
				lines = append(lines, fmt.Sprintf("%s on %s: %s", t.Step, c.Host, c.Summary))
			}
		}
	}
	return lines
}
