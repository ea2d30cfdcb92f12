package machine

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// loadUnitFiles makes units of the files in /etc/systemd/system, which is what daemon-reload is for. Their ExecStart runs
// as a process of the machine.
func (m *Machine) loadUnitFiles() int {
	list, err := m.FS.ReadDir("/etc/systemd/system")
	if err != nil {
		return 0
	}
	for _, entry := range list {
		if !strings.HasSuffix(entry.Name, ".service") && !strings.HasSuffix(entry.Name, ".timer") || !entry.Mode.IsRegular() {
			continue
		}
		content, err := m.FS.ReadFile("/etc/systemd/system/" + entry.Name)
		if err != nil {
			continue
		}
		if u, known := m.Unit(entry.Name); known && u.OnStart != nil {
			continue
		}
		m.AddUnit(m.unitFromFile(entry.Name, string(content)))
	}
	return 0
}

// unitFromFile reads the few settings that matter here.
func (m *Machine) unitFromFile(name, content string) Unit {
	settings := map[string]string{}
	for line := range strings.Lines(content) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(key, "#") {
			settings[key] = value
		}
	}
	u := Unit{Name: name, Description: settings["Description"], Oneshot: settings["Type"] == "oneshot", Static: !strings.Contains(content, "[Install]")}
	command := strings.TrimLeft(settings["ExecStart"], "-@:+!")
	u.Command = command
	run := func(ctx context.Context, line string) error {
		if code := m.Exec(ctx, Proc{Argv: []string{"/bin/sh", "-c", "exec " + line}, Env: map[string]string{"PATH": defaultPath}}); code != 0 {
			return fmt.Errorf("%s: exit %d", line, code)
		}
		return nil
	}
	switch {
	case u.Oneshot && command != "":
		u.OnStart = func(ctx context.Context) error { return run(ctx, command) }
	case command != "":
		words := strings.Fields(command)
		u.OnStart = func(context.Context) error {
			if _, err := lookup(m.FS.View, words[0], defaultPath); err != nil {
				return fmt.Errorf("%s: %w", words[0], err)
			}
			return nil
		}
	}
	if reload := settings["ExecReload"]; reload != "" {
		u.OnReload = func(ctx context.Context) error { return nil }
	}
	u.Enabled = slices.ContainsFunc([]string{"multi-user.target.wants", "timers.target.wants"}, func(dir string) bool {
		_, err := m.FS.Lstat("/etc/systemd/system/" + dir + "/" + name)
		return err == nil
	})
	return u
}
