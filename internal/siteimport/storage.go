package siteimport

import (
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/pxrun/pxrun/internal/pve/config"
	"github.com/pxrun/pxrun/internal/pve/storage"
	"github.com/zclconf/go-cty/cty"
)

// attributes are the options of storages that the module calls by another name; those of the same name are listed in plain.
var attributes = map[string]string{
	"options": "mount_options", "data-pool": "data_pool", "fs-name": "fs_name", "prune-backups": "prune_backups",
}

var plain = []string{
	"path", "server", "export", "share", "subdir", "portal", "target", "vgname", "thinpool", "base", "pool", "namespace", "datastore", "username", "domain", "smbversion", "fingerprint",
}

// storages writes every storage of a type that pxrun knows.
func (w *writer) storages() {
	for _, s := range w.Storage.Storages {
		if _, known := storage.KindOf(s.Type); !known {
			w.note("storage %s is of type %s, which pxrun does not know; it is left alone", s.ID, s.Type)
			continue
		}
		w.storage(s)
	}
}

func (w *writer) storage(s config.Section) {
	b := w.task("storage", s.ID)
	set(b, "id", s.ID)
	set(b, "type", s.Type)
	more := map[string]cty.Value{}
	for _, key := range sorted(s, "shared", "disable", "content", "nodes", "monhost", "password", "keyring", "encryption-key") {
		value := s.Values[key]
		switch {
		case attributes[key] != "":
			set(b, attributes[key], value)
		case slices.Contains(plain, key):
			set(b, key, value)
		default:
			more[key] = cty.StringVal(value)
		}
	}
	if content := storage.Content(s); len(content) > 0 {
		setList(b, "content", content)
	}
	if nodes := s.List("nodes"); len(nodes) > 0 {
		setList(b, "nodes", nodes)
	}
	if hosts := s.List("monhost"); len(hosts) > 0 {
		setList(b, "monhost", hosts)
	}
	for _, key := range []string{"shared", "disable"} {
		if _, there := s.Values[key]; there {
			setBool(b, key, s.Is(key))
		}
	}
	if len(more) > 0 {
		b.SetAttributeValue("options", cty.ObjectVal(more))
	}
	if user := s.Values["username"]; user != "" && (s.Type == "cifs" || s.Type == "pbs") {
		w.note("the password of storage %s cannot be read: it stays as it is until the task names one", s.ID)
	}
}

// replication writes the jobs.
func (w *writer) replication() {
	for _, j := range w.Storage.Jobs {
		if j.Removing != "" {
			w.note("replication job %s is being removed and left out", j.ID)
			continue
		}
		b := w.task("replication", "replicate_"+j.ID)
		setInt(b, "guest", j.Guest)
		set(b, "target", j.Target)
		if _, number, ok := strings.Cut(j.ID, "-"); ok {
			if n, err := strconv.Atoi(number); err == nil {
				setInt(b, "number", n)
			}
		}
		set(b, "schedule", j.Schedule)
		if rate, err := strconv.ParseFloat(j.Rate, 64); err == nil {
			b.SetAttributeValue("rate", cty.NumberFloatVal(rate))
		}
		if j.Comment != "" {
			set(b, "comment", j.Comment)
		}
		if j.Disabled {
			setBool(b, "disable", true)
		}
	}
}

// backups writes the jobs of vzdump.
func (w *writer) backups() {
	for _, s := range w.Storage.Backups {
		if s.Type != "vzdump" {
			w.note("job %s is of type %s, which pxrun does not know", s.ID, s.Type)
			continue
		}
		w.backup(s)
	}
}

func (w *writer) backup(s config.Section) {
	b := w.task("backup_job", s.ID)
	set(b, "id", s.ID)
	more := map[string]cty.Value{}
	for _, key := range sorted(s) {
		value := s.Values[key]
		switch key {
		case "schedule", "storage", "pool", "mode", "compress", "node":
			set(b, key, value)
		case "prune-backups":
			set(b, "prune_backups", value)
		case "notes-template":
			set(b, "notes", config.DecodeText(value))
		case "comment":
			set(b, "comment", config.DecodeText(value))
		case "vmid":
			setNumbers(b, "guests", value)
		case "exclude":
			setNumbers(b, "exclude", value)
		case "all", "enabled", "protected":
			setBool(b, key, config.Bool(value))
		case "repeat-missed":
			setBool(b, "repeat_missed", config.Bool(value))
		case "fleecing":
			fleecing := map[string]cty.Value{}
			for name, v := range config.ParseProperties(value, "enabled") {
				fleecing[name] = cty.StringVal(v)
			}
			b.SetAttributeValue("fleecing", cty.ObjectVal(fleecing))
		default:
			more[key] = cty.StringVal(value)
		}
	}
	if len(more) > 0 {
		b.SetAttributeValue("options", cty.ObjectVal(more))
	}
}

func setNumbers(b *hclwrite.Body, name, list string) {
	var values []cty.Value
	for _, text := range config.SplitList(list) {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			values = append(values, cty.NumberIntVal(n))
		}
	}
	b.SetAttributeValue(name, cty.TupleVal(values))
}
