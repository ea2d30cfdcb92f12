package lab

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
)

// serve answers SSH on a listener until the lab ends.
func (h *host) serve(listener net.Listener) {
	_ = h.server.Serve(h.lab.ctx, listener) // ends with the lab; there is nobody to tell
}

// hostKeys are the machine's host keys as lines of known_hosts without the names. The RSA key is left out: to read it is
// to make it, which takes long.
func (h *host) hostKeys() []string {
	var out []string
	for _, kind := range []string{"ed25519", "ecdsa"} {
		line, err := h.machine.FS.ReadFile("/etc/ssh/ssh_host_" + kind + "_key.pub")
		if err != nil {
			continue
		}
		if fields := strings.Fields(string(line)); len(fields) > 1 {
			out = append(out, fields[0]+" "+fields[1])
		}
	}
	return out
}

func (h *host) dropConnections() { h.server.DropAll() }

func (h *host) setHanging(on bool) { h.server.Hang(on) }

func (h *host) setRefusing(on bool) {
	h.mu.Lock()
	h.refused = on
	h.mu.Unlock()
	h.server.Refuse(on)
}

func (h *host) refusing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refused
}

func (h *host) setPenalties(on bool) { h.server.SetPenalties(on) }

// close ends the machine's connections and its port.
func (h *host) close() {
	h.mu.Lock()
	listener := h.listener
	h.mu.Unlock()
	if listener != nil {
		_ = listener.Close()
	}
	h.dropConnections()
}

// setShellBanner makes every shell that a login starts print a line first; "" takes it away.
func (h *host) setShellBanner(text string) {
	if text != "" {
		text += "\n"
	}
	h.server.SetNoise(text)
}

// forward opens what an SSH client asks this machine to connect it to: the sshd of another one, if the network lets it
// through.
func (h *host) forward(ctx context.Context, name string, port int) (net.Conn, error) {
	target := h.lab.net.host(name)
	from, err := netip.ParseAddr(h.spec.Address)
	if err != nil {
		return nil, err
	}
	if target == nil {
		return nil, fmt.Errorf("%s: Name or service not known", name)
	}
	to, err := netip.ParseAddr(name)
	if err != nil {
		to = netip.MustParseAddr(target.spec.Address) // checked by Validate
	}
	if !h.lab.net.Path(from, to).Reachable {
		return nil, os.NewSyscallError("connect", syscall.EHOSTUNREACH)
	}
	if port != sshPort || !target.machine.Accepting() || target.refusing() {
		return nil, os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", target.listen())
}

const sshPort = 22

// changeHostKeys gives the machine new host keys, as a new installation has them.
func (h *host) changeHostKeys() (undo func() error, err error) {
	saved := map[string][]byte{}
	for _, kind := range []string{"ed25519", "ecdsa"} {
		for _, suffix := range []string{"", ".pub"} {
			name := "/etc/ssh/ssh_host_" + kind + "_key" + suffix
			if content, err := h.machine.FS.ReadFile(name); err == nil {
				saved[name] = content
			}
		}
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := h.machine.SetHostKey(key); err != nil {
		return nil, err
	}
	return func() error {
		var failed error
		for name, content := range saved {
			failed = errors.Join(failed, h.machine.FS.WriteFile(name, content, 0o600))
		}
		return failed
	}, nil
}
