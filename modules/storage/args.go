package storage

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/pxrun/pxrun/internal/schema"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/pxrun/pxrun/inventory"
)

type storageArgs struct {
	ID            string                   `hcl:"id,optional" doc:"The name of the storage (default: the task's)." example:"\"nas\""`
	Type          string                   `hcl:"type,optional" oneof:"dir nfs cifs iscsi lvm lvmthin zfspool rbd cephfs pbs" doc:"What kind of storage it is. It cannot be changed later."`
	Path          string                   `hcl:"path,optional" doc:"The folder of a dir storage; where nfs, cifs and cephfs are mounted (default: /mnt/pve/ and the name). Fixed." example:"\"/srv/images\""`
	Server        string                   `hcl:"server,optional" doc:"The server of nfs, cifs and pbs: a name or an address. Fixed." example:"\"192.0.2.9\""`
	Export        string                   `hcl:"export,optional" doc:"The folder that an nfs server exports. Fixed." example:"\"/export/pve\""`
	Share         string                   `hcl:"share,optional" doc:"The share of a cifs server. Fixed."`
	Subdir        string                   `hcl:"subdir,optional" doc:"The folder of a cifs share or a CephFS that is mounted."`
	MountOptions  string                   `hcl:"mount_options,optional" doc:"Options of mount for nfs, cifs and cephfs." example:"\"vers=4.2\""`
	Portal        string                   `hcl:"portal,optional" doc:"The portal of iscsi: an address, with a port if it is not 3260. Fixed."`
	Target        string                   `hcl:"target,optional" doc:"The target of iscsi. Fixed."`
	VGName        string                   `hcl:"vgname,optional" doc:"The volume group of lvm and lvmthin. Fixed."`
	ThinPool      string                   `hcl:"thinpool,optional" doc:"The thin pool of lvmthin. Fixed."`
	Base          string                   `hcl:"base,optional" doc:"The volume on an iscsi storage that the volume group of lvm lies on. Fixed."`
	Pool          string                   `hcl:"pool,optional" doc:"The ZFS pool or data set of zfspool (fixed), or the Ceph pool of rbd (default: rbd)." example:"\"tank/vm\""`
	DataPool      string                   `hcl:"data_pool,optional" doc:"The erasure-coded pool of rbd that data goes to."`
	Namespace     string                   `hcl:"namespace,optional" doc:"The namespace of rbd or pbs."`
	Datastore     string                   `hcl:"datastore,optional" doc:"The datastore of pbs. Fixed."`
	FSName        string                   `hcl:"fs_name,optional" doc:"The name of the CephFS, where there are several."`
	Monhost       []string                 `hcl:"monhost,optional" doc:"The monitors of a Ceph cluster that is not this one."`
	Username      string                   `hcl:"username,optional" doc:"The user of cifs, pbs, or of an external Ceph cluster." example:"\"backup@pbs\""`
	Domain        string                   `hcl:"domain,optional" doc:"The domain of cifs."`
	SMBVersion    string                   `hcl:"smbversion,optional" doc:"The version of SMB that cifs speaks."`
	Password      secret.String            `hcl:"password,optional" doc:"The password of cifs or pbs."`
	Fingerprint   string                   `hcl:"fingerprint,optional" doc:"The fingerprint of the certificate of pbs, where that is its own."`
	EncryptionKey secret.String            `hcl:"encryption_key,optional" doc:"The key with which backups on pbs are encrypted: the JSON text of its file."`
	Keyring       secret.String            `hcl:"keyring,optional" doc:"The keyring of rbd or the secret of cephfs, for a Ceph cluster that is not this one."`
	Content       []string                 `hcl:"content,optional" oneof:"backup images import iso none rootdir snippets vztmpl" doc:"What the storage holds (default: what it has; at creation what Proxmox VE takes for the type)." example:"[\"images\", \"iso\"]"`
	Nodes         inventory.NodeRefs       `hcl:"nodes,optional" doc:"The nodes that may use it (default: as it is; at creation all). remove = [\"nodes\"] lifts the restriction." example:"cluster.lab.nodes"`
	Shared        *bool                    `hcl:"shared,optional" doc:"Whether every node sees the same on a dir or lvm storage. This says so; it does not make it so."`
	Disable       *bool                    `hcl:"disable,optional" doc:"Whether nobody uses it for the time being."`
	PruneBackups  string                   `hcl:"prune_backups,optional" doc:"Which backups are kept." example:"\"keep-last=3,keep-daily=7\""`
	Options       map[string]config.Scalar `hcl:"options,optional" doc:"Further options by their names in Proxmox VE." example:"{ \"create-base-path\" = true }"`
	Remove        []string                 `hcl:"remove,optional" doc:"Options that must not be set, by their names in Proxmox VE." example:"[\"nodes\"]"`
	Ensure        string                   `hcl:"ensure,optional" default:"present" oneof:"present absent" doc:"Whether the entry is there. What is on the storage stays in any case."`
	ActiveWithin  time.Duration            `hcl:"active_within,optional" default:"2m" min:"10s" doc:"How long it may take until the storage is active on every node that may use it."`
}

