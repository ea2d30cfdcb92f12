package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/engine/module"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/internal/transport"
	"github.com/pxrun/pxrun/modules/internal/members"
)

// actTimeout bounds a command that may wait for servers: each probe takes up to ten seconds, a mount longer.
const actTimeout = 2 * time.Minute

// staleSecrets are the secret options whose files on the cluster hold something else than is wanted. The comparison is made
// on the node: nothing of what is there comes back.
func staleSecrets(ctx context.Context, t module.Target, host string, a storageArgs) ([]string, error) {
	secrets := a.secrets()
	if len(secrets) == 0 {
		return nil, nil
	}
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, option := range slices.Sorted(maps.Keys(secrets)) {
		path, content, ok := storage.SecretFile(a.Type, option, a.ID, secrets[option].Reveal())
		if !ok {
			continue
		}
		c := transport.Command{Argv: []string{"timeout", "10", "cmp", "-s", "-", path}, Stdin: []byte(content), Timeout: 30 * time.Second}
		r, err := conn.Run(ctx, c)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s: compare %s of storage %s: %w", host, option, a.ID, err)
		case r.Exit == 124 || r.Exit == 127:
			return nil, fmt.Errorf("%s: compare %s of storage %s: %w", host, option, a.ID, r.Err(c))
		case r.Exit != 0:
			out = append(out, option)
		}
	}
	return out, nil
}

// command makes the arguments of pvesm for options and secrets. A password goes over stdin: given without its value, the
// option asks for it (reference §1.3). Other secrets lie in files that only root can read, for as long as the command runs.
func command(verb []string, options map[string]string, remove []string, secrets map[string]secret.String, file func(option string) string) transport.Command {
	c := transport.Command{Argv: append([]string{"pvesm"}, verb...), Timeout: actTimeout}
	for _, option := range slices.Sorted(maps.Keys(options)) {
		c.Argv = append(c.Argv, "--"+option, options[option])
	}
	if len(remove) > 0 {
		c.Argv = append(c.Argv, "--delete", strings.Join(remove, ","))
	}
	for _, option := range slices.Sorted(maps.Keys(secrets)) {
		if option != "password" {
			c.Argv = append(c.Argv, "--"+option, file(option))
		}
	}
	if password, ok := secrets["password"]; ok {
		c.Argv = append(c.Argv, "--password")
		c.Stdin = []byte(password.Reveal() + "\n")
	}
	return c
}

// run runs pvesm with the files of secrets beside it, which are removed whatever happens.
func run(ctx context.Context, t module.Target, host string, a storageArgs, c transport.Command, secrets map[string]secret.String) error {
	conn, err := t.Conn(ctx, host)
	if err != nil {
		return err
	}
	for option, value := range secrets {
		if option == "password" {
			continue
		}
		path := secretPath(a.ID, option)
		defer func() {
			clean := transport.Command{Argv: []string{"rm", "-f", path}, Mutates: true, Timeout: 30 * time.Second}
			if _, err := conn.Run(context.WithoutCancel(ctx), clean); err != nil {
				t.Warn(host, fmt.Sprintf("%s holds a secret and could not be removed: %v", path, err))
			}
		}()
		text := value.Reveal()
		if err := conn.Put(ctx, transport.File{Path: path, Mode: 0o600, Content: strings.NewReader(text), Size: int64(len(text))}); err != nil {
			return fmt.Errorf("%s: put the %s of storage %s: %w", host, option, a.ID, err)
		}
	}
	_, err = members.Run(ctx, t, host, strings.Join(c.Argv[:3], " "), c)
	if _, killed := errors.AsType[*transport.TimeoutError](err); killed {
		err = fmt.Errorf("%w: its server or another storage gives no answer (look: %s)", err, lookAt(a))
	}
	return err
}

func secretPath(id, option string) string { return "/run/pxrun-" + id + "." + option }

// lookAt is the command with which to see what is wrong with a storage's server.
func lookAt(a storageArgs) string {
	switch a.Type {
	case "nfs":
		return "timeout 10 showmount -e " + a.Server
	case "cifs", "pbs":
		return "timeout 10 pvesm scan " + a.Type + " " + a.Server
	case "iscsi":
		return "timeout 10 pvesm scan iscsi " + a.Portal
	}
	return "timeout 30 pvesm status"
}

