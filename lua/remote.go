package lua

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pxrun/pxrun/internal/transport"
)

// HostInfo is what is known of a host without asking it.
type HostInfo struct {
	Name, Address, Cluster string
	Groups, Tags           []string
	Vars                   map[string]Value
}

// Remote is a Host at the end of a connection. Whether it may be changed is the connection's affair.
type Remote struct {
	Info HostInfo
	// Connect returns the connection; it may dial.
	Connect func(ctx context.Context) (transport.Conn, error)
	// ReadFacts reads what Facts returns.
	ReadFacts func(ctx context.Context, conn transport.Conn) (map[string]Value, error)
}

// Name is the host's name.
func (r *Remote) Name() string { return r.Info.Name }

// Address is where it is reached.
func (r *Remote) Address() string { return r.Info.Address }

// Cluster is the cluster that it is a node of.
func (r *Remote) Cluster() string { return r.Info.Cluster }

// Groups are those that it is in.
func (r *Remote) Groups() []string { return r.Info.Groups }

// Tags are its tags.
func (r *Remote) Tags() []string { return r.Info.Tags }

// Vars are its variables.
func (r *Remote) Vars() map[string]Value { return r.Info.Vars }

// Run runs a command. Output that was too long to keep is an error: a script would judge a part of it.
func (r *Remote) Run(ctx context.Context, c Command) (Output, error) {
	conn, err := r.Connect(ctx)
	if err != nil {
		return Output{}, err
	}
	command := transport.Command{
		Argv: c.Argv, Script: c.Script, Stdin: []byte(c.Stdin.Reveal()), Mutates: c.Mutates, Timeout: c.Timeout, Env: map[string]string{},
	}
	for name, value := range c.Env {
		command.Env[name] = value.Reveal()
	}
	result, err := conn.Run(ctx, command)
	if err != nil {
		return Output{}, r.told(err)
	}
	if result.Dropped > 0 {
		return Output{}, fmt.Errorf("%s: the command printed more than %s", r.Info.Name, size(transport.OutputLimit))
	}
	return Output{Stdout: string(result.Stdout), Stderr: string(result.Stderr), Exit: result.Exit}, nil
}

// readScript prints a file. A status of its own says that there is none.
const readScript = `[ -e "$1" ] || exit 44
cat -- "$1"`

// Read reads a file.
func (r *Remote) Read(ctx context.Context, path string) (string, bool, error) {
	conn, err := r.Connect(ctx)
	if err != nil {
		return "", false, err
	}
	command := transport.Command{Script: readScript, Argv: []string{path}}
	result, err := conn.Run(ctx, command)
	switch {
	case err != nil:
		return "", false, r.told(err)
	case result.Exit == 44:
		return "", false, nil
	case result.Exit != 0:
		return "", false, fmt.Errorf("%s: %s: exit %d: %s", r.Info.Name, path, result.Exit, strings.TrimSpace(string(result.Stderr)))
	case result.Dropped > 0 || len(result.Stdout) > transport.OutputLimit:
		return "", false, fmt.Errorf("%s: %s has more than %s", r.Info.Name, path, size(transport.OutputLimit))
	}
	return string(result.Stdout), true, nil
}

// Write replaces a file.
func (r *Remote) Write(ctx context.Context, f File) error {
	conn, err := r.Connect(ctx)
	if err != nil {
		return err
	}
	content := f.Content.Reveal()
	return r.told(conn.Put(ctx, transport.File{Path: f.Path, Mode: f.Mode, Content: strings.NewReader(content), Size: int64(len(content))}))
}

// Facts reads the facts.
func (r *Remote) Facts(ctx context.Context) (map[string]Value, error) {
	conn, err := r.Connect(ctx)
	if err != nil {
		return nil, err
	}
	facts, err := r.ReadFacts(ctx, conn)
	return facts, r.told(err)
}

// told says in the words of a script's author why a change was refused.
func (r *Remote) told(err error) error {
	if refused, ok := errors.AsType[*transport.ReadOnlyError](err); ok {
		return fmt.Errorf("%s: %s may change the host, and this script may only look; say changes = false of a command that only reads: %w", r.Info.Name, refused.Command, err)
	}
	return err
}
