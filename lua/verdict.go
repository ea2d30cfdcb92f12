package lua

import (
	"time"

	lua "github.com/yuin/gopher-lua"
)

// Outcome is what a gate said.
type Outcome string

// The outcomes.
const (
	Pass  Outcome = "pass"
	Retry Outcome = "retry"
	Fail  Outcome = "fail"
)

// Verdict is what a script said with pass, retry or fail. It ends the script.
type Verdict struct {
	Outcome Outcome
	// Reading is what was seen, in the script's words.
	Reading string
	// After is the pause that a retry asks for; 0 leaves it to the caller.
	After time.Duration
}

// verdictValue travels as an error through the interpreter.
type verdictValue struct{ *Verdict }

func verdictOf(raised lua.LValue) *Verdict {
	if u, ok := raised.(*lua.LUserData); ok {
		if v, ok := u.Value.(verdictValue); ok {
			return v.Verdict
		}
	}
	return nil
}
