package lua

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/internal/diag"
	lua "github.com/yuin/gopher-lua"
)

// Modules are the files that scripts can require.
type Modules interface {
	// Source returns a file by the name that require was given, "backup.age" or "backup/age", and its path for errors.
	Source(name string) (path string, src []byte, err error)
}

// Folder makes the *.lua files of a folder, the site's lua/, and of those below it modules. Links that lead out of the
// folder are not followed.
func Folder(dir string) Modules { return folder(dir) }

type folder string

var moduleName = regexp.MustCompile(`^[A-Za-z0-9_-]+([./][A-Za-z0-9_-]+)*$`)

func (f folder) Source(name string) (string, []byte, error) {
	if len(name) > 200 || !moduleName.MatchString(name) {
		return "", nil, fmt.Errorf("%q is no name of a module: write the path below %s without .lua, such as \"checks/disks\"", name, f)
	}
	relative := filepath.FromSlash(strings.ReplaceAll(name, ".", "/")) + ".lua"
	path := filepath.Join(string(f), relative)
	root, err := os.OpenRoot(string(f))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return "", nil, fmt.Errorf("there is no folder %s to find %q in", f, name)
		}
		return "", nil, err
	}
	defer func() { _ = root.Close() }()
	// A pipe would keep who opens it waiting, so look first.
	info, err := root.Stat(relative)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil, fmt.Errorf("there is no %s", path)
	case err != nil:
		return "", nil, fmt.Errorf("%s cannot be used: %w", path, err)
	case !info.Mode().IsRegular():
		return "", nil, fmt.Errorf("%s is not a file", path)
	}
	file, err := root.Open(relative)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = file.Close() }()
	src, err := io.ReadAll(io.LimitReader(file, MaxSource+1))
	return path, src, err
}

func (s *session) require(l *lua.LState) int {
	name := strings.ReplaceAll(l.CheckString(1), "/", ".")
	if value, ok := s.loaded[name]; ok {
		l.Push(value)
		return 1
	}
	if slices.Contains(s.loading, name) {
		l.RaiseError("require: a loop: %s", strings.Join(append(s.loading, name), " needs "))
	}
	if s.script.runtime.modules == nil {
		l.RaiseError("require: there is no folder of modules")
	}
	path, src, err := s.script.runtime.modules.Source(name)
	if err != nil {
		l.RaiseError("require: %s", err)
	}
	script, problems := s.script.runtime.Compile(path, src)
	if problems.HasErrors() {
		l.RaiseError("require: %s", problemText(problems))
	}
	s.loading = append(s.loading, name)
	defer func() { s.loading = s.loading[:len(s.loading)-1] }()
	l.Push(l.NewFunctionFromProto(script.proto))
	for _, f := range s.charges {
		l.Push(f)
	}
	l.Call(len(s.charges), 1)
	l.Call(0, 1)
	value := l.Get(-1)
	if value == lua.LNil {
		value = lua.LTrue
	}
	if s.loaded == nil {
		s.loaded = map[string]lua.LValue{}
	}
	s.loaded[name] = value
	l.Push(value)
	return 1
}

// problemText shows a syntax error on one line.
func problemText(problems diag.List) string {
	p := problems[0]
	if p.Subject == nil {
		return p.Detail
	}
	return fmt.Sprintf("%s:%d: %s", p.Subject.Filename, p.Subject.Start.Line, p.Detail)
}
