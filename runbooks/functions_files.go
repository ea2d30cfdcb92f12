package runbooks

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/pxrun/pxrun/internal/secret"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// maxReadFile bounds what file() and templatefile() read: their text becomes a value, and values are copied. Larger
// files are sent by the module file, which streams.
const maxReadFile = 4 << 20

// filesSeen remembers digests of what functions read, for the digest of a document. Safe for concurrent use.
type filesSeen struct {
	mu   sync.Mutex
	sums map[string][sha256.Size]byte
}

func (s *filesSeen) add(path string, text []byte) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sums == nil {
		s.sums = map[string][sha256.Size]byte{}
	}
	s.sums[path] = sha256.Sum256(text)
}

func (s *filesSeen) snapshot() map[string][sha256.Size]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.sums)
}

// fileReader makes the functions about local files for the expressions of one folder.
type fileReader struct {
	dir, home string
	seen      *filesSeen
}

func pathFunc(do func(string) string) function.Function {
	return stringFunc(cty.String, []string{"path"}, func(a []string) (cty.Value, error) { return cty.StringVal(do(a[0])), nil })
}

func baseName(p string) string { return filepath.ToSlash(filepath.Base(p)) }
func dirName(p string) string  { return filepath.ToSlash(filepath.Dir(p)) }

// expand puts the home directory in place of a leading ~.
func (r fileReader) expand(p string) string { return expandHome(p, r.home) }

func expandHome(p, home string) string {
	if home != "" && (p == "~" || strings.HasPrefix(p, "~/")) {
		return filepath.Join(home, p[1:])
	}
	return p
}

func (r fileReader) locate(p string) string {
	p = r.expand(p)
	if filepath.IsAbs(p) {
		return filepath.Clean(p)
	}
	return filepath.Join(r.dir, p)
}

func (r fileReader) absolute(p string) string {
	abs, err := filepath.Abs(r.locate(p))
	if err != nil {
		return r.locate(p)
	}
	return filepath.ToSlash(abs)
}

func (r fileReader) read(p string) (string, error) {
	name := r.locate(p)
	text, err := readText(name)
	if err != nil {
		return "", err
	}
	r.seen.add(name, text)
	return string(text), nil
}

func readText(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no file %q; a relative path starts at the folder of the file that it stands in", name)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%q is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxReadFile+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxReadFile:
		return nil, fmt.Errorf("%q is larger than %d MiB; use the module file, which streams its source", name, maxReadFile>>20)
	case !utf8.Valid(text):
		return nil, fmt.Errorf("%q is no UTF-8 text; use the module file for binary data", name)
	}
	return text, nil
}

func (r fileReader) fileFunc() function.Function {
	return stringFunc(cty.String, []string{"path"}, func(a []string) (cty.Value, error) {
		text, err := r.read(a[0])
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		return cty.StringVal(text), nil
	})
}

func (r fileReader) existsFunc() function.Function {
	return stringFunc(cty.Bool, []string{"path"}, func(a []string) (cty.Value, error) {
		info, err := os.Stat(r.locate(a[0]))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return cty.False, nil
		case err != nil:
			return cty.NilVal, function.NewArgError(0, err)
		case !info.Mode().IsRegular():
			return cty.NilVal, function.NewArgErrorf(0, "%q is not a regular file", a[0])
		}
		return cty.True, nil
	})
}

// templateFunc reads a file and evaluates it as a template over the attributes of its second argument.
func (r fileReader) templateFunc(functions func() map[string]function.Function) function.Function {
	functions = sync.OnceValue(functions)
	render := func(args []cty.Value) (cty.Value, error) {
		path, vars := args[0].AsString(), args[1]
		text, err := r.read(path)
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		ctx := &hcl.EvalContext{Variables: map[string]cty.Value{}, Functions: functions()}
		if t := vars.Type(); !t.IsObjectType() && !t.IsMapType() {
			return cty.NilVal, function.NewArgErrorf(1, "an object with the values for the template is required")
		}
		for name, v := range vars.AsValueMap() {
			if !hclsyntax.ValidIdentifier(name) {
				return cty.NilVal, function.NewArgErrorf(1, "%q is no name that a template could use", name)
			}
			ctx.Variables[name] = v
		}
		return renderTemplate([]byte(text), filepath.Base(path), ctx)
	}
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam("path"), {Name: "vars", Type: cty.DynamicPseudoType, AllowDynamicType: true}},
		Type:   function.StaticReturnType(cty.String),
		Impl:   func(args []cty.Value, _ cty.Type) (cty.Value, error) { return render(args) },
	})
}

func renderTemplate(text []byte, name string, ctx *hcl.EvalContext) (cty.Value, error) {
	if diags := tooDeepTemplate(text, name); diags != nil {
		return cty.NilVal, errors.New(diags[0].Detail)
	}
	expr, diags := hclsyntax.ParseTemplate(text, name, hcl.InitialPos)
	if diags.HasErrors() {
		return cty.NilVal, templateError(diags)
	}
	for _, t := range expr.Variables() {
		if _, ok := ctx.Variables[t.RootName()]; !ok {
			known := slices.Sorted(maps.Keys(ctx.Variables))
			return cty.NilVal, fmt.Errorf("%s: the template uses %q, which is not among its values %v", place(t.SourceRange()), t.RootName(), known)
		}
	}
	v, diags := expr.Value(ctx)
	if diags.HasErrors() {
		return cty.NilVal, templateError(diags)
	}
	plain, marks := v.Unmark()
	switch {
	case plain.IsNull():
		return cty.NilVal, fmt.Errorf("%s: the template gives null", name)
	case !plain.IsKnown():
		return cty.UnknownVal(cty.String).WithMarks(marks), nil
	case plain.Type() != cty.String:
		if secret.Is(v) {
			return cty.NilVal, fmt.Errorf("%s: the template gives no text", name)
		}
		return cty.NilVal, fmt.Errorf("%s: the template gives a %s, no text", name, plain.Type().FriendlyName())
	}
	return v, nil
}

func templateError(diags hcl.Diagnostics) error {
	d := diags.Errs()[0].(*hcl.Diagnostic) //nolint:errorlint // Errs returns nothing else
	return fmt.Errorf("%s: %s: %s", place(*d.Subject), d.Summary, d.Detail)
}
