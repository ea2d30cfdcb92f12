package runbooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"

	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// Digest identifies the sources of a document: the text of its files, of the files that its functions read, and the
// values of its variables and secrets. A plan made from other sources is stale. The key keeps a digest from being used
// to try out secrets; it belongs to the user's state folder and not into the plan. Without a key the values of secrets
// and sensitive variables are left out.
func (d *Document) Digest(key []byte) string {
	h := hmac.New(sha256.New, key)
	part := func(kind, name string, value []byte) {
		fmt.Fprintf(h, "%s %d %d\n", kind, len(name), len(value))
		_, _ = io.WriteString(h, name)
		_, _ = h.Write(value)
	}
	site := d.folder()
	for _, name := range d.Names {
		part("file", relative(site, d.locate(name)), d.Files[name].Bytes)
	}
	reads := map[string][]byte{}
	for path, sum := range d.reads {
		reads[relative(site, d.locate(path))] = sum[:]
	}
	for _, name := range slices.Sorted(maps.Keys(reads)) {
		part("read", name, reads[name])
	}
	for _, v := range d.Variables {
		if len(key) > 0 || !secret.Is(v.Value) {
			part("var", v.Name, canonical(v.Value))
		}
	}
	if len(key) > 0 {
		for _, name := range slices.Sorted(maps.Keys(d.secretText)) {
			part("secret", name, []byte(d.secretText[name].Reveal()))
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// folder is that of the first file, as an absolute path.
func (d *Document) folder() string {
	if len(d.Names) == 0 {
		return d.locate(".")
	}
	return filepath.Dir(d.locate(d.Names[0]))
}

// locate makes a path absolute: the same file may be named relative to the working directory when a plan is made, and
// in full when it is applied.
func (d *Document) locate(path string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(d.base, path)
	}
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// relative names a file as seen from a folder, so that the same site gives the same digest wherever it lies.
func relative(base, path string) string {
	if rel, err := filepath.Rel(base, path); err == nil {
		return rel
	}
	return path
}

func canonical(v cty.Value) []byte {
	plain, _ := v.UnmarkDeep()
	if !plain.IsWhollyKnown() {
		return []byte("unknown")
	}
	raw, err := ctyjson.Marshal(plain, cty.DynamicPseudoType)
	if err != nil {
		return []byte(plain.Type().GoString())
	}
	return raw
}
