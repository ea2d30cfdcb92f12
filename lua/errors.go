package lua

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Error is how a script failed.
type Error struct {
	// File and Line are where; Line is 0 where that is not known.
	File string
	Line int
	// Message is what happened, without the place.
	Message string
	// Trace lists the calls that led there, the innermost first: "lib/x.lua:3 in function 'f'".
	Trace []string
	// Cause is the error of a host, a limit or the caller's context that ended the script; nil if the script itself did.
	Cause error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Message
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Message)
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Cause }

var place = regexp.MustCompile(`^([^\n:]+):(\d+): `)

// failure makes an Error of what the interpreter returned.
func (s *session) failure(file string, err error) error {
	e := &Error{File: file, Message: err.Error()}
	if raised, ok := errors.AsType[*lua.ApiError](err); ok {
		e.Message = s.describe(raised.Object)
		e.Trace = trace(raised.StackTrace)
	}
	if m := place.FindStringSubmatch(e.Message); m != nil {
		if line, err := strconv.Atoi(m[2]); err == nil {
			e.File, e.Line, e.Message = m[1], line, e.Message[len(m[0]):]
		}
	}
	switch {
	case s.meter.over != nil:
		e.Cause, e.Message = s.meter.over, s.meter.over.Error()
	case s.cause != nil && strings.Contains(e.Message, s.cause.Error()):
		e.Cause = s.cause
	}
	return e
}

// describe shows a value that was raised as an error.
func (s *session) describe(v lua.LValue) string {
	switch v := v.(type) {
	case lua.LString, lua.LNumber, lua.LBool:
		return v.String()
	case *lua.LTable:
		if message, ok := v.RawGetString("message").(lua.LString); ok {
			return string(message)
		}
	}
	return "a " + v.Type().String() + " was raised as an error"
}

// trace takes the lines of the script's own functions out of the interpreter's trace.
func trace(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[G]") || strings.HasPrefix(line, "stack traceback") || strings.HasPrefix(line, "(tailcall)") || line == "" || line == "..." {
			continue
		}
		where, in, _ := strings.Cut(line, ": in ")
		if in == "" {
			where, in, _ = strings.Cut(line, " in ")
		}
		where = strings.TrimSuffix(where, ":")
		if in == "" || strings.HasPrefix(in, "main chunk") {
			lines = append(lines, where)
			continue
		}
		lines = append(lines, where+" in "+in)
	}
	return lines
}
