package lua

import (
	"math"
	"math/bits"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// What fields of tables cost, in bytes, at most.
const (
	slotCost      = 48   // an item at the end of a list: its place, with the room that growing leaves, and a number in it
	firstSlotCost = 560  // the first item of a list that was made empty
	firstNameCost = 2750 // the first named field of a table that was made empty
	otherKeyCost  = 700  // the first field with a key that is neither a name nor an index
)

// concat is the operator `..` on any number of operands.
func (s *session) concat(l *lua.LState) int {
	n := l.GetTop()
	rhs := l.Get(n)
	for i := n - 1; i >= 1; {
		lhs := l.Get(i)
		if !lua.LVCanConvToString(lhs) || !lua.LVCanConvToString(rhs) {
			rhs = s.concatMeta(l, lhs, rhs)
			i--
			continue
		}
		from := i
		for from > 1 && lua.LVCanConvToString(l.Get(from-1)) {
			from--
		}
		parts := make([]string, 0, i-from+2)
		total := 0
		for ; from <= i; from++ {
			parts = append(parts, lua.LVAsString(l.Get(from)))
		}
		parts = append(parts, lua.LVAsString(rhs))
		for _, p := range parts {
			total += len(p)
		}
		s.alloc(l, int64(total)+stringCost)
		s.work(l, total/64)
		rhs = lua.LString(strings.Join(parts, ""))
		i -= len(parts) - 1
	}
	l.Push(rhs)
	return 1
}

func (s *session) concatMeta(l *lua.LState, lhs, rhs lua.LValue) lua.LValue {
	f := l.GetMetaField(lhs, "__concat")
	if f == lua.LNil {
		f = l.GetMetaField(rhs, "__concat")
	}
	if f == lua.LNil {
		bad := lhs
		if lua.LVCanConvToString(lhs) {
			bad = rhs
		}
		l.RaiseError("attempt to concatenate a %s value", bad.Type())
	}
	l.Push(f)
	l.Push(lhs)
	l.Push(rhs)
	l.Call(2, 1)
	result := l.Get(-1)
	l.Pop(1)
	return result
}

// charge pays for the tables and functions that a block makes.
func (s *session) charge(l *lua.LState) int {
	n, _ := l.Get(1).(lua.LNumber)
	s.alloc(l, int64(n))
	return 0
}

// fill sets the computed fields of a table that is being made, and pays for what its end brought.
func (s *session) fill(l *lua.LState) int {
	t := l.CheckTable(1)
	if n := t.MaxN(); n > 0 {
		s.alloc(l, firstSlotCost+int64(n)*slotCost)
	}
	for i := 2; i < l.GetTop(); i += 2 {
		s.store(l, t, l.Get(i), l.Get(i+1))
	}
	l.SetTop(1)
	return 1
}

// set is the assignment to a field.
func (s *session) set(l *lua.LState) int {
	object, key, value := l.Get(1), l.Get(2), l.Get(3)
	for range 100 {
		t, isTable := object.(*lua.LTable)
		if isTable && (t.Metatable == lua.LNil || t.RawGet(key) != lua.LNil) {
			s.store(l, t, key, value)
			return 0
		}
		meta := l.GetMetaField(object, "__newindex")
		switch {
		case meta == lua.LNil && isTable:
			s.store(l, t, key, value)
			return 0
		case meta == lua.LNil:
			l.RaiseError("attempt to set the field %s of a %s value", shortKey(key), object.Type())
		case meta.Type() == lua.LTFunction:
			l.Push(meta)
			l.Push(object)
			l.Push(key)
			l.Push(value)
			l.Call(3, 0)
			return 0
		}
		object = meta
	}
	l.RaiseError("a loop of __newindex")
	return 0
}

func shortKey(key lua.LValue) string {
	text := "'" + key.String() + "'"
	if len(text) > 60 {
		text = text[:60] + "…'"
	}
	return text
}

func (s *session) rawset(l *lua.LState) int {
	t := l.CheckTable(1)
	l.CheckAny(2)
	s.store(l, t, l.Get(2), l.Get(3))
	l.SetTop(1)
	return 1
}

// store sets a field of a table without asking its metatable, and pays for the room.
func (s *session) store(l *lua.LState, t *lua.LTable, key, value lua.LValue) {
	if key == lua.LNil {
		l.RaiseError("table index is nil")
	}
	if n, ok := key.(lua.LNumber); ok && math.IsNaN(float64(n)) {
		l.RaiseError("table index is NaN")
	}
	if t.RawGet(key) == lua.LNil {
		if value == lua.LNil {
			return // setting nothing to nothing would make room for it
		}
		s.alloc(l, s.room(t, key))
	}
	t.RawSet(key, alone(value))
}

// alone takes a number out of its company: the interpreter makes numbers 32 at a time, and one that is kept in a table
// would keep the others.
func alone(v lua.LValue) lua.LValue {
	if n, ok := v.(lua.LNumber); ok {
		return n
	}
	return v
}

// room is what a new field of a table costs.
func (s *session) room(t *lua.LTable, key lua.LValue) int64 {
	if n, ok := key.(lua.LNumber); ok {
		i := float64(n)
		if i >= 1 && i < float64(lua.MaxArrayIndex) && i == math.Trunc(i) {
			// The list is filled up to the index.
			return s.slots(t, int64(i)-int64(t.MaxN()))
		}
	}
	_, named := key.(lua.LString)
	first, _ := t.Next(lua.LNil)
	switch {
	case first == lua.LNil && named:
		return firstNameCost
	case first == lua.LNil:
		return otherKeyCost
	case named && first.Type() == lua.LTNumber && !s.mixed[t]:
		if s.mixed == nil {
			s.mixed = map[*lua.LTable]bool{}
		}
		s.mixed[t] = true
		return firstNameCost
	}
	return fieldCost
}

// slots is what n further items at the end of a list cost.
func (s *session) slots(t *lua.LTable, n int64) int64 {
	cost := max(n, 1) * slotCost
	if t.MaxN() == 0 {
		cost += firstSlotCost
	}
	return cost
}

// openTable makes the table library. What allocates is the session's own; sort and remove charge their work beforehand.
func (s *session) openTable(shared *library) *lua.LTable {
	charged := func(f lua.LGFunction, work func(n int) int) lua.LGFunction {
		return func(l *lua.LState) int {
			s.work(l, work(l.CheckTable(1).MaxN()))
			return f(l)
		}
	}
	return s.functions(shared.table, map[string]lua.LGFunction{
		"insert": s.tableInsert, "concat": s.tableConcat, "unpack": s.unpack,
		"sort":   charged(shared.sort, func(n int) int { return n * bits.Len(uint(n)) }),
		"remove": charged(shared.remove, func(n int) int { return n / 64 }),
	})
}

func (s *session) tableInsert(l *lua.LState) int {
	t := l.CheckTable(1)
	switch l.GetTop() {
	case 2:
		if l.Get(2) == lua.LNil {
			return 0
		}
		s.alloc(l, s.slots(t, 1))
		t.Append(alone(l.Get(2)))
	case 3:
		at, n := l.CheckInt(2), t.MaxN()
		if at < 1 || at > n+1 {
			l.RaiseError("table.insert: position %d is outside of the list, which has %d items", at, n)
		}
		s.alloc(l, s.slots(t, 1))
		s.work(l, (n-at+1)/64)
		t.Insert(at, alone(l.Get(3)))
	default:
		l.RaiseError("table.insert takes a table, perhaps a position, and a value")
	}
	return 0
}

func (s *session) tableConcat(l *lua.LState) int {
	t, sep := l.CheckTable(1), l.OptString(2, "")
	from, to := l.OptInt(3, 1), l.OptInt(4, t.Len())
	total := int64(stringCost)
	for i := from; i <= to; i++ {
		v := t.RawGetInt(i)
		if !lua.LVCanConvToString(v) {
			l.RaiseError("table.concat: item %d is a %s", i, v.Type())
		}
		total += int64(len(lua.LVAsString(v)))
		if i < to {
			total += int64(len(sep))
		}
		if i%64 == 0 {
			s.work(l, 64)
		}
	}
	s.alloc(l, total)
	s.work(l, int(total/64))
	var b strings.Builder
	b.Grow(int(total))
	for i := from; i <= to; i++ {
		b.WriteString(lua.LVAsString(t.RawGetInt(i)))
		if i < to {
			b.WriteString(sep)
		}
	}
	l.Push(lua.LString(b.String()))
	return 1
}
