package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

// usage is what the status of an active storage shows, in bytes.
type usage struct{ total, used int64 }

// probeTimeout is what it takes to find out that a server does not answer.
const probeTimeout = 10 * time.Second

// activate does what Proxmox does before it uses a storage: it asks its server, mounts it, and looks for its folder, pool or
// volume group. The error is Proxmox's.
func (n *Node) activate(ctx context.Context, v *vfs.View, s pvetool.Section) error {
	if base, _, ok := strings.Cut(s.Values["base"], ":"); ok {
		b, err := readConfig(v).enabled(base, n.n.Name())
		if err == nil {
			err = n.activate(ctx, v, b)
		}
		if err != nil {
			return err
		}
	}
	if kind := map[string]string{"nfs": "nfs", "cifs": "cifs", "pbs": "pbs", "iscsi": "iscsi"}[s.Type]; kind != "" && !n.reaches(kind, serverOf(s)) {
		if err := n.w.cluster.Clock().Sleep(ctx, probeTimeout); err != nil {
			return err
		}
		return fmt.Errorf("storage '%s' is not online", s.ID)
	}
	switch s.Type {
	case "dir":
		return n.activateDir(v, s)
	case "nfs", "cifs":
		return n.activateMount(v, s)
	case "cephfs":
		if _, err := n.status(v, s); err != nil {
			return err
		}
		return mkdirs(v, s.Values["path"])
	case "iscsi":
		if n.w.find("iscsi", serverOf(s), s.Values["target"]) == nil {
			return fmt.Errorf("command '/usr/bin/iscsiadm --mode node --targetname %s --login' failed: exit code 21", s.Values["target"])
		}
	case "lvm", "lvmthin":
		if _, _, ok := n.groupSpace(s.Values["vgname"]); !ok {
			return fmt.Errorf("no such volume group '%s'", s.Values["vgname"])
		}
	case "zfspool":
		if !n.dataset(s.Values["pool"]) {
			return fmt.Errorf("could not activate storage '%s', zfs error: cannot import '%s': no such pool available", s.ID, poolOf(s.Values["pool"]))
		}
	}
	return nil
}

func poolOf(dataset string) string {
	pool, _, _ := strings.Cut(dataset, "/")
	return pool
}

// serverOf is the server's name or address.
func serverOf(s pvetool.Section) string {
	if s.Type != "iscsi" {
		return s.Values["server"]
	}
	host, _, ok := strings.Cut(s.Values["portal"], ":")
	if !ok {
		return s.Values["portal"]
	}
	return host
}

// subdirs are the folders that content of a type lies in.
var subdirs = map[string]string{
	"images": "images", "rootdir": "private", "iso": "template/iso", "vztmpl": "template/cache", "backup": "dump", "snippets": "snippets", "import": "import",
}

func subdir(s pvetool.Section, content string) string {
	for _, pair := range list(s.Values["content-dirs"]) {
		if key, path, ok := strings.Cut(pair, "="); ok && key == content {
			return s.Values["path"] + "/" + path
		}
	}
	return s.Values["path"] + "/" + subdirs[content]
}

func mkdirs(v *vfs.View, paths ...string) error {
	for _, path := range paths {
		if err := v.MkdirAll(path, 0o755); err != nil {
			return fmt.Errorf("mkdir %s: %w", path, vfs.Errno(err))
		}
	}
	return nil
}

// activateDir also makes the folder, unless it is told not to.
func (n *Node) activateDir(v *vfs.View, s pvetool.Section) error {
	path := s.Values["path"]
	if at := s.Values["is_mountpoint"]; at != "" && at != "0" && at != "no" {
		if !strings.HasPrefix(at, "/") {
			at = path
		}
		if !slices.Contains(n.n.Machine().FS.Mounts(), at) {
			return fmt.Errorf("unable to activate storage '%s' - directory is expected to be a mount point but is not mounted: '%s'", s.ID, at)
		}
	}
	if s.Values["create-base-path"] != "0" && s.Values["mkdir"] != "0" {
		if err := mkdirs(v, path); err != nil {
			return err
		}
	}
	return n.activateFiles(v, s)
}

// activateFiles is the common part of the storages of files.
func (n *Node) activateFiles(v *vfs.View, s pvetool.Section) error {
	path := s.Values["path"]
	if info, err := v.Stat(path); err != nil || !info.Mode.IsDir() {
		return fmt.Errorf("unable to activate storage '%s' - directory '%s' does not exist or is unreachable", s.ID, path)
	}
	if s.Values["create-subdirs"] == "0" || s.Values["mkdir"] == "0" {
		return nil
	}
	for _, content := range list(s.Values["content"]) {
		if subdirs[content] == "" {
			continue
		}
		if err := mkdirs(v, subdir(s, content)); err != nil {
			return err
		}
	}
	return nil
}

