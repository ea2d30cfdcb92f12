package machine

import (
	"strings"
	"sync"
	"syscall"

	"github.com/pxrun/pxrun/lab/vfs"
)

// lookups remembers which program a name means, since that is asked for every process.
type lookups struct {
	mu    sync.Mutex
	known map[lookupKey]foundProgram
}

// lookupKey is what root asks for: a name, and PATH if the name is to be found along it.
type lookupKey struct{ name, path string }

type foundProgram struct {
	program string
	changes uint64 // of the folders of programs, when it was found
}

// programFolders are the folders of the root in which the programs are that are remembered; no fault may lie there.
var programFolders = []string{"usr", "bin", "sbin"}

// mostLookups bounds what is remembered.
const mostLookups = 4096

// remembered is the program that a process runs if nothing has changed since it was found last. changes is for remember.
func (m *Machine) remembered(p *Proc) (program string, changes uint64, ok bool) {
	key, ok := lookupOf(p)
	if !ok {
		return "", 0, false
	}
	for _, f := range programFolders {
		if !m.FS.Faultless("/" + f) {
			return "", 0, false
		}
	}
	changes = m.disk.Changes(programFolders...)
	m.lookups.mu.Lock()
	defer m.lookups.mu.Unlock()
	found, ok := m.lookups.known[key]
	return found.program, changes, ok && found.changes == changes
}

// remember keeps the program that a process was found to run, at a path. A link may lead out of the folders of programs.
func (m *Machine) remember(p *Proc, path, program string, changes uint64) {
	key, ok := lookupOf(p)
	if i, err := m.FS.Lstat(path); !ok || changes == 0 || err != nil || !i.Mode.IsRegular() {
		return
	}
	m.lookups.mu.Lock()
	defer m.lookups.mu.Unlock()
	if m.lookups.known == nil || len(m.lookups.known) >= mostLookups {
		m.lookups.known = map[lookupKey]foundProgram{}
	}
	m.lookups.known[key] = foundProgram{program, changes}
}

// lookupOf is what is looked up for a process of root; ok is false where others than the folders of programs have a say.
func lookupOf(p *Proc) (key lookupKey, ok bool) {
	key.name = p.Argv[0]
	if p.UID != 0 || key.name == "" {
		return key, false
	}
	if strings.Contains(key.name, "/") {
		return key, ofPrograms(key.name)
	}
	if key.path = p.Env["PATH"]; key.path == "" || key.path == defaultPath {
		key.path = defaultPath
		return key, true
	}
	for dir := range strings.SplitSeq(key.path, ":") {
		if !ofPrograms(dir) {
			return key, false
		}
	}
	return key, true
}

// ofPrograms reports whether a path lies in the folders of programs.
func ofPrograms(path string) bool {
	if strings.Contains(path, "..") {
		return false
	}
	for _, f := range programFolders {
		if rest, ok := strings.CutPrefix(path, "/"+f); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// find looks a program up, as execvp does, and makes scripts run by their interpreter.
func (m *Machine) find(p *Proc) (Program, error) {
	name, changes, known := m.remembered(p)
	if known {
		return m.program(name), nil
	}
	view := m.FS.As(p.UID, m.groupsOf(p.UID)...)
	view.Dir = p.Dir
	path, err := lookup(view, p.Argv[0], p.Env["PATH"])
	if err != nil {
		return nil, err
	}
	if err := view.Access(path, 1); err != nil {
		return nil, err
	}
	content, err := m.FS.ReadFile(vfs.Clean(p.Dir, path))
	if err != nil {
		return nil, err
	}
	head := string(content[:min(len(content), 256)])
	if rest, ok := strings.CutPrefix(head, elfMark); ok {
		name, _, _ := strings.Cut(rest, "\n")
		if program := m.program(name); program != nil {
			m.remember(p, path, name, changes)
			return program, nil
		}
		return nil, syscall.ENOEXEC
	}
	argv := []string{"/bin/sh"}
	if line, ok := strings.CutPrefix(head, "#!"); ok {
		line, _, _ = strings.Cut(line, "\n")
		argv = strings.Fields(line)
	}
	if len(argv) == 0 {
		return nil, syscall.ENOEXEC
	}
	p.Argv = append(append(argv, path), p.Argv[1:]...)
	if argv[0] == path {
		return nil, syscall.ELOOP
	}
	return m.find(p)
}

// lookup finds an executable along PATH. A name with a slash is taken as it is.
func lookup(view *vfs.View, name, path string) (string, error) {
	if name == "" {
		return "", syscall.ENOENT
	}
	if strings.Contains(name, "/") {
		i, err := view.Stat(name)
		if err == nil && i.Mode.IsDir() {
			err = syscall.EACCES
		}
		return name, err
	}
	if path == "" {
		path = defaultPath
	}
	var denied error
	for dir := range strings.SplitSeq(path, ":") {
		full := dir + "/" + name
		i, err := view.Stat(full)
		if err != nil || !i.Mode.IsRegular() {
			continue
		}
		if view.Access(full, 1) == nil {
			return full, nil
		}
		denied = syscall.EACCES
	}
	if denied != nil {
		return "", denied
	}
	return "", syscall.ENOENT
}
