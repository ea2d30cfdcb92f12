package storage

import (
	"maps"
	"slices"
	"strings"
)

// Kind is a type of storage: which options it cannot be without, which cannot be changed, and what it holds (reference §9).
type Kind struct {
	// Required options must be given at creation. Fixed ones, the required among them but for a few, never change after it.
	Required, Fixed []string
	// Content is what it can hold, Normal what it holds when nothing is said.
	Content, Normal []string
	// Shared is always so: every node sees the same.
	Shared bool
	// Server is the option that names what it is reached at; "" for one of the node's own.
	Server string
	// More are the options beside those that are required and those that all types have.
	More []string
}

var fileOptions = []string{"content-dirs", "max-protected-backups", "prune-backups", "format", "mkdir", "create-base-path", "create-subdirs", "bwlimit", "preallocation"}

var files = []string{"backup", "images", "import", "iso", "none", "rootdir", "snippets", "vztmpl"}

// kinds is the table of types that pxrun knows.
var kinds = map[string]Kind{
	"dir":     {Required: []string{"path"}, Fixed: []string{"path", "snapshot-as-volume-chain"}, Content: files, Normal: []string{"images", "rootdir"}, More: append([]string{"shared", "is_mountpoint"}, fileOptions...)},
	"nfs":     {Required: []string{"server", "export"}, Fixed: []string{"server", "export", "path", "snapshot-as-volume-chain"}, Content: files, Normal: []string{"images"}, Shared: true, Server: "server", More: append([]string{"options"}, fileOptions...)},
	"cifs":    {Required: []string{"server", "share"}, Fixed: []string{"server", "share", "path", "snapshot-as-volume-chain"}, Content: files, Normal: []string{"images"}, Shared: true, Server: "server", More: append([]string{"subdir", "username", "password", "domain", "smbversion", "options"}, fileOptions...)},
	"iscsi":   {Required: []string{"portal", "target"}, Fixed: []string{"portal", "target"}, Content: []string{"images", "none"}, Normal: []string{"images"}, Shared: true, Server: "portal", More: []string{"bwlimit"}},
	"lvm":     {Required: []string{"vgname"}, Fixed: []string{"vgname", "base", "snapshot-as-volume-chain"}, Content: []string{"images", "rootdir"}, Normal: []string{"images"}, More: []string{"shared", "saferemove", "saferemove_throughput", "tagged_only", "bwlimit"}},
	"lvmthin": {Required: []string{"vgname", "thinpool"}, Fixed: []string{"vgname", "thinpool"}, Content: []string{"images", "rootdir"}, Normal: []string{"images", "rootdir"}, More: []string{"bwlimit"}},
	"zfspool": {Required: []string{"pool"}, Fixed: []string{"pool"}, Content: []string{"images", "rootdir"}, Normal: []string{"images", "rootdir"}, More: []string{"blocksize", "sparse", "bwlimit", "mountpoint"}},
	"rbd":     {Content: []string{"images", "rootdir"}, Normal: []string{"images"}, Shared: true, More: []string{"monhost", "pool", "namespace", "username", "krbd", "keyring", "bwlimit", "data-pool"}},
	"cephfs":  {Fixed: []string{"path"}, Content: []string{"backup", "import", "iso", "none", "snippets", "vztmpl"}, Normal: []string{"backup"}, Shared: true, More: append([]string{"monhost", "subdir", "options", "username", "fuse", "keyring", "fs-name"}, fileOptions...)},
	"pbs":     {Required: []string{"server", "datastore"}, Fixed: []string{"server", "datastore"}, Content: []string{"backup", "none"}, Normal: []string{"backup"}, Shared: true, Server: "server", More: []string{"namespace", "port", "username", "password", "encryption-key", "master-pubkey", "fingerprint", "max-protected-backups", "prune-backups"}},
}

// KindOf returns a type by its name.
func KindOf(name string) (Kind, bool) {
	k, ok := kinds[name]
	return k, ok
}

// KindNames lists the types.
func KindNames() []string { return slices.Sorted(maps.Keys(kinds)) }

// Takes reports whether the type has an option.
func (k Kind) Takes(option string) bool {
	return slices.Contains([]string{"nodes", "disable", "content"}, option) || slices.Contains(k.Required, option) || slices.Contains(k.Fixed, option) || slices.Contains(k.More, option)
}

// Holds reports whether the type can hold a kind of content.
func (k Kind) Holds(content string) bool { return slices.Contains(k.Content, content) }

// Secret files, by type and option: where Proxmox keeps what never stands in storage.cfg, and what is put around it.
type secretFile struct{ path, before, after string }

var secretFiles = map[string]secretFile{
	"cifs password":      {"/etc/pve/priv/storage/%s.pw", "password=", "\n"},
	"pbs password":       {"/etc/pve/priv/storage/%s.pw", "", "\n"},
	"pbs encryption-key": {"/etc/pve/priv/storage/%s.enc", "", "\n"},
	"rbd keyring":        {"/etc/pve/priv/ceph/%s.keyring", "", ""},
	"cephfs keyring":     {"/etc/pve/priv/ceph/%s.secret", "", ""},
}

// SecretFile says where a secret of a storage is kept and what that file holds. ok is false if the type has no such secret.
func SecretFile(kind, option, id, secret string) (path, content string, ok bool) {
	f, ok := secretFiles[kind+" "+option]
	return strings.Replace(f.path, "%s", id, 1), f.before + secret + f.after, ok
}
