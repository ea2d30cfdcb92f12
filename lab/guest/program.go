package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
)

// perlStart is what qm and pct need before they do something.
const perlStart = 400 * time.Millisecond

// call is one call of a subcommand.
type call struct {
	*actor
	k    *kind
	id   int
	args []string // after the id
	o    pvetool.Options
	p    *machine.Proc
	upid string // of the task that was started
}

// command is a subcommand of qm or pct.
type command struct {
	positional []string // names of the words that must be given
	options    map[string]pvetool.Option
	// task is the type of the worker that does it, after qm or vz; "" does it in the command itself.
	task string
	do   func(ctx context.Context, c *call) int
}

func (k *kind) tool() string {
	if k == vm {
		return "qm"
	}
	return "pct"
}

var (
	flag = pvetool.Option{Kind: pvetool.Bool}
	text = pvetool.Option{}
	num  = pvetool.Option{Kind: pvetool.Int}
)

// commands is the table of subcommands.
func (k *kind) commands() map[string]command {
	table := map[string]command{
		"list":    {options: map[string]pvetool.Option{"full": flag}, do: list},
		"status":  {positional: []string{"vmid"}, options: map[string]pvetool.Option{"verbose": flag}, do: status},
		"config":  {positional: []string{"vmid"}, options: map[string]pvetool.Option{"current": flag, "snapshot": text}, do: showConfig},
		"pending": {positional: []string{"vmid"}, do: pending},
		"start": {positional: []string{"vmid"}, options: map[string]pvetool.Option{
			"skiplock": flag, "timeout": num, "migratedfrom": text, "stateuri": text, "machine": text, "forcecpu": text, "targetstorage": text,
			"migration_network": text, "migration_type": text, "debug": flag,
		}, do: start},
		"stop":     {positional: []string{"vmid"}, options: map[string]pvetool.Option{"skiplock": flag, "timeout": num, "migratedfrom": text, "keepActive": flag, "overrule-shutdown": flag}, do: stop},
		"shutdown": {positional: []string{"vmid"}, options: map[string]pvetool.Option{"skiplock": flag, "timeout": num, "forceStop": flag, "keepActive": flag}, do: shutdown},
		"unlock":   {positional: []string{"vmid"}, do: unlock},
		"set":      {positional: []string{"vmid"}, do: set},
		"create":   {positional: []string{"vmid"}, do: create},
		"destroy":  {positional: []string{"vmid"}, options: map[string]pvetool.Option{"purge": flag, "skiplock": flag, "force": flag, "destroy-unreferenced-disks": flag}, do: destroy},
	}
	if k == vm {
		table["migrate"] = command{positional: []string{"vmid", "target"}, options: vmMigrateOptions, do: migrate}
		table["move-disk"] = command{positional: []string{"vmid", "disk"}, options: map[string]pvetool.Option{"storage": text, "format": text, "delete": flag, "bwlimit": num, "digest": text}, do: moveDisk}
	} else {
		table["create"] = command{positional: []string{"vmid", "ostemplate"}, do: create}
		table["migrate"] = command{positional: []string{"vmid", "target"}, options: ctMigrateOptions, do: migrate}
		table["move-volume"] = command{positional: []string{"vmid", "volume"}, options: map[string]pvetool.Option{"storage": text, "delete": flag, "bwlimit": num, "digest": text}, do: moveDisk}
	}
	return table
}

// program is qm or pct.
func (h *Host) program(k *kind) machine.Program {
	table := k.commands()
	return func(ctx context.Context, p *machine.Proc) int {
		if p.UID != 0 {
			return pvetool.Die(p, pvetool.ExitDie, "please run as root")
		}
		if h.m.Sleep(ctx, perlStart) != nil {
			return pvetool.ExitKilled
		}
		if _, err := p.View().Lstat("/etc/pve/local"); err != nil {
			if ctx.Err() != nil {
				return pvetool.ExitKilled
			}
			fmt.Fprint(p.Stderr, strings.Repeat("ipcc_send_rec[1] failed: Connection refused\n", 3))
			return pvetool.Die(p, int(syscall.ECONNREFUSED), "Unable to load access control list: Connection refused")
		}
		args := p.Args()
		if len(args) == 0 {
			return pvetool.Die(p, pvetool.ExitDie, "ERROR: no command specified\nUSAGE: %s <COMMAND> [ARGS] [OPTIONS]", k.tool())
		}
		name, rest := args[0], args[1:]
		if (name == "disk" || name == "volume") && len(rest) > 0 && rest[0] == "move" {
			name, rest = "move-"+map[*kind]string{vm: "disk", ct: "volume"}[k], rest[1:]
		}
		cmd, ok := table[strings.ReplaceAll(name, "_", "-")]
		if !ok {
			return pvetool.Die(p, pvetool.ExitDie, "ERROR: unknown command '%s %s'", k.tool(), strings.Join(args, " "))
		}
		return h.run(ctx, p, k, name, cmd, rest)
	}
}