func create(ctx context.Context, t module.Target, host string, a storageArgs) error {
	secrets := a.secrets()
	c := command([]string{"add", a.Type, a.ID}, a.wanted(), nil, secrets, func(option string) string { return secretPath(a.ID, option) })
	if err := run(ctx, t, host, a, c, secrets); err != nil {
		return fmt.Errorf("%w (look: %s)", err, lookAt(a))
	}
	return prove(ctx, t, host, a)
}

func update(ctx context.Context, t module.Target, host string, a storageArgs, diffs []storage.Difference, stale []string) error {
	set, gone, secrets := map[string]string{}, []string(nil), map[string]secret.String{}
	for _, d := range diffs {
		if d.Want == "" {
			gone = append(gone, d.Option)
		} else {
			set[d.Option] = d.Want
		}
	}
	for option, value := range a.secrets() {
		if slices.Contains(stale, option) {
			secrets[option] = value
		}
	}
	if _, password := secrets["password"]; password && a.Username != "" {
		set["username"] = a.Username // pvesm takes a password for nobody when it is not told the user too
	}
	c := command([]string{"set", a.ID}, set, gone, secrets, func(option string) string { return secretPath(a.ID, option) })
	if err := run(ctx, t, host, a, c, secrets); err != nil {
		return err
	}
	return prove(ctx, t, host, a)
}

// prove reads what stands in storage.cfg now, and waits until the storage is active where it may be used.
func prove(ctx context.Context, t module.Target, host string, a storageArgs) error {
	w, err := look(ctx, t, gateOf(a.ID))
	if err != nil {
		return err
	}
	have, there := w.Storage(a.ID)
	if !there {
		return fmt.Errorf("%s: pvesm succeeded, and /etc/pve/storage.cfg has no storage %s", host, a.ID)
	}
	if diffs := storage.Compare(have, a.wanted(), a.Remove); len(diffs) > 0 {
		return fmt.Errorf("%s: pvesm succeeded, and %s of storage %s is %s, wanted %s", host, diffs[0].Option, a.ID, orNothing(diffs[0].Have), orNothing(diffs[0].Want))
	}
	if have.Is("disable") {
		return nil
	}
	var nodes []string
	for _, node := range storage.NodesOf(have, w.Nodes) {
		if !w.View.Online(node) {
			t.Warn(node, fmt.Sprintf("is not there: whether it can use storage %s is not known", a.ID))
			continue
		}
		nodes = append(nodes, node)
	}
	return awaitActive(ctx, t, a, nodes)
}

// awaitActive waits until a storage is active on nodes. One on which it hangs ends the wait: each question leaves a process
// behind there.
func awaitActive(ctx context.Context, t module.Target, a storageArgs, nodes []string) error {
	return t.WaitFor(ctx, module.Condition{
		Name: fmt.Sprintf("storage %s is active on %s", a.ID, strings.Join(nodes, ", ")), Timeout: a.ActiveWithin, Every: 5 * time.Second,
		Check: func(ctx context.Context) error {
			states := storage.Active(ctx, a.ID, nodes, t.Conn)
			var problems []error
			hangs := false
			nodes = slices.DeleteFunc(slices.Clone(nodes), func(n string) bool { return states[n] == nil })
			for _, node := range nodes {
				hangs = hangs || errors.Is(states[node], storage.ErrHangs)
				problems = append(problems, fmt.Errorf("%s: storage %s: %w (look on %s: timeout 30 pvesm status; %s)", node, a.ID, states[node], node, lookAt(a)))
			}
			err := errors.Join(problems...)
			if hangs {
				return module.Fatal(err)
			}
			return err
		},
	})
}

// remove takes the entry away once more after a look at who needs it: guests may have come since the plan.
func remove(ctx context.Context, t module.Target, host, id string) error {
	w, err := look(ctx, t, "remove storage "+id)
	if err != nil {
		return err
	}
	if refusal := w.needed(id); refusal != nil {
		return module.Refusals{refusal}
	}
	c := transport.Command{Argv: []string{"pvesm", "remove", id}, Timeout: actTimeout}
	if _, err := members.Run(ctx, t, host, "pvesm remove "+id, c); err != nil {
		return err
	}
	if w, err = look(ctx, t, "remove storage "+id); err != nil {
		return err
	}
	if _, there := w.Storage(id); there {
		return fmt.Errorf("%s: pvesm remove succeeded, and /etc/pve/storage.cfg still has storage %s", host, id)
	}
	return nil
}