// Validate checks what needs no cluster: each attribute against the type.
func (a *storageArgs) Validate() error {
	if a.ID != "" {
		if err := storage.CheckID(a.ID); err != nil {
			return schema.At("id", err)
		}
	}
	if a.Ensure == "absent" {
		return nil
	}
	if a.Type == "" {
		return schema.At("type", errors.New("a storage needs a type"))
	}
	return errors.Join(a.checkOptions(), a.checkContent(), a.checkRemove())
}

func (a *storageArgs) checkOptions() error {
	k, _ := storage.KindOf(a.Type)
	given := a.given()
	for _, option := range slices.Sorted(maps.Keys(given)) {
		if !k.Takes(option) {
			return schema.At(attributeOf(option), fmt.Errorf("a storage of type %s has no %s", a.Type, attributeOf(option)))
		}
	}
	for _, option := range k.Required {
		if _, there := given[option]; !there && a.Options[option] == "" {
			return schema.At(attributeOf(option), fmt.Errorf("a storage of type %s needs %s", a.Type, attributeOf(option)))
		}
	}
	for option := range a.Options {
		if _, twice := given[option]; twice {
			return schema.At("options", fmt.Errorf("%s is given as an attribute of its own too", option))
		}
		if slices.Contains(secretOptions, option) {
			return schema.At("options", fmt.Errorf("%s is a secret: use the attribute %s", option, attributeOf(option)))
		}
	}
	if a.Password.Reveal() != "" && a.Username == "" {
		return schema.At("username", errors.New("a password needs a user"))
	}
	if strings.ContainsAny(a.Password.Reveal(), "\n\r") {
		return schema.At("password", errors.New("a password has one line"))
	}
	return nil
}

func (a *storageArgs) checkContent() error {
	k, _ := storage.KindOf(a.Type)
	for _, c := range a.Content {
		if !k.Holds(c) {
			return schema.At("content", fmt.Errorf("a storage of type %s cannot hold %s; it can hold %s", a.Type, c, strings.Join(k.Content, ", ")))
		}
	}
	if a.Content != nil && len(a.Content) == 0 {
		return schema.At("content", errors.New(`content is empty: write ["none"] where the type allows it, or disable = true`))
	}
	if len(a.Content) > 1 && slices.Contains(a.Content, "none") {
		return schema.At("content", errors.New("none stands alone"))
	}
	return nil
}

