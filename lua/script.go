package lua

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/internal/diag"
	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/parse"
)

// MaxSource is the largest script, in bytes.
const MaxSource = 1 << 20

// maxCached is how many scripts a Runtime keeps compiled.
const maxCached = 500

// Runtime compiles scripts and remembers them by their content. It is safe for concurrent use.
type Runtime struct {
	modules Modules
	library library

	mu       sync.Mutex
	compiled map[[sha256.Size]byte]*Script
}

// New makes a runtime. Scripts can require the files of modules, and nothing if it is nil.
func New(modules Modules) *Runtime {
	return &Runtime{modules: modules, library: newLibrary(), compiled: map[[sha256.Size]byte]*Script{}}
}

// Script is a compiled script. It is immutable and may be run by many at once.
type Script struct {
	// Name is the path of its file, as errors show it.
	Name    string
	runtime *Runtime
	proto   *lua.FunctionProto
}

// Compile reads a script. Name is the path of its file.
func (r *Runtime) Compile(name string, src []byte) (*Script, diag.List) {
	hash := sha256.New()
	fmt.Fprintf(hash, "%d %s", len(name), name)
	hash.Write(src)
	key := [sha256.Size]byte(hash.Sum(nil))
	r.mu.Lock()
	known := r.compiled[key]
	r.mu.Unlock()
	if known != nil {
		return known, nil
	}
	proto, err := compile(name, src)
	if err != nil {
		return nil, compileProblem(name, src, err)
	}
	s := &Script{Name: name, runtime: r, proto: proto}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.compiled) >= maxCached {
		clear(r.compiled)
	}
	r.compiled[key] = s
	return s, nil
}

func compile(name string, src []byte) (proto *lua.FunctionProto, err error) {
	if len(src) > MaxSource {
		return nil, fmt.Errorf("the script has %d bytes; it may have %s", len(src), size(MaxSource))
	}
	if line, _, _ := bytes.Cut(src, []byte("\n")); bytes.HasPrefix(line, []byte("#!")) {
		src = append(bytes.Repeat([]byte(" "), len(line)), src[len(line):]...)
	}
	// The compiler panics on what it cannot express, such as a function with too many locals.
	defer func() {
		if p := recover(); p != nil {
			proto, err = nil, fmt.Errorf("the script cannot be compiled: %v", p)
		}
	}()
	chunk, err := parse.Parse(bytes.NewReader(src), name)
	if err != nil {
		return nil, err
	}
	chunk, err = instrument(chunk)
	if err != nil {
		return nil, err
	}
	proto, err = lua.Compile(chunk, name)
	if err != nil {
		return nil, err
	}
	tame(proto)
	return proto, nil
}

// tame takes two things out of compiled functions. Tail calls: the interpreter counts them without end and then lists
// each in an error's trace; as calls they count against the depth. And the table `arg` of functions with `...`, which
// would be allocated at each call.
func tame(proto *lua.FunctionProto) {
	proto.IsVarArg &^= lua.VarArgNeedsArg
	for i := 0; i < len(proto.Code); i++ {
		switch instruction := proto.Code[i]; int(instruction >> 26) {
		case lua.OP_TAILCALL:
			proto.Code[i] = instruction&(1<<26-1) | uint32(lua.OP_CALL)<<26
		case lua.OP_SETLIST:
			if instruction>>9&0x1ff == 0 {
				i++ // the next word is a number and no instruction
			}
		}
	}
	for _, inner := range proto.FunctionPrototypes {
		tame(inner)
	}
}

// compileProblem points at the place of a syntax error.
func compileProblem(name string, src []byte, err error) diag.List {
	at := diag.Range{Filename: name}
	text := strings.TrimSpace(err.Error())
	if e, ok := errors.AsType[*parse.Error](err); ok {
		at.Start.Line, at.Start.Column = max(e.Pos.Line, 1), max(e.Pos.Column, 1)
		text = e.Message
		if e.Token != "" {
			text += fmt.Sprintf(" near %q", e.Token)
		}
		if e.Pos.Line == parse.EOF {
			text = "the script ends in the middle of something: " + e.Message
			at.Start.Line = 1 + bytes.Count(bytes.TrimRight(src, "\n"), []byte("\n"))
		}
	} else if e, ok := errors.AsType[*lua.CompileError](err); ok {
		at.Start.Line, text = max(e.Line, 1), e.Message
	}
	at.Start.Line, at.Start.Column = max(at.Start.Line, 1), max(at.Start.Column, 1)
	at.End = at.Start
	at.End.Column++
	return diag.Error("Lua syntax error", text, at)
}
