package storage

import (
	"cmp"
	"crypto/sha1" //nolint:gosec // the digest that Proxmox shows is a SHA-1
	"fmt"
	"hash/fnv"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/pxrun/pxrun/lab/cluster"
	"github.com/pxrun/pxrun/lab/pvetool"
	"github.com/pxrun/pxrun/lab/vfs"
)

const storageFile = "/etc/pve/storage.cfg"

// config is storage.cfg as Proxmox's programs see it.
type config struct {
	entries []pvetool.Section
	digest  string
}

// readConfig reads storage.cfg and fills in what Proxmox fills in: a storage "local", the content of a type, sharing.
func readConfig(v *vfs.View) config {
	raw, _ := v.ReadFile(storageFile)                     // none is fine
	c := config{digest: fmt.Sprintf("%x", sha1.Sum(raw))} //nolint:gosec // as above
	for _, s := range pvetool.ParseSections(string(raw)) {
		if k, known := kinds[s.Type]; known {
			if s.Values["content"] == "" {
				s.Values["content"] = strings.Join(k.normal, ",")
			}
			c.entries = append(c.entries, s)
		}
	}
	at := slices.IndexFunc(c.entries, func(s pvetool.Section) bool { return s.ID == "local" })
	if at < 0 || c.entries[at].Type != "dir" || c.entries[at].Values["path"] != "/var/lib/vz" {
		local := pvetool.Section{Type: "dir", ID: "local", Values: map[string]string{
			"path": "/var/lib/vz", "prune-backups": "keep-all=1", "content": "backup,images,iso,rootdir,snippets,vztmpl", "priority": "0",
		}}
		c.entries = slices.DeleteFunc(c.entries, func(s pvetool.Section) bool { return s.ID == "local" })
		c.entries = append([]pvetool.Section{local}, c.entries...)
		at = 0
	}
	delete(c.entries[at].Values, "nodes") // no restriction for local
	return c
}

// write writes storage.cfg. The order of lists is that of perl's hashes: nobody can rely on it.
func (c config) write(v *vfs.View) error {
	out := make([]pvetool.Section, len(c.entries))
	for i, s := range c.entries {
		values := map[string]string{}
		for key, value := range s.Values {
			if key == "content" || key == "nodes" {
				value = shuffled(value)
			}
			if (value != "" || key == "disable") && key != "priority" { // only Proxmox's own copy has a priority
				values[key] = value
			}
		}
		out[i] = pvetool.Section{Type: s.Type, ID: s.ID, Values: values}
	}
	return cluster.ReplaceFile(v, storageFile, format(out, required))
}

// format writes sections; an empty line ends each, the last one too.
func format(sections []pvetool.Section, required map[string][]string) []byte {
	text := strings.TrimRight(pvetool.FormatSections(sections, required), "\n")
	if text == "" {
		return nil
	}
	return []byte(text + "\n\n")
}

// shuffled gives a list the order of a hash.
func shuffled(text string) string {
	words := list(text)
	sum := func(s string) uint32 {
		h := fnv.New32a()
		_, _ = io.WriteString(h, s)
		return h.Sum32()
	}
	slices.SortFunc(words, func(a, b string) int { return cmp.Compare(sum(a), sum(b)) })
	return strings.Join(slices.Compact(words), ",")
}

func (c config) find(id string) (pvetool.Section, bool) {
	i := slices.IndexFunc(c.entries, func(s pvetool.Section) bool { return s.ID == id })
	if i < 0 {
		return pvetool.Section{}, false
	}
	return c.entries[i], true
}

func disabled(s pvetool.Section) bool {
	v, given := s.Values["disable"]
	return given && v != "0"
}

func sharedStorage(s pvetool.Section) bool { return kinds[s.Type].shared || s.Values["shared"] == "1" }

// holds reports whether a storage takes a type of content.
func holds(s pvetool.Section, content string) bool {
	return slices.Contains(list(s.Values["content"]), content)
}

// allowed reports whether a storage may be used on a node.
func allowed(s pvetool.Section, node string) bool {
	nodes := list(s.Values["nodes"])
	return len(nodes) == 0 || slices.Contains(nodes, node)
}

// enabled is Proxmox's check of a storage on a node.
func (c config) enabled(id, node string) (pvetool.Section, error) {
	s, ok := c.find(id)
	switch {
	case !ok:
		return s, fmt.Errorf("storage '%s' does not exist", id)
	case disabled(s):
		return s, fmt.Errorf("storage '%s' is disabled", id)
	case !allowed(s, node):
		return s, fmt.Errorf("storage '%s' is not available on node '%s'", id, node)
	}
	return s, nil
}

var storageID = regexp.MustCompile(`(?i)^[a-z][a-z0-9_.-]*[a-z0-9]$`)

// checkID is Proxmox's check of a storage's name.
func checkID(id string) string {
	switch {
	case len(id) < 2:
		return fmt.Sprintf("invalid format - storage ID '%s' cannot be shorter than 2 characters", id)
	case !storageID.MatchString(id):
		return fmt.Sprintf("invalid format - storage ID '%s' contains illegal characters", id)
	}
	return ""
}

// check is the check of options against a type. It returns the content that the type takes and warns of the rest.
func check(kindName, id string, values map[string]string, create bool, warn io.Writer) error {
	k := kinds[kindName]
	if create && values["path"] == "" {
		if o, ok := k.options["path"]; ok && !o.optional && kindName != "dir" {
			values["path"] = "/mnt/pve/" + id
		}
	}
	for key := range values {
		o, known := k.options[key]
		switch {
		case !known:
			return fmt.Errorf("unexpected property '%s'", key)
		case o.fixed && !create:
			return fmt.Errorf("can't change value of fixed parameter '%s'", key)
		}
	}
	if create {
		for _, key := range slices.Sorted(slices.Values(required[kindName])) {
			if values[key] == "" {
				return fmt.Errorf("missing value for required option '%s'", key)
			}
		}
	}
	return checkContent(k, values, warn)
}

// checkContent drops what a type cannot hold, with no more than a warning.
func checkContent(k kind, values map[string]string, warn io.Writer) error {
	text, given := values["content"]
	if !given {
		return nil
	}
	var kept []string
	for _, c := range list(text) {
		if !slices.Contains(k.content, c) {
			fmt.Fprintf(warn, "storage does not support content type '%s'\n", c)
			continue
		}
		kept = append(kept, c)
	}
	if slices.Contains(kept, "none") && len(kept) > 1 {
		return fmt.Errorf("unable to combine 'none' with other content types")
	}
	if len(kept) == 0 {
		if !slices.Contains(k.content, "none") {
			return fmt.Errorf("storage does not support content type 'none'")
		}
		kept = []string{"none"}
	}
	values["content"] = strings.Join(kept, ",")
	return nil
}
