package lab

import (
	"fmt"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/sshd"
	"github.com/pxrun/pxrun/lab/vfs"
)

// Write is one change that a program made to a machine's files.
type Write struct {
	Host string `json:"host"`
	// Program is the command line of the program that wrote, Session what the SSH client asked for that led to it: a
	// command, or the start of a shell.
	Program string `json:"program"`
	Session string `json:"session"`
	// User is who was logged in; "" for a program that no SSH session started.
	User string `json:"user"`
	Op   string `json:"op"`
	Path string `json:"path"`
	To   string `json:"to,omitempty"`
}

// String is one line for people.
func (w Write) String() string {
	to := ""
	if w.To != "" {
		to = " -> " + w.To
	}
	return fmt.Sprintf("%s: %s: %s %s%s", w.Host, w.Program, w.Op, w.Path, to)
}

// auditLimit bounds the audit of a lab that runs for long.
const auditLimit = 100_000

// audit collects what programs write. What daemons and the model itself write is not in it.
type audit struct {
	mu     sync.Mutex
	on     bool
	writes []Write
}

func (a *audit) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.on = true
}

// watch adds a machine's changes to the audit.
func (a *audit) watch(m *machine.Machine) {
	name := m.Name()
	m.FS.OnMutation(func(change vfs.Mutation) {
		p, ok := change.Actor.(*machine.Proc)
		if !ok {
			return
		}
		w := Write{Host: name, Program: strings.Join(p.Argv, " "), Op: string(change.Op), Path: change.Path, To: change.To}
		if session, ok := p.Tag.(*sshd.Exec); ok {
			w.User, w.Session = session.User, session.Command
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.on && len(a.writes) < auditLimit {
			a.writes = append(a.writes, w)
		}
	})
}

// Writes returns every change that programs have made to files since the lab began (or since ResetWrites): a test that
// plans asserts that there are none.
func (l *Lab) Writes() []Write {
	l.writes.mu.Lock()
	defer l.writes.mu.Unlock()
	return append([]Write(nil), l.writes.writes...)
}

// ResetWrites forgets the changes so far.
func (l *Lab) ResetWrites() {
	l.writes.mu.Lock()
	defer l.writes.mu.Unlock()
	l.writes.writes = nil
}
