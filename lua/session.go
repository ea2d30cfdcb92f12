package lua

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/pxrun/pxrun/lua/pattern"
	lua "github.com/yuin/gopher-lua"
)

// Call is one run of a script.
type Call struct {
	// Limits bound it; what is 0 is as in DefaultLimits.
	Limits Limits
	// Seed makes math.random the same in the same run.
	Seed uint64
	// Print receives what the script prints, line by line. It must not block. nil drops it.
	Print func(line string)
	// API is what the script has beside Lua's own functions; nil for nothing.
	API *API
	// Globals are values that the script has beside Lua's own.
	Globals map[string]Value
}

// Result is how a script ended that did not fail.
type Result struct {
	// Values are what it returned.
	Values []Value
	// Verdict is what it said with pass, retry or fail; nil if nothing.
	Verdict *Verdict
	// Steps and Memory are what it used of its limits.
	Steps, Memory int64
}

// session is one call: an interpreter, what it may do and what it has used. The script and everything that it calls run
// one at a time: who holds turn. A host function gives the turn away while it waits, so that the functions of a
// parallel go on meanwhile.
type session struct {
	script  *Script
	call    Call
	meter   *meter
	state   *lua.LState
	charges []lua.LValue // what instrument's chunk takes
	turn    sync.Mutex

	random   *rand.Rand
	patterns map[string]*pattern.Pattern
	mixed    map[*lua.LTable]bool // tables with list items that are known to have named fields too
	loaded   map[string]lua.LValue
	loading  []string
	cause    error // the last error of a host function
	wide     bool  // a parallel is under way
	classes  map[string]*lua.LTable
}

// Run runs the script in an interpreter of its own. The error is an *Error.
func (s *Script) Run(ctx context.Context, call Call) (Result, error) {
	call.Limits = call.Limits.withDefaults()
	ctx, cancel := context.WithTimeoutCause(ctx, call.Limits.Time, call.Limits.timeError())
	defer cancel()
	run := newSession(ctx, s, call)
	defer run.meter.cancel(context.Canceled)
	run.turn.Lock()
	defer run.turn.Unlock()
	return run.run()
}

func newSession(ctx context.Context, script *Script, call Call) *session {
	s := &session{script: script, call: call, meter: newMeter(ctx, call.Limits)}
	s.state = lua.NewState(lua.Options{
		CallStackSize:    call.Limits.Depth,
		RegistrySize:     256,
		RegistryMaxSize:  maxRegisters,
		RegistryGrowStep: 1024,
		SkipOpenLibs:     true,
	})
	s.open()
	s.state.SetContext(s.meter)
	return s
}

// maxRegisters bounds the interpreter's own stack, in values of 16 bytes.
const maxRegisters = 32 << 10

// maxResults is how many values one call of a library function returns.
const maxResults = 8000

func (s *session) run() (Result, error) {
	for _, name := range keysOf(s.call.Globals) {
		value, err := s.lua(s.state, s.call.Globals[name])
		if err != nil {
			return Result{}, s.failure(s.script.Name, fmt.Errorf("%s: %w", name, err))
		}
		s.state.SetGlobal(name, value)
	}
	main, err := s.load(s.script)
	if err == nil {
		s.state.Push(main)
		err = s.state.PCall(0, lua.MultRet, nil)
	}
	result := Result{Steps: s.meter.steps, Memory: s.meter.memory}
	if err != nil {
		if raised, ok := errors.AsType[*lua.ApiError](err); ok && s.meter.over == nil {
			if result.Verdict = verdictOf(raised.Object); result.Verdict != nil {
				return result, nil
			}
		}
		return result, s.failure(s.script.Name, err)
	}
	if s.meter.over != nil {
		return result, s.failure(s.script.Name, s.meter.over)
	}
	for i := 1; i <= s.state.GetTop(); i++ {
		value, err := s.value(s.state.Get(i))
		if err != nil {
			return result, s.failure(s.script.Name, err)
		}
		result.Values = append(result.Values, value)
	}
	return result, nil
}

// load makes a script's function in this session.
func (s *session) load(script *Script) (lua.LValue, error) {
	s.state.Push(s.state.NewFunctionFromProto(script.proto))
	for _, f := range s.charges {
		s.state.Push(f)
	}
	if err := s.state.PCall(len(s.charges), 1, nil); err != nil {
		return nil, err
	}
	main := s.state.Get(-1)
	s.state.Pop(1)
	return main, nil
}

// must raises an error in the script.
func (s *session) must(l *lua.LState, err error) {
	if err != nil {
		l.RaiseError("%s", err.Error())
	}
}

// work charges steps, alloc bytes; both raise an error at the limit.
func (s *session) work(l *lua.LState, n int)    { s.must(l, s.meter.work(n)) }
func (s *session) alloc(l *lua.LState, n int64) { s.must(l, s.meter.alloc(n)) }

// stringCost is what a string costs beside its bytes.
const stringCost = 48

// text hands a new string to the script. Its bytes were charged.
func (s *session) text(l *lua.LState, text string) { l.Push(lua.LString(text)) }

// newText charges a new string and hands it over.
func (s *session) newText(l *lua.LState, text string) {
	s.alloc(l, int64(len(text))+stringCost)
	s.text(l, text)
}
