package module

import "strings"

// Refusal is a gate's no: going on would not be safe, or cannot be proved to be. It has an exit code of its own. A
// state that could not be read is a refusal too: unknown counts as closed.
type Refusal struct {
	Host string `json:"host,omitempty"`
	Gate string `json:"gate"`           // what is being guarded: "join pve3"
	Saw  string `json:"saw,omitempty"`  // what was observed
	Want string `json:"want,omitempty"` // what must hold
	Look string `json:"look,omitempty"` // the command to look for oneself
	// Override is how to go on regardless, or why there is no way.
	Override string `json:"override,omitempty"`
}

func (r *Refusal) Error() string {
	var b strings.Builder
	if r.Host != "" {
		b.WriteString(r.Host + ": ")
	}
	b.WriteString("refused: " + r.Gate)
	for _, part := range [][2]string{{"saw", r.Saw}, {"wanted", r.Want}, {"look", r.Look}, {"override", r.Override}} {
		if part[1] != "" {
			b.WriteString("\n  " + part[0] + ": " + strings.ReplaceAll(strings.TrimRight(part[1], "\n"), "\n", "\n    "))
		}
	}
	return b.String()
}

// Refusals are several gates that said no in one plan; all of them are reported.
type Refusals []*Refusal

func (rs Refusals) Error() string {
	texts := make([]string, len(rs))
	for i, r := range rs {
		texts[i] = r.Error()
	}
	return strings.Join(texts, "\n")
}

// Unwrap lets errors.As find each one.
func (rs Refusals) Unwrap() []error {
	errs := make([]error, len(rs))
	for i, r := range rs {
		errs[i] = r
	}
	return errs
}