func (a *storageArgs) checkRemove() error {
	k, _ := storage.KindOf(a.Type)
	wanted := a.wanted()
	for _, option := range a.Remove {
		switch _, both := wanted[option]; {
		case both:
			return schema.At("remove", fmt.Errorf("%s is both wanted and to be removed", option))
		case slices.Contains(k.Required, option):
			return schema.At("remove", fmt.Errorf("a storage of type %s cannot be without %s", a.Type, option))
		case slices.Contains(k.Fixed, option):
			return schema.At("remove", fmt.Errorf("%s is fixed when a storage is made", option))
		}
	}
	return nil
}

// names are the attributes whose names differ from Proxmox's options.
var names = map[string]string{
	"options": "mount_options", "data-pool": "data_pool", "fs-name": "fs_name", "prune-backups": "prune_backups", "encryption-key": "encryption_key",
}

func attributeOf(option string) string {
	if name, ok := names[option]; ok {
		return name
	}
	return option
}

var secretOptions = []string{"password", "encryption-key", "keyring", "master-pubkey"}

// secrets are the secret options that are given, by Proxmox's names.
func (a *storageArgs) secrets() map[string]secret.String {
	out := map[string]secret.String{}
	for option, value := range map[string]secret.String{"password": a.Password, "encryption-key": a.EncryptionKey, "keyring": a.Keyring} {
		if value.Reveal() != "" {
			out[option] = value
		}
	}
	return out
}

// given are the options that have attributes of their own, by Proxmox's names; secrets have no value here.
func (a *storageArgs) given() map[string]string {
	out := a.plain()
	for option := range a.secrets() {
		out[option] = ""
	}
	return out
}

func (a *storageArgs) plain() map[string]string {
	out := map[string]string{
		"path": a.Path, "server": a.Server, "export": a.Export, "share": a.Share, "subdir": a.Subdir, "options": a.MountOptions, "portal": a.Portal,
		"target": a.Target, "vgname": a.VGName, "thinpool": a.ThinPool, "base": a.Base, "pool": a.Pool, "data-pool": a.DataPool, "namespace": a.Namespace,
		"datastore": a.Datastore, "fs-name": a.FSName, "monhost": strings.Join(a.Monhost, " "), "username": a.Username, "domain": a.Domain,
		"smbversion": a.SMBVersion, "fingerprint": a.Fingerprint, "content": strings.Join(a.Content, ","), "nodes": strings.Join(a.Nodes, ","),
		"prune-backups": a.PruneBackups,
	}
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	for option, value := range map[string]*bool{"shared": a.Shared, "disable": a.Disable} {
		if value != nil {
			out[option] = strconv.Itoa(map[bool]int{true: 1}[*value])
		}
	}
	return out
}

// wanted are the options that the storage is to have, secrets aside.
func (a *storageArgs) wanted() map[string]string {
	out := a.plain()
	for option, value := range a.Options {
		out[option] = string(value)
	}
	return out
}

// Backend is what a storage task needs to be there: a lab builds it.
type Backend struct {
	Type string
	// Server is a name or an address, Name what it exports: a folder, share, target or datastore.
	Server, Name       string
	Username, Password string
	Pool, Group        string // of ZFS and LVM; a thin pool is "vg/thin"
	Nodes              []string
}

// BackendOf returns what a task of the module storage needs, by its arguments.
func BackendOf(args any) (Backend, bool) {
	a, ok := args.(*storageArgs)
	if !ok || a.Ensure == "absent" {
		return Backend{}, false
	}
	b := Backend{Type: a.Type, Server: a.Server, Username: a.Username, Password: a.Password.Reveal(), Nodes: a.Nodes}
	switch a.Type {
	case "nfs":
		b.Name = a.Export
	case "cifs":
		b.Name = a.Share
	case "pbs":
		b.Name = a.Datastore
	case "iscsi":
		b.Server, _, _ = strings.Cut(a.Portal, ":")
		b.Name = a.Target
	case "zfspool":
		b.Pool = a.Pool
	case "lvm":
		b.Group = a.VGName
	case "lvmthin":
		b.Group = a.VGName + "/" + a.ThinPool
	default:
		return b, false
	}
	return b, true
}