// run parses the words of a subcommand and does it.
func (h *Host) run(ctx context.Context, p *machine.Proc, k *kind, name string, cmd command, rest []string) int {
	synopsis := k.tool() + " " + name
	for _, word := range cmd.positional {
		synopsis += " <" + word + ">"
	}
	synopsis += " [OPTIONS]"
	known := maps.Clone(cmd.options)
	if cmd.options == nil {
		known = configOptions(rest)
	}
	o, perr := pvetool.Parse(rest, known)
	if perr != nil {
		return pvetool.Usage(p, perr, synopsis)
	}
	// storage is an option of move-disk that is also taken as the third word.
	want := len(cmd.positional)
	if _, isMove := cmd.options["bwlimit"]; isMove && slices.Contains([]string{"disk", "volume"}, last(cmd.positional)) && len(o.Positional) == want+1 {
		o.Values["storage"], o.Positional = o.Positional[want], o.Positional[:want]
	}
	switch {
	case len(o.Positional) < want:
		return pvetool.Usage(p, &pvetool.ParamError{Head: "not enough arguments"}, synopsis)
	case len(o.Positional) > want:
		return pvetool.Usage(p, &pvetool.ParamError{Head: "too many arguments"}, synopsis)
	}
	c := &call{actor: h.byProgram(p), k: k, o: o, p: p}
	if want > 0 {
		id, err := parseID(o.Positional[0])
		if err != nil {
			return pvetool.Usage(p, &pvetool.ParamError{Head: "Parameter verification failed.", Lines: []string{"vmid: " + err.Error()}}, synopsis)
		}
		c.id, c.args = id, o.Positional[1:]
	}
	return cmd.do(ctx, c)
}

func last(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[len(words)-1]
}

// configOptions takes every option: those of a config are too many to list, and the lab does not check them.
func configOptions(args []string) map[string]pvetool.Option {
	known := map[string]pvetool.Option{}
	for _, arg := range args {
		if name, ok := strings.CutPrefix(arg, "-"); ok {
			name, _, _ = strings.Cut(strings.TrimPrefix(name, "-"), "=")
			known[name] = pvetool.Option{}
		}
	}
	return known
}

func parseID(word string) (int, error) {
	id, err := strconv.Atoi(word)
	if err != nil {
		return 0, fmt.Errorf("type check ('integer') failed - got '%s'", word)
	}
	if id < 100 || id > 999999999 {
		return 0, errors.New("invalid format - value does not look like a valid VM ID")
	}
	return id, nil
}

// fail prints what a command died of in itself, with the status that perl happens to hold.
func (c *call) fail(err error) int {
	if errors.Is(err, context.Canceled) || errors.Is(err, pvetool.ErrKilled) {
		return pvetool.ExitKilled
	}
	code := pvetool.ExitDie
	var absent *missing
	var status *statusError
	switch {
	case errors.As(err, &absent):
		code = pvetool.ExitNoEntry
	case errors.As(err, &status):
		code = status.code
	case errors.Is(err, fs.ErrPermission):
		code = pvetool.ExitAccess
	}
	return pvetool.Die(c.p, code, "%s", err)
}

// statusError is an error with the exit status that was recorded for it.
type statusError struct {
	text string
	code int
}

func (e *statusError) Error() string { return e.text }

// noGuest is what commands that look the guest up first say.
func (c *call) noGuest() error {
	return fmt.Errorf("unable to find configuration file for %s %d on node '%s'", c.k.noun, c.id, c.name)
}

// task runs a worker in the foreground and returns the command's exit status.
func (c *call) task(ctx context.Context, name string, work func(ctx context.Context, say func(string)) error) int {
	upid, code := c.node.Tasks().Run(ctx, c.p, &pvetool.Task{Kind: name, ID: strconv.Itoa(c.id), Hook: true}, worker(work))
	c.upid = upid
	return code
}

// requestHA asks the HA manager to do something: the command ends when it is queued (reference §6.5).
func (c *call) requestHA(ctx context.Context, task, what string, argv ...string) int {
	return c.task(ctx, task, func(ctx context.Context, say func(string)) error {
		say(what)
		if code := pvetool.Run(ctx, c.p, c.p.Stdout, c.p.Stderr, append([]string{"ha-manager"}, argv...)...); code != 0 {
			return fmt.Errorf("command 'ha-manager %s' failed: exit code %d", strings.Join(argv, " "), code)
		}
		return nil
	})
}

func (c *call) sid() string { return fmt.Sprintf("%s:%d", c.k.sid, c.id) }
