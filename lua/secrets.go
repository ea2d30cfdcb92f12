package lua

import (
	"github.com/pxrun/pxrun/internal/secret"
	lua "github.com/yuin/gopher-lua"
)

// secretObject is a secret in a script: it can be handed to host functions and nothing else.
type secretObject struct{ text secret.String }

// bullets are what a script sees of a secret.
const bullets = "•••"

// Class is the secrets' own.
func (secretObject) Class() string { return "secret" }

// String is what tostring and print show.
func (secretObject) String() string { return bullets }

func isSecret(v lua.LValue) bool {
	u, ok := v.(*lua.LUserData)
	if !ok {
		return false
	}
	_, ok = u.Value.(secretObject)
	return ok
}

// forbid makes every operator on secrets an error that says what to do instead.
func (s *session) forbid(meta *lua.LTable) {
	for event, what := range map[string]string{
		"__concat": "put into a text", "__eq": "compared", "__lt": "compared", "__le": "compared", "__len": "measured",
		"__call": "called", "__index": "looked into", "__newindex": "changed", "__add": "calculated with", "__sub": "calculated with",
		"__mul": "calculated with", "__div": "calculated with", "__mod": "calculated with", "__pow": "calculated with", "__unm": "calculated with",
	} {
		meta.RawSetString(event, s.state.NewFunction(func(l *lua.LState) int {
			l.RaiseError("a secret cannot be %s; hand it to a host function, such as host:run(…, {stdin = secret})", what)
			return 0
		}))
	}
}
