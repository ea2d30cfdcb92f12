package lua

import (
	"context"
	"io/fs"
	"net/http"
	"time"

	"github.com/pxrun/pxrun/internal/secret"
)

// Environment is what a script may reach. What is nil it may not: the function says so.
type Environment struct {
	// Hosts are all hosts that hosts() chooses from.
	Hosts []Host
	// Cluster is the cluster of the run; nil if none.
	Cluster Cluster
	// Secret finds a secret by its name.
	Secret func(ctx context.Context, name string) (secret.String, error)
	// Task performs a task of a built-in module and returns its outputs.
	Task func(ctx context.Context, module string, args map[string]Value) (map[string]Value, error)
	// HTTP makes requests; nil where scripts may not.
	HTTP *http.Client
	// Now and Sleep are the clock; the real one if they are nil.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// Host is one host.
type Host interface {
	Name() string
	Address() string
	Cluster() string
	Groups() []string
	Tags() []string
	Vars() map[string]Value
	// Run runs a command. The error is nil whenever it ran to its end, whatever its exit status.
	Run(ctx context.Context, c Command) (Output, error)
	// Read returns a text file; found is false if there is none.
	Read(ctx context.Context, path string) (text string, found bool, err error)
	// Write replaces a file.
	Write(ctx context.Context, f File) error
	// Facts are what expressions of the runbook see as self.facts.
	Facts(ctx context.Context) (map[string]Value, error)
}

// Command is what host:run runs: a program with its arguments, or a script for sh.
type Command struct {
	Argv   []string
	Script string
	// Stdin and the values of Env may be secret.
	Stdin   secret.String
	Env     map[string]secret.String
	Timeout time.Duration
	// Mutates says that it may change the host. A host of a plan refuses it.
	Mutates bool
}

// Output is how a command ended.
type Output struct {
	Stdout, Stderr string
	Exit           int
}

// File is what host:write writes.
type File struct {
	Path    string
	Content secret.String
	Mode    fs.FileMode // 0 leaves it
}

// Cluster is the cluster of the run. The fields of what its methods return are those that Declare names.
type Cluster interface {
	Name() string
	Votes(ctx context.Context) (map[string]Value, error)
	Guests(ctx context.Context) ([]map[string]Value, error)
	// Ceph and HA return nil where there is none.
	Ceph(ctx context.Context) (map[string]Value, error)
	HA(ctx context.Context) (map[string]Value, error)
	Snapshot(ctx context.Context) (map[string]Value, error)
}

// withClock fills in the real clock.
func (e Environment) withClock() Environment {
	if e.Now == nil {
		e.Now = time.Now
	}
	if e.Sleep == nil {
		e.Sleep = sleep
	}
	return e
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// sleep waits while the script's other functions may go on.
func (s *session) sleep(env Environment, d time.Duration) error {
	_, err := s.outside(func(ctx context.Context) ([]Value, error) { return nil, env.Sleep(ctx, d) })
	return err
}

// Declare makes the API of an environment.
func Declare(env Environment) *API {
	env = env.withClock()
	api := &API{Funcs: control(env), Classes: []Class{hostClass(), clusterClass(), secretClass()}}
	api.Funcs = append(api.Funcs, sites(env)...)
	api.Funcs = append(api.Funcs, data()...)
	api.Funcs = append(api.Funcs, clock(env)...)
	api.Funcs = append(api.Funcs, web(env)...)
	return api
}
