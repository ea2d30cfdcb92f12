package storage

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// perlStart is what any of Proxmox's command line tools needs before it does something; the storage library is large.
const perlStart = 600 * time.Millisecond

// start is what all programs of this package begin with: its status is -1 when they may go on.
func (n *Node) start(ctx context.Context, p *machine.Proc) int {
	if p.UID != 0 {
		return pvetool.Die(p, pvetool.ExitDie, "please run as root")
	}
	if n.w.cluster.Clock().Sleep(ctx, perlStart) != nil {
		return pvetool.ExitKilled
	}
	return -1
}

// pvesm is the program of that name.
func (n *Node) pvesm(ctx context.Context, p *machine.Proc) int {
	if code := n.start(ctx, p); code >= 0 {
		return code
	}
	args := p.Args()
	if len(args) == 0 {
		return pvetool.Die(p, pvetool.ExitDie, "ERROR: no command specified\nUSAGE: pvesm <COMMAND> [ARGS] [OPTIONS]")
	}
	command := map[string]func(context.Context, *machine.Proc, []string) int{
		"add": n.add, "set": n.set, "remove": n.remove, "status": n.pvesmStatus, "list": n.list, "scan": n.scan,
		"alloc": n.alloc, "free": n.free, "path": n.path,
	}[args[0]]
	if command == nil {
		return pvetool.Die(p, pvetool.ExitDie, "ERROR: unknown command 'pvesm %s'", args[0])
	}
	return command(ctx, p, args[1:])
}

// arguments reads the arguments of a command of pvesm; positional -1 takes any number of words. code is -1 when they are right.
func arguments(p *machine.Proc, args []string, known map[string]pvetool.Option, positional int, synopsis string) (o pvetool.Options, code int) {
	args = slices.Clone(args)
	for i, arg := range args { // an option that may be given without its value, which is asked for then
		if name := strings.TrimLeft(arg, "-"); name == "password" && arg != name && (i == len(args)-1 || strings.HasPrefix(args[i+1], "-")) {
			args[i] = arg + "="
		}
	}
	o, err := pvetool.Parse(args, known)
	if err == nil && positional >= 0 && len(o.Positional) < positional {
		err = &pvetool.ParamError{Head: "not enough arguments"}
	} else if err == nil && positional >= 0 && len(o.Positional) > positional {
		err = &pvetool.ParamError{Head: "too many arguments"}
	}
	if err != nil {
		return o, pvetool.Usage(p, err, "pvesm "+synopsis)
	}
	return o, -1
}

// secrets takes the sensitive options out of the others, with passwords asked for and files read.
func (n *Node) secrets(p *machine.Proc, values map[string]string) (map[string]string, error) {
	out := map[string]string{}
	for _, key := range sensitive {
		value, given := values[key]
		if !given {
			continue
		}
		delete(values, key)
		switch {
		case key == "password" && value == "":
			line, err := bufio.NewReader(p.Stdin).ReadString('\n')
			if err != nil && (!errors.Is(err, io.EOF) || line == "") {
				return nil, errors.New("EOF while reading password")
			}
			value = strings.TrimRight(line, "\r\n")
		case key == "encryption-key" && value == "autogen", key == "password":
		default:
			raw, err := readNamed(p, value)
			if err != nil {
				return nil, fmt.Errorf("can't open '%s' - %s", value, machine.Reason(err))
			}
			value = string(raw)
			if key == "master-pubkey" {
				value = base64.StdEncoding.EncodeToString(raw)
			}
		}
		out[key] = value
	}
	return out, nil
}

// readNamed reads a file that an option names, which may be one of the program's own descriptors.
func readNamed(p *machine.Proc, path string) ([]byte, error) {
	f, err := p.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(f)
}

