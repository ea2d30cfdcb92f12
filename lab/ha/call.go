package ha

import (
	"context"
	"crypto/sha1" //nolint:gosec // the digest that Proxmox shows is a SHA-1
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/machine"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

// refusal is an error with the exit status that ha-manager has for it: the error number that perl happens to hold.
type refusal struct {
	code int
	text string
}

func (r *refusal) Error() string { return r.text }

func refuse(code int, format string, args ...any) error {
	return &refusal{code: code, text: fmt.Sprintf(format, args...)}
}

// exitExists is the exit status after a folder that was there was to be made: "File exists".
const exitExists = 17

var errBusy = errors.New("device or resource busy")

// call is one command of ha-manager or one method of pvesh with its parameters.
type call struct {
	stack  *Stack
	proc   *machine.Proc
	view   *vfs.View
	values map[string]string // positional ones and options by name
	path   string            // of a method of pvesh
}

// value is a parameter, "" without one.
func (c *call) value(name string) string { return c.values[name] }

func (c *call) has(name string) bool { _, ok := c.values[name]; return ok }

// checkQuorum is what every command does that creates something.
func (c *call) checkQuorum() error {
	if !c.stack.quorate() {
		return refuse(pvetool.ExitAccess, "cluster not ready - no quorum?")
	}
	if err := c.view.Mkdir(pve+haDir, 0o755); err != nil && !c.exists(haDir) {
		return refuse(pvetool.ExitAccess, "unable to create '%s%s' - %v", pve, haDir, machine.Reason(err))
	}
	return nil
}

func (c *call) exists(name string) bool {
	_, err := c.view.Stat(pve + name)
	return err == nil
}

// locked runs code under the lock of the HA configuration; what fails inside is told with the prefix.
func (c *call) locked(ctx context.Context, prefix string, code func() error) error {
	err := locked(ctx, c.stack.clock, c.view, c.proc.Stderr, code)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if prefix == "" {
		return refuse(pvetool.ExitDie, "%s", err)
	}
	return refuse(pvetool.ExitDie, "%s: %s", prefix, err)
}

// sections reads a section config.
func (c *call) sections(name string) ([]pvetool.Section, string, error) {
	text, err := read(c.view, name)
	if err != nil {
		return nil, "", refuse(pvetool.ExitDie, "unable to read file '%s%s' - %s", pve, name, machine.Reason(err))
	}
	return pvetool.ParseSections(string(text)), digest(text), nil
}

func (c *call) write(name string, sections []pvetool.Section) error {
	err := replace(c.view, name, []byte(pvetool.FormatSections(sections, requiredKeys)))
	if err != nil {
		return refuse(pvetool.ExitAccess, "unable to open file '%s%s.tmp.1207' - %s", pve, name, machine.Reason(err))
	}
	return nil
}

func digest(text []byte) string { return fmt.Sprintf("%x", sha1.Sum(text)) } //nolint:gosec // as above

// checkDigest refuses a change of what somebody else has changed.
func (c *call) checkDigest(now string) error {
	if want := c.value("digest"); want != "" && want != now {
		return refuse(pvetool.ExitDie, "detected modified configuration - file changed by other user? Try again.")
	}
	return nil
}

// guests reads .vmlist.
func (c *call) guests() map[string]guest {
	text, err := read(c.view, ".vmlist")
	if err != nil {
		return nil
	}
	return guestNodes(text)
}

// sid reads a resource's name: "vm:100", or a guest's bare number.
func (c *call) sid() (sid, kind, id string, err error) {
	given := c.value("sid")
	if !strings.Contains(given, ":") {
		if strings.Trim(given, "0123456789") != "" || given == "" {
			return "", "", "", refuse(pvetool.ExitDie, "unable to parse service id '%s'", given)
		}
		g, ok := c.guests()[given]
		if !ok {
			return "", "", "", refuse(pvetool.ExitDie, "unable to detect SID from VMID - VM/CT %s does not exist", given)
		}
		given = g.sid(given)
	}
	kind, id, ok := parseSID(given)
	if !ok {
		return "", "", "", refuse(pvetool.ExitDie, "unable to parse service id '%s'", c.value("sid"))
	}
	return given, kind, id, nil
}

// index finds a section by its name in front of the colon and behind it.
func index(sections []pvetool.Section, kind, id string) int {
	return slices.IndexFunc(sections, func(s pvetool.Section) bool { return (kind == "" || s.Type == kind) && s.ID == id })
}

// queue appends a command for the master. Whether that will do as told only its journal says.
func (c *call) queue(ctx context.Context, command string) error {
	return c.locked(ctx, "", func() error {
		text, err := read(c.view, commandsFile)
		if err != nil {
			return err
		}
		return replace(c.view, commandsFile, append(slices.Clone(text), command+"\n"...))
	})
}

// typed turns a section's values into what JSON shows.
func typed(values map[string]string, numbers, flags []string) object {
	out := object{}
	for key, value := range values {
		switch {
		case slices.Contains(numbers, key):
			out[key] = numberOf(values, key, 0)
		case slices.Contains(flags, key):
			out[key] = flag(flagOf(values, key, false))
		default:
			out[key] = value
		}
	}
	return out
}

// apply writes given options into a section and takes out those in "delete".
func (c *call) apply(into map[string]string, options map[string]pvetool.Option, required []string) error {
	for _, key := range list(c.value("delete")) {
		if _, known := options[key]; !known || key == "delete" || key == "digest" {
			return refuse(pvetool.ExitDie, "no such option '%s'", key)
		}
		if slices.Contains(required, key) {
			return refuse(pvetool.ExitDie, "unable to delete required option '%s'", key)
		}
		delete(into, key)
	}
	for key := range maps.Keys(options) {
		if c.has(key) && key != "delete" && key != "digest" {
			into[key] = c.value(key)
		}
	}
	return nil
}
