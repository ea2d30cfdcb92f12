package pvetool

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/pxrun/pxrun/lab/machine"
)

// ErrKilled ends a worker where it is, without a word, as a signal does.
var ErrKilled = errors.New("killed")

// Tasks runs the workers of one node and keeps their logs, as Proxmox does below /var/log/pve/tasks.
type Tasks struct {
	m *machine.Machine

	mu      sync.Mutex
	started int
}

// NewTasks keeps the tasks of a machine.
func NewTasks(m *machine.Machine) *Tasks { return &Tasks{m: m} }

// Task describes a worker.
type Task struct {
	Kind string // "qmigrate"
	ID   string // "100"; often empty
	// Hook says that the command has an exit hook: it exits 255 when its worker fails. Commands without one exit 0
	// whatever happened (reference §1.2).
	Hook bool
	// Warnings is set by the worker: the number of warnings, which do not make the task fail.
	Warnings int
}

// Run runs a worker in the foreground as the command line does: its output and errors all go to stdout, only what it died
// of goes to stderr in one line (reference §1.3). It returns the task's id and the exit status of the command.
func (t *Tasks) Run(ctx context.Context, p *machine.Proc, task *Task, worker func(context.Context, io.Writer) error) (upid string, code int) {
	upid, over := t.begin(task)
	defer over()
	logged := &taskLog{t: t, name: LogPath(upid)}
	err := worker(ctx, io.MultiWriter(p.Stdout, logged))
	if ctx.Err() != nil || errors.Is(err, ErrKilled) {
		t.end(upid, task, logged.String(), errors.New("unexpected status"))
		return upid, ExitKilled // nobody reads the rest
	}
	t.end(upid, task, logged.String(), err)
	if err == nil {
		return upid, 0
	}
	fmt.Fprintln(p.Stderr, OneLine(err.Error()))
	if task.Hook {
		return upid, ExitDie
	}
	return upid, 0
}

// Background runs a worker that no command waits for, such as one of the HA manager. Its log is kept all the same.
func (t *Tasks) Background(ctx context.Context, task *Task, worker func(context.Context, io.Writer) error) (upid string, err error) {
	upid, over := t.begin(task)
	defer over()
	logged := &taskLog{t: t, name: LogPath(upid)}
	err = worker(ctx, logged)
	if ctx.Err() == nil {
		t.end(upid, task, logged.String(), err)
	}
	return upid, err
}

// taskLog is the log of a task that runs: whoever reads it finds all that was said so far.
type taskLog struct {
	t    *Tasks
	name string

	mu   sync.Mutex
	text strings.Builder
}

func (l *taskLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	l.t.write(l.name, []byte(l.text.String()), 0o640)
	return len(p), nil
}

func (l *taskLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

const (
	taskDir    = "/var/log/pve/tasks"
	taskIndex  = taskDir + "/index"
	taskActive = taskDir + "/active"
)

// begin makes a task id, with the number and the start of the process that works on it (reference §1.5), and notes the task
// as running. The process is there until over is called, or the power goes: the list of active tasks keeps what was cut off.
func (t *Tasks) begin(task *Task) (upid string, over func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.started++
	pid, start := 1100+t.started, t.m.Uptime()
	over = func() {}
	if worker, ok := t.m.Spawn([]string{"task UPID:" + t.m.Name() + ":"}, func(machine.Signal) {}); ok {
		pid, start, over = worker.PID(), worker.Started(), worker.End
	}
	upid = fmt.Sprintf("UPID:%s:%08X:%08X:%08X:%s:%s:root@pam:", t.m.Name(), pid, start.Milliseconds()/10, t.m.Now().Unix(), task.Kind, task.ID)
	active, _ := t.m.FS.ReadFile(taskActive)
	t.write(taskActive, append(active, upid+" 1\n"...), 0o644)
	return upid, over
}

// end writes the task's log and its line in the index.
func (t *Tasks) end(upid string, task *Task, text string, err error) {
	status, last := "OK", "TASK OK"
	switch {
	case err != nil:
		status = OneLine(err.Error())
		last = "TASK ERROR: " + status
	case task.Warnings > 0:
		status = fmt.Sprintf("WARNINGS: %d", task.Warnings)
		last = "TASK " + status
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.write(LogPath(upid), []byte(text+last+"\n"), 0o640)
	index, _ := t.m.FS.ReadFile(taskIndex)
	t.write(taskIndex, append(index, fmt.Sprintf("%s %08X %s\n", upid, t.m.Now().Unix(), status)...), 0o644)
	active, _ := t.m.FS.ReadFile(taskActive)
	t.write(taskActive, []byte(strings.Replace(string(active), upid+" 1\n", "", 1)), 0o644)
}

// LogPath is where a task's log lies (reference §1.5).
func LogPath(upid string) string {
	start := strings.Split(upid, ":")[4]
	return taskDir + "/" + start[len(start)-1:] + "/" + upid
}

// write writes in the name of the daemon. A full disk loses the log, not the task.
func (t *Tasks) write(name string, data []byte, mode fs.FileMode) {
	v := t.m.FS.View
	if err := v.MkdirAll(path.Dir(name), 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return
	}
	_ = v.WriteFile(name, data, mode)
}

// OneLine is an error as it is printed last: line breaks become spaces.
func OneLine(text string) string {
	return strings.Join(strings.Split(strings.TrimSpace(text), "\n"), " ")
}