// keep writes the secrets of a storage where Proxmox keeps them, and the marks of them into its options.
func (n *Node) keep(p *machine.Proc, kindName, id string, values, secrets map[string]string) error {
	v := p.View()
	write := func(path, text string) error {
		if err := v.MkdirAll(path[:strings.LastIndexByte(path, '/')], 0o700); err != nil {
			return err
		}
		return v.WriteFile(path, []byte(text), 0o600)
	}
	for key, value := range secrets {
		if _, known := kinds[kindName].options[key]; !known {
			return fmt.Errorf("unexpected property '%s'", key)
		}
		var err error
		switch {
		case key == "password" && kindName == "cifs":
			err = write(passwordFile(id), "password="+value+"\n")
		case key == "password":
			err = write(passwordFile(id), value+"\n")
		case key == "encryption-key":
			if value == "autogen" {
				value = `{"kdf":null,"created":"2024-01-01T00:00:00+00:00","data":"bGFi","fingerprint":"1f:6c:7f:2b:6b:8f:0c:11"}`
			}
			var decoded struct{ Data, Fingerprint string }
			if json.Unmarshal([]byte(value), &decoded) != nil || decoded.Data == "" {
				return errors.New("Value does not seems like a valid, JSON formatted encryption key!") //nolint:revive,staticcheck // Proxmox's words
			}
			values[key] = decoded.Fingerprint
			if values[key] == "" {
				values[key] = "1"
			}
			err = write("/etc/pve/priv/storage/"+id+".enc", value+"\n")
		case key == "master-pubkey":
			values[key] = "1"
			err = write("/etc/pve/priv/storage/"+id+".master.pem", value)
		case key == "keyring":
			err = write(keyringFile(kindName, id), value)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func keyringFile(kindName, id string) string {
	if kindName == "cephfs" {
		return "/etc/pve/priv/ceph/" + id + ".secret"
	}
	return "/etc/pve/priv/ceph/" + id + ".keyring"
}

// forget removes the secrets of a storage.
func forget(p *machine.Proc, kindName, id string, only ...string) {
	v := p.View()
	for key, path := range map[string]string{
		"password": passwordFile(id), "encryption-key": "/etc/pve/priv/storage/" + id + ".enc", "master-pubkey": "/etc/pve/priv/storage/" + id + ".master.pem",
		"keyring": keyringFile(kindName, id),
	} {
		if len(only) == 0 || slices.Contains(only, key) {
			_ = v.Remove(path) // mostly there is none
		}
	}
}

// add is `pvesm add`. A storage that cannot be activated here is not written.
func (n *Node) add(ctx context.Context, p *machine.Proc, args []string) int {
	o, code := arguments(p, args, createOptions(), 2, "add <type> <storage> [OPTIONS]")
	if code >= 0 {
		return code
	}
	kindName, id := o.Positional[0], o.Positional[1]
	var wrong []string
	if _, known := kinds[kindName]; !known {
		wrong = append(wrong, fmt.Sprintf("type: value '%s' does not have a value in the enumeration '%s'", kindName, strings.Join(kindNames(), ", ")))
	}
	if text := checkID(id); text != "" {
		wrong = append(wrong, "storage: "+text)
	}
	if len(wrong) > 0 {
		return pvetool.Usage(p, &pvetool.ParamError{Head: "Parameter verification failed.", Lines: wrong}, "pvesm add <type> <storage> [OPTIONS]")
	}
	if err := n.create(ctx, p, kindName, id, o.Values); err != nil {
		return n.die(ctx, p, err)
	}
	return 0
}

func (n *Node) die(ctx context.Context, p *machine.Proc, err error) int {
	if ctx.Err() != nil || errors.Is(err, pvetool.ErrKilled) {
		return pvetool.ExitKilled
	}
	return pvetool.Die(p, pvetool.ExitDie, "%s", strings.TrimRight(err.Error(), "\n"))
}

func (n *Node) create(ctx context.Context, p *machine.Proc, kindName, id string, values map[string]string) error {
	values = maps.Clone(values)
	secrets, err := n.secrets(p, values)
	if err != nil {
		return err
	}
	if err := check(kindName, id, values, true, p.Stderr); err != nil {
		return err
	}
	if err := n.n.Phase(ctx, "storage:add", 0); err != nil {
		return err
	}
	err = n.n.Locked(ctx, p.View(), p.Stderr, "file-storage_cfg", func() error {
		c := readConfig(p.View())
		if _, there := c.find(id); there {
			return fmt.Errorf("storage ID '%s' already defined", id)
		}
		if err := n.keep(p, kindName, id, values, secrets); err != nil {
			return err
		}
		c.entries = append(c.entries, pvetool.Section{Type: kindName, ID: id, Values: values})
		if s, err := c.enabled(id, n.n.Name()); err == nil {
			if err = n.activate(ctx, p.View(), s); err == nil && (s.Type == "pbs" || s.Type == "rbd" || s.Type == "lvmthin") {
				_, err = n.status(p.View(), s)
			}
			if err != nil {
				forget(p, kindName, id)
				return err
			}
		}
		return c.write(p.View())
	})
	if err != nil {
		return fmt.Errorf("create storage failed: %w", err)
	}
	return nil
}

// set is `pvesm set`.
func (n *Node) set(ctx context.Context, p *machine.Proc, args []string) int {
	o, code := arguments(p, args, updateOptions(), 1, "set <storage> [OPTIONS]")
	if code >= 0 {
		return code
	}
	if err := n.update(ctx, p, o.Positional[0], o.Values); err != nil {
		return n.die(ctx, p, err)
	}
	return 0
}

func (n *Node) update(ctx context.Context, p *machine.Proc, id string, values map[string]string) error {
	values = maps.Clone(values)
	remove, digest := list(values["delete"]), values["digest"]
	delete(values, "delete")
	delete(values, "digest")
	secrets, err := n.secrets(p, values)
	if err != nil {
		return err
	}
	if err := n.n.Phase(ctx, "storage:set", 0); err != nil {
		return err
	}
	err = n.n.Locked(ctx, p.View(), p.Stderr, "file-storage_cfg", func() error {
		c := readConfig(p.View())
		s, there := c.find(id)
		switch {
		case digest != "" && digest != c.digest:
			return errors.New("detected modified configuration - file changed by other user? Try again.") //nolint:revive,staticcheck // Proxmox's words
		case !there:
			return fmt.Errorf("storage '%s' does not exist", id)
		}
		if err := check(s.Type, id, values, false, p.Stderr); err != nil {
			return err
		}
		if err := mayDelete(kinds[s.Type].options, remove, values); err != nil {
			return err
		}
		if err := n.keep(p, s.Type, id, values, secrets); err != nil {
			return err
		}
		for _, key := range remove {
			delete(s.Values, key)
			if slices.Contains(sensitive, key) {
				forget(p, s.Type, id, key)
			}
		}
		maps.Copy(s.Values, values)
		return c.write(p.View())
	})
	if err != nil {
		return fmt.Errorf("update storage failed: %w", err)
	}
	return nil
}

// mayDelete is Proxmox's check of --delete.
func mayDelete(options map[string]option, remove []string, set map[string]string) error {
	for _, key := range remove {
		o, known := options[key]
		_, both := set[key]
		switch {
		case !known:
			return fmt.Errorf("no such option '%s'", key)
		case !o.optional:
			return fmt.Errorf("unable to delete required option '%s'", key)
		case o.fixed:
			return fmt.Errorf("unable to delete fixed option '%s'", key)
		case both:
			return fmt.Errorf("cannot set and delete property '%s' at the same time!", key) //nolint:revive,staticcheck // Proxmox's words
		}
	}
	return nil
}

// remove is `pvesm remove`. Nobody asks whether guests use the storage, and nothing is unmounted.
func (n *Node) remove(ctx context.Context, p *machine.Proc, args []string) int {
	o, code := arguments(p, args, nil, 1, "remove <storage>")
	if code >= 0 {
		return code
	}
	id := o.Positional[0]
	err := n.n.Locked(ctx, p.View(), p.Stderr, "file-storage_cfg", func() error {
		c := readConfig(p.View())
		s, there := c.find(id)
		if !there {
			return fmt.Errorf("storage '%s' does not exist", id)
		}
		for _, other := range c.entries {
			if base, _, ok := strings.Cut(other.Values["base"], ":"); ok && base == id {
				return errors.New("can't remove storage - storage is used as base of another storage")
			}
		}
		forget(p, s.Type, id)
		c.entries = slices.DeleteFunc(c.entries, func(e pvetool.Section) bool { return e.ID == id })
		return c.write(p.View())
	})
	if err != nil {
		return n.die(ctx, p, fmt.Errorf("delete storage failed: %w", err))
	}
	return 0
}