// activateMount mounts a share if it is not mounted yet.
func (n *Node) activateMount(v *vfs.View, s pvetool.Section) error {
	path := s.Values["path"]
	if n.mountedAt(path) == nil {
		source, name, options := s.Values["server"]+":"+s.Values["export"], s.Values["export"], "rw,relatime,vers=4.2,hard,proto=tcp,timeo=600,retrans=2,addr="+s.Values["server"]
		if s.Type == "cifs" {
			name = s.Values["share"]
			source, options = "//"+s.Values["server"]+"/"+name+s.Values["subdir"], "rw,relatime,vers=3.1.1,soft,addr="+s.Values["server"]
		}
		e := n.w.find(s.Type, s.Values["server"], name)
		switch {
		case e == nil && s.Type == "nfs":
			return fmt.Errorf("mount error: mount.nfs: mounting %s failed, reason given by server: No such file or directory", source)
		case e == nil:
			return errors.New("mount error: Refer to the mount.cifs(8) manual page (e.g. man mount.cifs) and kernel log messages (dmesg)")
		case !n.admitted(v, s, e):
			return errors.New("mount error: mount error(13): Permission denied")
		}
		if err := mkdirs(v, path); err != nil {
			return err
		}
		kind := map[string]string{"nfs": "nfs4", "cifs": "cifs"}[s.Type]
		if err := n.mount(path, source, kind, options, e); err != nil {
			return err
		}
	}
	return n.activateFiles(v, s)
}

// admitted compares the password that the node keeps with the server's.
func (n *Node) admitted(v *vfs.View, s pvetool.Section, e *export) bool {
	if e.Password == "" {
		return true
	}
	kept, err := v.ReadFile(passwordFile(s.ID))
	password := strings.TrimPrefix(strings.TrimSuffix(string(kept), "\n"), "password=")
	user, _, _ := strings.Cut(s.Values["username"], "!")
	return err == nil && password == e.Password && (e.Username == "" || user == e.Username || s.Values["username"] == e.Username)
}

func passwordFile(id string) string { return "/etc/pve/priv/storage/" + id + ".pw" }

// status is the space of a storage that has been activated.
func (n *Node) status(v *vfs.View, s pvetool.Section) (usage, error) {
	switch s.Type {
	case "dir":
		used, limit := n.n.Machine().Disk().Usage()
		if limit == 0 {
			limit = 96 << 30
		}
		return usage{limit, used + 4<<30}, nil
	case "nfs", "cifs":
		if e := n.mountedAt(s.Values["path"]); e != nil {
			used, limit := e.fs.Usage()
			if limit < e.size() {
				used = e.size()
			}
			return usage{e.size(), used}, nil
		}
	case "iscsi":
		return usage{}, nil
	case "pbs":
		return n.backupServerStatus(v, s)
	case "lvm", "lvmthin":
		total, free, _ := n.groupSpace(s.Values["vgname"])
		if s.Type == "lvmthin" {
			free = total / 10 * 9 // a thin pool takes nearly all of its group and has given little of it away
		}
		if s.Type == "lvmthin" && slices.Contains(n.groups, s.Values["vgname"]) && !slices.Contains(n.groups, s.Values["vgname"]+"/"+s.Values["thinpool"]) {
			return usage{}, fmt.Errorf("no such logical volume %s/%s", s.Values["vgname"], s.Values["thinpool"])
		}
		return usage{total, total - free}, nil
	case "zfspool":
		return usage{900 << 30, 10<<30 + n.allocated(s.ID)}, nil
	case "rbd", "cephfs":
		return n.cephStatus(s)
	}
	return usage{}, fmt.Errorf("storage '%s' is not online", s.ID)
}

func (n *Node) backupServerStatus(v *vfs.View, s pvetool.Section) (usage, error) {
	e := n.w.find("pbs", s.Values["server"], s.Values["datastore"])
	switch {
	case e == nil:
		return usage{}, fmt.Errorf("%s: Cannot find datastore '%s', check permissions and existence!", s.ID, s.Values["datastore"]) //nolint:revive,staticcheck // Proxmox's words
	case !n.admitted(v, s, e):
		return usage{}, fmt.Errorf("%s: error fetching datastores - 401 Unauthorized", s.ID)
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	out := usage{total: e.size()}
	for _, b := range e.backups {
		out.used += b.size
	}
	if e.full {
		out.used = out.total
	}
	return out, nil
}

func (n *Node) cephStatus(s pvetool.Section) (usage, error) {
	n.w.mu.Lock()
	ceph := n.w.ceph
	n.w.mu.Unlock()
	if ceph == nil {
		return usage{}, errors.New("rados_connect failed - No such file or directory")
	}
	ask, name := ceph.PoolUsage, s.Values["pool"]
	if s.Type == "cephfs" {
		ask, name = ceph.FilesystemUsage, s.Values["fs-name"]
	} else if name == "" {
		name = "rbd"
	}
	total, used, err := ask(n.n.Name(), name)
	return usage{total, used}, err
}

// information is the state of all storages, as the status commands ask for it: one storage that hangs makes all of it hang.
func (n *Node) information(ctx context.Context, v *vfs.View, warn io.Writer, content string) []state {
	c := readConfig(v)
	var out []state
	for _, s := range c.entries {
		one := state{Section: s}
		_, err := c.enabled(s.ID, n.n.Name())
		one.enabled = err == nil
		if content != "" && (!one.enabled || !holds(s, content)) {
			continue
		}
		if one.enabled {
			err := n.activate(ctx, v, s)
			if err == nil {
				one.usage, err = n.status(v, s)
			}
			if err != nil {
				fmt.Fprintln(warn, err)
			}
			one.active = err == nil
		}
		if ctx.Err() != nil {
			return nil
		}
		out = append(out, one)
	}
	return out
}

// state is a storage on a node.
type state struct {
	pvetool.Section
	usage
	enabled, active bool
}
