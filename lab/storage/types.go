package storage

import (
	"maps"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/pvetool"
)

// kind is a type of storage as Proxmox knows it (reference §9).
type kind struct {
	options map[string]option
	content []string // what it can hold
	normal  []string // what it holds when nothing is said
	shared  bool     // always
}

// option is one option of a type.
type option struct{ optional, fixed bool }

// common options are of all types.
const common = "nodes disable content"

// files are options of all types that keep volumes as files.
const files = " content-dirs max-protected-backups prune-backups format mkdir create-base-path create-subdirs bwlimit preallocation"

// kinds is the table of types. A star marks what is required and fixed, a hat what is fixed and may be left out.
var kinds = map[string]kind{
	"dir":     newKind("path* shared is_mountpoint snapshot-as-volume-chain^"+files, "backup images import iso none rootdir snippets vztmpl", "images rootdir", false),
	"nfs":     newKind("path* server* export* options snapshot-as-volume-chain^"+files, "backup images import iso none rootdir snippets vztmpl", "images", true),
	"cifs":    newKind("path* server* share* subdir username password domain smbversion options snapshot-as-volume-chain^"+files, "backup images import iso none rootdir snippets vztmpl", "images", true),
	"cephfs":  newKind("path* monhost subdir options username fuse keyring fs-name"+files, "backup import iso snippets vztmpl none", "backup", true),
	"rbd":     newKind("monhost pool namespace username krbd keyring bwlimit data-pool", "images rootdir", "images", true),
	"lvm":     newKind("vgname* shared saferemove saferemove_throughput base^ tagged_only bwlimit snapshot-as-volume-chain^", "images rootdir", "images", false),
	"lvmthin": newKind("vgname* thinpool* bwlimit", "images rootdir", "images rootdir", false),
	"zfspool": newKind("pool* blocksize sparse bwlimit mountpoint", "images rootdir", "images rootdir", false),
	"iscsi":   newKind("portal* target* bwlimit", "images none", "images", true),
	"pbs":     newKind("server* datastore* namespace port username password encryption-key master-pubkey fingerprint max-protected-backups prune-backups", "backup none", "backup", true),
}

func newKind(options, content, normal string, shared bool) kind {
	k := kind{options: map[string]option{}, content: strings.Fields(content), normal: strings.Fields(normal), shared: shared}
	for word := range strings.FieldsSeq(common + " " + options) {
		name := strings.TrimRight(word, "*^")
		k.options[name] = option{optional: !strings.HasSuffix(word, "*"), fixed: name != word}
	}
	return k
}

// required are the options that the types cannot be without, in the order of the file.
var required = func() map[string][]string {
	out := map[string][]string{}
	for name, k := range kinds {
		for key, o := range k.options {
			if !o.optional {
				out[name] = append(out[name], key)
			}
		}
	}
	return out
}()

// sensitive options never stand in storage.cfg.
var sensitive = []string{"password", "encryption-key", "master-pubkey", "keyring"}

var booleans = []string{"disable", "shared", "mkdir", "create-base-path", "create-subdirs", "sparse", "saferemove", "tagged_only", "krbd", "fuse", "snapshot-as-volume-chain"}

var contentTypes = []string{"backup", "images", "import", "iso", "none", "rootdir", "snippets", "vztmpl"}

// createOptions are the options of `pvesm add`: those of all types together. Which of them a type has is checked later.
func createOptions() map[string]pvetool.Option {
	known := map[string]pvetool.Option{}
	for _, k := range kinds {
		for name := range k.options {
			known[name] = optionOf(name)
		}
	}
	return known
}

// updateOptions are the options of `pvesm set`: those that at least one type can change.
func updateOptions() map[string]pvetool.Option {
	known := map[string]pvetool.Option{"delete": {}, "digest": {}}
	for _, k := range kinds {
		for name, o := range k.options {
			if !o.fixed {
				known[name] = optionOf(name)
			}
		}
	}
	return known
}

func optionOf(name string) pvetool.Option {
	switch {
	case slices.Contains(booleans, name):
		return pvetool.Option{Kind: pvetool.Bool}
	case name == "port" || name == "max-protected-backups":
		return pvetool.Option{Kind: pvetool.Int}
	case name == "content":
		return pvetool.Option{Check: func(v string) string {
			for _, c := range list(v) {
				if !slices.Contains(contentTypes, c) {
					return "invalid format - invalid content type '" + c + "'"
				}
			}
			return ""
		}}
	case name == "path" || name == "export":
		return pvetool.Option{Check: func(v string) string {
			if !strings.HasPrefix(v, "/") || len(v) < 2 {
				return "invalid format - value does not look like a valid absolute path"
			}
			return ""
		}}
	case name == "options":
		return pvetool.Option{Check: func(v string) string {
			if v == "" || strings.ContainsAny(v, " \t\n") {
				return "invalid format - invalid options '" + v + "'"
			}
			return ""
		}}
	}
	return pvetool.Option{}
}

func kindNames() []string { return slices.Sorted(maps.Keys(kinds)) }

// list takes a list value of Proxmox apart.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ';' || r == ' ' || r == 0 })
}
