package lua

import (
	"errors"
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// control are the functions that say how the script ends, what people are told, and that call the script back.
func control(env Environment) []Func {
	after := Param{Name: "options", Type: typeTable, Optional: true, Doc: "how to go on", Fields: []Param{
		{Name: "after", Type: typeDuration, Optional: true, Doc: "how long to wait before the next attempt; without it whoever runs the gate decides"},
	}}
	return []Func{
		{
			Name: "pass", Doc: "Ends the script: the gate is open.", Example: `if 1 < 2 then pass("lag 1s") end`,
			Params:  []Param{{Name: "reading", Type: typeText, Optional: true, Default: "", Doc: "what was seen, for plan, journal and report"}},
			builtin: verdict(Pass),
		},
		{
			Name: "retry", Doc: "Ends the script: the gate is closed for now, ask again.", Example: `if 2 > 1 then retry("lag 40s", {after = "10s"}) end`,
			Params:  []Param{{Name: "reading", Type: typeText, Doc: "what was seen and what is waited for"}, after},
			builtin: verdict(Retry),
		},
		{
			Name: "fail", Doc: "Ends the script: the gate is closed, and asking again will not open it.", Example: `if 2 > 1 then fail("no replica answers") end`,
			Params:  []Param{{Name: "reason", Type: typeText, Doc: "what was seen, what is wanted, and what to do"}},
			builtin: verdict(Fail),
		},
		{
			Name: "log", Doc: "Tells a line to the run's log, as print does.", Example: `log("lag of pve1 is 3s")`,
			Params: []Param{{Name: "text", Type: typeText, Doc: "the line"}},
			builtin: func(s *session, l *lua.LState, args []Value) int {
				text := args[0].(string)
				s.must(l, s.meter.print(len(text)+1))
				s.tell(text)
				return 0
			},
		},
		{
			Name: "parallel", Doc: "Calls a function for every item of a list, several at once, and waits for all. Lua runs one at a time; what overlaps is the waiting for hosts, so a variable that the functions share may be another after a host call than before it. " +
				"After an error no further call begins.",
			Params: []Param{
				{Name: "items", Type: typeList, Doc: "what to do it for, such as hosts()"},
				{Name: "fn", Type: typeFunction, Doc: "called with an item and its number; its first result is kept"},
				{Name: "options", Type: typeTable, Optional: true, Doc: "how", Fields: []Param{
					{Name: "limit", Type: typeNumber, Optional: true, Default: 8.0, Doc: "how many at once, 1 to 64"},
				}},
			},
			Returns: []Param{{Name: "results", Type: typeTable, Doc: "the results, under the numbers of their items"}},
			Errors:  "the first error of a call, once all that had begun are over; inside of another parallel",
			Example: `local names = parallel(hosts(), function(host) return host.name end, {limit = 4})`,
			builtin: parallel,
		},
		{
			Name: "wait", Doc: "Calls a function until it returns something else than nil and false, with pauses that grow up to `every`.",
			Params: []Param{
				{Name: "fn", Type: typeFunction, Doc: "the condition"},
				{Name: "options", Type: typeTable, Optional: true, Doc: "how long and how often", Fields: []Param{
					{Name: "timeout", Type: typeDuration, Optional: true, Default: time.Minute, Doc: "how long to wait at most"},
					{Name: "every", Type: typeDuration, Optional: true, Default: 2 * time.Second, Doc: "the longest pause"},
				}},
			},
			Returns: []Param{{Name: "value", Type: typeAny, Doc: "what the function returned"}},
			Errors:  "the timeout, when the condition still does not hold; any error of the function",
			Example: `local tries = 0 wait(function() tries = tries + 1 return tries == 2 end, {timeout = "5s", every = "10ms"})`,
			builtin: waiting(env),
		},
	}
}

func verdict(outcome Outcome) builtin {
	return func(s *session, l *lua.LState, args []Value) int {
		v := &Verdict{Outcome: outcome}
		v.Reading, _ = args[0].(string)
		if len(args) > 1 {
			v.After, _ = args[1].(map[string]Value)["after"].(time.Duration)
		}
		s.must(l, s.meter.print(len(v.Reading)))
		u := l.NewUserData()
		u.Value = verdictValue{v}
		l.Error(u, 0)
		return 0
	}
}

// threadCost is what an interpreter of a parallel's function costs, in bytes.
const threadCost = 40_000

func parallel(s *session, l *lua.LState, args []Value) int {
	items, f := l.CheckTable(1), args[1].(*Function).f
	n := items.MaxN()
	limit := int(args[2].(map[string]Value)["limit"].(float64))
	switch {
	case s.wide:
		l.RaiseError("parallel: it stands inside of another parallel")
	case limit < 1 || limit > 64:
		l.RaiseError("parallel: limit: %d is not from 1 to 64", limit)
	}
	s.alloc(l, int64(n)*slotCost+tableCost+firstSlotCost+int64(min(limit, n))*threadCost)
	s.wide = true
	results := make([]lua.LValue, n)
	failed := s.each(l, n, limit, func(thread *lua.LState, i int) error {
		thread.Push(f)
		thread.Push(items.RawGetInt(i + 1))
		thread.Push(lua.LNumber(i + 1))
		if err := thread.PCall(2, 1, nil); err != nil {
			return err
		}
		results[i] = thread.Get(-1)
		thread.SetTop(0)
		return nil
	})
	s.wide = false
	s.must(l, s.meter.over)
	if failed != nil {
		if raised, ok := errors.AsType[*lua.ApiError](failed); ok {
			l.Error(raised.Object, 0)
		}
		l.RaiseError("parallel: %s", failed)
	}
	table := l.CreateTable(n, 0)
	for i, v := range results {
		if v != lua.LNil {
			table.RawSetInt(i+1, v)
		}
	}
	l.Push(table)
	return 1
}

// each calls f for 0 to n-1 on up to limit goroutines, each with an interpreter's thread of its own. All of them run Lua
// one at a time: who holds the turn. After an error nothing more is begun. Of several errors it returns that of the first
// item, whichever came first.
func (s *session) each(l *lua.LState, n, limit int, f func(thread *lua.LState, i int) error) error {
	var workers sync.WaitGroup
	var failed error
	next, first := 0, n
	for range min(limit, n) {
		thread, cancel := l.NewThread()
		cancel()
		thread.SetContext(s.meter)
		workers.Go(func() {
			s.turn.Lock()
			defer s.turn.Unlock()
			for next < n && failed == nil && s.meter.over == nil {
				i := next
				next++
				if err := f(thread, i); err != nil && i < first {
					failed, first = err, i
				}
			}
		})
	}
	s.turn.Unlock()
	workers.Wait()
	s.turn.Lock()
	return failed
}

// waiting makes wait, which sleeps on the caller's clock.
func waiting(env Environment) builtin {
	return func(s *session, l *lua.LState, args []Value) int {
		f, options := args[0].(*Function).f, args[1].(map[string]Value)
		timeout, every := options["timeout"].(time.Duration), options["every"].(time.Duration)
		end := env.Now().Add(timeout)
		pause := min(every, 100*time.Millisecond)
		for {
			l.Push(f)
			l.Call(0, 1)
			value := l.Get(-1)
			if !lua.LVIsFalse(value) {
				return 1
			}
			l.Pop(1)
			left := end.Sub(env.Now())
			if left <= 0 {
				l.RaiseError("wait: not within %s", timeout)
			}
			if err := s.sleep(env, min(pause, left)); err != nil {
				s.raise(l, "wait", err)
			}
			pause = min(pause*2, every)
		}
	}
}
