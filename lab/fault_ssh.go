package lab

import (
	"context"
	"errors"
	"net/netip"
	"os"
)

func cutSSH(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	h.dropConnections()
	return nil, nil //nolint:nilnil // clients connect again by themselves
}

func hangSSH(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	h.setHanging(true)
	return func() error { h.setHanging(false); return nil }, nil
}

func refuseSSH(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	h.setRefusing(true)
	return func() error { h.setRefusing(false); return nil }, nil
}

func penalties(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	h.setPenalties(true)
	return func() error { h.setPenalties(h.penalises(h.codename)); return nil }, nil
}

func changeKeys(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	return h.changeHostKeys()
}

// shellBanner makes root's shells talk before they do anything, as a careless .bashrc does.
func shellBanner(_ context.Context, _ *Lab, h *host, f Fault) (func() error, error) {
	text := f.Value
	if text == "" {
		text = "Welcome to " + h.spec.Name + "!"
	}
	h.setShellBanner(text)
	return func() error { h.setShellBanner(""); return nil }, nil
}

func refuseSudo(_ context.Context, _ *Lab, h *host, _ Fault) (func() error, error) {
	saved := map[string][]byte{}
	list, err := h.machine.FS.ReadDir("/etc/sudoers.d")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	names := []string{"/etc/sudoers"}
	for _, entry := range list {
		names = append(names, "/etc/sudoers.d/"+entry.Name)
	}
	for _, name := range names {
		content, err := h.machine.FS.ReadFile(name)
		if err != nil {
			return nil, err
		}
		saved[name] = content
		if err := h.machine.FS.WriteFile(name, []byte("# nobody\n"), 0o440); err != nil {
			return nil, err
		}
	}
	return func() error {
		var failed error
		for name, content := range saved {
			failed = errors.Join(failed, h.machine.FS.WriteFile(name, content, 0o440))
		}
		return failed
	}, nil
}

// isolated reports whether the outside does not reach the host. A partition separates hosts from each other, not from
// whoever drives them.
func (h *host) isolated() bool {
	return len(h.machine.Interfaces()) == 0 || !h.machine.Owns(netip.MustParseAddr(h.spec.Address))
}
