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

// secretScript runs its arguments with a password on standard input and the content of a file as descriptor 3. Both come over
// its own standard input, the password's line first if $1 is "line". What the arguments read are pipes: a secret is neither
// in an argument list nor in a file of the node, whenever the run is cut off.
const secretScript = `# run pvesm with secrets
how=$1
shift
cat | {
	line=
	if [ "$how" = line ]; then IFS= read -r line || exit 1; fi
	exec 3<&0
	printf '%s\n' "$line" | "$@"
}
`

// secretFD is where pvesm finds the content of the one option of a storage that takes a file.
const secretFD = "/dev/fd/3"

// command makes the command of pvesm for options and secrets. A password goes over stdin: given without its value, the
// option asks for it (reference §1.3). The other secrets are options that name a file, of which no type has two.
func command(verb []string, options map[string]string, remove []string, secrets map[string]secret.String) transport.Command {
	argv := append([]string{"pvesm"}, verb...)
	for _, option := range slices.Sorted(maps.Keys(options)) {
		argv = append(argv, "--"+option, options[option])
	}
	if len(remove) > 0 {
		argv = append(argv, "--delete", strings.Join(remove, ","))
	}
	if len(secrets) == 0 {
		return transport.Command{Argv: argv, Timeout: actTimeout}
	}
	stdin, how, file := "", "no", ""
	for _, option := range slices.Sorted(maps.Keys(secrets)) {
		if option != "password" {
			argv, file = append(argv, "--"+option, secretFD), secrets[option].Reveal()
		}
	}
	if password, ok := secrets["password"]; ok {
		argv, how, stdin = append(argv, "--password"), "line", password.Reveal()+"\n"
	}
	return transport.Command{Script: secretScript, Argv: append([]string{how}, argv...), Stdin: []byte(stdin + file), Timeout: actTimeout}
}

// run runs pvesm. name is what it is called in messages.
func run(ctx context.Context, t module.Target, host, name string, a storageArgs, c transport.Command) error {
	_, err := members.Run(ctx, t, host, name, c)
	if _, killed := errors.AsType[*transport.TimeoutError](err); killed {
		err = fmt.Errorf("%w: its server or another storage gives no answer (look: %s)", err, lookAt(a))
	}
	return err
}

// lookAt is the command with which to see what is wrong with what a storage lies on.
func lookAt(a storageArgs) string {
	switch a.Type {
	case "nfs":
		return "timeout 10 showmount -e " + a.Server
	case "cifs", "pbs":
		return "timeout 10 pvesm scan " + a.Type + " " + a.Server
	case "iscsi":
		return "timeout 10 pvesm scan iscsi " + a.Portal
	case "zfspool":
		return "zpool list; zfs list " + a.Pool
	case "lvm":
		return "vgs " + a.VGName
	case "lvmthin":
		return "lvs " + a.VGName
	}
	return "timeout 30 pvesm status"
}

func create(ctx context.Context, t module.Target, host string, a storageArgs) error {
	c := command([]string{"add", a.Type, a.ID}, a.wanted(), nil, a.secrets())
	if err := run(ctx, t, host, "pvesm add "+a.Type+" "+a.ID, a, c); err != nil {
		return fmt.Errorf("%w (look: %s)", err, lookAt(a))
	}
	return prove(ctx, t, host, a)
}

// updateTries bounds how often a change of storage.cfg by others, of another storage than this one, is given way to.
const updateTries = 5

// update makes the differences of the plan vanish. It looks again first, and has pvesm refuse if the file is not the one that
// was looked at: what the plan did not show is not changed.
func update(ctx context.Context, t module.Target, host string, a storageArgs, planned []storage.Difference, staleThen []string) error {
	for try := 1; ; try++ {
		w, err := look(ctx, t, gateOf(a.ID))
		if err != nil {
			return err
		}
		have, there := w.Storage(a.ID)
		if !there {
			return changedMeanwhile(gateOf(a.ID), "it is not there any more", "cat /etc/pve/storage.cfg")
		}
		diffs := storage.Compare(have, a.wanted(), a.Remove)
		if refusal := w.fixed(a, have, diffs); refusal != nil {
			return module.Refusals{refusal}
		}
		if saw := unplanned(planned, diffs); saw != "" {
			return changedMeanwhile(gateOf(a.ID), saw, "pvesh get /storage/"+a.ID)
		}
		stale, err := staleSecrets(ctx, t, host, a)
		if err != nil {
			return err
		}
		stale = slices.DeleteFunc(stale, func(option string) bool { return !slices.Contains(staleThen, option) })
		if len(diffs)+len(stale) == 0 {
			break
		}
		err = run(ctx, t, host, "pvesm set "+a.ID, a, setCommand(a, diffs, stale, w.Digest))
		if err == nil {
			break
		}
		if try == updateTries || !strings.Contains(err.Error(), "detected modified configuration") {
			return err
		}
	}
	return prove(ctx, t, host, a)
}

// setCommand is the pvesm set for differences. digest is that of the storage.cfg that they were found in.
func setCommand(a storageArgs, diffs []storage.Difference, stale []string, digest string) transport.Command {
	set, gone := split(diffs)
	secrets := map[string]secret.String{}
	if digest != "" {
		set["digest"] = digest
	}
	for option, value := range a.secrets() {
		if slices.Contains(stale, option) {
			secrets[option] = value
		}
	}
	if _, password := secrets["password"]; password && a.Username != "" {
		set["username"] = a.Username // pvesm takes a password for nobody when it is not told the user too
	}
	return command([]string{"set", a.ID}, set, gone, secrets)
}

// split makes options to set and options to delete of differences.
func split(diffs []storage.Difference) (set map[string]string, gone []string) {
	set = map[string]string{}
	for _, d := range diffs {
		if d.Want == "" {
			gone = append(gone, d.Option)
		} else {
			set[d.Option] = d.Want
		}
	}
	return set, gone
}

// unplanned tells of the first difference that there is now and that the plan did not have: somebody else has changed the same
// thing since. "" if there is none; fewer are fine.
func unplanned(planned, now []storage.Difference) string {
	for _, d := range now {
		i := slices.IndexFunc(planned, func(p storage.Difference) bool { return p.Option == d.Option })
		switch {
		case i < 0:
			return fmt.Sprintf("%s has become %s since the plan", d.Option, orNothing(d.Have))
		case planned[i].Have != d.Have:
			return fmt.Sprintf("%s was %s in the plan and is %s now", d.Option, orNothing(planned[i].Have), orNothing(d.Have))
		}
	}
	return ""
}

func changedMeanwhile(gate, saw, look string) error {
	return module.Refusals{{
		Gate: gate, Saw: saw + ": somebody else has changed it meanwhile", Want: "what the plan was made for", Look: look, Override: "plan and apply again",
	}}
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
