//go:build e2e

package e2e

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// prefix begins the name of everything that the tests make outside of their own namespaces, so that the next run finds
// what a killed one left behind.
const prefix = "pxe2e"

// The namespaces that belong to no host: the one with the bridges, and the one in which pxrun runs.
const (
	switches   = prefix + "-net"
	controller = prefix + "-ctl"
)

// front is the network that the controller is on.
const front = "front"

var (
	frontNet          = netip.MustParsePrefix("198.51.100.0/24")
	controllerAddress = netip.MustParseAddr("198.51.100.1")
)

// world is what the tests share: the program, the key that opens the hosts, and the networks.
type world struct {
	dir    string
	binary string
	cgroup string // of all hosts
	key    key
	seq    atomic.Int32
	front  atomic.Int32
}

// key is a pair of SSH keys, as files hold them.
type key struct{ private, public string }

func newKey(comment string) (key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return key{}, err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return key{}, err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return key{}, err
	}
	return key{private: string(pem.EncodeToMemory(block)), public: string(ssh.MarshalAuthorizedKey(signer.PublicKey()))}, nil
}

func newWorld() (_ *world, err error) {
	if err := removeStale(); err != nil {
		return nil, fmt.Errorf("take away what an earlier run left: %w", err)
	}
	w := &world{}
	defer func() {
		if err != nil {
			_ = w.remove()
		}
	}()
	if w.dir, err = os.MkdirTemp("", prefix+"-"); err != nil {
		return nil, err
	}
	if w.key, err = newKey("e2e"); err != nil {
		return nil, err
	}
	if w.binary, err = program(w.dir); err != nil {
		return nil, err
	}
	mount, err := cgroupMount()
	if err != nil {
		return nil, err
	}
	w.cgroup = filepath.Join(mount, prefix)
	if err := os.Mkdir(w.cgroup, 0o755); err != nil {
		return nil, err
	}
	for _, ns := range []string{switches, controller} {
		if err := ip("netns", "add", ns); err != nil {
			return nil, err
		}
		if err := ip("-n", ns, "link", "set", "lo", "up"); err != nil {
			return nil, err
		}
	}
	if err := w.bridge(front); err != nil {
		return nil, err
	}
	w.front.Store(9)
	return w, w.plug(controller, "eth0", front, netip.PrefixFrom(controllerAddress, frontNet.Bits()))
}

// program is the path of the built pxrun: the one that PXRUN_E2E_BINARY names, else one made of this tree.
func program(dir string) (string, error) {
	if path := os.Getenv("PXRUN_E2E_BINARY"); path != "" {
		return filepath.Abs(path)
	}
	path := filepath.Join(dir, "pxrun")
	build := exec.Command("go", "build", "-o", path, "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build pxrun: %w\n%s", err, out)
	}
	return path, nil
}

// remove takes everything away. It may be called on a world that is half made.
func (w *world) remove() error {
	err := removeStale()
	if w.dir != "" {
		err = errors.Join(err, os.RemoveAll(w.dir))
	}
	return err
}

// removeStale ends every process in namespaces of these tests and removes what they are named by.
func removeStale() error {
	names, err := namespaces()
	if err != nil {
		return err
	}
	var errs []error
	for _, ns := range names {
		errs = append(errs, endNamespace(ns))
	}
	mount, err := cgroupMount()
	errs = append(errs, err)
	if err == nil {
		errs = append(errs, removeCgroup(filepath.Join(mount, prefix)))
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"-*"))
	errs = append(errs, err)
	for _, dir := range left {
		errs = append(errs, os.RemoveAll(dir))
	}
	return errors.Join(errs...)
}

// namespaces lists the network namespaces of these tests.
func namespaces() ([]string, error) {
	out, err := exec.Command("ip", "netns", "list").Output()
	if err != nil {
		return nil, fmt.Errorf("ip netns list: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(name, prefix+"-") {
			names = append(names, name)
		}
	}
	return names, nil
}

func endNamespace(ns string) error {
	out, err := exec.Command("ip", "netns", "pids", ns).Output()
	if err != nil {
		return fmt.Errorf("ip netns pids %s: %w", ns, err)
	}
	for _, word := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(word); err == nil {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	return ip("netns", "del", ns)
}

// cgroupMount is where the second version of control groups is mounted, in a mixed set-up too. Where it is not, it is
// mounted below /run.
func cgroupMount() (string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	dir := "/run/" + prefix + ".cgroup"
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if err := unix.Mount("cgroup2", dir, "cgroup2", 0, ""); err != nil {
		return "", fmt.Errorf("mount cgroup2: %w", err)
	}
	return dir, nil
}

// removeCgroup removes a control group with all below it. Its processes may still be on their way out.
func removeCgroup(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_ = os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0o644)
	var err error
	for range tries(10 * time.Second) {
		var dirs []string
		walked := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		err = walked
		for i := len(dirs) - 1; i >= 0; i-- {
			err = errors.Join(err, os.Remove(dirs[i]))
		}
		if err == nil {
			return nil
		}
	}
	return err
}

// tries yields at once, and then every few milliseconds until the time is up.
func tries(limit time.Duration) func(yield func(time.Duration) bool) {
	return func(yield func(time.Duration) bool) {
		began := time.Now()
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for time.Since(began) < limit {
			if !yield(time.Since(began)) {
				return
			}
			<-ticker.C
		}
	}
}

// bridge makes a network.
func (w *world) bridge(name string) error {
	if err := ip("-n", switches, "link", "add", name, "type", "bridge"); err != nil {
		return err
	}
	return ip("-n", switches, "link", "set", name, "up")
}

// plug connects an interface of a namespace to a network.
func (w *world) plug(ns, device, network string, address netip.Prefix) error {
	port := fmt.Sprintf("p%d", w.seq.Add(1))
	for _, args := range [][]string{
		{"link", "add", device, "netns", ns, "type", "veth", "peer", "name", port, "netns", switches},
		{"-n", switches, "link", "set", port, "master", network, "up"},
		{"-n", ns, "addr", "add", address.String(), "dev", device},
		{"-n", ns, "link", "set", device, "up"},
	} {
		if err := ip(args...); err != nil {
			return err
		}
	}
	return nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
